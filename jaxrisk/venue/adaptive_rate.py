"""A borrow rate that follows its market: a curve around a rate at target that itself adapts."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.numerics.rounding import floor_to


@pytree
class AdaptiveRate:
    """A curve in utilisation around a rate at target, which drifts while use is off target.

    With `e = (u - u*) / (1 - u* if u > u* else u*)`, in [-1, 1], and target rate `r`:

    - curve: `r (1 + (c - 1) e)` above the target, `r (1 + (1 - 1/c) e)` below it: `c` times `r` at
      full use, `r / c` at none;
    - drift over `t` years: `r' = clip(r exp(speed e t), minimum, maximum)`.

    The rate over a period is the curve at `(r(0) + 2 r(t/2) + r(t)) / 4`, two trapezoids of the
    drift. All rates are per year, compounded continuously.

    Source: Morpho AdaptiveCurveIrm `borrowRate`, `_curve`, `_newRateAtTarget`.

    Attributes:
        target_utilisation: u*, in (0, 1).
        steepness: c > 1.
        speed: how fast the log of the target rate drifts at `e = 1`, per year.
        initial_rate: target rate of a market at its first interaction, per year.
        minimum_rate: lowest target rate, per year, positive.
        maximum_rate: highest target rate, per year.
        quadratic: use the contract's exponential (`quadratic_exponential`) instead of the true
            one. It is up to 0.9 % off and not continuous, so it is for replays, not derivatives.
        unit: smallest unit of a target rate, per year, to which the contract rounds down; `None`
            for real rates.
    """

    target_utilisation: Float[Array, "*market"]
    steepness: Float[Array, "*market"]
    speed: Float[Array, "*market"]
    initial_rate: Float[Array, "*market"]
    minimum_rate: Float[Array, "*market"]
    maximum_rate: Float[Array, "*market"]
    quadratic: bool = static(default=False)
    unit: Float[Array, "*market"] | None = None

    def distance(self, utilisation: Float[Array, "*market"]) -> Float[Array, "*market"]:
        """Return how far use is off target: -1 at none, 0 at target, 1 at full use."""
        target = self.target_utilisation
        side = jnp.where(utilisation > target, 1.0 - target, target)
        return (utilisation - target) / side

    def curve(
        self, rate_at_target: Float[Array, "*market"], utilisation: Float[Array, "*market"]
    ) -> Float[Array, "*market"]:
        """Return the borrow rate per year at one moment."""
        distance = self.distance(utilisation)
        below, above = 1.0 - 1.0 / self.steepness, self.steepness - 1.0
        return rate_at_target * (1.0 + jnp.where(distance > 0, above, below) * distance)

    def adapted(
        self, rate_at_target: Float[Array, "*market"], exponent: Float[Array, "*market"]
    ) -> Float[Array, "*market"]:
        """Return the target rate after a drift of its logarithm by `exponent`."""
        # Beyond the whole range of rates the bound decides; the clip keeps exp finite, with
        # a margin of 1 for the error of the quadratic exponential.
        range_of_rates = jnp.log(self.maximum_rate / self.minimum_rate) + 1.0
        exponent = jnp.clip(exponent, -range_of_rates, range_of_rates)
        growth = quadratic_exponential(exponent) if self.quadratic else jnp.exp(exponent)
        grown = floor_to(rate_at_target * growth, self.unit)
        return jnp.clip(grown, self.minimum_rate, self.maximum_rate)

    def borrow_rate(
        self,
        utilisation: Float[Array, "*market"],
        rate_at_target: Float[Array, "*market"],
        years: Float[Array, "*market"],
    ) -> tuple[Float[Array, "*market"], Float[Array, "*market"]]:
        """Return the mean borrow rate over a period and the target rate at its end.

        Args:
            utilisation: debt / supply over the period, in [0, 1].
            rate_at_target: target rate at its start, per year; not positive for a market that
                has had no interaction yet, which starts at `initial_rate` without drifting.
            years: length of the period, >= 0.
        """
        fresh = rate_at_target <= 0
        start = jnp.where(fresh, self.initial_rate, rate_at_target)
        drift = self.speed * self.distance(utilisation) * years
        drift = jnp.where(fresh, jnp.zeros_like(drift), drift)
        middle, end = self.adapted(start, drift / 2.0), self.adapted(start, drift)
        # Without drift the rate stays, even where it lies outside its bounds.
        still = drift == 0
        middle, end = jnp.where(still, start, middle), jnp.where(still, start, end)
        mean = floor_to((start + 2.0 * middle + end) / 4.0, self.unit)
        return self.curve(mean, utilisation), end


def quadratic_exponential(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return `2^q (1 + r + r^2 / 2)` with `x = q ln 2 + r`, `q` the nearest integer.

    Relative error up to 0.9 %, with jumps where `q` changes. At a tie `q` is the one away from 0.

    Source: Morpho ExpLib `wExp`.
    """
    half = jnp.where(x < 0, -0.5, 0.5).astype(x.dtype)
    whole = jnp.trunc(x / jnp.log(jnp.full_like(x, 2.0)) + half)
    rest = x - whole * jnp.log(jnp.full_like(x, 2.0))
    return jnp.exp2(whole) * (1.0 + rest + rest**2 / 2.0)
