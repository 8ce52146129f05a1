"""Aave v4: the rules of a spoke and of its hub, with the contracts' constants.

health = sum CF_c C_c / D; a call repays what restores the target health, with a bonus that is
linear in health; 1,000 USD must remain on both sides of a partial call, and where it would not,
that side is emptied; debt left without any collateral becomes a deficit that still counts as
supplied. Targets, bonuses and risks are set per spoke and collateral and have no defaults here.

Source: aave/aave-v4, LiquidationLogic, Spoke, Hub, AssetLogic, SharesMath.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.venue.target_health import TargetHealthClose

BASIS_POINT = 1e-4
"""Bonuses are rounded down and risk premiums up to whole basis points."""

MINIMUM_LEFTOVER = 1000.0
"""USD that must remain on both sides of a partial call: `DUST_LIQUIDATION_THRESHOLD`."""

VIRTUAL_AMOUNT = 1e6
"""Virtual assets and shares behind the worth of a supply share, in raw units."""


def close_rule(
    target_health: Float[Array, "*account"], dtype: np.dtype | type | None = None
) -> TargetHealthClose:
    """Return the target and dust rule of a spoke.

    Args:
        target_health: health factor that calls restore, a setting of the spoke.
        dtype: of the constants; that of new arrays where not given.
    """
    return TargetHealthClose(
        target_health=target_health,
        minimum_leftover=jnp.asarray(MINIMUM_LEFTOVER, dtype or float),
    )
