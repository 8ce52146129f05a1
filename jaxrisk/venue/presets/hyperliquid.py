"""Hyperliquid: linear perpetuals under marginal tiers, funding by the hour, median mark prices.

Source: Hyperliquid documentation: Margin tiers, Margining, Funding, Oracle, Robust price indices,
HIP-3 deployer actions; stored copies of 2025.
"""

import math
from collections.abc import Sequence
from typing import Unpack

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float

from jaxrisk.numerics.gate import smaller
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.deleverage_ranking import LeveredGain
from jaxrisk.venue.funding import ClampedFunding
from jaxrisk.venue.margin_orders import SlicedOrders
from jaxrisk.venue.margin_tiers import Bracket, MarginTiers
from jaxrisk.venue.notional_margin import NotionalMargin
from jaxrisk.venue.partial_close import SlicedClose
from jaxrisk.venue.presets.exchange import exchange_preset, marginal_tiers
from jaxrisk.venue.presets.listing import MarginOptions, check_bounds, listed
from jaxrisk.venue.price_band import OpenInterestCap
from jaxrisk.venue.venue import Venue

HOURS_PER_YEAR = 8760.0

MAINTENANCE_SHARE = 0.5
"""Maintenance over initial margin at the largest leverage of a tier."""

TRANSFER_SHARE = 0.1
"""Of all notional, what must stay behind when profits or margin are withdrawn."""

LEVERAGE: dict[str, tuple[float, float, float]] = {
    "BTC": (40.0, 150e6, 20.0),
    "ETH": (25.0, 100e6, 15.0),
    "SOL": (20.0, 70e6, 10.0),
    "XRP": (20.0, 40e6, 10.0),
    "large": (10.0, 20e6, 5.0),
    "other": (10.0, 3e6, 5.0),
}
"""Largest leverage, the notional in USDC up to which it holds, and largest leverage above.

"large" is DOGE, kPEPE, SUI, WLD, TRUMP, LTC, ENA, POPCAT, WIF, AAVE, kBONK, LINK, CRV, AVAX, ADA,
UNI, NEAR, TIA, APT, BCH, HYPE and FARTCOIN; "other" is OP, ARB, LDO, TON, MKR, ONDO, JUP, INJ,
kSHIB, SEI, TRX, BNB and DOT."""

ORACLE_WEIGHTS = {
    "Binance": 3.0,
    "OKX": 2.0,
    "Bybit": 2.0,
    "Kraken": 1.0,
    "Kucoin": 1.0,
    "Gate IO": 1.0,
    "MEXC": 1.0,
    "Hyperliquid": 1.0,
}
"""Weights of spot mid prices in the median that is the oracle price; the venue's own price is left
out where the asset trades mainly elsewhere, and all others where it trades mainly here."""

BASIS_SECONDS = 150.0
"""Memory of the average difference of mid and oracle price in the mark price."""

BUILDER_UNITS = 1e9
"""Cap of open interest of a builder-deployed market, in units; by notional the builder sets it."""


def brackets(leverage: float, bound: float = np.inf, above: float = 1.0) -> list[Bracket]:
    """Return brackets of one or two tiers, in USDC.

    Args:
        leverage: largest one of the first tier.
        bound: notional up to which it holds.
        above: largest leverage of the second tier.
    """
    rows = [Bracket(0.0, bound, MAINTENANCE_SHARE / leverage, leverage)]
    if np.isfinite(bound):
        rows.append(Bracket(bound, np.inf, MAINTENANCE_SHARE / above, above))
    return rows


def margin(
    contracts: Sequence[str] = tuple(LEVERAGE), dtype: DTypeLike | None = None
) -> MarginTiers:
    """Return the tiers of rows of `LEVERAGE`, in this order.

    Raises:
        ValueError: a name is not among them.
    """
    if unknown := [name for name in contracts if name not in LEVERAGE]:
        raise ValueError(f"contract {', '.join(unknown)}: expected one of {', '.join(LEVERAGE)}")
    return MarginTiers.from_brackets({name: brackets(*LEVERAGE[name]) for name in contracts}, dtype)


def funding(dtype: DTypeLike | None = None) -> ClampedFunding:
    """Return the funding: interest 0.01 % in 8 h, clamp 0.05 %, paid by the hour, at most 4 %."""
    number = lambda x: jnp.asarray(x, dtype or float)
    return ClampedFunding(
        period=number(8.0 / HOURS_PER_YEAR),
        interest=number(1e-4),
        clamp=number(5e-4),
        cap=number(0.04 * HOURS_PER_YEAR),
    )


def partial_close(dtype: DTypeLike | None = None) -> SlicedClose:
    """Return how positions are liquidated: a fifth above 100,000 USDC, all within 30 s after.

    Accounts below two thirds of maintenance margin are taken over by the venue's vault.
    """
    number = lambda x: jnp.asarray(x, dtype or float)
    return SlicedClose(
        slice=number(0.2), large=number(1e5), pause=number(30.0), backstop=number(2.0 / 3.0)
    )


def withdrawable(
    value: Float[Array, " account"],
    initial: Float[Array, " account"],
    notional: Float[Array, " account"],
) -> Float[Array, " account"]:
    """Return what may be taken out: value beyond `max(initial margin, 10 % of notional)`.

    Args:
        value: of the account with unrealised profit.
        initial: initial margin of all positions.
        notional: of all positions.
    """
    kept = -smaller(-initial, -TRANSFER_SHARE * notional)
    free = value - kept
    return jnp.where(free > 0, free, jnp.zeros_like(free))


def open_interest_cap(
    notional: Float[Array, " contract"],
) -> OpenInterestCap:
    """Return the caps of builder-deployed markets.

    Args:
        notional: cap by notional, USDC, which the builder sets.
    """
    return OpenInterestCap(notional=notional, units=jnp.full_like(notional, BUILDER_UNITS))


def hyperliquid(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    vault_hours: float = 1.0,
    **options: Unpack[MarginOptions],
) -> Venue:
    """Return the venue, all positions of an account in cross margin.

    The insurance fund is the equity of the vault that takes weak accounts over.

    Args:
        accounts: collateral and positions in perpetuals.
        assets: the system's assets, in order.
        vault_hours: in which the vault closes what it took over, in equal parts.
        **options: of every venue of contracts, see `MarginOptions`.

    Raises:
        ValueError: a contract is no perpetual or has no tiers, or a parameter is out of range.
    """
    listing = listed("hyperliquid", accounts, assets, options)
    listing.check_perpetuals()
    check_bounds(listing.name, vault_hours=(vault_hours, 0.0, math.inf))
    shipped = {name: brackets(*row) for name, row in LEVERAGE.items()}
    return listing.venue(
        requirement=NotionalMargin(tiers=marginal_tiers(listing, shipped)),
        close=SlicedOrders(
            rule=partial_close(listing.dtype),
            unwind=listing.array(vault_hours / HOURS_PER_YEAR),
            fee=listing.array(0.0),
        ),
        ranking=LeveredGain(),
        funding=funding(listing.dtype),
    )


PRESET = exchange_preset(hyperliquid, optional=("vault_hours",))
