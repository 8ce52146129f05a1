"""Execution by keepers: the calls they want on every tranche, and what those that go through do."""

import dataclasses
from typing import cast

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.indexing import select, spread
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.book import Tranche, within_reach
from jaxrisk.system.called import Called, called
from jaxrisk.system.calls import (
    Calls,
    Standing,
    callable_accounts,
    no_calls,
    units_behind,
    value_behind,
    wanted_calls,
)
from jaxrisk.system.offer import Moved, Offer, summed
from jaxrisk.system.policy import Keeper, Prices
from jaxrisk.system.system import AccountLedger, StepRules, System, VenueState
from jaxrisk.venue.incentive import bonus_share
from jaxrisk.venue.venue import Venue, changed_pool

Book = tuple[Tranche, ...]


@pytree
class Wanted:
    """The calls keepers would make on one venue in one round.

    Attributes:
        calls: per tranche.
        within: per tranche, whether it could be reached at all.
    """

    calls: tuple[Calls | Called, ...]
    within: tuple[Bool[Array, ""], ...]


def look(
    system: System,
    venue: Venue,
    book: Book,
    state: VenueState,
    market: Market,
    rules: StepRules,
) -> tuple[Wanted, tuple[Offer, ...]]:
    """Return the calls that keepers would make at the prices the venue sees, and their offers.

    Calls of one risk category form a class; classes are in the order of `_classes`.
    """
    seen = venue.oracle.seen(state.oracle, market)
    growth = jnp.exp(state.log_index)
    keeper, accounts = system.keeper, venue.accounts
    held, owed = select(seen, accounts.collateral_assets), select(seen, accounts.debt_assets)
    depth = system.liquidity.depth.now(market)
    mid = select(market.mid, accounts.collateral_assets)
    working: dict[int, Prices] = {}
    for category in _classes(book):
        debts = summed([t.owed for t in book if t.category == category])
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
    for tranche, pair, touched, ready in zip(
        book, _pairs(state), state.touched, _ready(keeper, state), strict=True
    ):
        prices = working[tranche.category]
        want = lambda p, t=tranche, q=prices, r=ready: wanted_calls(
            keeper, venue, t, p, q, rules.width, r
        )
        hit = touched
        if tranche.skippable:
            hit = within_reach(tranche, touched, venue, system.market, seen, growth)
        elif rules.skips_idle:
            hit = jnp.any(callable_accounts(venue, tranche, pair, prices, rules.width))
        if rules.called_only:
            calls.append(called(keeper, venue, tranche, pair, prices, rules.width, ready))
        elif tranche.skippable or rules.skips_idle:
            none = lambda p, t=tranche: no_calls(t.accounts, p, whole=venue.close.whole)
            calls.append(lax.cond(hit, want, none, pair))
        else:
            calls.append(want(pair))
        within.append(hit)
        moved.setdefault(tranche.category, []).append(calls[-1].moved)
    offers = tuple(
        offer_of(venue, summed(moved[category]), market, seen, growth)
        for category in _classes(book)
    )
    return Wanted(calls=tuple(calls), within=tuple(within)), offers


def _ready(keeper: Keeper, state: VenueState) -> tuple[Bool[Array, " account"] | None, ...]:
    """Return by tranche which accounts keepers have had the time to call; `None` for all."""
    if keeper.latency is None or state.callable_steps is None:
        return (None,) * len(state.collateral)
    return tuple(steps > keeper.latency for steps in state.callable_steps)


def _classes(book: Book) -> list[int]:
    return sorted({tranche.category for tranche in book})


