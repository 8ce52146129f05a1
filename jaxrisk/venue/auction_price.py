"""How the asking price of a Dutch auction falls while nobody buys."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree


@pytree
class LinearDecrease:
    """The price falls by the same amount every second: `(duration - t) / duration`, at least 0.

    Source: Maker dss abaci.sol LinearDecrease.price.

    Attributes:
        duration: seconds until the price is zero.
    """

    duration: Float[Array, "*auction"]

    def fraction(self, elapsed: Float[Array, "*auction"]) -> Float[Array, "*auction"]:
        """Return the asking price as a fraction of the opening price, `elapsed` seconds on."""
        left = self.duration - elapsed
        return jnp.where(left > 0, left, jnp.zeros_like(left)) / positive_or_one(self.duration)


@pytree
class StairstepDecrease:
    """The price is cut by the same factor at every step: `cut ^ floor(t / step)`.

    Source: Maker dss abaci.sol StairstepExponentialDecrease.price.

    Attributes:
        cut: what is left of the price after one step, in (0, 1].
        step: seconds between cuts.
    """

    cut: Float[Array, "*auction"]
    step: Float[Array, "*auction"]

    def fraction(self, elapsed: Float[Array, "*auction"]) -> Float[Array, "*auction"]:
        """Return the asking price as a fraction of the opening price, `elapsed` seconds on."""
        return self.cut ** jnp.floor(elapsed / positive_or_one(self.step))


@pytree
class ExponentialDecrease:
    """The price falls by the same factor every second: `cut ^ t`.

    Source: Maker dss abaci.sol ExponentialDecrease.price.

    Attributes:
        cut: what is left of the price after one second, in (0, 1].
    """

    cut: Float[Array, "*auction"]

    def fraction(self, elapsed: Float[Array, "*auction"]) -> Float[Array, "*auction"]:
        """Return the asking price as a fraction of the opening price, `elapsed` seconds on."""
        return self.cut**elapsed


@pytree
class TwoPhaseDecrease:
    """The price falls linearly to a turning point, fast, and from there linearly to zero, slowly.

    Source: Derive v2 DutchAuction.sol `_getDiscountPercentage`.

    Attributes:
        start: fraction of the opening price asked at the start, at most 1.
        turn: fraction asked where the first phase ends.
        fast: seconds of the first phase.
        slow: seconds of the second.
    """

    start: Float[Array, "*auction"]
    turn: Float[Array, "*auction"]
    fast: Float[Array, "*auction"]
    slow: Float[Array, "*auction"]

    def fraction(self, elapsed: Float[Array, "*auction"]) -> Float[Array, "*auction"]:
        """Return the asking price as a fraction of the opening price, `elapsed` seconds on."""
        falling = (self.start - self.turn) * elapsed / positive_or_one(self.fast)
        left = self.fast + self.slow - elapsed
        left = jnp.where(left > 0, left, jnp.zeros_like(left))
        slowly = self.turn * left / positive_or_one(self.slow)
        return jnp.where(elapsed < self.fast, self.start - falling, slowly)


PriceCurve = LinearDecrease | StairstepDecrease | ExponentialDecrease | TwoPhaseDecrease
