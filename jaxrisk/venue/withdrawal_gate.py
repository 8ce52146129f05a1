"""Withdrawals that stop for a while once an account has been seen with less than nothing."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.pytree import pytree

Pools = Float[Array, "*pool"]


@pytree
class WithdrawalGate:
    """Nobody withdraws from a pool of collateral for `duration` after an account fell below zero.

    What is missing has no bearer yet; until it has, nobody may leave before the others.

    Source: dYdX v4, subaccounts/keeper `internalCanUpdateSubaccounts`.

    Attributes:
        duration: units of time.
    """

    duration: Pools

    def opening(self) -> Pools:
        """Return the moment of the last sighting in a pool that has had none."""
        return jnp.full_like(self.duration, -jnp.inf)

    def seen(self, last: Pools, lowest_equity: Pools, now: Pools) -> Pools:
        """Return the moment of the last sighting after looking at all accounts of each pool.

        Args:
            last: moment of the last one before.
            lowest_equity: of any account in the pool, numeraire.
            now: units of time.
        """
        return jnp.where(lowest_equity < 0, now, last)

    def closed(self, last: Pools, now: Pools) -> Bool[Array, "*pool"]:
        """Return whether withdrawals are stopped now."""
        return now - last < self.duration
