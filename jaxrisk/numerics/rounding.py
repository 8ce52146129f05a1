"""Rounding to the smallest unit of an amount, in floating point."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def floor_to(x: Float[Array, "..."], unit: Float[Array, "..."] | None) -> Float[Array, "..."]:
    """Return `x` rounded down to a multiple of `unit`; `x` itself where there is no unit.

    Values within a few rounding errors below a multiple count as that multiple, so that an
    amount which is whole in exact arithmetic is not lost to the floating-point representation.
    """
    if unit is None:
        return x
    count = x / unit
    return jnp.floor(count + _slack(count)) * unit


def ceil_to(x: Float[Array, "..."], unit: Float[Array, "..."] | None) -> Float[Array, "..."]:
    """Return `x` rounded up to a multiple of `unit`; `x` itself where there is no unit."""
    if unit is None:
        return x
    count = x / unit
    return jnp.ceil(count - _slack(count)) * unit


def _slack(count: Float[Array, "..."]) -> Float[Array, "..."]:
    return 8.0 * jnp.finfo(count.dtype).eps * jnp.abs(count)
