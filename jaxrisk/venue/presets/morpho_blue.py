"""Morpho Blue: one isolated market of one collateral and one loan asset.

Healthy iff collateral value x LLTV >= debt; 1 + bonus = min(1.15, 1 / (1 - 0.3 (1 - LLTV))); a call
may take any amount up to everything; when collateral reaches exactly zero the remaining debt is
taken from suppliers at once, pro rata. Accounts may have authorised pre-liquidation: small calls in
a band of loan to value below LLTV.

Source: morpho-org/morpho-blue, src/Morpho.sol `liquidate`; morpho-org/pre-liquidation.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.oracle import Oracle
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.accrual import AdaptiveInterest
from jaxrisk.venue.close import CloseRule, FullClose
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.early_close import EarlyClose, EarlyThenFullBonus, EarlyThenFullClose
from jaxrisk.venue.incentive import Incentive, UniformBonus, incentive_factor
from jaxrisk.venue.interest import Interest
from jaxrisk.venue.presets.asset_terms import (
    RATES,
    Overrides,
    completed_loan,
    isolated_pair,
    kinked_rate,
    opening_cash,
    within,
)
from jaxrisk.venue.presets.common import composed
from jaxrisk.venue.presets.morpho_adaptive_curve import adaptive_curve
from jaxrisk.venue.presets.preset import Preset, Terms
from jaxrisk.venue.recognition import AtZeroCollateral
from jaxrisk.venue.venue import Venue
from jaxrisk.venue.waterfall import Residual

CURSOR = 0.3
MAXIMUM_FACTOR = 1.15

PRE_LIQUIDATION = (
    "pre_liquidation_loan_to_value",
    "pre_liquidation_close_factor_lower",
    "pre_liquidation_close_factor_upper",
    "pre_liquidation_credit_lower",
    "pre_liquidation_credit_upper",
)
"""Options of pre-liquidation: all five or none; each contract has its own."""

FIXED_CURVE = {"base_rate": 0.01, "slope1": 0.03, "slope2": 0.12, "optimal_utilisation": 0.9}
"""The adaptive curve at its first target rate."""


def morpho_blue(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    liquidation_loan_to_value: float,
    collateral: str | None = None,
    loan: str | None = None,
    rate: str = "fixed_curve",
    rate_at_target: float | None = None,
    name: str = "morpho_blue",
    overrides: Overrides | None = None,
    oracle: Oracle | None = None,
    reserve: float = 0.0,
    insurance: float = 0.0,
    **pre_liquidation: float,
) -> Venue:
    """Return a Morpho Blue market holding `accounts`.

    The borrow rate is a rule the market's deployer chooses: the adaptive curve, or its first shape
    (4 % per year at 90 % utilisation, 16 % at 100 %) held fixed.

    Args:
        accounts: the book: exactly one collateral and one debt asset.
        assets: the system's assets, in order.
        liquidation_loan_to_value: LLTV, in (0, 1).
        collateral: name of the collateral, to check the book against; not needed.
        loan: name of the loan asset, likewise.
        rate: `fixed_curve`, or `adaptive`: then only `reserve_factor` may be overridden of a rate.
        rate_at_target: of the adaptive curve at the opening, per year; 4 % where not given.
        name: of the venue.
        overrides: for the loan asset what `LENT` names.
        oracle: as in `Common`, like both funds, of which the protocol itself has none.
        reserve: as in `Common`.
        insurance: as in `Common`.
        **pre_liquidation: terms of pre-liquidation as named in `PRE_LIQUIDATION`; all accounts
            have then authorised it, and their liquidation threshold is the lower end of its band.

    Raises:
        ValueError: more than one collateral or debt asset, others than named, an LLTV outside
            (0, 1), an unknown rate, a rate at target outside the curve's bounds or without the
        curve, or terms of pre-liquidation that the contract would refuse.
    """
    _, borrowed = isolated_pair(name, accounts, assets, collateral, loan)
    if not 0 < liquidation_loan_to_value < 1:
        raise ValueError(f"{name}: liquidation_loan_to_value must be in (0, 1)")
    given = [key for key in RATES if key in (overrides or {}).get(borrowed, {})]
    if rate == "adaptive" and given:
        raise ValueError(f"{given[0]} cannot be overridden where rate = adaptive")
    owed = completed_loan(borrowed, overrides, FIXED_CURVE)
    dtype = accounts.collateral.dtype
    number = lambda x: jnp.asarray(x, dtype)
    threshold = pre_liquidation.get(PRE_LIQUIDATION[0], liquidation_loan_to_value)
    weight = number([[threshold]])
    close, incentive = _rules(liquidation_loan_to_value, pre_liquidation, dtype)
    return composed(
        accounts,
        name=name,
        collateral=CollateralWeights(liquidation_threshold=weight, loan_to_value=weight),
        close=close,
        incentive=incentive,
        recognition=AtZeroCollateral(),
        interest=_interest(rate, rate_at_target, owed, dtype),
        cash=opening_cash(owed, accounts),
        residual=Residual.SOCIALISED,
        oracle=oracle,
        reserve=reserve,
        insurance=insurance,
    )


def _interest(
    rate: str, rate_at_target: float | None, owed: list[dict[str, float]], dtype: np.dtype
) -> Interest:
    """Return the adaptive curve at its opening target rate, or a curve that stays."""
    fixed = kinked_rate(owed, dtype)
    if rate == "fixed_curve":
        if rate_at_target is not None:
            raise ValueError('rate_at_target: only with rate = "adaptive"; drop it or say so')
        return fixed
    if rate != "adaptive":
        raise ValueError(f"rate {rate!r}: expected fixed_curve or adaptive")
    curve = adaptive_curve(dtype)
    opening = curve.initial_rate
    if rate_at_target is not None:
        lowest, highest = float(curve.minimum_rate), float(curve.maximum_rate)
        opening = jnp.asarray(within("rate_at_target", rate_at_target, lowest, highest), dtype)
    return AdaptiveInterest(
        curve=curve, reserve_factor=fixed.reserve_factor, rate_at_target=opening[None]
    )


def _rules(
    threshold: float, pre_liquidation: Mapping[str, float], dtype: np.dtype
) -> tuple[CloseRule, Incentive]:
    """Return how much may be closed and at what price, with pre-liquidation where it is given."""
    number = lambda x: jnp.asarray(x, dtype)
    factor = incentive_factor(number(threshold), cursor=CURSOR, maximum=MAXIMUM_FACTOR)
    if not pre_liquidation:
        return FullClose(), UniformBonus(bonus=factor - 1.0, fee_share=number(0.0))
    unknown = sorted(set(pre_liquidation) - set(PRE_LIQUIDATION))
    missing = [key for key in PRE_LIQUIDATION if key not in pre_liquidation]
    if unknown or missing:
        raise ValueError(
            f"pre-liquidation takes {', '.join(PRE_LIQUIDATION)}: "
            + (f"no such option {unknown[0]}" if unknown else f"{missing[0]} is missing")
        )
    lower, factor1, factor2, credit1, credit2 = (pre_liquidation[key] for key in PRE_LIQUIDATION)
    lower = within(PRE_LIQUIDATION[0], lower, 0.0, threshold, open_low=True, open_high=True)
    factor1 = within(PRE_LIQUIDATION[1], factor1, 0.0, 1.0)
    factor2 = within(PRE_LIQUIDATION[2], factor2, factor1, 10.0)
    # The contract asks for this so that an early call never makes an account weaker.
    credit2 = within(PRE_LIQUIDATION[4], credit2, 1.0, 1.0 / threshold)
    credit1 = within(PRE_LIQUIDATION[3], credit1, 1.0, credit2)
    band = EarlyClose(
        lower=number(lower),
        upper=number(threshold),
        close_factor_lower=number(factor1),
        close_factor_upper=number(factor2),
        credit_lower=number(credit1),
        credit_upper=number(credit2),
    )
    return EarlyThenFullClose(band=band), EarlyThenFullBonus(band=band, bonus=factor - 1.0)


def _terms(
    overrides: Overrides,
    *,
    collateral: str,
    loan: str,
    liquidation_loan_to_value: float,
    rate: str = "fixed_curve",
    rate_at_target: float | None = None,
    **pre_liquidation: float,
) -> Terms:
    del overrides, loan, rate, rate_at_target
    threshold = pre_liquidation.get(PRE_LIQUIDATION[0], liquidation_loan_to_value)
    return Terms({collateral: threshold}, {})


PRESET = Preset(
    build=morpho_blue,
    required=("collateral", "loan", "liquidation_loan_to_value"),
    terms=_terms,
    optional=("rate", "rate_at_target", *PRE_LIQUIDATION),
)
