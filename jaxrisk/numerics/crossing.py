"""How a derivative gets across a trigger: four ways to take a normal step and to ask a question.

A simulation that jumps where a price crosses a trigger is written once, with a `Crossing` as its
last argument, and takes its normal steps and its soft questions from it. Forward all but the smooth
one are the same program, number for number; they differ in what is differentiated:

* `Hard`: the step moves with its mean and deviation, and triggers are not seen. That is what
  automatic differentiation does by itself, and across a trigger it is wrong.
* `Stratified`: between two neighbouring edges, the prices at which the future jumps, the step keeps
  its quantile *within the stratum*, so nothing is crossed as parameters move; how probable the
  stratum is goes into a score. Unbiased for all parameters.
* `Scored`: the step stands still and all of its law goes into the score. Unbiased for parameters of
  the law alone.
* `Smooth`: the step moves as in `Hard`, and questions are answered by a gate of stated width.

A score is the log-probability of what was drawn less its own value: always exactly 0, with the
derivatives of the log-probability. So a loss times `exp(score)` is the loss itself, bit for bit.
"""

from typing import Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import gate
from jaxrisk.numerics.normal import normal_cdf, normal_density
from jaxrisk.numerics.pytree import pytree

# An edge farther out than this many deviations bounds nothing: no draw gets near it.
_FARTHEST = 40.0
# A stratum narrower than this has its probability from the density at its end.
_NARROW = 1e-3


