"""Bybit: linear and inverse contracts under marginal tiers, with fees to close kept back.

Risk limits are set by contract and change: `MarginTiers.from_brackets` takes them. Source: Bybit
help centre, Liquidation Price (USDT Contract), How to Calculate Liquidation Price (Inverse
Contract), Maintenance Margin, Mark Price Calculation (Perpetual Contract) of October 2024.
"""

import math
from collections.abc import Sequence
from typing import Unpack

import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from jaxrisk.market.contract import perpetual
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.close_out import WholeClose
from jaxrisk.venue.deleverage_ranking import LeveragedProfit
from jaxrisk.venue.funding import ClampedFunding
from jaxrisk.venue.notional_margin import NotionalMargin
from jaxrisk.venue.presets import binance_usdm
from jaxrisk.venue.presets.exchange import exchange_preset, marginal_tiers
from jaxrisk.venue.presets.listing import MarginOptions, check_bounds, listed
from jaxrisk.venue.venue import Venue

MARK_SECONDS = 300
"""Seconds over which the basis of the mark price is averaged, one sample each."""

TAKER_FEE = 0.00075
"""Fee to close of the help centre's inverse example; an account's own fee may be lower."""

BTC_RATE, ALTCOIN_RATE = 0.005, 0.01
"""Maintenance rate of the first tier: BTC; ETH, EOS and XRP (inverse contracts)."""

Positions = Float[Array, "*position"]


def fee_to_close(size: Positions, bankruptcy_price: Positions, fee: Positions) -> Positions:
    """Return what is kept back to close a linear position at its bankruptcy price.

    It does not depend on the price reached: `MarginBook.reserved`.

    Args:
        size: signed units.
        bankruptcy_price: `entry (1 - side / leverage)` in isolated margin.
        fee: taker's, of notional.
    """
    return jnp.abs(size) * bankruptcy_price * fee


def inverse_fee_to_close(face: Positions, bankruptcy_price: Positions, fee: Positions) -> Positions:
    """Return what is kept back to close an inverse position at its bankruptcy price, in the coin.

    Args:
        face: signed, in the currency of the quote.
        bankruptcy_price: of the position.
        fee: taker's, of notional.
    """
    return jnp.abs(face) / positive_or_one(bankruptcy_price) * fee


def funding(cap: float, *, hours: float = 8.0, dtype: DTypeLike | None = None) -> ClampedFunding:
    """Return the funding of a contract: interest 0.01 % in 8 h, clamp 0.05 %."""
    return binance_usdm.funding(cap, hours=hours, dtype=dtype)


KINDS = ("linear", "inverse")


def bybit(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    funding_cap: float,
    kind: str = "linear",
    face: float = 1.0,
    taker_fee: float = TAKER_FEE,
    funding_hours: float = 8.0,
    **options: Unpack[MarginOptions],
) -> Venue:
    """Return the venue, all positions of an account in cross margin.

    Args:
        accounts: collateral and positions in perpetuals.
        assets: the system's assets, in order.
        funding_cap: largest rate of an interval, which the venue sets by contract.
        kind: `linear`, or `inverse` for contracts settled in the coin they are on.
        face: dollars an inverse contract is worth.
        taker_fee: of notional, kept back for closing.
        funding_hours: between payments.
        **options: of every venue of contracts, see `MarginOptions`.

    Raises:
        ValueError: a contract is no perpetual or has no tiers, or a parameter is out of range.
    """
    listing = listed("bybit", accounts, assets, options)
    listing.check_perpetuals()
    if kind not in KINDS:
        raise ValueError(f"{listing.name}: kind {kind!r}: expected one of {', '.join(KINDS)}")
    check_bounds(
        listing.name,
        funding_cap=(funding_cap, 0.0, math.inf),
        face=(face, 1e-9, math.inf),
        taker_fee=(taker_fee, 0.0, 0.5),
        funding_hours=(funding_hours, 1e-3, math.inf),
    )
    if kind == "inverse":
        listing = listing.with_contracts([perpetual(face, inverse=True) for _ in listing.rows])
    return listing.venue(
        requirement=NotionalMargin(tiers=marginal_tiers(listing)),
        close=WholeClose(reserve=listing.array(taker_fee)),
        ranking=LeveragedProfit(),
        funding=funding(funding_cap, hours=funding_hours, dtype=listing.dtype),
    )


PRESET = exchange_preset(
    bybit,
    required=("funding_cap",),
    optional=("kind", "face", "taker_fee", "funding_hours"),
)
