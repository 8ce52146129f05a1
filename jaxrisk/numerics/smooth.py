"""Powers whose derivatives stay finite at zero."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.custom_jvp
def safe_sqrt(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return sqrt(max(x, 0)) with derivative 0 at x <= 0 instead of infinity.

    Price impact uses a square root of volume; its slope at zero volume is infinite, and
    0 * inf is NaN in reverse mode. A scenario that sells nothing has no sensitivity to the
    impact of its sales, so 0 is the right one-sided choice.
    """
    return jnp.sqrt(jnp.where(x > 0, x, jnp.zeros_like(x)))


@safe_sqrt.defjvp
def _safe_sqrt_jvp(primals: tuple, tangents: tuple) -> tuple:
    (x,), (dx,) = primals, tangents
    root = safe_sqrt(x)
    slope = jnp.where(x > 0, 0.5 / jnp.where(x > 0, root, jnp.ones_like(root)), jnp.zeros_like(x))
    return root, slope * dx
