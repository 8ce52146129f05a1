"""Compound v2: pooled lending in which the protocol keeps a share of all that is seized.

health = sum CF_c C_c / D; a call repays up to 50 % of the called debt; seized = repaid x 1.08, of
which 2.8 % goes to reserves; debt without collateral stays on the books.

Source: compound-finance/compound-protocol, Comptroller, CToken, BaseJumpRateModelV2.
"""

from collections.abc import Sequence
from typing import Unpack

import jax.numpy as jnp

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.incentive import SeizureFeeBonus
from jaxrisk.venue.offered_call import OfferedClose
from jaxrisk.venue.presets.asset_terms import (
    Overrides,
    completed_sides,
    kinked_rate,
    opening_cash,
    sides,
    thresholds,
    within,
    worsening,
)
from jaxrisk.venue.presets.common import Common, composed
from jaxrisk.venue.presets.preset import Preset, Terms
from jaxrisk.venue.recognition import NeverRecognised
from jaxrisk.venue.venue import Venue
from jaxrisk.venue.waterfall import Residual

CLOSE_FACTOR = 0.5
CLOSE_FACTOR_RANGE = (0.05, 0.9)
LIQUIDATION_BONUS = 0.08
SEIZURE_FEE = 0.028


def compound_v2(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    name: str = "compound_v2",
    close_factor: float = CLOSE_FACTOR,
    liquidation_bonus: float = LIQUIDATION_BONUS,
    seizure_fee: float = SEIZURE_FEE,
    overrides: Overrides | None = None,
    **common: Unpack[Common],
) -> Venue:
    """Return a Compound v2 pool holding `accounts`.

    Nothing is ever written off, so funds never pay: what accounts owe beyond their collateral is
    the open shortfall of a scenario. No table of collateral factors or curves ships: give each
    collateral its `liquidation_threshold`, and each debt its curve, as overrides.

    Args:
        accounts: the book.
        assets: the system's assets, in order.
        name: of the venue.
        close_factor: share of the called debt that one call may repay, 0.05 to 0.9.
        liquidation_bonus: collateral handed over beyond the debt repaid, as a fraction of it.
        seizure_fee: protocol's share of all that is seized.
        overrides: by collateral its `liquidation_threshold` (the one collateral factor), by debt
            what `LENT` names.
        **common: as in `Common`.

    Raises:
        ValueError: an asset with a position lacks a parameter, or a value makes no sense.
    """
    factor = within("close_factor", close_factor, *CLOSE_FACTOR_RANGE)
    bonus = within("liquidation_bonus", liquidation_bonus, 0.0, 1.0)
    fee = within("seizure_fee", seizure_fee, 0.0, 1.0, open_high=True)
    held, owed = completed_sides(accounts, assets, overrides)
    for asset, row in zip(sides(accounts, assets)[0], held, strict=True):
        if row["liquidation_threshold"] * (1.0 + bonus) > 1.0:
            raise ValueError(f"{asset}: {worsening(row['liquidation_threshold'], bonus)}")
    dtype = accounts.collateral.dtype
    number = lambda x: jnp.asarray(x, dtype)
    weight = number([[row["liquidation_threshold"] for row in held]])
    return composed(
        accounts,
        name=name,
        collateral=CollateralWeights(liquidation_threshold=weight, loan_to_value=weight),
        close=OfferedClose(close_factor=number(factor), seizure_fee=number(fee)),
        incentive=SeizureFeeBonus(bonus=number(bonus), seizure_fee=number(fee)),
        recognition=NeverRecognised(),
        interest=kinked_rate(owed, dtype),
        cash=opening_cash(owed, accounts),
        residual=Residual.STANDING,
        **common,
    )


def _terms(overrides: Overrides, **options: float) -> Terms:
    del options
    return Terms(thresholds({}, overrides), {})


PRESET = Preset(
    build=compound_v2,
    required=(),
    terms=_terms,
    optional=("close_factor", "liquidation_bonus", "seizure_fee"),
)
