"""One cascade: value, trigger, close, sell, impact, revalue, in bounded rounds.

In a round every venue says which calls keepers want to make. All of them sell into the same
markets, so calls are rationed to what can be sold without a loss; then they go through, prices
fall, and the next round sees the new ones.
"""

import dataclasses
from typing import TypeVar

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.indexing import select, spread
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounds import bounded_rounds
from jaxrisk.system.book import Tranche, within_reach
from jaxrisk.system.calls import (
    Calls,
    Moved,
    Standing,
    go_through,
    no_calls,
    value_behind,
    wanted_calls,
)
from jaxrisk.system.policy import Prices
from jaxrisk.system.ration import rations
from jaxrisk.system.system import (
    AccountLedger,
    State,
    StepRules,
    System,
    VenueState,
    booked,
)
from jaxrisk.venue.incentive import bonus_share
from jaxrisk.venue.venue import Venue, changed_pool

Book = tuple[Tranche, ...]


@pytree
class Offer:
    """What one class of calls would bring and cost, if all of it went through.

    A class is one venue and one risk category: its calls are rationed alike.

    Attributes:
        moved: units moved.
        fee: `(collateral_asset,)` units of `moved.seized` that the protocol keeps.
        sold: `(asset,)` units that keepers would sell.
        outlay: what the keepers would pay, with the return they ask for; at the market's mid.
    """

    moved: Moved
    fee: Float[Array, " collateral_asset"]
    sold: Float[Array, " asset"]
    outlay: Float[Array, ""]

    def __mul__(self, share: Float[Array, ""]) -> "Offer":
        """Return the part of the offer that goes through."""
        return Offer(
            moved=self.moved * share,
            fee=self.fee * share,
            sold=self.sold * share,
            outlay=self.outlay * share,
        )

    def __add__(self, other: "Offer") -> "Offer":
        """Return two offers as one."""
        return Offer(
            moved=self.moved + other.moved,
            fee=self.fee + other.fee,
            sold=self.sold + other.sold,
            outlay=self.outlay + other.outlay,
        )


Summand = TypeVar("Summand", Array, Moved, Offer)


@pytree
class Wanted:
    """What keepers would do on one venue in one round.

    Attributes:
        calls: per tranche.
        within: per tranche, whether it could be reached at all.
        offers: by risk category.
    """

    calls: tuple[Calls, ...]
    within: tuple[Bool[Array, ""], ...]
    offers: dict[int, Offer]


def cascade(system: System, books: tuple[Book, ...], rules: StepRules, state: State) -> State:
    """Return the state after rounds of calls, until a round sells nothing or the bound is met."""

    def one_round(carry: tuple) -> tuple[tuple, Bool[Array, ""]]:
        market, venues, played = carry
        market, venues, active = cascade_round(system, books, market, venues, rules.width)
        return (market, venues, played + 1.0), active

    start = (state.market, state.venues, jnp.zeros_like(state.rounds))
    (market, venues, played), unfinished = bounded_rounds(
        one_round, start, limit=rules.rounds, differentiable=rules.differentiable
    )
    return dataclasses.replace(
        state,
        market=market,
        venues=venues,
        rounds=state.rounds + played,
        unconverged=state.unconverged + unfinished.astype(played.dtype),
    )


def cascade_round(
    system: System,
    books: tuple[Book, ...],
    market: Market,
    states: tuple[VenueState, ...],
    width: Float[Array, ""] | None,
) -> tuple[Market, tuple[VenueState, ...], Bool[Array, ""]]:
    """Return market and venues after one round, and whether anything was sold."""
    venues = system.venues
    looks = [
        _look(system, venue, book, state, market, width)
        for venue, book, state in zip(venues, books, states, strict=True)
    ]
    shares = _rations(system, market, looks)
    called = [
        _go(venue, book, state, wanted, share, market.mid)
        for venue, book, state, wanted, share in zip(
            venues, books, states, looks, shares, strict=True
        )
    ]
    total = _sum([offer.sold for _, offer in called])
    after, proceeds = system.liquidity.sell(market, total)
    received = proceeds / positive_or_one(total)
    states = tuple(
        _booked_round(system, venue, state, offer, market, received)
        for venue, (state, offer) in zip(venues, called, strict=True)
    )
    return after, states, jnp.any(total > 0)


