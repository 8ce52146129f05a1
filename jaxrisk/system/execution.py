"""How each kind of execution is played: a registry from the venue's slot to its functions."""

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxtyping import Array, Float

from jaxrisk.system import band_trades, keeper_calls
from jaxrisk.system.offer import Offer
from jaxrisk.system.system import VenueState
from jaxrisk.venue.band_conversion import BandConversion
from jaxrisk.venue.execution import KeeperCalls
from jaxrisk.venue.venue import Venue


def _unchanged(state: Any, years: Float[Array, ""]) -> Any:
    """Return the state: nothing happens while time passes."""
    del years
    return state


@dataclasses.dataclass(frozen=True)
class Play:
    """One kind of execution, in two moves of a round.

    Attributes:
        look: `(system, venue, book, state, market, width) -> (wanted, offers)`: what would be
            done at the prices the venue sees, and what each class of it would sell and cost.
        go: `(system, venue, book, state, market, wanted, offers, shares) -> (state, offer)`: the
            venue after every class went through as far as it was rationed, its balance sheet
            booked in units, and all that was moved and is sold.
        wait: `(execution state, years) -> execution state`: what the time of a step does to it.
        standing: `(venue, book, state, mid) -> (account,)`: value behind each account, tranche
            after tranche.
    """

    look: Callable[..., tuple[Any, tuple[Offer, ...]]]
    go: Callable[..., tuple[VenueState, Offer]]
    wait: Callable[[Any, Float[Array, ""]], Any] = _unchanged
    standing: Callable[..., Float[Array, " account"]] = keeper_calls.standing


_PLAYS: dict[type, Play] = {
    KeeperCalls: Play(look=keeper_calls.look, go=keeper_calls.go),
    BandConversion: Play(
        look=band_trades.look,
        go=band_trades.go,
        wait=band_trades.wait,
        standing=band_trades.standing,
    ),
}


def play_of(venue: Venue) -> Play:
    """Return how the venue's kind of execution is played."""
    return _PLAYS[type(venue.execution)]
