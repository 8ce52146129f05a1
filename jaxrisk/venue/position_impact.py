"""Price impact that a venue charges by how a trade changes the balance of its two sides.

The sides are long and short open interest, or the values of the two tokens of a pool. The venue
trades at the oracle's price and charges (or pays) the impact on top, so that manipulating the
oracle costs as much as moving a market of that depth.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.pytree import pytree

Trades = Float[Array, "*trade"]


@pytree
class Sides:
    """Two sides that ought to balance, in the numeraire; every leaf is `(*trade,)`.

    Attributes:
        first: long open interest, or the value of the token that comes in.
        second: short open interest, or the value of the token that goes out.
    """

    first: Trades
    second: Trades


@pytree
class Impact:
    """What a trade is paid for improving the balance; every leaf is `(*trade,)`.

    Attributes:
        value: numeraire, negative where the trader pays.
        improved: whether the imbalance is smaller after the trade.
    """

    value: Trades
    improved: Bool[Array, "*trade"]


@pytree
class PowerImpact:
    """Impact as a difference of powers of the imbalance: `k |d0|^e - k |d1|^e`.

    Trades that improve the balance use the positive factor and exponent, others the negative ones.
    Where the heavier side changes, what was there before counts with the positive ones and what is
    new with the negative ones. A positive factor or exponent above the negative one counts as that:
    going back and forth earns nothing. Imbalances below `least` have no impact.

    Source: GMX v2, PricingUtils, PositionPricingUtils `getPriceImpactUsd`, SwapPricingUtils
    `getPriceImpactUsd`, MarketUtils `getAdjustedPositionImpactFactors`, Precision
    `applyExponentFactor`.

    Attributes:
        positive_factor: k of improvements, numeraire^(1 - e).
        negative_factor: k of trades that worsen the balance.
        positive_exponent: e of improvements.
        negative_exponent: e of trades that worsen the balance.
        least: smallest imbalance that counts, numeraire, positive.
    """

    positive_factor: Trades
    negative_factor: Trades
    positive_exponent: Trades
    negative_exponent: Trades
    least: Trades

    def impact(self, before: Sides, after: Sides) -> Impact:
        """Return the impact of a trade between two states of the sides."""
        was, becomes = jnp.abs(before.first - before.second), jnp.abs(after.first - after.second)
        improved = becomes < was
        gain = smaller(self.positive_factor, self.negative_factor)
        gain_exponent = smaller(self.positive_exponent, self.negative_exponent)
        factor = jnp.where(improved, gain, self.negative_factor)
        exponent = jnp.where(improved, gain_exponent, self.negative_exponent)
        same_side = (before.first <= before.second) == (after.first <= after.second)
        pick = lambda same, crossed: jnp.where(same_side, same, crossed)
        old = self._cost(was, pick(factor, gain), pick(exponent, gain_exponent))
        new = self._cost(
            becomes,
            pick(factor, self.negative_factor),
            pick(exponent, self.negative_exponent),
        )
        return Impact(value=old - new, improved=improved)

    def worse_of(self, own: Impact, virtual: Impact) -> Impact:
        """Return the impact on the market, or on an inventory it shares, if that is worse.

        Impact in the trader's favour is not compared: it helps to balance the market.

        Source: GMX v2, PositionPricingUtils `getPriceImpactUsd` (virtual inventory).
        """
        worse = (own.value < 0) & (virtual.value < own.value)
        return Impact(
            value=jnp.where(worse, virtual.value, own.value),
            improved=jnp.where(worse, virtual.improved, own.improved),
        )

    def _cost(self, imbalance: Trades, factor: Trades, exponent: Trades) -> Trades:
        counts = imbalance >= self.least
        safe = jnp.where(counts, imbalance, jnp.ones_like(imbalance))
        return jnp.where(counts, factor * safe**exponent, jnp.zeros_like(imbalance))


def with_position(
    open_interest: Sides, is_long: Bool[Array, "*trade"], change: Trades
) -> tuple[Sides, Sides]:
    """Return open interest before and after a position changes by `change`; never below zero.

    Args:
        open_interest: long and short, numeraire.
        is_long: side of the position.
        change: of its size, numeraire; negative for a decrease.
    """
    side = jnp.where(is_long, open_interest.first, open_interest.second)
    after = side + change
    after = jnp.where(after > 0, after, jnp.zeros_like(after))
    return open_interest, Sides(
        first=jnp.where(is_long, after, open_interest.first),
        second=jnp.where(is_long, open_interest.second, after),
    )


def virtual_sides(inventory: Trades, change: Trades) -> Sides:
    """Return sides as unequal as a shared inventory, with room for a decrease by `change`.

    Only the difference counts, so both sides are raised by as much as may be taken off one.

    Args:
        inventory: short less long open interest of all markets that share it, numeraire.
        change: of the position's size, numeraire; negative for a decrease.
    """
    none = jnp.zeros_like(inventory)
    room = jnp.where(change < 0, -change, none)
    return Sides(
        first=jnp.where(inventory < 0, -inventory, none) + room,
        second=jnp.where(inventory > 0, inventory, none) + room,
    )


def with_swap(pool: Sides, value: Trades) -> tuple[Sides, Sides, Bool[Array, "*trade"]]:
    """Return a pool before and after `value` comes in on the first side and leaves the second.

    The last result says whether the second side holds that much; a swap of more is refused.
    """
    after = Sides(first=pool.first + value, second=pool.second - value)
    return pool, after, value <= pool.second


def capped_gain(impact: Trades, size: Trades, cap: Trades) -> Trades:
    """Return the impact with gains limited to `cap x size`; losses are not limited.

    Source: GMX v2, MarketUtils `capPositiveImpactUsdByMaxPositionImpact`.

    Args:
        impact: numeraire.
        size: of the trade, numeraire, >= 0.
        cap: fraction of size.
    """
    return smaller(impact, size * cap)
