"""Limits on new risk: caps and ceilings, and the room they leave.

They are checked when somebody supplies or borrows. Nobody does inside a simulation, so they do not
act there; what they say is how much larger the book may become.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.venue.account import Accounts


@pytree
class Limit:
    """The most there may be of one asset on one side of a venue's book.

    Attributes:
        most: units.
        gap: where the limit follows what is used, units it is raised beyond that, up to `most`;
            `None` for a limit that stands still.
        name: what the protocol calls it.
        is_debt: whether it counts debt, else collateral.
        row: of the asset among the venue's debt or collateral assets.
        category: only accounts of this category count; `None` for all.
        against: only accounts that hold this collateral row count; `None` for all.
    """

    most: Float[Array, ""]
    gap: Float[Array, ""] | None = None
    name: str = static()
    is_debt: bool = static()
    row: int = static()
    category: int | None = static(default=None)
    against: int | None = static(default=None)

    def used(self, accounts: Accounts) -> Float[Array, ""]:
        """Return the units of a book that count."""
        units = (accounts.debt if self.is_debt else accounts.collateral)[self.row]
        none = jnp.zeros_like(units)
        if self.category is not None:
            units = jnp.where(accounts.category == self.category, units, none)
        if self.against is not None:
            units = jnp.where(accounts.collateral[self.against] > 0, units, none)
        return jnp.sum(units)


def headroom(
    used: Float[Array, "..."], most: Float[Array, "..."], gap: Float[Array, "..."] | None = None
) -> Float[Array, "..."]:
    """Return how much more a limit allows: `max(min(most - used, gap), 0)`.

    With a gap it is the room once the limit has been raised to `min(most, used + gap)`; raises are
    some time apart, and until the next one there may be less.

    Args:
        used: units that count.
        most: the limit, or the highest it can be raised to.
        gap: units a limit that follows is raised beyond what is used; `None` for none.
    """
    room = most - used if gap is None else smaller(most - used, gap)
    return jnp.where(room > 0, room, jnp.zeros_like(room))
