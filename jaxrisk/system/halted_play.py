"""How a venue is played while trading may have stopped: as ever, or not at all."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from jaxrisk.system.execution import Play, play_of
from jaxrisk.system.halts import Shut, shut
from jaxrisk.system.offer import Dealt, Offer
from jaxrisk.system.system import State, System, VenueState


def plays_of(system: System, state: State) -> tuple[Shut | None, list[Play]]:
    """Return what is closed, `None` where nothing ever is, and how each venue is played."""
    plays = [play_of(venue) for venue in system.venues]
    closed = shut(system.halts, state.halts, system.venues, state.market)
    if closed is None:
        return None, plays
    return closed, [_halted(play, closed, v) for v, play in enumerate(plays)]


def _halted(play: Play, closed: Shut, venue: int) -> Play:
    """Return the play of a venue on which nothing happens while it is closed.

    Nor where orders that wait for no price meet a closed market: such a round is undone whole.
    """

    def look(*arguments: Any) -> tuple[tuple[Bool[Array, ""], Any], tuple[Offer, ...]]:
        wanted, offers = play.look(*arguments)
        stops = [closed.venues[venue], *(_meets(o, closed) for o in offers if o.at_market)]
        stop = jnp.any(jnp.stack(stops))
        return (stop, wanted), tuple(_unless(stop, offer) for offer in offers)

    def go(
        system: Any, venue: Any, book: Any, state: VenueState, market: Any,
        wanted: tuple[Bool[Array, ""], Any], offers: Any, shares: Any,
    ) -> tuple[VenueState, Offer]:  # fmt: skip
        stop, inner = wanted
        after, offer = play.go(system, venue, book, state, market, inner, offers, shares)
        return _kept(stop, state, after), _unless(stop, offer)

    def settle(
        venue: Any, book: Any, state: VenueState, wanted: tuple[Bool[Array, ""], Any], dealt: Dealt
    ) -> VenueState:
        assert play.settle is not None
        stop, inner = wanted
        return _kept(stop, state, play.settle(venue, book, state, inner, dealt))

    return dataclasses.replace(
        play, look=look, go=go, settle=None if play.settle is None else settle
    )


def _meets(offer: Offer, closed: Shut) -> Bool[Array, ""]:
    traded = offer.sold > 0
    if offer.bought is not None:
        traded = traded | (offer.bought > 0)
    return jnp.any(traded & closed.markets)


def _unless(stop: Bool[Array, ""], offer: Offer) -> Offer:
    return offer * (~stop).astype(offer.paid.dtype)


def _kept(stop: Bool[Array, ""], before: VenueState, after: VenueState) -> VenueState:
    return jax.tree.map(lambda b, a: jnp.where(stop, b, a), before, after)
