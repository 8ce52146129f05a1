"""Moving between the system's asset axis and a venue's own, with static indices."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float


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
