"""What presets of stablecoin issuers with a pool of deposits share: checks and assembly."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.oracle import Oracle, SpotOracle
from jaxrisk.market.oracle_overlay import FaceValueOracle
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.close import FullClose
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.deposit_pool import DepositPool
from jaxrisk.venue.incentive import UniformBonus
from jaxrisk.venue.interest import KinkedRate
from jaxrisk.venue.recognition import NeverRecognised
from jaxrisk.venue.venue import Venue, opening_pool
from jaxrisk.venue.waterfall import Residual


def in_branches(accounts: Accounts, assets: Sequence[str], name: str) -> Accounts:
    """Return the book with the row of each account's collateral as its category.

    Raises:
        ValueError: an account owes nothing, or holds no or several collaterals, or there are
            several debts.
    """
    if len(accounts.debt_assets) != 1:
        owed = ", ".join(assets[i] for i in accounts.debt_assets)
        raise ValueError(f"{name}: expected one debt, the stablecoin; the book owes {owed}")
    held = np.asarray(accounts.collateral, np.float64) > 0
    owing = np.asarray(accounts.debt[0], np.float64) > 0
    wrong = np.flatnonzero((held.sum(axis=0) != 1) | ~owing)
    if len(wrong):
        raise ValueError(
            f"{name}: {len(wrong)} accounts, the first is number {wrong[0] + 1}, do not hold one "
            "collateral and owe the stablecoin; split accounts by collateral and drop those "
            "without debt"
        )
    branch = jnp.asarray(np.argmax(held, axis=0), jnp.int32)
    return dataclasses.replace(accounts, category=branch)


def check_ranges(ranges: Mapping[str, tuple[float, float, float]]) -> None:
    """Refuse values out of range.

    Args:
        ranges: value, lowest and highest allowed, by name. A range that is empty, because a value
            it depends on is itself refused, says nothing.

    Raises:
        ValueError: listing every value out of its range.
    """
    problems = []
    for name, (value, low, high) in ranges.items():
        if low <= high and not low <= value <= high:
            likely = value > 1 and low <= value / 100 <= high
            hint = f"; did you mean {value / 100:g}?" if likely else ""
            allowed = f"{low:g} to {high:g}" if high < np.inf else f"{low:g} or more"
            problems.append(f"{name}: {value:g}, expected {allowed}{hint}")
    if problems:
        raise ValueError("\n".join(problems))


def check_deposits(deposits: Mapping[str, float], accounts: Accounts, name: str) -> None:
    """Refuse deposits that cannot exist: negative, or more than all of the stablecoin.

    Args:
        deposits: by the name of the option they come from.
        accounts: the book.
        name: of the venue.

    Raises:
        ValueError: naming the option.
    """
    debt = float(np.asarray(accounts.debt, np.float64).sum())
    check_ranges({option: (value, 0.0, np.inf) for option, value in deposits.items()})
    total = sum(deposits.values())
    if total > debt * (1.0 + 1e-6):
        raise ValueError(
            f"{name}: {', '.join(deposits)}: {total:g} in all, but only {debt:g} of the stablecoin "
            "is owed and so exists; is the book a part of the system? Scale deposits alike"
        )


def check_overrides(
    overrides: Mapping[str, Mapping[str, float]], known: Mapping[str, Sequence[str]]
) -> None:
    """Refuse parameters by asset that do not exist.

    Args:
        overrides: by asset.
        known: names of the parameters each asset takes.

    Raises:
        ValueError: naming asset and parameter, and those that exist.
    """
    problems = []
    for asset, given in overrides.items():
        for option in sorted(set(given) - set(known.get(asset, ()))):
            allowed = ", ".join(known.get(asset, ())) or "nothing of this asset"
            problems.append(f"assets.{asset}.{option}: not a parameter here; expected {allowed}")
    if problems:
        raise ValueError("\n".join(problems))


def issuer(
    accounts: Accounts,
    assets: Sequence[str],
    minimum_ratio: Sequence[float],
    execution: DepositPool,
    *,
    name: str,
    oracle: Oracle | None = None,
    reserve: float = 0.0,
    insurance: float = 0.0,
) -> Venue:
    """Return an issuer of a stablecoin that counts a unit of it as 1.

    All of the stablecoin is the debt of its accounts: there is no cash to borrow. What pools do not
    pay other accounts do: there is no fund.

    Args:
        accounts: the book, from `in_branches`.
        assets: the system's assets, in order.
        minimum_ratio: by branch, below which an account can be liquidated.
        execution: rules of pool and redemptions.
        name: of the venue.
        oracle: which price of collateral it sees; the market's mid where not given. The stablecoin
            always counts as 1.
        reserve: must be 0.
        insurance: must be 0.

    Raises:
        ValueError: a fund is not empty.
    """
    if reserve or insurance:
        raise ValueError(
            f"{name}: no reserve or insurance pays here; depositors do, see options deposits"
        )
    number = lambda x: jnp.asarray(x, accounts.collateral.dtype)
    others: Any = oracle or SpotOracle()
    branches = tuple(assets[i] for i in accounts.collateral_assets)
    weights = number(np.tile(1.0 / np.asarray(minimum_ratio, np.float64), (len(branches), 1)))
    fee: Any = execution.liquidation.fee_share
    return Venue(
        accounts=accounts,
        oracle=FaceValueOracle(
            others=others, face_value=number(1.0), asset=accounts.debt_assets[0]
        ),
        collateral=CollateralWeights(liquidation_threshold=weights, loan_to_value=weights),
        close=FullClose(),
        # What callers are paid comes off the collateral: so much is missing from what is taken.
        incentive=UniformBonus(bonus=fee / (1.0 - fee), fee_share=number(0.0)),
        recognition=NeverRecognised(),
        interest=KinkedRate(
            base=number([0.0]),
            slope1=number([0.0]),
            slope2=number([0.0]),
            optimal_utilisation=number([0.5]),
            reserve_factor=number([0.0]),
        ),
        pool=opening_pool(accounts, number([0.0])),
        funds=number([0.0]),
        execution=execution,
        name=name,
        fund_names=("reserve",),
        residual=Residual.BORROWERS,
        categories=branches,
    )
