"""Liquidation thresholds that fall gradually after they are lowered."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to


@pytree
class WeightRamp:
    """Weights of collateral, one for each pair of debt and collateral asset, that ramp downwards.

    `w(t) = target + (start - target) (end - t) / duration` before the end of the ramp, `target`
    from then on. A weight that is raised holds at once, and the weight that limits new borrowing
    has no ramp in either direction.

    Source: Euler v2, EVK LTVConfig `getLTV` and `setLTV`.

    Attributes:
        start: `(debt_asset, collateral_asset)` liquidation weight when the ramp began.
        target: `(debt_asset, collateral_asset)` liquidation weight it ends at.
        borrow: `(debt_asset, collateral_asset)` weight that limits new borrowing.
        end: `(debt_asset, collateral_asset)` time at which the ramp ends.
        duration: `(debt_asset, collateral_asset)` length of the ramp, in the unit of `end`.
        unit: smallest step of a weight; `None` for real weights.
    """

    start: Float[Array, "debt_asset collateral_asset"]
    target: Float[Array, "debt_asset collateral_asset"]
    borrow: Float[Array, "debt_asset collateral_asset"]
    end: Float[Array, "debt_asset collateral_asset"]
    duration: Float[Array, "debt_asset collateral_asset"]
    unit: Float[Array, ""] | None = None

    def liquidation(self, time: Float[Array, ""]) -> Float[Array, "debt_asset collateral_asset"]:
        """Return the liquidation weights at `time`."""
        left = (self.end - time) / positive_or_one(self.duration)
        ramped = self.target + floor_to((self.start - self.target) * left, self.unit)
        over = (time >= self.end) | (self.target >= self.start)
        return jnp.where(over, self.target, ramped)

    def changed(
        self,
        time: Float[Array, ""],
        *,
        target: Float[Array, "debt_asset collateral_asset"],
        borrow: Float[Array, "debt_asset collateral_asset"],
        duration: Float[Array, "debt_asset collateral_asset"],
    ) -> "WeightRamp":
        """Return the ramp after weights are set at `time`: it starts from where they stand then."""
        return WeightRamp(
            start=self.liquidation(time),
            target=target,
            borrow=borrow,
            end=time + duration,
            duration=duration,
            unit=self.unit,
        )
