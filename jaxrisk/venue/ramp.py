"""A parameter that moves from one value to another over a stated time."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to


@pytree
class LinearRamp:
    """A linear move from `initial` to `final` that begins at `start` and takes `duration`.

    Thresholds are lowered this way, so that borrowers can react before they are liquidated.

    Source: Gearbox v3 CreditLogic `getLiquidationThreshold`.

    Attributes:
        initial: value up to `start`.
        final: value from `start + duration` on.
        start: when the move begins, in the unit and from the origin of the times asked for. Count
            from a near origin: in single precision a date in years since 1970 is minutes off.
        duration: how long it takes; 0 for a jump right after `start`.
        unit: smallest unit of the value, to which it is rounded down; `None` for real values.
    """

    initial: Float[Array, "*row"]
    final: Float[Array, "*row"]
    start: Float[Array, "*row"]
    duration: Float[Array, "*row"]
    unit: Float[Array, "*row"] | None = None

    def at(self, time: Float[Array, "*row"]) -> Float[Array, "*row"]:
        """Return the value at a moment."""
        elapsed = time - self.start
        span = positive_or_one(self.duration)
        along = (self.initial * (span - elapsed) + self.final * elapsed) / span
        value = jnp.where(elapsed >= self.duration, self.final, floor_to(along, self.unit))
        return jnp.where(elapsed <= 0, self.initial, value)
