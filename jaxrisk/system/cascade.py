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
from jaxrisk.venue.incentive import fee_table
from jaxrisk.venue.venue import Venue, changed_pool

Book = tuple[Tranche, ...]
Summand = TypeVar("Summand", Array, Moved)


@pytree
class Wanted:
    """What keepers would do on one venue in one round; entries by tranche.

    Attributes:
        calls: the calls.
        within: whether the tranche could be reached at all.
        demand: `(asset,)` units they would seize.
        margin: `(asset,)` what selling them may cost, as a fraction of the mid.
        made: number of calls (0 where calls are free and not counted).
        seen: `(asset,)` prices as the venue sees them.
    """

    calls: tuple[Calls, ...]
    within: tuple[Bool[Array, ""], ...]
    demand: tuple[Float[Array, " asset"], ...]
    margin: tuple[Float[Array, " asset"], ...]
    made: tuple[Float[Array, ""], ...]
    seen: Float[Array, " asset"]


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
    count = market.price.shape[0]
    venues = system.venues
    looks = [
        _look(system, venue, book, state, market, width)
        for venue, book, state in zip(venues, books, states, strict=True)
    ]
    shares = _rations(system, books, market, looks)
    called = [
        _go(system, venue, book, state, wanted, share, market.mid)
        for venue, book, state, wanted, share in zip(
            venues, books, states, looks, shares, strict=True
        )
    ]
    fees = [
        _fee_units(venue, wanted.seen, moved)
        for venue, wanted, (_, moved) in zip(venues, looks, called, strict=True)
    ]
    sold = [
        spread(moved.seized - fee, venue.accounts.collateral_assets, count)
        for venue, (_, moved), fee in zip(venues, called, fees, strict=True)
    ]
    total = _sum(sold)
    after, proceeds = system.liquidity.sell(market, total)
    received = proceeds / positive_or_one(total)
    states = tuple(
        _booked_round(system, venue, state, moved, market, fee, units, received)
        for venue, (state, moved), fee, units in zip(venues, called, fees, sold, strict=True)
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
    margin, capacity = {}, {}
    for category in sorted({tranche.category for tranche in book}):
        debts = _sum([t.owed for t in book if t.category == category])
        margin[category] = keeper.margin(venue, category, debts, market, seen)
        volume = system.liquidity.law.volume_within(margin[category], depth)
        capacity[category] = select(volume / market.mid, accounts.collateral_assets)
    calls, within = [], []
    for tranche, pair, touched in zip(book, _pairs(state), state.touched, strict=True):
        prices = Prices(
            held=held,
            owed=owed * growth,
            capacity=capacity[tranche.category],
            margin=select(margin[tranche.category], accounts.collateral_assets),
        )
        want = lambda p, t=tranche, q=prices: wanted_calls(keeper, venue, t, p, q, width)
        if tranche.skippable:
            hit = within_reach(tranche, touched, venue, system.market, seen, growth)
            none = lambda p, t=tranche: no_calls(t.accounts, p)
            calls.append(lax.cond(hit, want, none, pair))
            within.append(hit)
        else:
            calls.append(want(pair))
            within.append(touched)
    return Wanted(
        calls=tuple(calls),
        within=tuple(within),
        demand=tuple(
            spread(c.moved.seized, accounts.collateral_assets, seen.shape[0]) for c in calls
        ),
        margin=tuple(margin[tranche.category] for tranche in book),
        made=tuple(c.moved.calls for c in calls),
        seen=seen,
    )


def _rations(
    system: System, books: tuple[Book, ...], market: Market, looks: list[Wanted]
) -> list[tuple[Float[Array, ""], ...]]:
    """Return the share of calls that goes through, by venue and tranche.

    Tranches of one venue and category have one margin: they form one class. What its calls cost,
    spread over what they would sell, is not there to pay for slippage.
    """
    place: dict[tuple[int, int], int] = {}
    demand, margin, made = [], [], []
    for v, (book, wanted) in enumerate(zip(books, looks, strict=True)):
        for k, tranche in enumerate(book):
            row = place.setdefault((v, tranche.category), len(place))
            if row == len(demand):
                demand.append(wanted.demand[k])
                margin.append(wanted.margin[k])
                made.append(wanted.made[k])
            else:
                demand[row] = demand[row] + wanted.demand[k]
                made[row] = made[row] + wanted.made[k]
    mid, depth, cost = market.mid, system.liquidity.depth.now(market), system.keeper.cost
    if cost is not None:
        spent = [
            n * cost / positive_or_one(jnp.sum(d * mid)) for n, d in zip(made, demand, strict=True)
        ]
        margin = [m - s for m, s in zip(margin, spent, strict=True)]
    capacity = [system.liquidity.law.volume_within(m, depth) / mid for m in margin]
    share = rations(jnp.stack(demand), jnp.stack(capacity))
    return [
        tuple(share[place[v, tranche.category]] for tranche in book) for v, book in enumerate(books)
    ]


def _go(
    system: System,
    venue: Venue,
    book: Book,
    state: VenueState,
    wanted: Wanted,
    shares: tuple[Float[Array, ""], ...],
    mid: Float[Array, " asset"],
) -> tuple[VenueState, Moved]:
    """Return the venue after its rationed calls went through, and the units they moved."""
    standing, moves = [], []
    for tranche, pair, calls, within, share in zip(
        book, _pairs(state), wanted.calls, wanted.within, shares, strict=True
    ):
        if tranche.skippable:
            stay = lambda p, c, r: p
            standing.append(lax.cond(within, go_through, stay, pair, calls, share))
        else:
            standing.append(go_through(pair, calls, share))
        moves.append(calls.moved * share)
    growth = jnp.exp(state.log_index)
    total = _sum(moves)
    state = dataclasses.replace(
        state,
        owed=state.owed - total.repaid - total.written_off,
        collateral=tuple(pair[0] for pair in standing),
        debt=tuple(pair[1] for pair in standing),
        touched=tuple(t | moved.anything for t, moved in zip(state.touched, moves, strict=True)),
    )
    if state.ledgers is not None:
        state = dataclasses.replace(
            state, ledgers=_noted(venue, book, state, wanted, shares, growth, mid)
        )
    return state, dataclasses.replace(
        total, repaid=total.repaid * growth, written_off=total.written_off * growth
    )


def _noted(
    venue: Venue,
    book: Book,
    state: VenueState,
    wanted: Wanted,
    shares: tuple[Float[Array, ""], ...],
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
            + ration * value_behind(tranche.accounts.collateral, c.seized, held),
            repaid=ledger.repaid + ration * value_behind(tranche.accounts.debt, c.repaid, owed),
            written_off=ledger.written_off
            + ration * value_behind(tranche.accounts.debt, c.written_off, owed),
        )
        for ledger, tranche, c, ration in zip(
            state.ledgers, book, wanted.calls, shares, strict=True
        )
    )


def _fee_units(
    venue: Venue, seen: Float[Array, " asset"], moved: Moved
) -> Float[Array, " collateral_asset"]:
    """Return units of collateral kept by the protocol: its share of the bonus of the round.

    The bonus of a round is what was seized beyond what was repaid, at seen prices; it is spread
    over the seized assets by value.
    """
    taken = jnp.sum(moved.seized * select(seen, venue.accounts.collateral_assets))
    given = jnp.sum(moved.repaid * select(seen, venue.accounts.debt_assets))
    bonus = jnp.where(taken > given, (taken - given) / positive_or_one(taken), 0.0)
    return moved.seized * bonus * fee_table(venue.incentive, moved.seized.shape[0])


def _booked_round(
    system: System,
    venue: Venue,
    state: VenueState,
    moved: Moved,
    market: Market,
    fee: Float[Array, " collateral_asset"],
    sold: Float[Array, " asset"],
    received: Float[Array, " asset"],
) -> VenueState:
    """Return the venue with the round booked: units in the pool, flows at the round's mid."""
    mid = market.mid
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
        fee=jnp.sum(fee * select(mid, venue.accounts.collateral_assets)),
        proceeds=jnp.sum(sold * received),
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
