"""Which price a venue sees. The seen price drives health; the market's mid drives proceeds."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.indexing import select
from jaxrisk.numerics.pytree import pytree, static


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
class DeviationOracle:
    """Publishes at most once a step, when the mid has moved by more than `deviation`.

    Source: push feeds that update on deviation.

    Attributes:
        deviation: `(asset,)` relative move that triggers an update.
    """

    deviation: Float[Array, " asset"]

    def init(self, market: Market) -> Float[Array, " asset"]:
        """Return the opening oracle state: the last published price."""
        return market.mid

    def observe(self, state: Float[Array, " asset"], market: Market) -> Float[Array, " asset"]:
        """Return the price published last."""
        moved = jnp.abs(market.mid - state) >= self.deviation * state
        return jnp.where(moved, market.mid, state)

    def seen(self, state: Float[Array, " asset"], market: Market) -> Float[Array, " asset"]:
        """Return the prices the venue works with."""
        del market
        return state


@pytree
class FaceValueOracle:
    """Takes one asset at face value whatever it trades at, and asks another oracle for the rest.

    Source: issuers of a stablecoin count a unit of their own debt as one unit of account.

    Attributes:
        others: oracle of all other assets.
        face_value: of the asset, numeraire.
        asset: its index.
    """

    others: "Oracle"
    face_value: Float[Array, ""]
    asset: int = static()

    def init(self, market: Market) -> Any:
        """Return the opening state of the other oracle."""
        return self.others.init(market)

    def observe(self, state: Any, market: Market) -> Any:
        """Return the state of the other oracle after a step."""
        return self.others.observe(state, market)

    def seen(self, state: Any, market: Market) -> Float[Array, " asset"]:
        """Return the prices the venue works with."""
        return self.others.seen(state, market).at[self.asset].set(self.face_value)


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


Oracle = (
    SpotOracle
    | ExchangeRateOracle
    | DelayedOracle
    | DeviationOracle
    | FixedOracle
    | FaceValueOracle
)


def opening_prices(oracle: Oracle, market: Market) -> Float[Array, " asset"]:
    """Return the prices a venue with this oracle works with before anything has happened."""
    state: Any = oracle.init(market)
    return oracle.seen(state, market)
