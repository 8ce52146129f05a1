"""How each kind of execution is played: a registry from the venue's slot to its functions."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float

from jaxrisk.system import absorbed_stock, auctioned_lots, keeper_calls
from jaxrisk.system.offer import Offer
from jaxrisk.system.system import VenueState
from jaxrisk.venue.execution import KeeperCalls
from jaxrisk.venue.takeover import AbsorbedStock, AuctionedLots
from jaxrisk.venue.venue import Venue

Scalar = Float[Array, ""]


def _unchanged(venue: Venue, kept: Any, years: Scalar) -> Any:
    """Return what the execution keeps: time does nothing to it."""
    del venue, years
    return kept


@dataclasses.dataclass(frozen=True)
class Play:
    """One kind of execution, in two moves of a round.

    Attributes:
        look: `(system, venue, book, state, market, width) -> (wanted, offers)`: what would be
            done at the prices the venue sees, and what each class of it would sell and cost.
        go: `(system, venue, book, state, market, wanted, offers, shares) -> (state, offer)`: the
            venue after every class went through as far as it was rationed, its balance sheet
            booked in units, and all that was moved and is sold.
        wait: `(venue, kept, years) -> kept`: what the execution keeps, a step later.
        unsold: `(venue, kept, mid) -> (gap, worth)`: claims beyond the worth of what was taken
            over for them, and that worth, in the numeraire; `None` where nothing is taken over.
    """

    look: Callable[..., tuple[Any, tuple[Offer, ...]]]
    go: Callable[..., tuple[VenueState, Offer]]
    wait: Callable[[Venue, Any, Scalar], Any] = _unchanged
    unsold: Callable[[Venue, Any, Float[Array, " asset"]], tuple[Scalar, Scalar]] | None = None


_PLAYS: dict[type, Play] = {
    KeeperCalls: Play(look=keeper_calls.look, go=keeper_calls.go),
    AbsorbedStock: Play(
        look=absorbed_stock.look, go=absorbed_stock.go, unsold=absorbed_stock.unsold
    ),
    AuctionedLots: Play(
        look=auctioned_lots.look,
        go=auctioned_lots.go,
        wait=auctioned_lots.wait,
        unsold=auctioned_lots.unsold,
    ),
}


def play_of(venue: Venue) -> Play:
    """Return how the venue's kind of execution is played."""
    return _PLAYS[type(venue.execution)]
