"""Fixed points by bounded iteration, differentiated at the solution and not through the rounds."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounds import bounded_rounds

# A round that moves nothing by more than this many roundings is the last.
_ROUNDINGS = 8.0


@pytree
class FixedPoint:
    """Where an iteration ended, and whether that is a fixed point.

    Attributes:
        value: as the start, a tree of numbers.
        residual: largest move of the last round, relative to the largest size the entry has had:
            an entry that falls to zero has arrived when it is small beside what it was.
        rounds: how many there were.
        converged: whether the last round moved nothing but roundings; False where NaN appeared.
    """

    value: Any
    residual: Float[Array, ""]
    rounds: Int[Array, ""]
    converged: Bool[Array, ""]


def fixed_point(update: Callable[[Any], Any], start: Any, *, limit: int) -> FixedPoint:
    """Return x = update(x), reached from `start` in at most `limit` rounds.

    A monotone map iterated down from a point that it lowers ends at its greatest fixed point below
    that point, whether or not it has others.

    Derivatives are implicit, dx = (I - F_x)^-1 F_theta d theta, by a dense linear solve in the
    size of x; they hold where the iteration has converged and F is smooth at x. `update` may close
    over what is differentiated. The start has no derivative. Where I - F_x is singular, a small
    change moves the solution without bound, and so do the derivatives.

    Args:
        update: from a tree of floating-point numbers of one type to one of the same structure.
        start: where to begin.
        limit: largest number of rounds, at least 1.
    """
    flat, unravel = ravel_pytree(lax.stop_gradient(start))
    tolerance = _ROUNDINGS * jnp.finfo(flat.dtype).eps

    def advance(x: Array) -> Array:
        return ravel_pytree(update(unravel(x)))[0]

    def round_of(carry: tuple) -> tuple[tuple, Array]:
        x, largest, _, rounds = carry
        new = advance(x)
        largest = jnp.maximum(largest, jnp.abs(new))
        residual = jnp.max(jnp.abs(new - x) / positive_or_one(largest), initial=0.0)
        return (new, largest, residual, rounds + 1), residual > tolerance

    def iterate(_map: Callable, x: Array) -> tuple[Array, tuple]:
        # `custom_root` asks tangents of whatever it returns: rounds are counted in its type.
        none = jnp.zeros((), x.dtype)
        carry = (x, jnp.abs(x), none, none)
        (end, _, residual, rounds), _ = bounded_rounds(
            round_of, carry, limit=limit, differentiable=False
        )
        return end, (residual, rounds)

    def solve_tangent(linear: Callable[[Array], Array], right: Array) -> Array:
        matrix = jax.jacfwd(linear)(jnp.zeros_like(right))
        return jnp.linalg.solve(matrix, right)

    root: Any = lax.custom_root(
        lambda x: advance(x) - x, flat, iterate, solve_tangent, has_aux=True
    )
    value, (residual, rounds) = root
    return FixedPoint(
        value=unravel(value),
        residual=residual,
        rounds=rounds.astype(jnp.int32),
        converged=residual <= tolerance,
    )
