"""The one trigger: a hard step, or its smooth twin of a stated width."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def gate(
    excess: Float[Array, "..."], scale: Float[Array, "..."], width: Float[Array, ""] | None
) -> Float[Array, "..."]:
    """Return 1 where `excess > 0` and 0 elsewhere, or a smooth rise of stated width.

    Args:
        excess: how far the trigger has been passed, in the units of `scale`.
        scale: what the width is a fraction of; positive where the gate matters.
        width: `None` for the exact rule; otherwise the half-width of the rise, as a fraction of
            `scale`, where 0 is the exact rule again (one compiled program then serves both).

    The smooth twin rises from 0 at -width to 1 at +width as `3 t^2 - 2 t^3`. It has no tails: a
    logistic would let a healthy account leak a little in every step, and over many steps a lot.
    It is for derivatives only, with a bias of O(width^2) where the density across the trigger is
    smooth.
    """
    if width is None:
        return (excess > 0).astype(excess.dtype)
    safe_scale = jnp.where(scale > 0, scale, jnp.ones_like(scale))
    safe_width = jnp.where(width > 0, width, jnp.ones_like(width))
    t = jnp.clip(excess / (2.0 * safe_scale * safe_width) + 0.5, 0.0, 1.0)
    rise = jnp.where(scale > 0, t**2 * (3.0 - 2.0 * t), jnp.zeros_like(t))
    return jnp.where(width > 0, rise, (excess > 0).astype(excess.dtype))


def smaller(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the smaller of two values, without the NaN propagation of `jnp.minimum`.

    On CPUs the NaN-propagating minimum keeps the account loop from vectorising well.
    """
    return jnp.where(a < b, a, b)


def positive_or_one(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return `x` where positive and 1 elsewhere: a denominator safe in both AD modes."""
    return jnp.where(x > 0, x, jnp.ones_like(x))


def larger(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the larger of two values, without the NaN propagation of `jnp.maximum`."""
    return jnp.where(a > b, a, b)
