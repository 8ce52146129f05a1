"""The worst of a loss of normal factors within a ball: how bad it gets at a given plausibility.

Factors are independent standard normals `z`; correlated moves are `mean + factor @ z` inside of the
loss, so the length of z is the Mahalanobis distance of the moves. A loss is written once,

    loss(factors, crossing)

and asks its triggers of the crossing (`jaxrisk.numerics.crossing`). Smooth ones show the way, and
what is reported is always the loss with hard ones.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import gammainc
from jaxtyping import Array, Float, Key

from jaxrisk.numerics.crossing import Crossing, Hard, Smooth
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.keys import random_words, standard_normal

FactorLoss = Callable[[Float[Array, " factor"], Crossing], Float[Array, ""]]

HARD = Hard()
# Points looked at along a ray; what is thinner than their spacing may be missed.
ALONG = 64
# A gate this much narrower at the end of a search, in halvings, and steps taken at each width.
_HALVINGS = 6
_STEPS = 4
# Lengths of a step that are tried, in radii of the ball.
_LENGTHS = 2.0 ** np.arange(4, -6, -1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorstCase:
    """The largest loss that was found in a ball.

    Attributes:
        factors: `(factor,)` where it is.
        loss: there, with hard triggers.
        radius: of the ball, in standard deviations.
        coverage: probability of the ball, chi-squared. It falls with the number of factors at the
            same radius, so that adding a factor makes the same loss look less plausible.
    """

    factors: Float[np.ndarray, " factor"]
    loss: float
    radius: float
    coverage: float


def worst_case(
    loss: FactorLoss,
    key: Key[Array, ""],
    *,
    factors: int,
    radius: float,
    width: float,
    starts: int = 16,
) -> WorstCase:
    """Return the largest loss with `|z| <= radius` that projected gradients find from many starts.

    They start at the worst point of each of a number of rays, follow the smooth loss, and the gate
    is narrowed as they go. The result is a lower bound of the largest loss.

    Args:
        loss: of the factors.
        key: from `root_key`, for the rays.
        factors: how many.
        radius: of the ball, in standard deviations.
        width: half-width of the gate at first, in units of what the loss asks it.
        starts: random rays besides both directions of each axis.

    Raises:
        ValueError: a radius or width that is not positive, a loss or slope that is not finite, a
            factor on which the loss does not depend anywhere on the rays.
    """
    seen = explored(loss, directions(key, factors, starts), radius, width)
    at = int(np.argmax(seen.worst))
    return WorstCase(
        factors=np.asarray(seen.ends[at], np.float64),
        loss=float(seen.worst[at]),
        radius=radius,
        coverage=float(gammainc(0.5 * factors, 0.5 * radius**2)),
    )


@dataclasses.dataclass(frozen=True)
class Explored:
    """What projected gradients found from the worst point of each ray.

    Attributes:
        ends: where each way met its largest loss.
        worst: the loss there, with hard triggers.
    """

    ends: Float[np.ndarray, "ray factor"]
    worst: Float[np.ndarray, " ray"]


def explored(
    loss: FactorLoss, rays: Float[Array, "ray factor"], radius: float, width: float
) -> Explored:
    """Return the worst points in a ball; raises as `worst_case` does."""
    for name, value in (("radius", radius), ("width", width)):
        if not value > 0:
            raise ValueError(f"{name} {value:g}: expected a positive one")
    points, losses = _along(loss, rays, radius)
    begin = points[jnp.arange(len(rays)), np.argmax(losses, axis=1)]
    found = jax.jit(jax.vmap(lambda z: _climbed(loss, z, radius, width)))(begin)
    ends, worst, steep = (np.asarray(x, np.float64) for x in found)
    refuse_infinite(worst, ends, "loss")
    refuse_infinite(steep, ends, "slope of the loss")
    return Explored(ends=ends, worst=worst)


def _climbed(
    loss: FactorLoss, begin: Float[Array, " factor"], radius: float, width: float
) -> tuple[Float[Array, " factor"], Float[Array, ""], Float[Array, ""]]:
    """Return the worst point on the way from a start, its loss, and the sum of slopes met."""
    lengths = jnp.asarray(radius * _LENGTHS, begin.dtype)

    def step(state: tuple, gate: Array) -> tuple[tuple, None]:
        z, best, most, met = state
        smooth = lambda z: loss(z, Smooth(width=gate))
        here, slope = jax.value_and_grad(smooth)(z)
        size = jnp.linalg.norm(slope)
        tried = z[None] + lengths[:, None] * (slope / positive_or_one(size))[None]
        out = jnp.linalg.norm(tried, axis=1, keepdims=True) / radius
        tried = tried / jnp.where(out > 1.0, out, jnp.ones_like(out))
        values = jax.vmap(smooth)(tried)
        chosen = jnp.argmax(values)
        z = jnp.where(values[chosen] > here, tried[chosen], z)
        hard = loss(z, HARD)
        # A loss that is no number is kept, to be refused at the end.
        worse = jnp.isnan(hard) | (hard > most)
        return (z, jnp.where(worse, z, best), jnp.where(worse, hard, most), met + size), None

    first = (begin, begin, loss(begin, HARD), jnp.zeros_like(begin[0]))
    end, _ = lax.scan(step, first, narrowing(width, begin.dtype))
    return end[1:]


def narrowing(width: float, dtype: np.dtype) -> Float[Array, " step"]:
    """Return the widths of the gate, a step of a search each."""
    return jnp.asarray(np.repeat(width * 0.5 ** np.arange(_HALVINGS + 1), _STEPS), dtype)


def directions(key: Key[Array, ""], factors: int, starts: int) -> Float[Array, "ray factor"]:
    """Return unit vectors: both directions of each axis, then random ones."""
    if factors < 1:
        raise ValueError(f"{factors} factors: expected at least 1")
    dtype = jnp.zeros(()).dtype
    axes = jnp.eye(factors, dtype=dtype)
    drawn = standard_normal(random_words(key, starts * factors), dtype).reshape(starts, factors)
    drawn = drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True)
    return jnp.concatenate([axes, -axes, drawn])


def refuse_infinite(values: np.ndarray, points: np.ndarray, what: str) -> None:
    """Raise `ValueError` with the first point at which a value is not finite."""
    broken = ~np.isfinite(values)
    if broken.any():
        where = points[broken][0].tolist()
        raise ValueError(f"{what} is not finite at {int(broken.sum())} points; first at {where}")


def _along(
    loss: FactorLoss, rays: Float[Array, "ray factor"], farthest: float
) -> tuple[Float[Array, "ray point factor"], Float[np.ndarray, "ray point"]]:
    """Return points along rays out to a distance, and the loss at each.

    Raises:
        ValueError: a loss is not finite, or a factor can be set to 0 everywhere without effect.
    """
    radii = farthest * jnp.arange(1, ALONG + 1, dtype=rays.dtype) / ALONG
    points = radii[None, :, None] * rays[:, None, :]
    masked = jax.vmap(jax.vmap(lambda z, kept: loss(z * kept, HARD), (0, None)), (0, None))
    losses_of = jax.jit(lambda kept: masked(points, kept))
    every = jnp.ones_like(rays[0])
    losses = np.asarray(losses_of(every))
    refuse_infinite(losses, np.asarray(points), "loss")
    idle = [
        factor
        for factor in range(every.size)
        if np.array_equal(np.asarray(losses_of(every.at[factor].set(0.0))), losses)
    ]
    if idle:
        raise ValueError(
            f"the loss does not depend on factors {idle} at any of {losses.size} points: leave "
            "them out, for they only add to the dimension, or look farther out"
        )
    return points, losses
