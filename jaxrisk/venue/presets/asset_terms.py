"""Parameters by asset: what presets share in reading, completing and checking them."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.interest import KinkedRate

Overrides = Mapping[str, Mapping[str, float]]

RATES = ("base_rate", "slope1", "slope2", "optimal_utilisation")
"""What a rate curve needs."""

LENT = (*RATES, "reserve_factor", "available_liquidity")
"""Everything a lent asset takes: its rate curve, which it needs where no table has it; the
protocol's share of interest, 0 where not given; units to lend, where not given such that the pool
stands at its optimum."""

_OPTIONAL = ("reserve_factor", "available_liquidity")

_AMOUNTS = ("available_liquidity", "supply_cap", "borrow_cap")

_RANGES = {
    "loan_to_value": (0.0, 1.0),
    "liquidation_threshold": (0.0, 1.0),
    "liquidation_bonus": (0.0, 1.0),
    "protocol_fee": (0.0, 1.0),
    "reserve_factor": (0.0, 1.0),
}


def completed(
    assets: Sequence[str],
    table: Mapping[str, Mapping[str, float]],
    overrides: Overrides | None,
    *,
    needed: Sequence[str],
    optional: Sequence[str] = (),
    role: str,
) -> list[dict[str, float]]:
    """Return the parameters of each asset: those of the table, overridden and complete.

    Args:
        assets: names.
        table: shipped parameters by asset; entries for other roles are passed over.
        overrides: parameters by asset that replace or add to the table.
        needed: names of those an asset must have.
        optional: names of those it may have.
        role: what the assets are here, for messages: `collateral`, `debt`.

    Raises:
        ValueError: an asset lacks a parameter, or a value makes no sense.
    """
    known = (*needed, *optional)
    rows, problems = [], []
    for asset in assets:
        both = {**table.get(asset, {}), **(overrides or {}).get(asset, {})}
        row = {key: float(value) for key, value in both.items() if key in known}
        missing = [key for key in needed if key not in row]
        if missing:
            problems.append(
                f"{asset}: no parameter table has it as {role}; also give {', '.join(missing)}"
                if asset not in table
                else f"{asset}: as {role} it also needs {', '.join(missing)}"
            )
        problems += [f"{asset}: {text}" for text in problems_of(row)]
        rows.append(row)
    if problems:
        raise ValueError("; ".join(problems))
    return rows


def completed_sides(
    accounts: Accounts,
    assets: Sequence[str],
    overrides: Overrides | None,
    collateral: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
    debt: Mapping[str, Mapping[str, float]] = MappingProxyType({}),
    *,
    needed: Sequence[str] = ("liquidation_threshold",),
    optional: Sequence[str] = (),
    role: str = "collateral",
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Return the parameters of each asset held and of each asset owed, in the order of the book.

    Args:
        accounts: the book.
        assets: the system's assets, in order.
        overrides: parameters by asset that replace or add to the tables.
        collateral: shipped parameters of collateral, by asset; without any all are overrides.
        debt: shipped parameters of lent assets, likewise, named as in `LENT`.
        needed: names of those that collateral must have.
        optional: names of those that it may have.
        role: what collateral is here, for messages.

    Raises:
        ValueError: a parameter is unknown, an asset lacks one, or a value makes no sense.
    """
    held, owed = sides(accounts, assets)
    check_known(overrides, (*needed, *optional, *LENT))
    return (
        completed(held, collateral, overrides, needed=needed, optional=optional, role=role),
        completed(owed, debt, overrides, needed=RATES, optional=_OPTIONAL, role="debt"),
    )


def completed_loan(
    loan: str,
    overrides: Overrides | None,
    curve: Mapping[str, float] = MappingProxyType({}),
) -> list[dict[str, float]]:
    """Return the parameters of the one lent asset of an isolated market.

    Args:
        loan: its name.
        overrides: its parameters, named as in `LENT`.
        curve: what they are where not given; without it the curve has to be.

    Raises:
        ValueError: another asset has any, one is unknown or lacking, or a value makes no sense.
    """
    check_known(overrides, LENT, only=loan)
    table = {loan: curve} if curve else {}
    return completed([loan], table, overrides, needed=RATES, optional=_OPTIONAL, role="debt")


def check_known(
    overrides: Overrides | None, allowed: Collection[str], only: str | None = None
) -> None:
    """Refuse overrides of parameters the preset does not take.

    Args:
        overrides: parameters by asset.
        allowed: names of all parameters.
        only: the one asset that takes any; `None` for all assets.

    Raises:
        ValueError: naming what is not known.
    """
    problems = []
    for asset, row in (overrides or {}).items():
        if only is not None and asset != only:
            problems.append(f"{asset} takes no parameters here, only the loan asset {only} does")
            continue
        unknown = sorted(set(row) - set(allowed))
        if unknown:
            problems.append(
                f"{asset}: no such parameter {', '.join(unknown)}; "
                f"known: {', '.join(sorted(allowed))}"
            )
    if problems:
        raise ValueError("; ".join(problems))


