"""Linear interpolation on a sorted grid, with a choice of what lies beyond its ends."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.gate import positive_or_one


def bracket(
    x: Float[Array, "..."], grid: Float[Array, " node"], *, beyond: str
) -> tuple[Int[Array, "..."], Float[Array, "..."]]:
    """Return the grid interval of each `x`, and where in it: 0 at its left node, 1 at its right.

    `f(x) = (1 - t) f[i] + t f[i + 1]` then interpolates linearly between nodes, at which it is
    exact. With one node, `t` is 0 and `i` is 0.

    Args:
        x: any shape.
        grid: `(node,)`, increasing.
        beyond: "flat" keeps the value of the last node, `t` being clipped to [0, 1]; "linear"
            goes on with the last interval's slope.

    Raises:
        ValueError: `beyond` is neither.
    """
    if beyond not in ("flat", "linear"):
        raise ValueError(f"beyond {beyond!r}: choose 'flat' or 'linear'")
    last = max(grid.shape[0] - 2, 0)
    left = jnp.clip(jnp.searchsorted(grid, x, side="right") - 1, 0, last)
    right = jnp.minimum(left + 1, grid.shape[0] - 1)
    t = (x - grid[left]) / positive_or_one(grid[right] - grid[left])
    if beyond == "flat" or grid.shape[0] == 1:
        t = jnp.clip(t, 0.0, 0.0 if grid.shape[0] == 1 else 1.0)
    return left, t
