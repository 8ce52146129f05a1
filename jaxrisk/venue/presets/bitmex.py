"""BitMEX: inverse and linear perpetuals under risk limits, each step for the whole position.

Risk limits: notices of 5 May 2020 (base margins) and 31 August 2021 (steps); at every step both
margins rise by the base maintenance margin (Risk Limits Examples). An account holds the margins of
the limit it has set, which is never below that of its position. Funding and fair price: Perpetual
Contracts Guide; the cap of the example there is 0.375 % at margins of 1 % and 0.5 %.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple, Unpack

import jax.numpy as jnp
from jaxtyping import DTypeLike

from jaxrisk.market.contract import Contracts, perpetual
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.close_out import WholeClose
from jaxrisk.venue.deleverage_ranking import LeveragedProfit
from jaxrisk.venue.funding import ClampedFunding
from jaxrisk.venue.margin_tiers import Bracket, SlabTiers, step_brackets
from jaxrisk.venue.notional_margin import NotionalMargin
from jaxrisk.venue.presets.exchange import exchange_preset, slab_tiers
from jaxrisk.venue.presets.listing import MarginOptions, listed
from jaxrisk.venue.venue import Venue

HOURS_PER_YEAR = 8760.0

CAP_SHARE = 0.75
"""Largest funding of an interval, of initial less maintenance margin."""


class RiskLimit(NamedTuple):
    """Risk limits of a contract, in XBT.

    Attributes:
        base: value up to which base margins hold.
        step: value of each further step.
        initial: base initial margin.
        maintenance: base maintenance margin, and what a step adds to both.
    """

    base: float
    step: float
    initial: float
    maintenance: float


RISK_LIMITS = {
    "XBTUSD": RiskLimit(200.0, 150.0, 0.01, 0.004),
    "ETHUSD": RiskLimit(50.0, 100.0, 0.02, 0.008),
}
"""Source: notices named above."""


def contract() -> Contracts:
    """Return the perpetual on XBT: one dollar a contract, settled in XBT."""
    return perpetual(1.0, inverse=True)


def brackets(limit: RiskLimit, steps: int = 10) -> list[Bracket]:
    """Return the risk limits of a contract as brackets, in XBT.

    Args:
        limit: of the contract.
        steps: beyond the base; the last has no upper bound.
    """
    return step_brackets(
        limit.base,
        limit.step,
        rate=limit.maintenance,
        initial=limit.initial,
        added=limit.maintenance,
        tiers=steps + 1,
    )


def margin(limit: RiskLimit, steps: int = 10, dtype: DTypeLike | None = None) -> SlabTiers:
    """Return the risk limits of a contract.

    Args:
        limit: of the contract.
        steps: beyond the base; the last has no upper bound.
        dtype: of the coefficients; JAX's default float if not given.
    """
    return SlabTiers.from_brackets({"contract": brackets(limit, steps)}, dtype)


def funding(
    initial: float, maintenance: float, interest: float = 1e-4, dtype: DTypeLike | None = None
) -> ClampedFunding:
    """Return the funding of a contract, paid every 8 h: clamp 0.05 %, cap by its margins.

    Args:
        initial: base initial margin.
        maintenance: base maintenance margin.
        interest: of 8 h: quote less base interest.
        dtype: of the coefficients; JAX's default float if not given.
    """
    number = lambda x: jnp.asarray(x, dtype or float)
    period = 8.0 / HOURS_PER_YEAR
    return ClampedFunding(
        period=number(period),
        interest=number(interest),
        clamp=number(5e-4),
        cap=number(CAP_SHARE * (initial - maintenance) / period),
    )


def bitmex(accounts: Accounts, assets: Sequence[str], **options: Unpack[MarginOptions]) -> Venue:
    """Return the venue of inverse perpetuals on one coin, all positions in cross margin.

    Args:
        accounts: collateral in the coin, and positions in contracts of one dollar on it.
        assets: the system's assets, in order.
        **options: of every venue of contracts, see `MarginOptions`; the settlement currency is the
            coin.

    Raises:
        ValueError: a contract is no perpetual on the coin or has no risk limits.
    """
    listing = listed("bitmex", accounts, assets, options)
    listing.check_perpetuals()
    listing = listing.with_contracts([perpetual(1.0, inverse=True) for _ in listing.rows])
    shipped = {"XBTUSD": brackets(RISK_LIMITS["XBTUSD"])}
    tiers = slab_tiers(listing, shipped, by_count=False)
    rule = funding(0.01, 0.005, dtype=listing.dtype)
    gap = 1.0 / tiers.leverage[0] - tiers.rate[0]
    return listing.venue(
        requirement=NotionalMargin(tiers=tiers),
        close=WholeClose(reserve=listing.array(0.0)),
        ranking=LeveragedProfit(),
        funding=dataclasses.replace(rule, cap=CAP_SHARE * gap / rule.period),
    )


PRESET = exchange_preset(bitmex)
