"""Aave v3.0 to v3.2, and the many forks of that code: the rules and the contracts' constants.

health = total collateral x mean threshold / D; a call repays up to 50 % of the debt in the called
asset, or all of it when health <= 0.95; seized = repaid (1 + bonus); any remainder may be left;
debt without collateral stays on the books.

Source: aave/aave-v3-core v3.0.2, LiquidationLogic, ValidationLogic, GenericLogic.
"""

import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.reserve_close import ReserveFractionClose

BASIS_POINT = 1e-4
"""Mean thresholds are rounded down to whole basis points."""

BASE_UNIT = 1e-8
"""USD; the values of single balances are rounded down to it."""


def close_rule(dtype: np.dtype | type | None = None) -> ReserveFractionClose:
    """Return the close factor with its contract constants."""
    number = lambda x: jnp.asarray(x, dtype or float)
    return ReserveFractionClose(fraction=number(0.5), full_below_health=number(0.95))
