"""Owners of accounts: what cash they have besides, and what they do on each venue."""

from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.indexing import placed
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.owner_policy import Giver, OwnerPolicy


@pytree
class VenueOwners:
    """What owners do with their accounts on one venue.

    Attributes:
        policies: by risk category, in the order in which they are played; none for nothing.
        givers: by risk category, what an account gives where another one of its owner, on any
            venue, needs cash; `None` for nothing.
    """

    policies: tuple[tuple[OwnerPolicy, ...], ...]
    givers: tuple[Giver | None, ...]


@pytree
class Owners:
    """Those who hold the accounts; `Accounts.owner` says who holds which.

    Attributes:
        wallet: `(owner,)` cash of each at the opening, numeraire.
        venues: what they do, by venue.
    """

    wallet: Float[Array, " owner"]
    venues: tuple[VenueOwners, ...]

    @property
    def turns(self) -> int:
        """How many policies are played one after another in a step."""
        return max(len(own) for venue in self.venues for own in venue.policies)

    def opening(self) -> "OwnerState":
        """Return what changes in a scenario, before the first step."""
        flows = jnp.zeros((len(OwnerFlow), len(self.venues)), self.wallet.dtype)
        return OwnerState(wallet=self.wallet, flows=flows)


class OwnerFlow(IntEnum):
    """Cumulated flows of owners' trades on a venue, in the numeraire at the moment of each.

    Proceeds + drawn + paid in = repaid + spent + taken out, on every venue and at every moment;
    and what is in wallets is what was, less what was paid in, plus what was taken out.
    """

    SOLD = 0  # collateral sold, at the market's mid
    PROCEEDS = 1  # what it brought
    REPAID = 2  # debt repaid with that
    TAKEN_OUT = 3  # the rest, into wallets
    PAID_IN = 4  # out of wallets
    DRAWN = 5  # new debt
    SPENT = 6  # on collateral
    BOUGHT = 7  # that collateral, at the market's mid


@pytree
class OwnerState:
    """What owners have and did so far.

    Attributes:
        wallet: `(owner,)` cash, numeraire.
        flows: `(owner_flow, venue)` entries as in `OwnerFlow`.
    """

    wallet: Float[Array, " owner"]
    flows: Float[Array, "owner_flow venue"]


def owner_flows(**flows: Float[Array, ""]) -> Float[Array, " owner_flow"]:
    """Return a vector of flows from those that occur (lower-case names of `OwnerFlow`)."""
    return placed({OwnerFlow[name.upper()]: x for name, x in flows.items()}, len(OwnerFlow))