class Crossing(Protocol):
    """What a simulation asks of it."""

    def normal(
        self,
        mean: Float[Array, ""],
        deviation: Float[Array, ""],
        draw: Float[Array, ""],
        edges: Float[Array, " edge"],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Return the step `mean + deviation * draw` and its score.

        Args:
            mean: of the step.
            deviation: its standard deviation, positive.
            draw: a standard normal number; a constant, so what depends on a parameter belongs in
                mean and deviation.
            edges: every value of the step at which the rest of the simulation jumps, in any order,
                as functions of parameters and of the past. Further ones cost precision only.
        """
        ...

    def gate(self, excess: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return 1 where `excess > 0`, else 0; or a smooth rise between."""
        ...


@pytree
class Hard:
    """The plain simulation; what it gives of a derivative stops at triggers."""

    def normal(
        self,
        mean: Float[Array, ""],
        deviation: Float[Array, ""],
        draw: Float[Array, ""],
        edges: Float[Array, " edge"],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Return the step, and no score."""
        return mean + deviation * draw, jnp.zeros_like(mean)

    def gate(self, excess: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the exact answer."""
        return gate(excess, jnp.ones_like(excess), None)


@pytree
class Stratified:
    """Steps keep their quantile between their two edges, and score for the stratum."""

    def normal(
        self,
        mean: Float[Array, ""],
        deviation: Float[Array, ""],
        draw: Float[Array, ""],
        edges: Float[Array, " edge"],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Return the step, and the score of lying between its edges."""
        x = lax.stop_gradient(mean + deviation * draw)
        low = jnp.max(jnp.where(edges < x, edges, -jnp.inf), initial=-jnp.inf)
        high = jnp.min(jnp.where(edges >= x, edges, jnp.inf), initial=jnp.inf)
        return stratified_normal(mean, deviation, draw, low, high)

    def gate(self, excess: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the exact answer."""
        return gate(excess, jnp.ones_like(excess), None)


@pytree
class Scored:
    """Steps stand still as parameters move; the score holds all of their law."""

    def normal(
        self,
        mean: Float[Array, ""],
        deviation: Float[Array, ""],
        draw: Float[Array, ""],
        edges: Float[Array, " edge"],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Return the step, and the score of its density."""
        return scored_normal(mean, deviation, draw)

    def gate(self, excess: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the exact answer."""
        return gate(excess, jnp.ones_like(excess), None)


@pytree
class Smooth:
    """Questions are answered by a smooth rise.

    Attributes:
        width: half-width of the rise, in units of what is asked; 0 is the exact rule.
    """

    width: Float[Array, ""]

    def normal(
        self,
        mean: Float[Array, ""],
        deviation: Float[Array, ""],
        draw: Float[Array, ""],
        edges: Float[Array, " edge"],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Return the step, and no score."""
        return mean + deviation * draw, jnp.zeros_like(mean)

    def gate(self, excess: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return the smooth answer."""
        return gate(excess, jnp.ones_like(excess), self.width.astype(excess.dtype))


@jax.custom_jvp
def stratified_normal(
    mean: Float[Array, ""],
    deviation: Float[Array, ""],
    draw: Float[Array, ""],
    low: Float[Array, ""],
    high: Float[Array, ""],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return `x = mean + deviation * draw` and the score of its stratum `low < x <= high`.

    Derivatives of x are those at a constant quantile q of the law between the edges,

        phi(z) dz = (1 - q) phi(z_low) dz_low + q phi(z_high) dz_high,

    by implicit differentiation: no quantile function is called. Those of the score are of
    `log(Phi(z_high) - Phi(z_low))`. Both may be differentiated again.

    Args:
        mean: of x.
        deviation: its standard deviation, positive.
        draw: a standard normal number, a constant.
        low: lower edge, or minus infinity.
        high: upper edge, or infinity.
    """
    del low, high
    return mean + deviation * draw, jnp.zeros_like(mean)


@stratified_normal.defjvp
def _stratified_jvp(primals: tuple, tangents: tuple) -> tuple:
    mean, deviation, draw, low, high = primals
    x, score = stratified_normal(mean, deviation, draw, low, high)
    dmean, ddeviation, _, dlow, dhigh = tangents
    z, z_low, z_high = (_standard(edge, mean, deviation) for edge in (x, low, high))
    move_low = jnp.where(jnp.isfinite(low), dlow, 0.0) - dmean - z_low * ddeviation
    move_high = jnp.where(jnp.isfinite(high), dhigh, 0.0) - dmean - z_high * ddeviation
    # Mirrored where the stratum is in the upper tail: no digits are lost to 1 - p.
    mirrored = z_low + z_high > 0
    own = jnp.where(mirrored, -z, z)
    left, right = (
        jnp.where(mirrored, -other, edge) for edge, other in ((z_low, z_high), (z_high, z_low))
    )
    stratum, below = _mass(left, right), _mass(left, own)
    to_left = jnp.clip(below / stratum, 0.0, 1.0)
    quantile = jnp.where(mirrored, 1.0 - to_left, to_left)
    at_low, at_high = normal_density(z_low), normal_density(z_high)
    here = jnp.maximum(normal_density(z), jnp.finfo(x.dtype).tiny)
    pull = (1.0 - quantile) * at_low * move_low + quantile * at_high * move_high
    dx = dmean + z * ddeviation + pull / here
    rise = at_high * move_high - at_low * move_low
    return (x, score), (dx, rise / (stratum * deviation))


@jax.custom_jvp
def scored_normal(
    mean: Float[Array, ""], deviation: Float[Array, ""], draw: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return `x = mean + deviation * draw`, which has no derivative, and the score of its density.

    Args:
        mean: of x.
        deviation: its standard deviation, positive.
        draw: a standard normal number, a constant.
    """
    return mean + deviation * draw, jnp.zeros_like(mean)


@scored_normal.defjvp
def _scored_jvp(primals: tuple, tangents: tuple) -> tuple:
    mean, deviation, draw = primals
    x, score = scored_normal(mean, deviation, draw)
    dmean, ddeviation, _ = tangents
    z = (x - mean) / deviation
    return (x, score), (jnp.zeros_like(x), (z * dmean + (z**2 - 1.0) * ddeviation) / deviation)


def _standard(
    x: Float[Array, ""], mean: Float[Array, ""], deviation: Float[Array, ""]
) -> Float[Array, ""]:
    """Return `x` in deviations from the mean; edges far out are brought nearer."""
    finite = jnp.where(jnp.isfinite(x), x, mean)
    z = (finite - mean) / deviation
    z = jnp.where(jnp.isfinite(x), z, jnp.where(x < 0, -_FARTHEST, _FARTHEST).astype(z.dtype))
    return jnp.clip(z, -_FARTHEST, _FARTHEST)


def _mass(left: Float[Array, ""], right: Float[Array, ""]) -> Float[Array, ""]:
    """Return the normal probability between two standard values of the lower tail, above 0."""
    wide = normal_cdf(right) - normal_cdf(left)
    # From the density at an end, to second order in the width.
    width = right - left
    narrow = normal_density(right) * width * (1.0 + 0.5 * right * width)
    mass = jnp.where(width < _NARROW, narrow, wide)
    return jnp.maximum(mass, jnp.finfo(mass.dtype).tiny)
