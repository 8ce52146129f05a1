"""Sums along an axis."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def sum_before(values: Float[Array, "row ..."]) -> Float[Array, "row ..."]:
    """Return, for every row, the sum of the rows before it.

    Not the cumulative sum less the row itself: where a row dwarfs those before it, that difference
    would have lost them.
    """
    first = jnp.zeros_like(values[:1])
    return jnp.concatenate([first, jnp.cumsum(values[:-1], axis=0)], axis=0)


def total_up_to(values: Float[Array, "row ..."]) -> Float[Array, "one_more ..."]:
    """Return the sums of the first rows, from none of them to all: one row more than `values`."""
    first = jnp.zeros_like(values[:1])
    return jnp.concatenate([first, jnp.cumsum(values, axis=0)], axis=0)
