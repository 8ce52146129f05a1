"""Who pays for bad debt."""

from enum import Enum

import jax.numpy as jnp
from jaxtyping import Array, Float


class Residual(Enum):
    """Who bears what the funds do not cover.

    CARRIED: a deficit stays on the venue's books; suppliers are whole on paper and the last ones
        to leave are short (Aave v3.3+).
    SOCIALISED: suppliers' claims are cut at once, pro rata (Morpho Blue).
    """

    CARRIED = "suppliers (deficit carried)"
    SOCIALISED = "suppliers (written down)"


def ordered_payment(
    loss: Float[Array, ""], capacity: Float[Array, " layer"]
) -> tuple[Float[Array, " layer"], Float[Array, ""]]:
    """Return what each layer pays, first layer first, and what is left unpaid.

    `paid_k = clip(loss - sum_{j<k} capacity_j, 0, capacity_k)`.
    """
    before = jnp.cumsum(capacity) - capacity
    paid = jnp.clip(loss - before, 0.0, capacity)
    return paid, loss - jnp.sum(paid)
