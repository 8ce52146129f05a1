"""Circuit breakers: a market or a venue stops for some steps once prices move too far in one.

A step's move is looked at when oracles are, and again in every round of the cascade, so that sales
which move a price too far end the trading of their own step; those steps count from the next one. A
market that has stopped takes no
sale and no market order; whoever wants to sell there waits. On a venue that has stopped nothing is
closed, and what it holds is not sold; interest goes on, and owners can still act.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.venue import Venue

Scalar = Float[Array, ""]


@pytree
class Breaker:
    """When it trips, and for how long.

    Attributes:
        move: log move of a price within a step, up or down, beyond which it does.
        steps: how many steps are lost, the one in which the move is seen included.
    """

    move: Scalar
    steps: Scalar


@pytree
class Halts:
    """Circuit breakers of a system; `None` where there is none.

    Attributes:
        markets: of each market by itself.
        venues: of each venue, on the prices of the assets that are held or owed there.
    """

    markets: Breaker | None
    venues: tuple[Breaker | None, ...]

    def opening(self, market: Market) -> "HaltState":
        """Return what changes in a scenario, before the first step."""
        zeros = jnp.zeros_like(market.price)
        return HaltState(
            before=market.mid, markets=zeros, venues=jnp.zeros(len(self.venues), zeros.dtype)
        )


@pytree
class HaltState:
    """What breakers remember.

    Attributes:
        before: `(asset,)` mid when the step's move was last looked at.
        markets: `(asset,)` steps for which each market is still closed, this one included.
        venues: `(venue,)` steps for which each venue is.
    """

    before: Float[Array, " asset"]
    markets: Float[Array, " asset"]
    venues: Float[Array, " venue"]


@pytree
class Shut:
    """What is closed at a moment.

    Attributes:
        markets: `(asset,)`.
        venues: `(venue,)`.
    """

    markets: Bool[Array, " asset"]
    venues: Bool[Array, " venue"]


def watched(
    halts: Halts | None, kept: HaltState | None, venues: Sequence[Venue], market: Market
) -> HaltState | None:
    """Return what breakers remember once a step's prices are known: closed for longer, or less.

    Args:
        halts: the breakers.
        kept: before the step.
        venues: the system's.
        market: now.
    """
    if halts is None or kept is None:
        return None
    left = lambda steps: jnp.where(steps > 1, steps - 1.0, jnp.zeros_like(steps))
    markets, at_venues = left(kept.markets), left(kept.venues)
    moved = _too_far(halts, kept, venues, market)
    if halts.markets is not None:
        markets = jnp.where(moved.markets, halts.markets.steps, markets)
    longest = [jnp.zeros((), markets.dtype) if b is None else b.steps for b in halts.venues]
    at_venues = jnp.where(moved.venues, jnp.stack(longest), at_venues)
    return HaltState(before=market.mid, markets=markets, venues=at_venues)


def shut(
    halts: Halts | None, kept: HaltState | None, venues: Sequence[Venue], market: Market
) -> Shut | None:
    """Return what is closed now: by an earlier move, or by one since the step was looked at.

    Arguments are those of `watched`; `None` where there are no breakers.
    """
    if halts is None or kept is None:
        return None
    moved = _too_far(halts, kept, venues, market)
    return Shut(markets=(kept.markets > 0) | moved.markets, venues=(kept.venues > 0) | moved.venues)


def _too_far(halts: Halts, kept: HaltState, venues: Sequence[Venue], market: Market) -> Shut:
    """Return where prices have moved beyond a breaker's limit since they were looked at."""
    move = jnp.abs(jnp.log(market.mid / kept.before))
    markets, none = jnp.zeros_like(move, bool), jnp.zeros((), bool)
    if halts.markets is not None:
        markets = move > halts.markets.move
    tripped = []
    for venue, breaker in zip(venues, halts.venues, strict=True):
        accounts = venue.accounts
        traded = jnp.array(sorted({*accounts.collateral_assets, *accounts.debt_assets}))
        tripped.append(none if breaker is None else jnp.any(move[traded] > breaker.move))
    return Shut(markets=markets, venues=jnp.stack(tripped))
