"""One cascade: value, trigger, close, sell, impact, revalue, in bounded rounds.

In a round every venue says what would be closed and sold. All of it goes into the same markets, so
it is rationed to what can be sold without a loss; then it goes through, prices fall, and the next
round sees the new ones.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.indexing import select
from jaxrisk.numerics.rounds import bounded_rounds
from jaxrisk.system.book import Tranche
from jaxrisk.system.claim_exit import (
    Ways,
    room_at_issuers,
    sell_or_redeem,
    through_issuers,
    ways_out,
)
from jaxrisk.system.claim_prices import repriced
from jaxrisk.system.execution import Play
from jaxrisk.system.halted_play import plays_of
from jaxrisk.system.halts import Shut
from jaxrisk.system.keepers import crowded, spent, within_capital
from jaxrisk.system.offer import Dealt, Offer, summed
from jaxrisk.system.policy import Keeper
from jaxrisk.system.ration import rations
from jaxrisk.system.system import State, StepRules, System, VenueState, booked
from jaxrisk.venue.venue import Venue

Book = tuple[Tranche, ...]


def cascade(system: System, books: tuple[Book, ...], rules: StepRules, state: State) -> State:
    """Return the state after rounds of calls, until a round sells nothing or the bound is met."""

    def one_round(state: State) -> tuple[State, Bool[Array, ""]]:
        after, active = cascade_round(system, books, rules, state)
        return dataclasses.replace(after, rounds=after.rounds + 1.0), active

    state, unfinished = bounded_rounds(
        one_round, state, limit=rules.rounds, differentiable=rules.differentiable
    )
    cut_off = state.unconverged + unfinished.astype(state.rounds.dtype)
    return dataclasses.replace(state, unconverged=cut_off)


def cascade_round(
    system: System, books: tuple[Book, ...], rules: StepRules, state: State
) -> tuple[State, Bool[Array, ""]]:
    """Return the state after one round, and whether anything happened in it."""
    market = state.market
    facing = dataclasses.replace(system, keeper=crowded(system.keeper, state.keepers))
    closed, plays = plays_of(system, state)
    looks = [
        play.look(facing, venue, book, own, market, rules)
        for play, venue, book, own in zip(plays, system.venues, books, state.venues, strict=True)
    ]
    offers = [own for _, own in looks]
    go = lambda: _gone_through(system, books, state, plays, looks, closed)
    if not rules.skips_idle or not all(play.idle_without_offers for play in plays):
        return go()
    # The last round of every cascade finds nothing, and in a calm step it is the only one.
    wanted = jnp.stack([offer.moved.anything for own in offers for offer in own])
    return lax.cond(jnp.any(wanted), go, lambda: (state, jnp.zeros((), bool)))


def _gone_through(
    system: System,
    books: tuple[Book, ...],
    state: State,
    plays: list[Play],
    looks: list[tuple[Any, tuple[Offer, ...]]],
    closed: Shut | None,
) -> tuple[State, Bool[Array, ""]]:
    """Return the state after what is wanted was rationed, and whether anything was done."""
    market, offers = state.market, [own for _, own in looks]
    ways = ways_out(system, books, market, state.venues)
    shares = _rations(system, state, offers, ways, closed)
    through = [_through(own, share) for own, share in zip(offers, shares, strict=True)]
    played = [
        play.go(system, venue, book, own, market, wanted, offer, share)
        for play, venue, book, own, (wanted, _), offer, share in zip(
            plays, system.venues, books, state.venues, looks, through, shares, strict=True
        )
    ]
    total = summed([offer.sold for _, offer in played])
    venues = tuple(own for own, _ in played)
    after, venues, received = sell_or_redeem(system, books, market, venues, total)
    calls = summed([offer.moved.calls for _, offer in played])
    keeper = crowded(system.keeper, state.keepers, calls)
    venues = tuple(
        _with_flows(keeper, venue, own, offer, market, received)
        for venue, own, (_, offer) in zip(system.venues, venues, played, strict=True)
    )
    # Accounts can be closed without a sale, and that may bring down others.
    happened = jnp.any(total > 0) | (calls > 0)
    buyers = [offer.bought for _, offer in played if offer.bought is not None]
    paid = market.mid
    if buyers:
        after, venues, paid = _bought(system, after, venues, played, summed(buyers))
        happened = happened | jnp.any(summed(buyers) > 0)
    dealt = Dealt(before=market, after=after, received=received, paid=paid)
    venues = tuple(
        own if play.settle is None else play.settle(venue, book, own, wanted, dealt)
        for play, venue, book, own, (wanted, _) in zip(
            plays, system.venues, books, venues, looks, strict=True
        )
    )
    after = repriced(system, books, after, venues)
    keepers = spent(state.keepers, [o for own in through for o in own if not o.at_market], calls)
    return dataclasses.replace(state, market=after, venues=venues, keepers=keepers), happened


def _bought(
    system: System,
    market: Market,
    states: tuple[VenueState, ...],
    played: list[tuple[VenueState, Offer]],
    total: Float[Array, " asset"],
) -> tuple[Market, tuple[VenueState, ...], Float[Array, " asset"]]:
    """Return market, venues and mean prices after the round's purchases; sales come first."""
    after, cost = system.liquidity.buy(market, total)
    paid = cost / positive_or_one(total)
    states = tuple(
        state
        if offer.bought is None
        else dataclasses.replace(
            state, flows=state.flows + booked(keeper_paid=jnp.sum(offer.bought * paid))
        )
        for state, (_, offer) in zip(states, played, strict=True)
    )
    return after, states, paid


