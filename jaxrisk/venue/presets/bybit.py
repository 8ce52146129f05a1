"""Bybit: linear and inverse contracts under marginal tiers, with fees to close kept back.

Risk limits are set by contract and change: `MarginTiers.from_brackets` takes them. Source: Bybit
help centre, Liquidation Price (USDT Contract), How to Calculate Liquidation Price (Inverse
Contract), Maintenance Margin, Mark Price Calculation (Perpetual Contract) of October 2024.
"""

import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.venue.funding import ClampedFunding
from jaxrisk.venue.presets import binance_usdm

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
