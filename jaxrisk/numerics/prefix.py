"""Sums over what comes first, in an order that is data."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.sums import sum_before


def amount_ahead(
    amount: Float[Array, " entry"], order: Float[Array, " entry"]
) -> Float[Array, " entry"]:
    """Return, for each entry, the sum of `amount` over all entries before it.

    Entries are ordered by `order`, equal ones by position. What a limited supply leaves for an
    entry is then `clip(supply - amount_ahead, 0, amount)`: first come, first served, without a
    loop over entries.
    """
    positions = jnp.argsort(order, stable=True)
    sorted_amount = amount[positions]
    return jnp.zeros_like(amount).at[positions].set(sum_before(sorted_amount))


def served(
    amount: Float[Array, " entry"], order: Float[Array, " entry"], supply: Float[Array, ""]
) -> Float[Array, " entry"]:
    """Return how much of each `amount` a limited supply serves, first in `order` first."""
    left = supply - amount_ahead(amount, order)
    left = jnp.where(left > 0, left, jnp.zeros_like(left))
    return jnp.where(left < amount, left, amount)