def _through(offers: tuple[Offer, ...], shares: tuple[Float[Array, ""], ...]) -> tuple[Offer, ...]:
    return tuple(offer * share for offer, share in zip(offers, shares, strict=True))


def _rations(
    system: System,
    state: State,
    offers: list[tuple[Offer, ...]],
    ways: Ways,
    closed: Shut | None,
) -> list[tuple[Float[Array, ""], ...]]:
    """Return the share of each offer that goes through, by venue and class.

    The margin of a class is what it would earn before slippage, after its costs and the return
    that keepers ask for, over what it would sell: so much may be lost in slippage, and no more.
    Orders at the market come first and whole, and leave the others the rest of the room; in a
    market that is closed there is none.
    """
    market = state.market
    everything = [offer for own in offers for offer in own]
    classes = [offer for offer in everything if not offer.at_market]
    ahead = [offer.sold for offer in everything if offer.at_market]
    whole = jnp.ones((), market.price.dtype)
    if not classes:
        return [tuple(whole for _ in own) for own in offers]
    calls = [offer.moved.calls for offer in classes]
    keeper = crowded(system.keeper, state.keepers, summed(calls))
    mid, depth = market.mid, system.liquidity.depth.now(market)
    sold = jnp.stack([offer.sold for offer in classes])
    outlay = jnp.stack([offer.paid for offer in classes]) * (1.0 + keeper.minimum_return)
    if keeper.cost is not None:
        outlay = outlay + jnp.stack(calls) * keeper.cost
    sold, outlay, redeemed = through_issuers(ways, sold, outlay)
    worth = jnp.sum(sold * mid[None, :], axis=1)
    margin = jnp.broadcast_to((1.0 - outlay / positive_or_one(worth))[:, None], sold.shape)
    volume = jnp.stack([system.liquidity.law.volume_within(m, depth) for m in margin])
    room = volume / mid[None, :]
    if ahead:
        room = room - summed(ahead)[None, :]
        room = jnp.where(room > 0, room, jnp.zeros_like(room))
    if closed is not None:
        room = jnp.where(closed.markets[None, :], jnp.zeros_like(room), room)
    demand = jnp.concatenate([sold, redeemed], axis=1)
    allowed = rations(demand, room_at_issuers(ways, room))
    shares = iter(within_capital(keeper, state.keepers, classes, allowed))
    return [tuple(whole if o.at_market else next(shares) for o in own) for own in offers]


def _with_flows(
    keeper: Keeper,
    venue: Venue,
    state: VenueState,
    offer: Offer,
    market: Market,
    received: Float[Array, " asset"],
) -> VenueState:
    """Return the venue with the round's flows booked, at the round's mid."""
    mid, moved, cost = market.mid, offer.moved, keeper.cost
    held = select(mid, venue.accounts.collateral_assets)
    owed = select(mid, venue.accounts.debt_assets)
    bad_debt = jnp.sum(moved.written_off * owed)
    flows = booked(
        liquidated=jnp.sum(moved.seized * held),
        repaid=jnp.sum(moved.repaid * owed),
        bad_debt=bad_debt,
        refund=moved.refund,
        fee=jnp.sum(offer.fee * held) + moved.charge,
        keeper_paid=offer.paid,
        proceeds=jnp.sum(offer.sold * received),
        keeper_cost=jnp.zeros_like(bad_debt) if cost is None else moved.calls * cost,
    )
    return dataclasses.replace(
        state, flows=state.flows + flows, unsettled=state.unsettled + bad_debt
    )