def offer_of(
    venue: Venue,
    moved: Moved,
    market: Market,
    seen: Float[Array, " asset"],
    growth: Float[Array, " debt_asset"],
) -> Offer:
    """Return what calls bring and cost at the round's prices; debt in today's units.

    The bonus is what is seized beyond what is repaid, at seen prices.

    Args:
        venue: the venue.
        moved: what they move, debt in opening units.
        market: the market now.
        seen: `(asset,)` prices as the venue sees them.
        growth: `(debt_asset,)` of debts since the opening.
    """
    accounts, mid = venue.accounts, market.mid
    moved = dataclasses.replace(
        moved, repaid=moved.repaid * growth, written_off=moved.written_off * growth
    )
    taken = jnp.sum(moved.seized * select(seen, accounts.collateral_assets))
    given = jnp.sum(moved.repaid * select(seen, accounts.debt_assets))
    beyond = moved.refund + moved.charge
    fee = venue.incentive.fee(moved.seized, bonus_share(taken, given + beyond))
    return Offer(
        moved=moved,
        fee=fee,
        sold=spread(moved.seized - fee, accounts.collateral_assets, mid.shape[0]),
        paid=jnp.sum(moved.repaid * select(mid, accounts.debt_assets)) + beyond,
    )


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
    del system
    share_of = dict(zip(_classes(book), shares, strict=True))
    standing, touched = [], []
    for tranche, pair, calls, within, before in zip(
        book, _pairs(state), wanted.calls, wanted.within, state.touched, strict=True
    ):
        share = share_of[tranche.category]
        if tranche.skippable:
            go_through, stay = lambda p, c, r: c.gone_through(p, r), lambda p, c, r: p
            standing.append(lax.cond(within, go_through, stay, pair, calls, share))
        else:
            standing.append(calls.gone_through(pair, share))
        touched.append(before | (calls.moved.anything & (share > 0)))
    total = summed(offers)
    state = dataclasses.replace(
        paid_off(state, total.moved),
        collateral=tuple(pair[0] for pair in standing),
        debt=tuple(pair[1] for pair in standing),
        touched=tuple(touched),
    )
    if state.ledgers is not None:
        state = dataclasses.replace(
            state,
            ledgers=_noted(
                venue, book, state, wanted, share_of, jnp.exp(state.log_index), market.mid
            ),
        )
    return state, total


def paid_off(state: VenueState, moved: Moved) -> VenueState:
    """Return the venue with its debts paid off and written off, the balance sheet booked.

    Args:
        state: before.
        moved: what went through, debt in today's units.
    """
    change = changed_pool(
        cash=moved.repaid,
        debt=-moved.repaid - moved.written_off,
        unsettled=moved.written_off,
    )
    gone = (moved.repaid + moved.written_off) / jnp.exp(state.log_index)
    return dataclasses.replace(state, owed=state.owed - gone, pool=state.pool + change)


def owed(venue: Venue, book: Book, state: VenueState) -> Float[Array, " debt_asset"]:
    """Return the opening units of debt that still stand."""
    del venue
    return summed(
        [units_behind(t.accounts.debt, left) for t, left in zip(book, state.debt, strict=True)]
    )


def standing(
    venue: Venue, book: Book, state: VenueState, mid: Float[Array, " asset"]
) -> Float[Array, " account"]:
    """Return the value that stands behind each account, tranche after tranche.

    Args:
        venue: the venue.
        book: its accounts in tranches.
        state: the venue now.
        mid: `(asset,)` the market's mid.
    """
    held = select(mid, venue.accounts.collateral_assets)
    values = [
        value_behind(tranche.accounts.collateral, left, held)
        for tranche, left in zip(book, state.collateral, strict=True)
    ]
    return jnp.concatenate(values)


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
    # Traces are played forwards, where everybody is looked at.
    everybody = cast(tuple[Calls, ...], wanted.calls)
    return tuple(
        dataclasses.replace(
            ledger,
            seized=ledger.seized + shares[tranche.category] * _taken(tranche, c, held),
            repaid=ledger.repaid
            + shares[tranche.category] * value_behind(tranche.accounts.debt, c.repaid, owed),
            written_off=ledger.written_off
            + shares[tranche.category] * value_behind(tranche.accounts.debt, c.written_off, owed),
        )
        for ledger, tranche, c in zip(state.ledgers, book, everybody, strict=True)
    )


def _taken(
    tranche: Tranche, calls: Calls, held: Float[Array, " collateral_asset"]
) -> Float[Array, " account"]:
    """Return the value of what calls take, less what the borrower gets back."""
    taken = value_behind(tranche.accounts.collateral, calls.seized, held)
    return taken if calls.refund is None else taken - calls.refund


def _pairs(state: VenueState) -> list[Standing]:
    return list(zip(state.collateral, state.debt, strict=True))
