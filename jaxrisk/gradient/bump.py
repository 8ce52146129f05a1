"""Bumps with common random numbers: the referee of every other estimator.

A central difference of the plain loss under the same keys. Its bias falls with the square of the
step and, where the loss jumps, its noise grows as the step falls; so there are two step sizes, and
what they say together: the difference extrapolated to a step of nothing.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from jaxrisk.gradient.estimate import (
    SIDE_BY_SIDE,
    Estimate,
    Loss,
    Parameters,
    averaged,
    lost,
    point_of,
    silent,
)

ASSUMES = "steps small enough that the loss's mean is a cubic between them, and large enough to see"


def bumps(
    loss: Loss,
    parameters: Parameters,
    key: Key[Array, ""],
    *,
    scenarios: int,
    steps: Sequence[float] = (0.02, 0.01),
    second: bool = False,
) -> tuple[Estimate, ...]:
    """Return the central difference of each step size, and last the extrapolated one.

    For two steps h1 > h2 the last is `(h1^2 d2 - h2^2 d1) / (h1^2 - h2^2)`, with the errors that
    this combination has in each scenario (Richardson).

    Args:
        loss: `loss(parameters, key)`.
        parameters: where to differentiate.
        key: from `root_key`; the same as an estimator's gives the same draws.
        scenarios: how many; each costs 2 losses a parameter and step size.
        steps: shares of the parameter's size; of a parameter that is 0, absolute. One or two,
            decreasing.
        second: also second derivatives by each parameter (the diagonal; elsewhere NaN).

    Raises:
        ValueError: other steps, a parameter that is no floating-point number, a loss that is not
            finite.
    """
    if len(steps) not in (1, 2) or not all(h > 0 for h in steps) or sorted(steps)[::-1] != [*steps]:
        raise ValueError(f"steps {tuple(steps)}: expected one or two positive ones, decreasing")
    if len(set(steps)) != len(steps):
        raise ValueError(f"steps {tuple(steps)}: expected two different ones")
    at = point_of(parameters)
    size = len(at.names)
    shares = jnp.asarray(steps, at.values.dtype)
    # A step as it is stored, for the difference of two rounded points is not the step asked for.
    width = jnp.where(at.values == 0, 1.0, jnp.abs(at.values))[None, :] * shares[:, None]
    up, down = at.values[None, :] + width, at.values[None, :] - width
    half = 0.5 * (up - down)
    ends = jnp.stack([up, down])

    def row(values: Array, own: Array) -> Array:
        of = lambda v: lost(loss(at.unravel(v), own))
        moved = jnp.where(
            jnp.eye(size, dtype=bool), ends[..., :, None], values[None, None, None, :]
        )
        above, below = jax.vmap(of)(moved.reshape(-1, size)).reshape(2, len(steps), size)
        middle = of(values)
        first = (above - below) / (2.0 * half)
        parts = [first, (above - 2.0 * middle + below) / half**2] if second else [first]
        parts = [_with_limit(part, shares) for part in parts]
        return jnp.concatenate([middle[None], *(part.reshape(-1) for part in parts)])

    lanes = max(SIDE_BY_SIDE // (2 * size * len(steps)), 8)
    mean, error = averaged(row, at.values, key, scenarios, side_by_side=lanes)
    count = len(steps) + (len(steps) == 2)
    folded = lambda x: x[1:].reshape(-1, count, size)
    labels = [f"bump of {h:g}" for h in steps]
    if len(steps) == 2:
        labels.append(f"bump of {steps[0]:g} and {steps[1]:g}, extrapolated")
    return tuple(
        Estimate(
            estimator=label,
            assumes=ASSUMES,
            parameters=at.names,
            point=np.asarray(at.values, np.float64),
            value=float(mean[0]),
            value_error=float(error[0]),
            derivative=folded(mean)[0, i],
            standard_error=folded(error)[0, i],
            scenarios=scenarios,
            second=_diagonal(folded(mean)[1, i]) if second else None,
            second_error=_diagonal(folded(error)[1, i]) if second else None,
            notes=silent(at.names, folded(mean)[0, i], folded(error)[0, i]),
        )
        for i, label in enumerate(labels)
    )


def _with_limit(
    difference: Float[Array, "step parameter"], shares: Float[Array, " step"]
) -> Float[Array, "one_more parameter"]:
    """Return differences and, where there are two, their limit at a step of nothing."""
    if shares.shape[0] == 1:
        return difference
    coarse, fine = shares**2
    limit = (coarse * difference[1] - fine * difference[0]) / (coarse - fine)
    return jnp.concatenate([difference, limit[None]])


def _diagonal(entries: Float[np.ndarray, " parameter"]) -> Float[np.ndarray, "parameter parameter"]:
    square = np.full((entries.size, entries.size), np.nan)
    np.fill_diagonal(square, entries)
    return square
