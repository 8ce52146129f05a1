"""Aave v4: the rules of a spoke and of its hub, with the contracts' constants.

health = sum CF_c C_c / D; a call repays what restores the target health, with a bonus that is
linear in health; 1,000 USD must remain on both sides of a partial call, and where it would not,
that side is emptied; debt left without any collateral becomes a deficit that still counts as
supplied. Targets, bonuses and risks are set per spoke and collateral.

Source: aave/aave-v4, LiquidationLogic, Spoke, Hub, AssetLogic, SharesMath.
"""

from collections.abc import Sequence
from typing import Unpack

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.health_bonus import AssetHealthBonus
from jaxrisk.venue.presets.aave_v4_ethereum import COLLATERAL, CURVES, SPOKES, Spoke
from jaxrisk.venue.presets.asset_terms import (
    Overrides,
    completed_sides,
    kinked_rate,
    opening_cash,
    thresholds,
    within,
)
from jaxrisk.venue.presets.common import Common, composed
from jaxrisk.venue.presets.preset import Preset, Terms
from jaxrisk.venue.recognition import AtZeroCollateral
from jaxrisk.venue.target_health import TargetHealthClose
from jaxrisk.venue.venue import Venue
from jaxrisk.venue.waterfall import Residual

BASIS_POINT = 1e-4
"""Bonuses are rounded down and risk premiums up to whole basis points."""

MINIMUM_LEFTOVER = 1000.0
"""USD that must remain on both sides of a partial call: `DUST_LIQUIDATION_THRESHOLD`."""

VIRTUAL_AMOUNT = 1e6
"""Virtual assets and shares behind the worth of a supply share, in raw units."""

DEFAULT_DEPLOYMENT = "ethereum_main"

_HELD = ("liquidation_threshold", "liquidation_bonus")


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


def aave_v4(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    name: str = "aave_v4",
    deployment: str = DEFAULT_DEPLOYMENT,
    target_health: float | None = None,
    health_for_maximum_bonus: float | None = None,
    minimum_bonus_share: float | None = None,
    overrides: Overrides | None = None,
    **common: Unpack[Common],
) -> Venue:
    """Return an Aave v4 spoke holding `accounts`, with a hub that lends to this spoke alone.

    One factor serves for borrowing and for liquidation. All accounts stand under the spoke's
    present parameters, and none pays a risk premium.

    Args:
        accounts: the book.
        assets: the system's assets, in order.
        name: of the venue.
        deployment: which spoke's shipped parameters to start from.
        target_health: health factor that calls restore, at least 1.
        health_for_maximum_bonus: health at or below which the largest bonus is granted.
        minimum_bonus_share: share of it that is granted at health 1.
        overrides: parameters that replace or add to the tables: by collateral
            `liquidation_threshold`, `liquidation_bonus` (the largest), `protocol_fee`, by debt
            what `LENT` names.
        **common: as in `Common`.

    Raises:
        ValueError: an asset with a position has no parameters, or a value makes no sense.
    """
    given = (target_health, health_for_maximum_bonus, minimum_bonus_share)
    spoke = _spoke(SPOKES[deployment], given)
    table = COLLATERAL[deployment]
    held, owed = completed_sides(
        accounts, assets, overrides, table, CURVES, needed=_HELD, optional=("protocol_fee",)
    )
    dtype = accounts.collateral.dtype
    number = lambda x: jnp.asarray(x, dtype)
    row = lambda key: number([r.get(key, 0.0) for r in held])
    threshold = row("liquidation_threshold")[None]
    return composed(
        accounts,
        name=name,
        collateral=CollateralWeights(liquidation_threshold=threshold, loan_to_value=threshold),
        close=close_rule(number(spoke.target_health), dtype),
        incentive=AssetHealthBonus(
            maximum_bonus=row("liquidation_bonus")[None],
            minimum_share=number(spoke.minimum_bonus_share),
            health_for_maximum=number(spoke.health_for_maximum_bonus),
            fee_share=row("protocol_fee"),
        ),
        recognition=AtZeroCollateral(),
        interest=kinked_rate(owed, dtype),
        cash=opening_cash(owed, accounts),
        residual=Residual.CARRIED,
        **common,
    )


def _spoke(shipped: Spoke, given: tuple[float | None, ...]) -> Spoke:
    """Return the settings of a spoke, those given in place of the shipped ones, checked."""
    target, health, share = (
        own if own is not None else other for own, other in zip(given, shipped, strict=True)
    )
    inside = {"open_low": True, "open_high": True}
    return Spoke(
        target_health=within("target_health", target, 1.0, 2.0),
        health_for_maximum_bonus=within("health_for_maximum_bonus", health, 0.0, 1.0, **inside),
        minimum_bonus_share=within("minimum_bonus_share", share, 0.0, 1.0),
    )


def _terms(
    overrides: Overrides,
    *,
    deployment: str = DEFAULT_DEPLOYMENT,
    **options: float,
) -> Terms:
    del options
    return Terms(thresholds(COLLATERAL[deployment], overrides), {})


PRESET = Preset(
    build=aave_v4,
    required=(),
    terms=_terms,
    deployments=tuple(SPOKES),
    optional=("target_health", "health_for_maximum_bonus", "minimum_bonus_share"),
)
