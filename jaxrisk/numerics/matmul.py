"""Matrix products over accounts at full precision."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def full_matmul(a: Float[Array, "..."], b: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return `a @ b` in the precision of its inputs.

    Accelerators round float32 inputs of a product by default and must be told not to. CPUs never
    do, and naming a precision there keeps the compiler from its fastest kernel.
    """
    precision = None if jax.default_backend() == "cpu" else "highest"
    return jnp.matmul(a, b, precision=precision)