def _look(
    system: System,
    venue: Venue,
    book: Book,
    state: VenueState,
    market: Market,
    width: Float[Array, ""] | None,
) -> Wanted:
    """Return the calls that keepers would make on a venue at the prices it sees."""
    seen = venue.oracle.seen(state.oracle, market)
    growth = jnp.exp(state.log_index)
    keeper, accounts = system.keeper, venue.accounts
    held, owed = select(seen, accounts.collateral_assets), select(seen, accounts.debt_assets)
    depth = system.liquidity.depth.now(market)
    mid = select(market.mid, accounts.collateral_assets)
    working: dict[int, Prices] = {}
    for category in sorted({tranche.category for tranche in book}):
        debts = _sum([t.owed for t in book if t.category == category])
        behind = select(market.mid / seen, accounts.debt_assets)
        lag = jnp.max(jnp.where(debts > 0, behind, jnp.zeros_like(behind)))
        margin = keeper.margin(venue, category, lag, market, seen)
        volume = system.liquidity.law.volume_within(margin, depth)
        working[category] = Prices(
            held=held,
            owed=owed * growth,
            mid=mid,
            lag=lag,
            capacity=select(volume / market.mid, accounts.collateral_assets),
        )
    calls, within, moved = [], [], {}
    for tranche, pair, touched in zip(book, _pairs(state), state.touched, strict=True):
        prices = working[tranche.category]
        want = lambda p, t=tranche, q=prices: wanted_calls(keeper, venue, t, p, q, width)
        hit = touched
        if tranche.skippable:
            hit = within_reach(tranche, touched, venue, system.market, seen, growth)
            none = lambda p, t=tranche: no_calls(t.accounts, p)
            calls.append(lax.cond(hit, want, none, pair))
        else:
            calls.append(want(pair))
        within.append(hit)
        moved.setdefault(tranche.category, []).append(calls[-1].moved)
    return Wanted(
        calls=tuple(calls),
        within=tuple(within),
        offers={
            category: _offer(system, venue, _sum(parts), market, seen, growth)
            for category, parts in moved.items()
        },
    )


def _offer(
    system: System,
    venue: Venue,
    moved: Moved,
    market: Market,
    seen: Float[Array, " asset"],
    growth: Float[Array, " debt_asset"],
) -> Offer:
    """Return what calls bring and cost at the round's prices; debt in today's units.

    The bonus is what is seized beyond what is repaid, at seen prices.
    """
    accounts, keeper, mid = venue.accounts, system.keeper, market.mid
    moved = dataclasses.replace(
        moved, repaid=moved.repaid * growth, written_off=moved.written_off * growth
    )
    taken = jnp.sum(moved.seized * select(seen, accounts.collateral_assets))
    given = jnp.sum(moved.repaid * select(seen, accounts.debt_assets)) + moved.refund
    fee = venue.incentive.fee(moved.seized, bonus_share(taken, given))
    paid = jnp.sum(moved.repaid * select(mid, accounts.debt_assets)) + moved.refund
    outlay = paid * (1.0 + keeper.minimum_return)
    if keeper.cost is not None:
        outlay = outlay + moved.calls * keeper.cost
    return Offer(
        moved=moved,
        fee=fee,
        sold=spread(moved.seized - fee, accounts.collateral_assets, mid.shape[0]),
        outlay=outlay,
    )


def _rations(
    system: System, market: Market, looks: list[Wanted]
) -> list[dict[int, Float[Array, ""]]]:
    """Return the share of calls that goes through, by venue and risk category.

    What a class would lose in slippage is bounded by what it would earn without.
    """
    offers = [offer for wanted in looks for offer in wanted.offers.values()]
    mid, depth = market.mid, system.liquidity.depth.now(market)
    demand = jnp.stack([offer.sold for offer in offers])
    worth = jnp.sum(demand * mid[None, :], axis=1)
    outlay = jnp.stack([offer.outlay for offer in offers])
    margin = (1.0 - outlay / positive_or_one(worth))[:, None]
    volume = [
        system.liquidity.law.volume_within(m, depth) for m in jnp.broadcast_to(margin, demand.shape)
    ]
    shares = iter(rations(demand, jnp.stack(volume) / mid[None, :]))
    return [{category: next(shares) for category in wanted.offers} for wanted in looks]


