"""The oracle price as bands see it: limited in its jumps, with a fee that pays for them."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree


@pytree
class OracleState:
    """What the last trade saw.

    Attributes:
        price: limited price at that moment.
        fee: dynamic fee at that moment.
        elapsed: years since.
    """

    price: Float[Array, ""]
    fee: Float[Array, ""]
    elapsed: Float[Array, ""]


@pytree
class SeenPrice:
    """The limited price and the fee that goes with it.

    Attributes:
        price: price of collateral in the borrowed coin.
        fee: least fee that leaves no profit in having seen the move first.
    """

    price: Float[Array, ""]
    fee: Float[Array, ""]


@pytree
class LimitedOracle:
    """A feed whose jump against the last trade is bounded for a while after it.

    With `r <= 1` the ratio of the smaller to the larger of new and last price and `s` the share of
    the window still to run, the fee is `(last fee + 1 - r^3) s`. Quotes move with the cube of the
    oracle price, so `1 - r^3` is what an outsider could gain by knowing the move. Once the window
    is over, the price is the feed's and the fee is zero.

    Source: crvUSD AMM `limit_p_o` (two minutes, factor 1.25).

    Attributes:
        window: years.
        maximum_factor: largest move within the window, as a factor above 1.
    """

    window: Float[Array, ""]
    maximum_factor: Float[Array, ""]

    def see(self, state: OracleState, feed: Float[Array, ""]) -> SeenPrice:
        """Return price and fee now, without recording anything."""
        left = self.window - state.elapsed
        share = jnp.where(left > 0, left, jnp.zeros_like(left)) / self.window
        rises = feed > state.price
        larger = jnp.where(rises, feed, state.price)
        ratio = jnp.where(rises, state.price, feed) / positive_or_one(larger)
        bound = 1.0 / self.maximum_factor
        jumps = ratio < bound
        ratio = jnp.where(jumps, jnp.full_like(ratio, bound), ratio)
        limit = state.price * jnp.where(rises, self.maximum_factor, bound)
        fee = (state.fee + 1.0 - ratio**3) * share
        return SeenPrice(
            price=jnp.where(jumps & (share > 0), limit, feed),
            fee=smaller(fee, jnp.ones_like(fee)),
        )

    def record(self, seen: SeenPrice) -> OracleState:
        """Return the state a trade leaves behind."""
        return OracleState(price=seen.price, fee=seen.fee, elapsed=jnp.zeros_like(seen.fee))
