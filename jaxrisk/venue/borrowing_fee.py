"""What traders pay a pool for the part of it that backs their positions."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.slope_rate import SlopeRate

Sides = Float[Array, " side"]


def reserved_value(
    is_long: Bool[Array, " side"], open_interest: Sides, tokens: Sides, price: Sides
) -> Sides:
    """Return what a side of a market reserves of the pool, numeraire.

    Longs may win without limit, so tokens are reserved for them at their price of the moment;
    shorts win at most what their positions were worth when opened.

    Source: GMX v2, MarketUtils `getReservedUsd`.

    Args:
        is_long: side.
        open_interest: of the side at its entry prices, numeraire.
        tokens: of the side, units of the index.
        price: of the index, the higher one.
    """
    return jnp.where(is_long, tokens * price, open_interest)


@pytree
class UsageFee:
    """A rate in the used part of what may be reserved, with a kink.

    Source: GMX v2, MarketUtils `getUsageFactor`, `getKinkBorrowingFactor`.

    Attributes:
        reservable: part of the pool that may be reserved (openInterestReserveFactor).
        curve: rate by use of that part, which may exceed 1.
    """

    reservable: Sides
    curve: SlopeRate

    def rate(self, reserved: Sides, pool: Sides) -> Sides:
        """Return the rate on positions per unit of time of the curve, zero if none is reserved.

        Args:
            reserved: see `reserved_value`.
            pool: value of the pool's token for this side, without traders' profits, numeraire.
        """
        used = reserved / positive_or_one(pool * self.reservable)
        return _if_used(reserved, pool, self.curve.borrow_rate(used))


@pytree
class PowerFee:
    """A rate of `factor x reserved^exponent / pool`.

    Source: GMX v2, MarketUtils `getBorrowingFactorPerSecond` (no optimal usage set).

    Attributes:
        factor: rate per unit of time where an exponent of 1 meets a fully reserved pool.
        exponent: of what is reserved.
    """

    factor: Sides
    exponent: Sides

    def rate(self, reserved: Sides, pool: Sides) -> Sides:
        """Return the rate on positions per unit of time, zero below one numeraire reserved.

        Args:
            reserved: see `reserved_value`.
            pool: value of the pool's token for this side, without traders' profits, numeraire.
        """
        counts = reserved >= 1.0
        safe = jnp.where(counts, reserved, jnp.ones_like(reserved))
        power = jnp.where(counts, safe**self.exponent, jnp.zeros_like(safe))
        return _if_used(reserved, pool, self.factor * power / positive_or_one(pool))


def spared(rate: Sides, own: Sides, other: Sides) -> Sides:
    """Return the rate, zero for the side with less open interest.

    Source: GMX v2, MarketUtils `getBorrowingFactorPerSecond` (skipBorrowingFeeForSmallerSide).
    """
    return jnp.where(own < other, jnp.zeros_like(rate), rate)


def _if_used(reserved: Sides, pool: Sides, rate: Sides) -> Sides:
    """A pool of nothing that backs something has no rate: the contract refuses, here infinite."""
    rate = jnp.where(pool > 0, rate, jnp.full_like(rate, jnp.inf))
    return jnp.where(reserved > 0, rate, jnp.zeros_like(rate))
