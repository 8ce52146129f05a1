"""The most likely scenario in which a given amount is lost: reverse stress by gradients.

Among all points with `loss(z) >= target` the likeliest is the one nearest to the origin of the
whitened factors. There z is parallel to the slope of the loss, which is what the iteration of
Hasofer, Lind, Rackwitz and Fiessler looks for. Triggers have no slope, so it is taken through a
gate that is narrowed, while every point that is compared lies on the edge of the *hard* loss, found
along its ray by bisection. So what is returned does lose the target, whatever the gate.

Losses are written as in `jaxrisk.gradient.worst_case`. On a sorted book and one price the answer is
exact: `jaxrisk.gradient.smallest_fall`. How probable the loss really is says
`jaxrisk.gradient.importance`, centred at the point.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from jaxrisk.gradient.worst_case import (
    ALONG,
    HARD,
    FactorLoss,
    directions,
    explored,
    narrowing,
    refuse_infinite,
)
from jaxrisk.numerics.crossing import Smooth
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.normal import normal_cdf

_BISECTIONS = 50
_BEYOND = 64.0
# How far a direction is turned towards the slope: all the way, or less where that overshoots.
_TURNS = 0.5 ** np.arange(6)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LikeliestScenario:
    """The nearest point found at which the target is lost.

    Attributes:
        factors: `(factor,)` the point, in standard deviations.
        loss: there, with hard triggers; at least the target, more where the loss jumps.
        distance: of the point from the origin: the reliability index.
        probability: `Phi(-distance)`, that of losing the target if the edge of the region where it
            is lost were a plane through the point. First order; sample it to know.
        alignment: cosine between the point and the slope of the smooth loss there. 1 where the
            edge is smooth; less at the corner of two regions, or where the search did not arrive.
        starts: rays from which the edge was found.
    """

    factors: Float[np.ndarray, " factor"]
    loss: float
    distance: float
    probability: float
    alignment: float
    starts: int


def reverse_stress(
    loss: FactorLoss,
    target: float,
    key: Key[Array, ""],
    *,
    factors: int,
    width: float,
    starts: int = 16,
    farthest: float = 8.0,
) -> LikeliestScenario:
    """Return the likeliest factors at which a loss reaches a target.

    A search from many starts: nothing shows that no nearer point exists.

    Source: Hasofer and Lind 1974; Rackwitz and Fiessler 1978.

    Args:
        loss: of the factors.
        target: what is lost, in units of the loss.
        key: from `root_key`, for the starts.
        factors: how many.
        width: half-width of the gate at first, in units of what the loss asks it.
        starts: random rays besides both directions of each axis and that of the worst case.
        farthest: distance up to which is searched, in standard deviations.

    Raises:
        ValueError: the target is lost without any move, or nowhere in reach; a loss or slope that
            is not finite; a factor without effect; a gate too narrow to have a slope.
    """
    rays = _starting_rays(loss, target, directions(key, factors, starts), farthest, width)
    turned = jax.jit(jax.vmap(lambda ray: _turned(loss, ray, target, farthest, width)))(rays)
    ends, distances, alignments, steepest = (np.asarray(x, np.float64) for x in turned)
    refuse_infinite(steepest, np.minimum(distances, farthest)[:, None] * ends, "slope of the loss")
    at = int(np.argmin(distances))
    if not np.isfinite(distances[at]):
        raise ValueError(
            f"target {target:g} is lost in a region too thin for {ALONG} points a ray within "
            f"{farthest:g} deviations: search less far out"
        )
    if not steepest[at] > 0:
        raise ValueError(f"width {width:g} is too small: the loss has no slope at its edge")
    # A few roundings beyond the edge, so that the loss at the point is on the far side of it.
    distance = float(distances[at]) * (1.0 + _BEYOND * float(jnp.finfo(rays.dtype).eps))
    point = distance * ends[at]
    lost = loss(jnp.asarray(point, rays.dtype), HARD)
    refuse_infinite(np.asarray(lost)[None], point[None], "loss")
    return LikeliestScenario(
        factors=point,
        loss=float(lost),
        distance=distance,
        probability=float(normal_cdf(jnp.asarray(-distance))),
        alignment=float(alignments[at]),
        starts=int(np.isfinite(distances).sum()),
    )


def _starting_rays(
    loss: FactorLoss,
    target: float,
    rays: Float[Array, "ray factor"],
    farthest: float,
    width: float,
) -> Float[Array, "start factor"]:
    """Return rays and the one to the worst point within reach, which must lose the target."""
    still = float(loss(jnp.zeros_like(rays[0]), HARD))
    if not np.isfinite(still):
        raise ValueError(f"loss {still} where no factor moves: expected a finite one")
    if not still < target:
        raise ValueError(f"{still:g} is lost where no factor moves: target {target:g} asks nothing")
    seen = explored(loss, rays, farthest, width)
    worst = int(np.argmax(seen.worst))
    if not seen.worst[worst] >= target:
        raise ValueError(
            f"target {target:g} is out of reach: within {farthest:g} deviations at most "
            f"{seen.worst[worst]:g} was found to be lost, at {seen.ends[worst].tolist()}"
        )
    towards = seen.ends[worst] / np.linalg.norm(seen.ends[worst])
    return jnp.concatenate([rays, jnp.asarray(towards, rays.dtype)[None]])


def _turned(
    loss: FactorLoss, ray: Float[Array, " factor"], target: float, farthest: float, width: float
) -> tuple[Float[Array, " factor"], Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Return the ray turned to where the edge is nearest, how near, the alignment, slopes met."""
    turns = jnp.asarray(_TURNS, ray.dtype)[:, None]
    edge = lambda ray: _edge(loss, ray, target, farthest)

    def slope_at(ray: Array, distance: Array, gate: Array) -> tuple[Array, Array]:
        # A ray that does not reach the target is turned from its far end.
        near = jnp.where(jnp.isfinite(distance), distance, jnp.full_like(distance, farthest))
        slope = jax.grad(lambda z: loss(z, Smooth(width=gate)))(near * ray)
        size = jnp.linalg.norm(slope)
        return slope / positive_or_one(size), size

    def step(state: tuple, gate: Array) -> tuple[tuple, None]:
        ray, distance, met = state
        slope, size = slope_at(ray, distance, gate)
        tried = (1.0 - turns) * ray[None] + turns * slope[None]
        tried = tried / positive_or_one(jnp.linalg.norm(tried, axis=1, keepdims=True))
        distances = jax.vmap(edge)(tried)
        chosen = jnp.argmin(distances)
        nearer = distances[chosen] < distance
        ray = jnp.where(nearer, tried[chosen], ray)
        return (ray, jnp.where(nearer, distances[chosen], distance), met + size), None

    gates = narrowing(width, ray.dtype)
    (ray, distance, met), _ = lax.scan(step, (ray, edge(ray), jnp.zeros_like(ray[0])), gates)
    slope, size = slope_at(ray, distance, gates[-1])
    return ray, distance, jnp.dot(ray, slope), met + size


def _edge(
    loss: FactorLoss, ray: Float[Array, " factor"], target: float, farthest: float
) -> Float[Array, ""]:
    """Return the first distance along a ray at which the target is lost; infinity for none."""
    # No number counts as lost, so that the point is in the way and not passed over.
    lost = lambda distance: ~(loss(distance * ray, HARD) < target)
    radii = farthest * jnp.arange(1, ALONG + 1, dtype=ray.dtype) / ALONG
    reached = jax.vmap(lost)(radii)
    high = radii[jnp.argmax(reached)]

    def halve(_: int, ends: tuple) -> tuple:
        low, high = ends
        middle = 0.5 * (low + high)
        there = lost(middle)
        return jnp.where(there, low, middle), jnp.where(there, middle, high)

    _, high = lax.fori_loop(0, _BISECTIONS, halve, (high - farthest / ALONG, high))
    return jnp.where(jnp.any(reached), high, jnp.inf)
