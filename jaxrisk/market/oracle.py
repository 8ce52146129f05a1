"""Which price a venue sees. The seen price drives health; the market's mid drives proceeds."""

from typing import Any, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.indexing import select
from jaxrisk.numerics.pytree import pytree, static


class Oracle(Protocol):
    """From what a venue has observed to the prices it works with.

    The state is a pytree of the oracle's own; it is observed once a step, after prices moved.
    """

    def init(self, market: Market) -> Any:
        """Return the opening state."""
        ...

    def observe(self, state: Any, market: Market) -> Any:
        """Return the state after a step."""
        ...

    def seen(self, state: Any, market: Market) -> Float[Array, " asset"]:
        """Return the prices the venue works with."""
        ...


@pytree
class SpotOracle:
    """Sees the market's mid at once."""

    def init(self, market: Market) -> None:
        """Return the opening oracle state: none."""
        del market

    def observe(self, state: None, market: Market) -> None:
        """Return the oracle state after a step: none."""
        del state, market

    def seen(self, state: None, market: Market) -> Float[Array, " asset"]:
        """Return the prices the venue works with."""
        del state
        return market.mid


@pytree
class ExchangeRateOracle:
    """Sees pegged assets at underlying mid times exchange rate, blind to their basis.

    Source: ratio oracles of liquid-staking collateral (price = base feed x exchange rate).
    """

    def init(self, market: Market) -> None:
        """Return the opening oracle state: none."""
        del market

    def observe(self, state: None, market: Market) -> None:
        """Return the oracle state after a step: none."""
        del state, market

    def seen(self, state: None, market: Market) -> Float[Array, " asset"]:
        """Return the prices the venue works with."""
        del state
        if market.underlying is None:
            return market.mid
        return select(market.mid, market.underlying) * jnp.exp(market.log_ratio)


@pytree
class DelayedOracle:
    """Sees the mid of some steps ago, like a security module that holds prices back.

    Attributes:
        steps: delay in steps, at least 1.
    """

    steps: int = static()

    def init(self, market: Market) -> Float[Array, "delay asset"]:
        """Return the opening oracle state: the opening mid, as if it had always been so."""
        return jnp.broadcast_to(market.mid, (self.steps + 1, market.price.shape[0]))

    def observe(
        self, state: Float[Array, "delay asset"], market: Market
    ) -> Float[Array, "delay asset"]:
        """Return the last mids, oldest first."""
        return jnp.concatenate([state[1:], market.mid[None, :]])

    def seen(self, state: Float[Array, "delay asset"], market: Market) -> Float[Array, " asset"]:
        """Return the prices the venue works with."""
        del market
        return state[0]


@pytree
class Published:
    """What a feed has published.

    Attributes:
        price: `(asset,)` published last.
        age: `(asset,)` steps since.
    """

    price: Float[Array, " asset"]
    age: Float[Array, " asset"]


@pytree
class DeviationOracle:
    """Publishes at most once a step: where the mid has moved enough, or nothing was for long.

    Source: push feeds that update on deviation and heartbeat.

    Attributes:
        deviation: `(asset,)` relative move that triggers an update.
        heartbeat: steps after which an update is due whatever the move; `None` for never.
    """

    deviation: Float[Array, " asset"]
    heartbeat: Float[Array, ""] | None = None

    def init(self, market: Market) -> Published:
        """Return the opening oracle state: the mid, published just now."""
        return Published(price=market.mid, age=jnp.zeros_like(market.mid))

    def observe(self, state: Published, market: Market) -> Published:
        """Return what is published after a step."""
        age = state.age + 1.0
        due = jnp.abs(market.mid - state.price) >= self.deviation * state.price
        if self.heartbeat is not None:
            due = due | (age >= self.heartbeat)
        return Published(
            price=jnp.where(due, market.mid, state.price),
            age=jnp.where(due, jnp.zeros_like(age), age),
        )

    def seen(self, state: Published, market: Market) -> Float[Array, " asset"]:
        """Return the prices the venue works with."""
        del market
        return state.price


@pytree
class AverageOracle:
    """Sees the arithmetic mean of the last mids, one a step: a time-weighted average.

    Attributes:
        steps: length of the window in steps, at least 1; at 1 it is the last mid.
    """

    steps: int = static()

    def init(self, market: Market) -> Float[Array, "window asset"]:
        """Return the opening oracle state: the opening mid, as if it had always been so."""
        return jnp.broadcast_to(market.mid, (self.steps, market.price.shape[0]))

    def observe(
        self, state: Float[Array, "window asset"], market: Market
    ) -> Float[Array, "window asset"]:
        """Return the mids of the window, oldest first."""
        return jnp.concatenate([state[1:], market.mid[None, :]])

    def seen(self, state: Float[Array, "window asset"], market: Market) -> Float[Array, " asset"]:
        """Return the prices the venue works with."""
        del market
        return jnp.mean(state, axis=0)


@pytree
class FixedOracle:
    """Sees the opening prices for ever: a price that is written into the contract."""

    def init(self, market: Market) -> Float[Array, " asset"]:
        """Return the opening oracle state: the opening mid."""
        return market.mid

    def observe(self, state: Float[Array, " asset"], market: Market) -> Float[Array, " asset"]:
        """Return the state unchanged."""
        del market
        return state

    def seen(self, state: Float[Array, " asset"], market: Market) -> Float[Array, " asset"]:
        """Return the prices the venue works with."""
        del market
        return state


def opening_prices(oracle: Oracle, market: Market) -> Float[Array, " asset"]:
    """Return the prices a venue with this oracle works with before anything has happened."""
    state: Any = oracle.init(market)
    return oracle.seen(state, market)
