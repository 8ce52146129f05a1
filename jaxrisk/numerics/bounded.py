"""Numbers within bounds as numbers without: what an optimiser that knows no bounds moves in.

    low < x            x = low + exp(r)
    x < high           x = high - exp(-r)
    low < x < high     x = low + (high - low) / (1 + exp(-r))

Where a number has no bound it is itself. All are increasing and smooth. An open end is -inf or inf.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Numbers = Float[Array, " number"]


def from_unbounded(raw: Numbers, low: Numbers, high: Numbers) -> Numbers:
    """Return `(number,)` what unbounded numbers stand for, within their bounds."""
    below, above = jnp.isfinite(low), jnp.isfinite(high)
    floor, ceiling = _end(low), _end(high)
    # Each branch sees 0 where it is not taken, so that no slope overflows in it.
    one_end = below ^ above
    distance = jnp.exp(jnp.where(one_end, jnp.where(below, raw, -raw), jnp.zeros_like(raw)))
    share = jax.nn.sigmoid(jnp.where(below & above, raw, jnp.zeros_like(raw)))
    inside = floor + (ceiling - floor) * share
    at_one_end = jnp.where(below, floor + distance, ceiling - distance)
    return jnp.where(below & above, inside, jnp.where(one_end, at_one_end, raw))


def to_unbounded(value: Numbers, low: Numbers, high: Numbers) -> Numbers:
    """Return `(number,)` the unbounded numbers that stand for values strictly within bounds."""
    below, above = jnp.isfinite(low), jnp.isfinite(high)
    one = jnp.ones_like(value)
    over = jnp.log(jnp.where(below, value - _end(low), one))
    under = jnp.log(jnp.where(above, _end(high) - value, one))
    return jnp.where(below | above, over - under, value)


def _end(bound: Numbers) -> Numbers:
    return jnp.where(jnp.isfinite(bound), bound, jnp.zeros_like(bound))
