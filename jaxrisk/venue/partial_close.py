"""How much of a position a venue's own liquidation engine closes at a time.

The engine sends orders for what is returned here; at what price they are filled is not its choice.
Positions are `(contract, account)`, coefficients scalars or `(contract, 1)`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.venue.margin_tiers import SlabTiers

Positions = Float[Array, "contract account"]


@pytree
class SlicedClose:
    """An order for the whole position, for a slice of it where it is large and none went before.

    After a slice the rest is not spared: for the time of `pause` orders are for all that is left.
    An account below a share of its maintenance margin is not traded but taken over, positions and
    margin.

    Source: Hyperliquid documentation, Liquidations.

    Attributes:
        slice: part of a large position, in (0, 1].
        large: notional above which a position is large, numeraire.
        pause: seconds after a slice within which orders are whole.
        backstop: share of maintenance margin below which accounts are taken over.
    """

    slice: Array
    large: Array
    pause: Array
    backstop: Array

    def share(
        self,
        notional: Positions,
        value: Positions,
        maintenance: Positions,
        since_slice: Positions,
    ) -> Positions:
        """Return the part of each position that is ordered to be closed now.

        Args:
            notional: of the position.
            value: of what backs it: the account, or its isolated margin with profit.
            maintenance: margin of the same.
            since_slice: seconds since the last slice, infinite before the first.
        """
        whole = (notional <= self.large) | (since_slice < self.pause)
        part = jnp.where(whole, jnp.ones_like(notional), self.slice)
        traded = (value < maintenance) & ~self.taken_over(value, maintenance)
        return jnp.where(traded, part, jnp.zeros_like(part))

    def taken_over(self, value: Positions, maintenance: Positions) -> Bool[Array, "*position"]:
        """Return whether what backs a position is so little that it is taken over whole."""
        return value < self.backstop * maintenance


@pytree
class TierStep:
    """A position in a high tier is brought down some tiers at a time, if that can help at all.

    It can as long as its account would have the margin of the first tier. Others are closed whole.

    Source: OKX, partial and full liquidation: positions in the third tier or above, two tiers at a
    time.

    Attributes:
        tiers: by contracts held.
        steps: tiers of a step, at least 1.
    """

    tiers: SlabTiers
    steps: int = static(default=2)

    def standing(
        self, count: Positions, notional: Positions, equity: Positions, fee: Positions
    ) -> Positions:
        """Return how many contracts a liquidation leaves: all where there is none.

        Args:
            count: contracts held, at least 0.
            notional: of the position.
            equity: of its account beyond what other positions require.
            fee: kept back for closing, of notional.
        """
        tier = self.tiers.tier(count)
        required, _ = self.tiers.maintenance(notional, count)
        least = notional * (self.tiers.rate[0][:, None] + fee)
        down = jnp.zeros_like(count)
        for k in range(self.steps, self.tiers.floor.shape[0]):
            # The largest position of the tier that many below ends where the next begins.
            down = jnp.where(tier == k, self.tiers.floor[k - self.steps + 1][:, None], down)
        left = jnp.where(equity >= least, down, jnp.zeros_like(down))
        return jnp.where(equity < required + fee * notional, left, count)
