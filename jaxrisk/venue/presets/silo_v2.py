"""Silo v2: one isolated pair, closed down to a target loan to value, or whole.

Liquidatable iff D > LT C; a call repays what brings the loan to value down to a target, or all of
the debt where that is more than 90 % of it; seized = min(C, repaid (1 + fee)); an account whose
debt is worth its collateral or more may be called for any amount; debt without collateral stays.

Source: silo-finance/silo-contracts-v2 340a49b8, PartialLiquidationLib, PartialLiquidationExecLib.
"""

from collections.abc import Sequence
from typing import Unpack

import jax.numpy as jnp

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.presets.asset_terms import (
    Overrides,
    completed_loan,
    isolated_pair,
    kinked_rate,
    opening_cash,
    within,
    worsening,
)
from jaxrisk.venue.presets.common import Common, composed
from jaxrisk.venue.presets.preset import Preset, Terms
from jaxrisk.venue.recognition import NeverRecognised
from jaxrisk.venue.target_close import CoveredBonus, TargetClose
from jaxrisk.venue.venue import Venue
from jaxrisk.venue.waterfall import Residual

WHOLE_ABOVE = 0.9
"""Share of the debt above which a call must close all of it: `_DEBT_DUST_LEVEL`."""


def silo_v2(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    liquidation_loan_to_value: float,
    target_loan_to_value: float,
    liquidation_fee: float,
    collateral: str | None = None,
    loan: str | None = None,
    name: str = "silo_v2",
    overrides: Overrides | None = None,
    **common: Unpack[Common],
) -> Venue:
    """Return one side of a Silo v2 market holding `accounts`.

    Nothing is ever written off, so funds never pay: what accounts owe beyond their collateral is
    the open shortfall of a scenario. No parameter table ships. The rate is a fixed curve; the
    drifting slope of the protocol does not move within a scenario.

    Args:
        accounts: the book: exactly one collateral and one debt asset.
        assets: the system's assets, in order.
        liquidation_loan_to_value: LT, in (0, 1).
        target_loan_to_value: loan to value that calls restore, in [0, LT); 0 for whole calls.
        liquidation_fee: collateral handed over beyond the debt repaid, as a fraction of it.
        collateral: name of the collateral, to check the book against; not needed.
        loan: name of the loan asset, likewise.
        name: of the venue.
        overrides: for the loan asset what `LENT` names.
        **common: as in `Common`.

    Raises:
        ValueError: more than one collateral or debt asset, others than named, or a value that
            makes no sense.
    """
    _, borrowed = isolated_pair(name, accounts, assets, collateral, loan)
    inside = {"open_low": True, "open_high": True}
    threshold = within("liquidation_loan_to_value", liquidation_loan_to_value, 0.0, 1.0, **inside)
    target = within("target_loan_to_value", target_loan_to_value, 0.0, threshold, open_high=True)
    fee = within("liquidation_fee", liquidation_fee, 0.0, 1.0, open_high=True)
    if threshold * (1.0 + fee) > 1.0:
        raise ValueError(f"{name}: {worsening(threshold, fee)}")
    owed = completed_loan(borrowed, overrides)
    dtype = accounts.collateral.dtype
    number = lambda x: jnp.asarray(x, dtype)
    weight = number([[threshold]])
    return composed(
        accounts,
        name=name,
        collateral=CollateralWeights(liquidation_threshold=weight, loan_to_value=weight),
        close=TargetClose(target=number(target), whole_above=number(WHOLE_ABOVE)),
        incentive=CoveredBonus(bonus=number(fee)),
        recognition=NeverRecognised(),
        interest=kinked_rate(owed, dtype),
        cash=opening_cash(owed, accounts),
        residual=Residual.STANDING,
        **common,
    )


def _terms(
    overrides: Overrides,
    *,
    collateral: str,
    liquidation_loan_to_value: float,
    **options: float | str,
) -> Terms:
    del overrides, options
    return Terms({collateral: liquidation_loan_to_value}, {})


PRESET = Preset(
    build=silo_v2,
    required=(
        "collateral",
        "loan",
        "liquidation_loan_to_value",
        "target_loan_to_value",
        "liquidation_fee",
    ),
    terms=_terms,
)
