"""What venues of contracts on margin have in common: one currency, custody, a fund."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.market.contract import Contracts, Quotes, mark_price, table
from jaxrisk.market.oracle import Oracle, SpotOracle
from jaxrisk.venue.account import Accounts, Positions
from jaxrisk.venue.accrual import CurveInterest
from jaxrisk.venue.close import FullClose
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.incentive import AssetBonus
from jaxrisk.venue.margin_accounts import Behind, CloseOut, MarginAccounts, opening_profit
from jaxrisk.venue.presets.instruments import Instrument
from jaxrisk.venue.presets.preset import Terms
from jaxrisk.venue.recognition import NeverRecognised
from jaxrisk.venue.stability_fee import StabilityFee
from jaxrisk.venue.venue import Venue, changed_pool
from jaxrisk.venue.waterfall import Residual

BEHIND = {behind.value: behind for behind in Behind}


class ClosingOptions(TypedDict, total=False):
    """Arguments of every venue of contracts; each may be left out, see `Closing`."""

    trigger: float
    target: float
    largest: float
    fee: float
    behind: str


@dataclasses.dataclass(frozen=True)
class Closing:
    """Options of every venue of contracts: who is called, how much is closed, who pays in the end.

    Attributes:
        trigger: multiple of the maintenance margin below which an account is called.
        target: multiple of it that closing is to restore.
        largest: largest share of a position closed in a round.
        fee: of the notional closed, to the insurance fund.
        behind: winners, positions or nobody: who bears what the fund does not.
    """

    trigger: float = 1.0
    target: float = 1.1
    largest: float = 1.0
    fee: float = 0.005
    behind: str = "winners"

    @staticmethod
    def checked(name: str, **options: Unpack[ClosingOptions]) -> "Closing":
        """Return the options, those not given at their defaults.

        Raises:
            ValueError: one is unknown or out of range.
        """
        unknown = sorted(set(options) - set(CLOSING))
        if unknown:
            raise ValueError(f"{name}: no such option {', '.join(unknown)}")
        made = Closing(**options)
        problems = []
        if not made.trigger > 0:
            problems.append(f"trigger {made.trigger:g}: expected a positive number")
        if not made.target >= made.trigger:
            problems.append(f"target {made.target:g}: expected at least trigger")
        if not 0 < made.largest <= 1:
            problems.append(f"largest {made.largest:g}: expected a fraction in (0, 1]")
        if not 0 <= made.fee < 1:
            problems.append(f"fee {made.fee:g}: expected a fraction in [0, 1)")
        if made.behind not in BEHIND:
            problems.append(f"behind {made.behind!r}: expected one of {', '.join(BEHIND)}")
        if problems:
            raise ValueError("; ".join(f"{name}: {p}" for p in problems))
        return made


CLOSING = tuple(field.name for field in dataclasses.fields(Closing))


def check_bounds(name: str, **options: tuple[float, float, float]) -> None:
    """Check options given as (value, least, largest), both ends allowed.

    Raises:
        ValueError: one lies outside of its bounds.
    """
    problems = [
        f"{name}: {option} {value:g}: expected "
        + (f"a number in [{least:g}, {most:g}]" if most < math.inf else f"at least {least:g}")
        for option, (value, least, most) in options.items()
        if not least <= value <= most
    ]
    if problems:
        raise ValueError("; ".join(problems))


def execution(closing: Closing, **slots: Any) -> MarginAccounts:
    """Return the kind of execution with `closing` and the other slots as given."""
    like = slots["opening_forward"].dtype
    number = lambda x: jnp.asarray(x, like)
    return MarginAccounts(
        close=CloseOut(
            trigger=number(closing.trigger),
            target=number(closing.target),
            largest=number(closing.largest),
            fee=number(closing.fee),
        ),
        behind=BEHIND[closing.behind],
        **slots,
    )


def contract_table(rows: Sequence[Instrument], dtype: Any) -> Contracts:
    """Return the terms of instruments in the floating-point type of the system."""
    return jax.tree.map(lambda x: x.astype(dtype), table([row.terms for row in rows]))


def settlement_prices(
    name: str, rows: Sequence[Instrument], prices: Mapping[str, float], settlement: str
) -> list[float]:
    """Return the opening price of each underlying in the settlement currency.

    Raises:
        ValueError: an asset has no price.
    """
    absent = sorted({settlement, *(row.underlying for row in rows)} - set(prices))
    if absent:
        raise ValueError(f"{name}: {', '.join(absent)}: no such asset")
    return [prices[row.underlying] / prices[settlement] for row in rows]


def no_terms(overrides: Mapping[str, Mapping[str, float]], **options: Any) -> Terms:
    """Return no thresholds: contracts have requirements of their own."""
    del overrides, options
    return Terms({}, {})


def margin_venue(
    accounts: Accounts,
    execution: MarginAccounts,
    *,
    name: str,
    insurance: float = 0.0,
    reserve: float = 0.0,
    haircut: float = 0.0,
    oracle: Oracle | None = None,
) -> Venue:
    """Return a venue whose accounts hold `execution`'s contracts on margin.

    Args:
        accounts: with positions, and one asset as collateral, the settlement currency; no debt.
        execution: contracts and rules.
        name: of the venue.
        insurance: the insurance fund, numeraire; liquidation fees go to it and it pays first.
        reserve: pays after it, numeraire.
        haircut: share of the collateral that backs no positions.
        oracle: which prices the venue sees; the market's mid where not given.

    Raises:
        ValueError: the book has no positions, another collateral, or debt.
    """
    if accounts.positions is None:
        raise ValueError(f"{name}: the book has no positions in contracts")
    if accounts.collateral_assets != accounts.debt_assets or len(accounts.debt_assets) != 1:
        raise ValueError(f"{name}: collateral must be one asset, the settlement currency")
    if np.any(np.asarray(accounts.debt) != 0):
        raise ValueError(f"{name}: accounts on margin have no debt of their own")
    if not 0 <= haircut < 1:
        raise ValueError(f"{name}: haircut {haircut:g}: expected a fraction in [0, 1)")
    accounts = _entered(accounts, execution)
    dtype = accounts.collateral.dtype
    array = lambda values: jnp.asarray(np.asarray(values, np.float64), dtype)
    weight, none = array([[1.0 - haircut]]), array([[0.0]])
    profit = opening_profit(execution, accounts)
    supplied = jnp.sum(accounts.collateral, axis=1)
    return Venue(
        accounts=accounts,
        oracle=oracle or SpotOracle(),
        collateral=CollateralWeights(liquidation_threshold=weight, loan_to_value=weight),
        close=FullClose(),
        incentive=AssetBonus(bonus=none, fee_share=none[0]),
        recognition=NeverRecognised(),
        interest=CurveInterest(curve=StabilityFee(per_second=none[0]), reserve_factor=array([1.0])),
        pool=changed_pool(cash=supplied + profit, supplied=supplied, unrealised=profit),
        funds=array([insurance, reserve]),
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
