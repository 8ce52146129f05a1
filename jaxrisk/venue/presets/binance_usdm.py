"""Binance USDⓈ-M: linear perpetuals and futures under marginal tiers, cross or isolated.

Tables change weekly: those of all contracts are read from a file (`jaxrisk.read_margin_tiers`).
Source: Binance, Leverage and Margin of USDⓈ-M Futures; How to Calculate Liquidation Price; Mark
Price in USDⓈ-Margined Futures; announcement of 18 September 2025 (funding and mark price).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Unpack

import jax.numpy as jnp
from jaxtyping import DTypeLike

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.close_out import CloseOut
from jaxrisk.venue.deleverage_ranking import MarginProfit
from jaxrisk.venue.funding import ClampedFunding
from jaxrisk.venue.haircut import Slice, TieredHaircut
from jaxrisk.venue.margin_tiers import Bracket, MarginTiers
from jaxrisk.venue.mark_price import SourceIndex
from jaxrisk.venue.notional_margin import NotionalMargin
from jaxrisk.venue.presets.exchange import exchange_preset, marginal_tiers
from jaxrisk.venue.presets.listing import Listing, MarginOptions, check_bounds, listed
from jaxrisk.venue.venue import Venue

HOURS_PER_YEAR = 8760.0

INDEX_LIMIT = 0.05
"""Distance from the median at which a source of the index counts nothing."""

MARK_SECONDS = 30
"""Seconds over which the basis of the mark price is averaged, one sample each; 60 before
18 September 2025."""

PORTFOLIO_RATIOS = {"warning": 1.5, "reduce_only": 1.2, "liquidation": 1.05}
"""Adjusted equity over maintenance margin of a portfolio-margin account, by what begins below."""

TIERS: dict[str, tuple[Bracket, ...]] = {
    "BTCUSDT": (
        Bracket(0.0, 3e5, 0.004, 150.0, 0.0),
        Bracket(3e5, 8e5, 0.005, 100.0, 300.0),
        Bracket(8e5, 3e6, 0.0065, 75.0, 1_500.0),
        Bracket(3e6, 12e6, 0.01, 50.0, 12_000.0),
        Bracket(12e6, 70e6, 0.02, 25.0, 132_000.0),
        Bracket(70e6, 100e6, 0.025, 20.0, 482_000.0),
        Bracket(100e6, 230e6, 0.05, 10.0, 2_982_000.0),
        Bracket(230e6, 480e6, 0.1, 5.0, 14_482_000.0),
        Bracket(480e6, 600e6, 0.125, 4.0, 26_482_000.0),
        Bracket(600e6, 800e6, 0.15, 3.0, 41_482_000.0),
        Bracket(800e6, 1_200e6, 0.25, 2.0, 121_482_000.0),
        Bracket(1_200e6, 1_800e6, 0.5, 1.0, 421_482_000.0),
    ),
}
"""Brackets in USDT with their maintenance amounts, of September 2026. Source: the table of leverage
tiers that freqtrade 2026.9 carries."""


def margin(contracts: Sequence[str] = ("BTCUSDT",), dtype: DTypeLike | None = None) -> MarginTiers:
    """Return the tiers of contracts among `TIERS`, in this order.

    Raises:
        ValueError: a contract is not among them.
    """
    if unknown := [name for name in contracts if name not in TIERS]:
        raise ValueError(f"contract {', '.join(unknown)}: expected one of {', '.join(TIERS)}")
    return MarginTiers.from_brackets({name: TIERS[name] for name in contracts}, dtype)


def funding(cap: float, *, hours: float = 8.0, dtype: DTypeLike | None = None) -> ClampedFunding:
    """Return the funding of a contract: interest 0.01 % in 8 h, clamp 0.05 %.

    Args:
        cap: largest rate of an interval, which the venue sets by contract.
        hours: between payments.
        dtype: of the coefficients; JAX's default float if not given.
    """
    number = lambda x: jnp.asarray(x, dtype or float)
    return ClampedFunding(
        period=number(8.0 / HOURS_PER_YEAR),
        interest=number(1e-4),
        clamp=number(5e-4),
        cap=number(cap * HOURS_PER_YEAR / hours),
    )


def index(dtype: DTypeLike | None = None) -> SourceIndex:
    """Return how spot prices make the price index."""
    return SourceIndex(limit=jnp.asarray(INDEX_LIMIT, dtype or float))


def collateral(rates: dict[str, float], dtype: DTypeLike | None = None) -> TieredHaircut:
    """Return what assets count for in multi-asset and portfolio margin: `min(v rate, v)`.

    Args:
        rates: collateral rate by asset, which the venue sets.
        dtype: of the coefficients; JAX's default float if not given.
    """
    return TieredHaircut.from_slices(
        {name: (Slice(0.0, rate),) for name, rate in rates.items()}, dtype
    )


def binance_usdm(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    clearance_fee: float = 0.0,
    target: float = 1.1,
    funding_hours: float = 8.0,
    funding_cap: float = 1.0,
    **options: Unpack[MarginOptions],
) -> Venue:
    """Return the venue, all positions of an account in cross margin.

    Args:
        accounts: collateral and positions in linear perpetuals.
        assets: the system's assets, in order.
        clearance_fee: of what is liquidated, to the insurance fund.
        target: multiple of the maintenance margin that a liquidation restores.
        funding_hours: between payments.
        funding_cap: largest rate of an interval, as a multiple of the lowest maintenance rate.
        **options: of every venue of contracts, see `MarginOptions`.

    Raises:
        ValueError: a contract is no perpetual or has no tiers, or a parameter is out of range.
    """
    listing = listed("binance_usdm", accounts, assets, options)
    listing.check_perpetuals()
    return liquidated_by_brackets(
        listing,
        marginal_tiers(listing, TIERS),
        clearance_fee=clearance_fee,
        target=target,
        funding_hours=funding_hours,
        funding_cap=funding_cap,
    )


def liquidated_by_brackets(
    listing: Listing,
    tiers: MarginTiers,
    *,
    clearance_fee: float,
    target: float,
    funding_hours: float,
    funding_cap: float,
) -> Venue:
    """Return a venue by the rules that linear and inverse contracts share.

    One order brings an account back to its margin; what no order would restore is closed whole, and
    what is left of it goes to the insurance fund, which pays what is missing.

    Args:
        listing: contracts.
        tiers: of the contracts.
        clearance_fee: as in `binance_usdm`, and so are the others.
        target: of a liquidation.
        funding_hours: between payments.
        funding_cap: of an interval.
    """
    check_bounds(
        listing.name,
        clearance_fee=(clearance_fee, 0.0, 0.5),
        target=(target, 1.0, math.inf),
        funding_hours=(funding_hours, 1e-3, math.inf),
        funding_cap=(funding_cap, 0.0, math.inf),
    )
    cap = tiers.rate[0] * (funding_cap * HOURS_PER_YEAR / funding_hours)
    return listing.venue(
        requirement=NotionalMargin(tiers=tiers),
        close=CloseOut(
            trigger=listing.array(1.0),
            target=listing.array(target),
            largest=listing.array(1.0),
            fee=listing.array(clearance_fee),
            forfeit=listing.array(1.0),
        ),
        ranking=MarginProfit(),
        funding=dataclasses.replace(funding(1.0, dtype=listing.dtype), cap=cap),
    )


PRESET = exchange_preset(
    binance_usdm, optional=("clearance_fee", "target", "funding_hours", "funding_cap")
)
