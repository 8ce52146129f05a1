"""Liquity v2: several collateral branches, one stablecoin, interest chosen by the borrower.

An account below its branch's minimum ratio is closed at a penalty against the deposits of the
branch's pool, and at a higher one against the other accounts of the branch; its owner keeps the
rest. Anyone may redeem the stablecoin at face value from the accounts that pay the lowest rate, of
all branches in proportion to the debt their deposits do not cover. A branch below its shutdown
ratio is shut down: no interest, and redemptions with a bonus of any of its accounts.

Source: liquity/bold, TroveManager, StabilityPool, CollateralRegistry.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Unpack

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.deposit_pool import DepositPool, RedemptionRules
from jaxrisk.venue.pool_liquidation import PenaltyLiquidation
from jaxrisk.venue.presets.asset_terms import Overrides, sides, switched_on
from jaxrisk.venue.presets.common import Common
from jaxrisk.venue.presets.issuer import (
    check_deposits,
    check_overrides,
    check_ranges,
    in_branches,
    issuer,
)
from jaxrisk.venue.presets.liquity_v2_ethereum import ETHEREUM, BranchConstants, Constants
from jaxrisk.venue.presets.preset import Preset, Terms
from jaxrisk.venue.redemption import RedemptionFee
from jaxrisk.venue.venue import Venue

DEPLOYMENTS = {"ethereum_2025": ETHEREUM}
DEFAULT_DEPLOYMENT = "ethereum_2025"
_BRANCH = BranchConstants._fields


def liquity_v2(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    rate: float = 0.05,
    rates: str = "",
    name: str = "liquity_v2",
    deployment: str = DEFAULT_DEPLOYMENT,
    overrides: Overrides | None = None,
    sale_share: float = 0.5,
    redemptions: str = "on",
    **common: Unpack[Common],
) -> Venue:
    """Return a Liquity v2 system holding `accounts`.

    Args:
        accounts: the book: one debt, the stablecoin; each account has it and one collateral, which
            is its branch. Categories index "" and then the groups of `rates`, in order.
        assets: the system's assets, in order.
        rate: interest rate a year of accounts without a group.
        rates: interest rate of each group of borrowers, as in `"low: 0.01, high: 0.07"`.
        name: of the venue.
        deployment: which shipped constants to start from.
        overrides: by collateral, names as in `BranchConstants`, and `deposits`: stablecoin in the
            branch's stability pool, 0 where not given.
        sale_share: part of the collateral they get that depositors sell at once; a model of their
            behaviour, not a rule of the protocol.
        redemptions: `on`, or `off` to leave them out; a branch is then never shut down either.
        **common: as in `issuer`: the oracle, and funds of 0.

    Raises:
        ValueError: the book, an option or an override does not fit, naming it.
    """
    table = DEPLOYMENTS[deployment]
    own = _chosen_rates(rate, rates, table)
    group = np.asarray(accounts.category)
    accounts = in_branches(accounts, assets, name)
    branches, _ = sides(accounts, assets)
    check_overrides(overrides or {}, dict.fromkeys(branches, ("deposits", *_BRANCH)))
    given = {a: dict((overrides or {}).get(a, {})) for a in branches}
    deposits = {f"assets.{a}.options.deposits": given[a].pop("deposits", 0.0) for a in branches}
    check_deposits(deposits, accounts, name)
    check_ranges({"sale_share": (sale_share, 0.0, 1.0)})
    redeemed = switched_on("redemptions", redemptions)
    rows = [_branch(a, table.branches, given[a]) for a in branches]
    dtype = accounts.collateral.dtype
    number = lambda x: jnp.asarray(np.asarray(x, np.float64), dtype)
    column = lambda field: number([getattr(row, field) for row in rows])
    rate_of = number(np.array(list(own.values()))[group])
    accounts = dataclasses.replace(accounts, rate=rate_of)
    execution = DepositPool(
        liquidation=PenaltyLiquidation(
            pool_penalty=column("pool_penalty"),
            peer_penalty=column("peer_penalty"),
            fee_share=number(table.caller_share),
            fee_cap=column("caller_cap"),
        ),
        deposits=number(list(deposits.values())),
        kept=number(table.deposits_kept),
        sale_share=number(sale_share),
        interest_kept=number(1.0 - table.depositors_interest),
        redemption=_redemption(table, column("shutdown_ratio"), number) if redeemed else None,
    )
    ratios = [row.minimum_ratio for row in rows]
    return issuer(accounts, assets, ratios, execution, name=name, **common)


def _chosen_rates(rate: float, rates: str, table: Constants) -> dict[str, float]:
    """Return the rate of each group of borrowers, "" first.

    Raises:
        ValueError: the text cannot be read, or a rate is out of the protocol's range.
    """
    found = {"": rate}
    for part in filter(None, (p.strip() for p in rates.split(","))):
        group, _, value = (x.strip() for x in part.partition(":"))
        try:
            own = float(value)
        except ValueError:
            own = None
        if own is None or not group:
            raise ValueError(
                f'rates: cannot read {part!r}; expected groups and rates as in "low: 0.01, '
                'high: 0.07"'
            )
        if group in found:
            raise ValueError(f"rates: group {group!r} is given twice; give each group one rate")
        found[group] = own
    check_ranges(
        {
            f"rate of {group}" if group else "rate": (value, table.lowest_rate, table.highest_rate)
            for group, value in found.items()
        }
    )
    return found


def _branch(
    asset: str, shipped: Mapping[str, BranchConstants], given: Mapping[str, float]
) -> BranchConstants:
    """Return the constants of a branch, overrides included.

    Raises:
        ValueError: one is missing or out of its range.
    """
    missing = [f for f in _BRANCH if f not in given and f not in BranchConstants._field_defaults]
    if asset not in shipped and missing:
        raise ValueError(f"assets.{asset}: not in the deployment; also give {', '.join(missing)}")
    row = (
        shipped[asset]._replace(**given) if asset in shipped else BranchConstants(**given)  # pyright: ignore[reportArgumentType]
    )
    # More than the collateral at the minimum ratio holds cannot be taken at it.
    most = row.minimum_ratio - 1.0
    where = lambda field: f"assets.{asset}.options.{field}"
    check_ranges(
        {
            where("minimum_ratio"): (row.minimum_ratio, 1.0, 10.0),
            where("shutdown_ratio"): (row.shutdown_ratio, 1.0, 10.0),
            where("pool_penalty"): (row.pool_penalty, 0.0, most + 1e-9),
            where("peer_penalty"): (row.peer_penalty, row.pool_penalty, most + 1e-9),
            where("caller_cap"): (row.caller_cap, 0.0, np.inf),
        }
    )
    return row


def _redemption(
    table: Constants,
    shutdown_ratio: Float[Array, " branch"],
    number: Callable[[float], Float[Array, ""]],
) -> RedemptionRules:
    return RedemptionRules(
        fee=RedemptionFee(
            floor=number(table.redemption_floor),
            sensitivity=number(table.redemption_sensitivity),
            decay=number(table.redemption_decay),
        ),
        lowest_ratio=number(1.0),
        lowest_branch_ratio=shutdown_ratio,
        bonus=number(table.urgent_bonus),
        shutdown_ratio=shutdown_ratio,
        by_unbacked=True,
        by_rate=True,
        fee_stays=True,
        closes=False,
    )


def _terms(
    overrides: Overrides,
    *,
    deployment: str = DEFAULT_DEPLOYMENT,
    rate: float = 0.05,
    rates: str = "",
    **_: float | str,
) -> Terms:
    table = DEPLOYMENTS[deployment]
    ratio = {asset: row.minimum_ratio for asset, row in table.branches.items()}
    ratio |= {a: own["minimum_ratio"] for a, own in overrides.items() if "minimum_ratio" in own}
    groups = [group for group in _chosen_rates(rate, rates, table) if group]
    # A group says what rate is paid; the threshold is that of the collateral, here the strictest.
    return Terms(
        {asset: 1.0 / r for asset, r in ratio.items()},
        dict.fromkeys(groups, 1.0 / max(ratio.values())),
    )


PRESET = Preset(
    build=liquity_v2,
    required=(),
    terms=_terms,
    deployments=tuple(DEPLOYMENTS),
    optional=("rate", "rates", "sale_share", "redemptions"),
    asset_options=("deposits", *_BRANCH),
)
