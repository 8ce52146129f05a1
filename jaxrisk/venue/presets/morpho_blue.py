"""Morpho Blue: one isolated market of one collateral and one loan asset.

Healthy iff collateral value x LLTV >= debt; 1 + bonus = min(1.15, 1 / (1 - 0.3 (1 - LLTV))); a call
may take any amount up to everything; when collateral reaches exactly zero the remaining debt is
taken from suppliers at once, pro rata.

Source: morpho-org/morpho-blue, src/Morpho.sol `liquidate`.
"""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.oracle import Oracle, SpotOracle
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.close import FullClose
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.incentive import UniformBonus, incentive_factor
from jaxrisk.venue.interest import KinkedRate
from jaxrisk.venue.presets.preset import Preset, Terms
from jaxrisk.venue.recognition import AtZeroCollateral
from jaxrisk.venue.venue import Venue, opening_pool
from jaxrisk.venue.waterfall import Residual

CURSOR = 0.3
MAXIMUM_FACTOR = 1.15

_LOAN_TERMS = (
    "available_liquidity",
    "base_rate",
    "slope1",
    "slope2",
    "optimal_utilisation",
    "reserve_factor",
)


def morpho_blue(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    liquidation_loan_to_value: float,
    collateral: str | None = None,
    loan: str | None = None,
    name: str = "morpho_blue",
    overrides: Mapping[str, Mapping[str, float]] | None = None,
    oracle: Oracle | None = None,
    reserve: float = 0.0,
    insurance: float = 0.0,
) -> Venue:
    """Return a Morpho Blue market holding `accounts`.

    The borrow rate is a curve the market's deployer chooses; here it is 4 % per year up to 90 %
    utilisation and rises to 16 % at 100 % (the adaptive curve at its initial target), held fixed.

    Args:
        accounts: the book: exactly one collateral and one debt asset.
        assets: the system's assets, in order.
        liquidation_loan_to_value: LLTV, in (0, 1).
        collateral: name of the collateral, to check the book against; not needed.
        loan: name of the loan asset, likewise.
        name: of the venue.
        overrides: for the loan asset: `available_liquidity` (units), `base_rate`, `slope1`,
            `slope2`, `optimal_utilisation`, `reserve_factor`.
        oracle: which price the market sees; the market's mid where not given.
        reserve: protocol reserve that pays first, numeraire (none on the protocol itself).
        insurance: insurance that pays next, numeraire (none on the protocol itself).

    Raises:
        ValueError: more than one collateral or debt asset, others than named, or an LLTV outside
            (0, 1).
    """
    if len(accounts.collateral_assets) != 1 or len(accounts.debt_assets) != 1:
        raise ValueError(f"{name}: an isolated market has one collateral and one loan asset")
    posted, borrowed = assets[accounts.collateral_assets[0]], assets[accounts.debt_assets[0]]
    if (collateral or posted) != posted or (loan or borrowed) != borrowed:
        raise ValueError(
            f"{name}: the book posts {posted} and owes {borrowed}, "
            f"the market is {collateral}/{loan}"
        )
    if not 0 < liquidation_loan_to_value < 1:
        raise ValueError(f"{name}: liquidation_loan_to_value must be in (0, 1)")
    dtype = accounts.collateral.dtype
    number = lambda x: jnp.asarray(x, dtype)
    terms = dict((overrides or {}).get(borrowed, {}))
    foreign = [a for a in overrides or {} if a != borrowed] + sorted(set(terms) - set(_LOAN_TERMS))
    if foreign:
        raise ValueError(
            f"assets: {', '.join(foreign)} cannot be overridden; the market takes "
            f"{', '.join(_LOAN_TERMS)} of its loan asset {borrowed}"
        )
    optimum = terms.get("optimal_utilisation", 0.9)
    debt = float(np.asarray(accounts.debt, np.float64).sum())
    cash = terms.get("available_liquidity", debt * (1.0 / optimum - 1.0))
    weight = number([[liquidation_loan_to_value]])
    return Venue(
        accounts=accounts,
        oracle=oracle or SpotOracle(),
        collateral=CollateralWeights(liquidation_threshold=weight, loan_to_value=weight),
        close=FullClose(),
        incentive=UniformBonus(
            bonus=incentive_factor(weight[0, 0], cursor=CURSOR, maximum=MAXIMUM_FACTOR) - 1.0,
            fee_share=number(0.0),
        ),
        recognition=AtZeroCollateral(),
        interest=KinkedRate(
            base=number([terms.get("base_rate", 0.01)]),
            slope1=number([terms.get("slope1", 0.03)]),
            slope2=number([terms.get("slope2", 0.12)]),
            optimal_utilisation=number([optimum]),
            reserve_factor=number([terms.get("reserve_factor", 0.0)]),
        ),
        pool=opening_pool(accounts, number([cash])),
        funds=number([reserve, insurance]),
        name=name,
        fund_names=("reserve", "insurance"),
        residual=Residual.SOCIALISED,
        categories=("",),
    )


def _terms(
    overrides: Mapping[str, Mapping[str, float]],
    *,
    collateral: str,
    loan: str,
    liquidation_loan_to_value: float,
) -> Terms:
    del overrides, loan
    return Terms({collateral: liquidation_loan_to_value}, {})


PRESET = Preset(
    build=morpho_blue,
    required=("collateral", "loan", "liquidation_loan_to_value"),
    terms=_terms,
)
