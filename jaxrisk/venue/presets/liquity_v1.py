"""Liquity v1: troves of ether against a stablecoin, a stability pool, redemptions.

An account below 110 % is closed against the deposits of the pool, and against the other accounts
where those do not suffice; below 150 % over all accounts, recovery mode calls more of them. Anyone
may redeem the stablecoin at face value from the accounts with the lowest ratio above 110 %.

Source: liquity/dev, TroveManager, StabilityPool, LiquityBase.
"""

from collections.abc import Callable, Sequence
from typing import Unpack

import jax.numpy as jnp
from jaxtyping import Array

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.deposit_pool import DepositPool, RedemptionRules
from jaxrisk.venue.pool_liquidation import RecoveryLiquidation
from jaxrisk.venue.presets.asset_terms import Overrides, isolated_pair, switched_on
from jaxrisk.venue.presets.common import Common
from jaxrisk.venue.presets.issuer import (
    check_deposits,
    check_overrides,
    check_ranges,
    in_branches,
    issuer,
)
from jaxrisk.venue.presets.liquity_v1_ethereum import ETHEREUM, Constants
from jaxrisk.venue.presets.preset import Preset, Terms
from jaxrisk.venue.redemption import RedemptionFee
from jaxrisk.venue.venue import Venue

DEPLOYMENTS = {"ethereum_2021": ETHEREUM}
DEFAULT_DEPLOYMENT = "ethereum_2021"
_RATIOS = ("minimum_ratio", "critical_ratio")


def liquity_v1(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    deposits: float,
    collateral: str | None = None,
    loan: str | None = None,
    name: str = "liquity_v1",
    deployment: str = DEFAULT_DEPLOYMENT,
    overrides: Overrides | None = None,
    sale_share: float = 0.5,
    redemptions: str = "on",
    **common: Unpack[Common],
) -> Venue:
    """Return a Liquity v1 system holding `accounts`.

    Args:
        accounts: the book: one collateral and one debt, the stablecoin; each account has both.
        assets: the system's assets, in order.
        deposits: stablecoin in the stability pool.
        collateral: name of the collateral, to check the book against; not needed.
        loan: name of the stablecoin, likewise.
        name: of the venue.
        deployment: which shipped constants to start from.
        overrides: for the collateral: `minimum_ratio`, `critical_ratio`.
        sale_share: part of the collateral they get that depositors sell at once; a model of their
            behaviour, not a rule of the protocol.
        redemptions: `on`, or `off` to leave them out.
        **common: as in `issuer`: the oracle, and funds of 0.

    Raises:
        ValueError: the book, an option or an override does not fit, naming it.
    """
    accounts = in_branches(accounts, assets, name)
    posted, _ = isolated_pair(name, accounts, assets, collateral, loan)
    terms = (overrides or {}).get(posted, {})
    check_overrides(overrides or {}, {posted: _RATIOS})
    check_deposits({"deposits": deposits}, accounts, name)
    table = DEPLOYMENTS[deployment]._replace(**terms)
    check_ranges(
        {
            "sale_share": (sale_share, 0.0, 1.0),
            "minimum_ratio": (table.minimum_ratio, 1.0, 10.0),
            "critical_ratio": (table.critical_ratio, table.minimum_ratio, 10.0),
        }
    )
    redeemed = switched_on("redemptions", redemptions)
    number = lambda x: jnp.asarray(x, accounts.collateral.dtype)
    execution = DepositPool(
        liquidation=RecoveryLiquidation(
            critical_ratio=number(table.critical_ratio), fee_share=number(table.caller_share)
        ),
        deposits=number([deposits]),
        kept=number(table.deposits_kept),
        sale_share=number(sale_share),
        interest_kept=number(0.0),
        redemption=_redemption(table, number) if redeemed else None,
    )
    ratios = [table.minimum_ratio]
    return issuer(accounts, assets, ratios, execution, name=name, **common)


def _redemption(
    table: Constants, number: Callable[[float | Sequence[float]], Array]
) -> RedemptionRules:
    return RedemptionRules(
        fee=RedemptionFee(
            floor=number(table.redemption_floor),
            sensitivity=number(table.redemption_sensitivity),
            decay=number(table.redemption_decay),
        ),
        lowest_ratio=number(table.minimum_ratio),
        lowest_branch_ratio=number([table.minimum_ratio]),
        bonus=number(0.0),
        by_unbacked=False,
        by_rate=False,
        fee_stays=False,
        closes=True,
    )


def _terms(
    overrides: Overrides,
    *,
    collateral: str,
    deployment: str = DEFAULT_DEPLOYMENT,
    **_: float | str,
) -> Terms:
    own = overrides.get(collateral, {})
    ratio = own.get("minimum_ratio", DEPLOYMENTS[deployment].minimum_ratio)
    return Terms({collateral: 1.0 / ratio}, {})


PRESET = Preset(
    build=liquity_v1,
    required=("collateral", "loan", "deposits"),
    terms=_terms,
    deployments=tuple(DEPLOYMENTS),
    optional=("sale_share", "redemptions"),
    asset_options=_RATIOS,
)