def problems_of(row: Mapping[str, float]) -> list[str]:
    """Return what is wrong with the parameters of one asset, in words."""
    problems = [
        f"{key} = {row[key]:g}: expected {low:g} to {high:g}{_as_percent(row[key])}"
        for key, (low, high) in _RANGES.items()
        if key in row and not low <= row[key] <= high
    ]
    threshold, ratio = row.get("liquidation_threshold"), row.get("loan_to_value")
    if threshold is not None and ratio is not None and ratio > threshold:
        problems.append(
            f"loan_to_value {ratio:g} is above liquidation_threshold {threshold:g}: accounts could "
            "be liquidated as soon as they borrow; are the two swapped?"
        )
    bonus = row.get("liquidation_bonus")
    if threshold is not None and bonus is not None and threshold * (1.0 + bonus) > 1.0:
        problems.append(worsening(threshold, bonus))
    kink = row.get("optimal_utilisation")
    if kink is not None and not 0.0 < kink < 1.0:
        problems.append(
            f"optimal_utilisation = {kink:g}: expected between 0 and 1, both excluded"
            + _as_percent(kink)
        )
    problems += [
        f"{key} = {row[key]:g}: expected 0 or more"
        for key in (*_AMOUNTS, "base_rate", "slope1", "slope2")
        if key in row and not row[key] >= 0.0
    ]
    return problems


def worsening(threshold: float, bonus: float) -> str:
    """Return what is wrong with a bonus that collateral at its threshold cannot pay."""
    return (
        f"liquidation_threshold {threshold:g} times 1 + bonus {bonus:g} is above 1: a liquidation "
        f"at the threshold could not repay all debt; the bonus can be at most "
        f"{1.0 / threshold - 1.0:.4g}"
    )


def within(
    name: str,
    value: float,
    low: float,
    high: float,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> float:
    """Return an option as a number, refusing one outside its range.

    Raises:
        ValueError: naming the option, its range and the likely meaning.
    """
    try:
        number = float(value)
    except ValueError as error:
        raise ValueError(f"{name} = {value!r}: expected a number") from error
    above = number > low if open_low else number >= low
    below = number < high if open_high else number <= high
    if not (above and below):
        left, right = "]" if open_low else "[", "[" if open_high else "]"
        raise ValueError(
            f"{name} = {number:g}: expected a number in {left}{low:g}, {high:g}{right}"
            + (_as_percent(number) if high <= 2.0 else "")
        )
    return number


def _as_percent(value: float) -> str:
    return f"; did you mean {value / 100.0:g}?" if 1.0 < value <= 100.0 else ""


def kinked_rate(rows: Sequence[Mapping[str, float]], dtype: np.dtype) -> KinkedRate:
    """Return the rate curves of lent assets."""
    of = lambda key: jnp.asarray([row[key] for row in rows], dtype)
    return KinkedRate(
        base=of("base_rate"),
        slope1=of("slope1"),
        slope2=of("slope2"),
        optimal_utilisation=of("optimal_utilisation"),
        reserve_factor=jnp.asarray([row.get("reserve_factor", 0.0) for row in rows], dtype),
    )


def opening_cash(rows: Sequence[Mapping[str, float]], accounts: Accounts) -> np.ndarray:
    """Return cash as stated, or what puts a pool at its optimal utilisation."""
    debt = np.asarray(accounts.debt, np.float64).sum(axis=1)
    at_optimum = [
        d * (1.0 / row["optimal_utilisation"] - 1.0) for row, d in zip(rows, debt, strict=True)
    ]
    return np.array(
        [row.get("available_liquidity", cash) for row, cash in zip(rows, at_optimum, strict=True)]
    )


def sides(accounts: Accounts, assets: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names of the assets held and owed."""
    held = [assets[i] for i in accounts.collateral_assets]
    return held, [assets[i] for i in accounts.debt_assets]


def isolated_pair(
    name: str,
    accounts: Accounts,
    assets: Sequence[str],
    collateral: str | None,
    loan: str | None,
) -> tuple[str, str]:
    """Return the one collateral and the one loan asset of an isolated market.

    Raises:
        ValueError: there are more of either, or others than named.
    """
    if len(accounts.collateral_assets) != 1 or len(accounts.debt_assets) != 1:
        raise ValueError(f"{name}: an isolated market has one collateral and one loan asset")
    (posted,), (borrowed,) = sides(accounts, assets)
    if (collateral or posted) != posted or (loan or borrowed) != borrowed:
        raise ValueError(
            f"{name}: the book posts {posted} and owes {borrowed}, "
            f"the market is {collateral}/{loan}"
        )
    return posted, borrowed


def switched_on(option: str, value: str) -> bool:
    """Return whether an option that is `"on"` or `"off"` is on.

    Raises:
        ValueError: it is neither.
    """
    if value not in ("on", "off"):
        raise ValueError(f'{option} = {value!r}: expected "on" or "off"')
    return value == "on"


def single_debt(
    name: str, accounts: Accounts, assets: Sequence[str], loan: str | None = None
) -> str:
    """Return the one asset that a venue lends.

    Raises:
        ValueError: accounts owe more than one, or another than named.
    """
    _, owed = sides(accounts, assets)
    if len(owed) != 1:
        raise ValueError(
            f"{name}: this venue lends one asset, the book owes {', '.join(owed)}; "
            "make one venue for each"
        )
    if (loan or owed[0]) != owed[0]:
        raise ValueError(f"{name}: the book owes {owed[0]}, the venue lends {loan}")
    return owed[0]


def thresholds(table: Mapping[str, Mapping[str, float]], overrides: Overrides) -> dict[str, float]:
    """Return the liquidation threshold of every asset that has one, by asset."""
    key = "liquidation_threshold"
    rows = {a: {**table.get(a, {}), **overrides.get(a, {})} for a in (*table, *overrides)}
    return {asset: row[key] for asset, row in rows.items() if key in row}
