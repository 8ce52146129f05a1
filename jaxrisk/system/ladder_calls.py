"""Execution by keepers on a sorted book: the calls of `keeper_calls`, and no account looked at.

It is another form of the same venue: what is offered, rationed, sold and booked is the same to
rounding, and the step around it cannot tell. What stands is a few cohorts of accounts instead of
fractions account by account, so the cost of a round does not grow with the book.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.indexing import select
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.system.book import Tranche
from jaxrisk.system.cohorts import (
    CallRule,
    Cohorts,
    Cut,
    after,
    cut,
    debt_standing,
    gap,
    moved_by,
)
from jaxrisk.system.keeper_calls import offer_of, paid_off
from jaxrisk.system.ladder import Ladder
from jaxrisk.system.offer import Moved, Offer, summed
from jaxrisk.system.system import StepRules, System, VenueState
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.venue import Venue

Book = tuple[Tranche, ...]


@pytree
class LadderCalls:
    """A book of one collateral and one debt, sorted, in place of its accounts.

    Attributes:
        ladders: one a risk category.
        rule: what a call does.
        room: largest number of cohorts of each ladder.
    """

    ladders: tuple[Ladder, ...]
    rule: CallRule
    room: int = static()

    def opening(self, accounts: Accounts) -> tuple[Cohorts, ...]:
        """Return the untouched cohorts of each ladder."""
        del accounts
        return tuple(Cohorts.whole(ladder, self.room) for ladder in self.ladders)


@pytree
class Wanted:
    """The calls keepers would make on one venue in one round.

    Attributes:
        cuts: per ladder.
        price: of the collateral, in opening units of debt, as the venue sees it.
    """

    cuts: tuple[Cut, ...]
    price: Float[Array, ""]


def look(
    system: System,
    venue: Venue,
    book: Book,
    state: VenueState,
    market: Market,
    rules: StepRules,
) -> tuple[Wanted, tuple[Offer, ...]]:
    """Return the calls that keepers would make at the prices the venue sees, an offer a category.

    Triggers are exact: the smooth twin of a width is not made.
    """
    del system, book, rules
    slot, seen = _slot(venue), venue.oracle.seen(state.oracle, market)
    price = _price(venue, state, seen)
    cuts = tuple(
        cut(ladder, slot.rule, cohorts, price)
        for ladder, cohorts in zip(slot.ladders, state.execution, strict=True)
    )
    offers = []
    for ladder, parts in zip(slot.ladders, cuts, strict=True):
        seized, repaid, written_off = moved_by(ladder, parts, price)
        moved = Moved(
            seized=seized[None],
            repaid=repaid[None],
            written_off=written_off[None],
            refund=jnp.zeros_like(seized),
            calls=jnp.zeros_like(seized),
        )
        offers.append(offer_of(venue, moved, market, seen, jnp.exp(state.log_index)))
    return Wanted(cuts=cuts, price=price), tuple(offers)


def go(
    system: System,
    venue: Venue,
    book: Book,
    state: VenueState,
    market: Market,
    wanted: Wanted,
    offers: tuple[Offer, ...],
    shares: tuple[Float[Array, ""], ...],
) -> tuple[VenueState, Offer]:
    """Return the venue after its rationed calls went through, and all they brought.

    Arguments are those of `jaxrisk.system.execution.Play`.
    """
    del system, book, market
    cohorts = tuple(
        after(ladder, before, parts, wanted.price, share)
        for ladder, before, parts, share in zip(
            _slot(venue).ladders, state.execution, wanted.cuts, shares, strict=True
        )
    )
    total = summed(offers)
    return dataclasses.replace(paid_off(state, total.moved), execution=cohorts), total


def owed(venue: Venue, book: Book, state: VenueState) -> Float[Array, " debt_asset"]:
    """Return the opening units of debt that still stand."""
    del book
    pairs = zip(_slot(venue).ladders, state.execution, strict=True)
    return summed([debt_standing(ladder, cohorts) for ladder, cohorts in pairs])[None]


def shortfall(
    venue: Venue, book: Book, state: VenueState, mid: Float[Array, " asset"]
) -> Float[Array, ""]:
    """Return the debt beyond collateral of accounts that still stand, in the numeraire."""
    del book
    price = _price(venue, state, mid)
    pairs = zip(_slot(venue).ladders, state.execution, strict=True)
    units = summed([gap(ladder, cohorts, price) for ladder, cohorts in pairs])
    return units * (select(mid, venue.accounts.debt_assets) * jnp.exp(state.log_index))[0]


def overrun(kept: tuple[Cohorts, ...]) -> Float[Array, ""]:
    """Return 1 where there was not room enough for the cohorts, so that results are not exact."""
    return jnp.max(jnp.stack([cohorts.overrun for cohorts in kept]))


def _slot(venue: Venue) -> LadderCalls:
    assert isinstance(venue.execution, LadderCalls)
    return venue.execution


def _price(venue: Venue, state: VenueState, price: Float[Array, " asset"]) -> Float[Array, ""]:
    """Return the price of the collateral in opening units of debt."""
    held = select(price, venue.accounts.collateral_assets)
    owed = select(price, venue.accounts.debt_assets) * jnp.exp(state.log_index)
    return (held / owed)[0]
