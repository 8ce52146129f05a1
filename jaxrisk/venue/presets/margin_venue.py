"""What venues of contracts on margin have in common: one currency, custody, a fund."""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypedDict, Unpack

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.contract import Quotes, mark_price
from jaxrisk.market.oracle import Oracle, SpotOracle
from jaxrisk.venue.account import Accounts, Positions
from jaxrisk.venue.accrual import CurveInterest
from jaxrisk.venue.close import FullClose
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.incentive import AssetBonus
from jaxrisk.venue.margin_accounts import MarginAccounts, opening_profit
from jaxrisk.venue.presets.preset import Terms
from jaxrisk.venue.recognition import NeverRecognised
from jaxrisk.venue.stability_fee import StabilityFee
from jaxrisk.venue.venue import Venue, changed_pool
from jaxrisk.venue.waterfall import Residual


class Custody(TypedDict, total=False):
    """Arguments of every venue of contracts about its money; each may be left out.

    Attributes:
        oracle: which prices the venue sees; the market's mid where not given.
        insurance: the insurance fund, numeraire; liquidation fees go to it and it pays first.
        reserve: pays after it, numeraire.
        haircut: share of the settlement currency that backs no positions.
    """

    oracle: Oracle | None
    insurance: float
    reserve: float
    haircut: float


def no_terms(overrides: Mapping[str, Mapping[str, float]], **options: Any) -> Terms:
    """Return no thresholds: contracts have requirements of their own."""
    del overrides, options
    return Terms({}, {})


def margin_venue(
    accounts: Accounts,
    execution: MarginAccounts,
    *,
    name: str,
    **custody: Unpack[Custody],
) -> Venue:
    """Return a venue whose accounts hold `execution`'s contracts on margin.

    Args:
        accounts: with positions and without debt; their first collateral is the settlement
            currency, and others are as `execution.posted` says.
        execution: contracts and rules.
        name: of the venue.
        **custody: oracle, funds and haircut, see `Custody`.

    Raises:
        ValueError: the book has no positions, no settlement currency as its first collateral,
            others for which there is no rule, or debt.
    """
    if accounts.positions is None:
        raise ValueError(f"{name}: the book has no positions in contracts")
    if accounts.collateral_assets[:1] != accounts.debt_assets:
        raise ValueError(f"{name}: collateral must begin with the settlement currency")
    others, rule = len(accounts.collateral_assets) - 1, execution.posted
    if others != (0 if rule is None else len(rule.haircut.liability)):
        raise ValueError(f"{name}: {others} other assets as collateral without as many haircuts")
    if np.any(np.asarray(accounts.debt) != 0):
        raise ValueError(f"{name}: accounts on margin have no debt of their own")
    haircut = custody.get("haircut", 0.0)
    if not 0 <= haircut < 1:
        raise ValueError(f"{name}: haircut {haircut:g}: expected a fraction in [0, 1)")
    accounts = _entered(accounts, execution)
    dtype = accounts.collateral.dtype
    array = lambda values: jnp.asarray(np.asarray(values, np.float64), dtype)
    first = [] if rule is None else np.asarray(rule.haircut.weight[0]).tolist()
    weight, none = array([[1.0 - haircut, *first]]), array([[0.0] * (1 + others)])
    profit = opening_profit(execution, accounts)
    supplied = jnp.sum(accounts.collateral[:1], axis=1)
    return Venue(
        accounts=accounts,
        oracle=custody.get("oracle") or SpotOracle(),
        collateral=CollateralWeights(liquidation_threshold=weight, loan_to_value=weight),
        close=FullClose(),
        incentive=AssetBonus(bonus=none, fee_share=none[0]),
        recognition=NeverRecognised(),
        interest=CurveInterest(
            curve=StabilityFee(per_second=array([0.0])), reserve_factor=array([1.0])
        ),
        pool=changed_pool(cash=supplied + profit, supplied=supplied, unrealised=profit),
        funds=array([custody.get("insurance", 0.0), custody.get("reserve", 0.0)]),
        execution=execution,
        name=name,
        fund_names=("insurance", "reserve"),
        residual=Residual.CARRIED,
        categories=("",),
    )


def _entered(accounts: Accounts, execution: MarginAccounts) -> Accounts:
    """Return the accounts with entry prices that are not stated at the opening price."""
    held = accounts.positions
    assert held is not None
    forward = execution.opening_forward
    quotes = Quotes(
        forward=forward,
        volatility=execution.opening_volatility,
        settlement=jnp.ones_like(forward),
        time=jnp.zeros((), forward.dtype),
    )
    price = mark_price(execution.contracts, quotes)[:, None]
    entry = jnp.where(jnp.isnan(held.entry), price, held.entry)
    return dataclasses.replace(accounts, positions=Positions(size=held.size, entry=entry))