def _go(
    venue: Venue,
    book: Book,
    state: VenueState,
    wanted: Wanted,
    shares: dict[int, Float[Array, ""]],
    mid: Float[Array, " asset"],
) -> tuple[VenueState, Offer]:
    """Return the venue after its rationed calls went through, and what they brought."""
    standing, touched = [], []
    for tranche, pair, calls, within, before in zip(
        book, _pairs(state), wanted.calls, wanted.within, state.touched, strict=True
    ):
        share = shares[tranche.category]
        if tranche.skippable:
            stay = lambda p, c, r: p
            standing.append(lax.cond(within, go_through, stay, pair, calls, share))
        else:
            standing.append(go_through(pair, calls, share))
        touched.append(before | (calls.moved.anything & (share > 0)))
    growth = jnp.exp(state.log_index)
    total = _sum([offer * shares[category] for category, offer in wanted.offers.items()])
    moved = total.moved
    state = dataclasses.replace(
        state,
        owed=state.owed - (moved.repaid + moved.written_off) / growth,
        collateral=tuple(pair[0] for pair in standing),
        debt=tuple(pair[1] for pair in standing),
        touched=tuple(touched),
    )
    if state.ledgers is not None:
        state = dataclasses.replace(
            state, ledgers=_noted(venue, book, state, wanted, shares, growth, mid)
        )
    return state, total


def _noted(
    venue: Venue,
    book: Book,
    state: VenueState,
    wanted: Wanted,
    shares: dict[int, Float[Array, ""]],
    growth: Float[Array, " debt_asset"],
    mid: Float[Array, " asset"],
) -> tuple[AccountLedger, ...]:
    """Return the ledgers with this round's calls noted account by account, at the round's mid."""
    held = select(mid, venue.accounts.collateral_assets)
    owed = select(mid, venue.accounts.debt_assets) * growth
    assert state.ledgers is not None
    return tuple(
        AccountLedger(
            seized=ledger.seized
            + shares[tranche.category] * value_behind(tranche.accounts.collateral, c.seized, held),
            repaid=ledger.repaid
            + shares[tranche.category] * value_behind(tranche.accounts.debt, c.repaid, owed),
            written_off=ledger.written_off
            + shares[tranche.category] * value_behind(tranche.accounts.debt, c.written_off, owed),
        )
        for ledger, tranche, c in zip(state.ledgers, book, wanted.calls, strict=True)
    )


def _booked_round(
    system: System,
    venue: Venue,
    state: VenueState,
    offer: Offer,
    market: Market,
    received: Float[Array, " asset"],
) -> VenueState:
    """Return the venue with the round booked: units in the pool, flows at the round's mid."""
    mid, moved = market.mid, offer.moved
    seized = jnp.sum(moved.seized * select(mid, venue.accounts.collateral_assets))
    owed = select(mid, venue.accounts.debt_assets)
    repaid, bad_debt = jnp.sum(moved.repaid * owed), jnp.sum(moved.written_off * owed)
    change = changed_pool(
        cash=moved.repaid,
        debt=-moved.repaid - moved.written_off,
        unsettled=moved.written_off,
    )
    cost = system.keeper.cost
    flows = booked(
        liquidated=seized,
        repaid=repaid,
        bad_debt=bad_debt,
        refund=moved.refund,
        fee=jnp.sum(offer.fee * select(mid, venue.accounts.collateral_assets)),
        proceeds=jnp.sum(offer.sold * received),
        keeper_cost=jnp.zeros_like(seized) if cost is None else moved.calls * cost,
    )
    return dataclasses.replace(
        state,
        pool=state.pool + change,
        flows=state.flows + flows,
        unsettled=state.unsettled + bad_debt,
    )


def _pairs(state: VenueState) -> list[Standing]:
    return list(zip(state.collateral, state.debt, strict=True))


def _sum(parts: list[Summand]) -> Summand:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
