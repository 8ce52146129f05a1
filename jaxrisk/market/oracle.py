"""Which price a venue sees. The seen price drives health; the market's mid drives proceeds."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.indexing import select
from jaxrisk.numerics.pytree import pytree


@pytree
class SpotOracle:
    """Sees the market's mid at once."""

    def init(self, market: Market) -> None:
        """Return the opening oracle state: none."""
        del market

    def see(self, state: None, market: Market) -> tuple[None, Float[Array, " asset"]]:
        """Return the new oracle state and the seen price `(asset,)`."""
        return state, market.mid


@pytree
class ExchangeRateOracle:
    """Sees pegged assets at underlying mid times exchange rate, blind to their basis.

    Source: ratio oracles of liquid-staking collateral (price = base feed x exchange rate).
    """

    def init(self, market: Market) -> None:
        """Return the opening oracle state: none."""
        del market

    def see(self, state: None, market: Market) -> tuple[None, Float[Array, " asset"]]:
        """Return the new oracle state and the seen price `(asset,)`."""
        if market.underlying is None:
            return state, market.mid
        return state, select(market.mid, market.underlying) * jnp.exp(market.log_ratio)


@pytree
class DeviationOracle:
    """Keeps its last answer until the mid has moved by more than `deviation` (a fraction).

    Source: push feeds that update on deviation; a deviation of 0 is the spot oracle.

    Attributes:
        deviation: `(asset,)` relative move that triggers an update.
    """

    deviation: Float[Array, " asset"]

    def init(self, market: Market) -> Float[Array, " asset"]:
        """Return the opening oracle state: the last published price `(asset,)`."""
        return market.mid

    def see(
        self, state: Float[Array, " asset"], market: Market
    ) -> tuple[Float[Array, " asset"], Float[Array, " asset"]]:
        """Return the new oracle state and the seen price `(asset,)`."""
        mid = market.mid
        seen = jnp.where(jnp.abs(mid - state) >= self.deviation * state, mid, state)
        return seen, seen


Oracle = SpotOracle | ExchangeRateOracle | DeviationOracle
