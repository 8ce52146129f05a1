"""How much of a market may be liquidated within a window of time."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import ceil_to

Markets = Float[Array, "*market"]


@pytree
class RecentLiquidations:
    """What was liquidated lately, latest first; every leaf is `(slot, *market)`.

    Attributes:
        amount: units of the contract, zero in an empty slot.
        time: seconds, minus infinity in an empty slot.
    """

    amount: Float[Array, "slot *market"]
    time: Float[Array, "slot *market"]


@pytree
class LiquidationWindow:
    """At most `limit` is liquidated within any `duration`, with one exception.

    When the window is used up, and nothing was liquidated at this very moment, a whole further
    `limit` is allowed while the market's premium `|skew| / scale` is below `calm_premium`: traders
    have taken the other side, and there is no reason to wait. A limit of zero is no limit.

    Source: Synthetix v3, PerpsMarket `maxLiquidatableAmount`, `currentLiquidationCapacity`;
    PerpsMarketConfiguration `maxLiquidationAmountInWindow`, `numberOfLiquidationWindows`.

    Attributes:
        limit: units of the contract in a window.
        duration: seconds.
        calm_premium: premium below which a further limit is allowed; zero for never.
    """

    limit: Markets
    duration: Markets
    calm_premium: Markets

    def opening(self, slots: int) -> RecentLiquidations:
        """Return an empty record.

        Args:
            slots: distinct moments it remembers; older ones are forgotten even inside the window,
                so there must be as many as may fall into one.
        """
        shape = (slots, *self.limit.shape)
        dtype = self.limit.dtype
        return RecentLiquidations(
            amount=jnp.zeros(shape, dtype), time=jnp.full(shape, -jnp.inf, dtype)
        )

    def windows(self, size: Markets) -> Markets:
        """Return how many windows it takes to liquidate `size`; zero where there is no limit."""
        whole = ceil_to(jnp.abs(size) / positive_or_one(self.limit), jnp.ones_like(self.limit))
        return jnp.where(self.limit > 0, whole, jnp.zeros_like(whole))

    def capacity(self, recent: RecentLiquidations, now: Markets) -> Markets:
        """Return what is left of the limit at `now`, units of the contract."""
        inside = recent.time > (now - self.duration)[None]
        used = jnp.sum(jnp.where(inside, recent.amount, jnp.zeros_like(recent.amount)), axis=0)
        left = self.limit - used
        # A difference: what is within its rounding counts as used up.
        rounding = 8.0 * jnp.finfo(left.dtype).eps * self.limit
        return jnp.where(left > rounding, left, jnp.zeros_like(left))

    def liquidate(
        self,
        recent: RecentLiquidations,
        wanted: Markets,
        *,
        now: Markets,
        premium: Markets,
        exempt: Bool[Array, "*market"],
    ) -> tuple[Markets, RecentLiquidations]:
        """Return how much of `wanted` may be liquidated, and the record after it.

        Args:
            recent: the record so far.
            wanted: units of the contract, >= 0.
            now: seconds.
            premium: `|skew| / scale` of the market.
            exempt: whether the caller is held to no limit (but recorded).
        """
        left = self.capacity(recent, now)
        calm = (premium < self.calm_premium) & (recent.time[0] < now)
        further = jnp.where(calm, self.limit, jnp.zeros_like(left))
        allowed = smaller(wanted, jnp.where(left > 0, left, further))
        unlimited = self.limit <= 0
        allowed = jnp.where(exempt | unlimited, wanted, allowed)
        recorded = jnp.where(unlimited & ~exempt, jnp.zeros_like(allowed), allowed)
        return allowed, _recorded(recent, recorded, now)


def _recorded(recent: RecentLiquidations, amount: Markets, now: Markets) -> RecentLiquidations:
    """Add to the latest slot where it is of this moment, else put a new one in front."""
    same, none = recent.time[0] == now, amount <= 0
    first = jnp.where(same, recent.amount[0] + amount, amount)
    joined = jnp.concatenate([first[None], recent.amount[1:]])
    pushed = jnp.concatenate([first[None], recent.amount[:-1]])
    times = jnp.concatenate([now[None], recent.time[:-1]])
    pick = lambda new, old: jnp.where((same | none)[None], old, new)
    return RecentLiquidations(
        amount=pick(pushed, jnp.where(none[None], recent.amount, joined)),
        time=pick(times, recent.time),
    )
