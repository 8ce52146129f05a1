"""Who gets to sell: calls from all venues share what each market can take without a loss.

Keepers enter freely. A class of calls (one venue, one risk category) has a margin, and with it a
capacity: the volume up to which the average sale still pays. Classes with more capacity go first;
a class sells only into the room that is left below its own capacity. Then nobody who sells loses,
the cost of the calls included.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one, smaller

SMALLEST_RATION = 1e-6
"""Less than this share of the wanted calls is not worth a round."""

# Capacities that differ by no more than this many roundings are equal: venues of one bonus have
# one margin, and who sells first must not hang on the last bit of their sums.
_ROUNDINGS = 4096


def rations(
    demand: Float[Array, "class asset"], capacity: Float[Array, "class asset"]
) -> Float[Array, " class"]:
    """Return the share of each class's calls that goes through, in [0, 1].

    Args:
        demand: units of each asset that a class would sell.
        capacity: units of each asset that can be sold in all before the class loses money.

    A call seizes several assets in fixed proportion, so the scarcest one decides. Classes of equal
    capacity are rationed alike.
    """
    room, crowd = capacity, demand
    if demand.shape[0] > 1:
        own, other = capacity[:, None, :], capacity[None, :, :]
        more = 1.0 + _ROUNDINGS * jnp.finfo(capacity.dtype).eps
        first = other > own * more
        equal = ~first & (other * more >= own)
        ahead = smaller(demand, capacity)[None, :, :]
        room = capacity - jnp.sum(jnp.where(first, ahead, jnp.zeros_like(ahead)), axis=1)
        rivals = demand[None, :, :]
        crowd = jnp.sum(jnp.where(equal, rivals, jnp.zeros_like(rivals)), axis=1)
    share = jnp.where(demand > 0, room / positive_or_one(crowd), jnp.ones_like(demand))
    ration = jnp.clip(jnp.min(share, axis=1), 0.0, 1.0)
    return jnp.where(ration < SMALLEST_RATION, jnp.zeros_like(ration), ration)
