"""Moving between the system's asset axis and a venue's own, with static indices."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Shaped


def select(
    values: Float[Array, "... asset"], indices: Sequence[int]
) -> Float[Array, "... selected"]:
    """Return `values` at static `indices` of the last axis (a slice where they are contiguous)."""
    first, count = indices[0], len(indices)
    if tuple(indices) == tuple(range(first, first + count)):
        return lax.slice_in_dim(values, first, first + count, axis=values.ndim - 1)
    return values[..., np.asarray(indices)]


def spread(
    values: Float[Array, " selected"], indices: Sequence[int], size: int
) -> Float[Array, " asset"]:
    """Return an array of length `size` holding `values` at static `indices`, zero elsewhere."""
    first, count = indices[0], len(indices)
    if tuple(indices) == tuple(range(first, first + count)):
        return lax.pad(values, jnp.zeros((), values.dtype), [(first, size - first - count, 0)])
    return jnp.zeros(size, values.dtype).at[np.asarray(indices)].set(values)


def columns(
    values: Shaped[Array, "... account"], order: Int[Array, " chosen"] | Int[np.ndarray, " chosen"]
) -> Shaped[Array, "... chosen"]:
    """Return `values` at `order` of the last axis; concrete numbers are taken on the host.

    A book is cut once before a run: on the host nothing is compiled for it.
    """
    if isinstance(values, Tracer):
        return values[..., order]
    return jnp.asarray(np.asarray(values)[..., np.asarray(order)])


def row_totals(values: Float[Array, "row account"]) -> Float[Array, " row"]:
    """Return the sum of each row; of concrete numbers on the host, as in `columns`."""
    if isinstance(values, Tracer):
        return jnp.sum(values, axis=1)
    return jnp.asarray(np.asarray(values).sum(axis=1))


def row_sum(values: Float[Array, "row column"]) -> Float[Array, " column"]:
    """Return the sum over rows, written as additions of rows.

    For a handful of rows the additions fuse with their neighbours; a reduction would not.
    """
    total = values[0]
    for i in range(1, values.shape[0]):
        total = total + values[i]
    return total


def largest(values: Float[Array, "row column"]) -> Float[Array, "row column"]:
    """Return a one-hot mask of the largest entry of each column, the first of equals."""
    best, picks = values[0], [jnp.ones_like(values[0])]
    for i in range(1, values.shape[0]):
        wins = values[i] > best
        best = jnp.where(wins, values[i], best)
        picks = [jnp.where(wins, jnp.zeros_like(p), p) for p in picks]
        picks.append(wins.astype(values.dtype))
    return jnp.stack(picks)


def placed(rows: dict[int, Float[Array, "*row"]], count: int) -> Float[Array, "count *row"]:
    """Return `count` rows of which some are given and the others are zero.

    Args:
        rows: from position to row, all of one shape.
        count: how many rows.

    Neighbours are stacked and padded, which compiles to far less than a stack with rows of zeros.
    """
    total: Array | None = None
    for run in _neighbours(sorted(rows)):
        stacked = jnp.stack([rows[position] for position in run])
        ends = [(run[0], count - 1 - run[-1], 0)] + [(0, 0, 0)] * (stacked.ndim - 1)
        padded = lax.pad(stacked, jnp.zeros((), stacked.dtype), ends)
        total = padded if total is None else total + padded
    assert total is not None
    return total


def _neighbours(positions: list[int]) -> list[list[int]]:
    """Return sorted positions cut into runs without a gap."""
    runs = [[positions[0]]]
    for position in positions[1:]:
        if position == runs[-1][-1] + 1:
            runs[-1].append(position)
        else:
            runs.append([position])
    return runs
