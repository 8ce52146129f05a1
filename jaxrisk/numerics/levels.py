"""Levels to which clipped lines are filled or drained together: exact, by one sort."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.sums import sum_before


def filled_level(
    height: Float[Array, " entry"], width: Float[Array, " entry"], amount: Float[Array, ""]
) -> Float[Array, ""]:
    """Return the level `l` at which `sum_i min(h_i, l w_i) = amount`; infinite beyond all heights.

    The sum is the smallest of `H + l W` over all ways to call some entries full, with `H` the
    heights of those and `W` the widths of the rest. So the level is the largest of
    `(amount - H) / W`, and the full entries are those of smallest `h / w`.

    Args:
        height: at least 0.
        width: at least 0; entries without width take no part.
        amount: at least 0.
    """
    height = jnp.where(width > 0, height, jnp.zeros_like(height))
    ratio = height / positive_or_one(width)
    order = jnp.argsort(jnp.where(width > 0, ratio, jnp.full_like(ratio, jnp.inf)))
    full = sum_before(height[order])
    rest = jnp.cumsum(width[order][::-1])[::-1]
    levels = (amount - full) / positive_or_one(rest)
    level = jnp.max(jnp.where(rest > 0, levels, jnp.zeros_like(levels)))
    return jnp.where(amount < jnp.sum(height), level, jnp.full_like(level, jnp.inf))


def drained_level(
    height: Float[Array, " entry"],
    width: Float[Array, " entry"],
    amount: Float[Array, ""],
    *,
    credit: Float[Array, ""] | None = None,
) -> Float[Array, ""]:
    """Return the level `l` at which `sum_i max(h_i - l w_i, 0) = (1 - c l) amount`, at least 0.

    With sums `H` and `W` over the `k` entries of largest `h / w`, `(H - amount) / (W - c amount)`
    is at most that level, and is it where those are the entries above it: so the level is the
    largest of them.

    Args:
        height: at least 0.
        width: at least 0; an entry without width and height takes no part.
        amount: at least 0; the sum of heights or more drains everything.
        credit: c, by how much the amount shrinks with the level; 0 where `None`.
    """
    ratio = height / positive_or_one(width)
    order = jnp.argsort(-jnp.where(height > 0, ratio, jnp.zeros_like(ratio)))
    top, base = jnp.cumsum(height[order]), jnp.cumsum(width[order])
    left, below = top - amount, base if credit is None else base - credit * amount
    reached = (left > 0) & (below > 0)
    levels = jnp.where(reached, left / positive_or_one(below), jnp.zeros_like(left))
    return jnp.max(levels)
