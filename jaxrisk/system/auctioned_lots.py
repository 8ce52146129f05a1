"""Execution by auction: unsafe vaults are seized under ceilings, their collateral is auctioned.

Auctions of one vault type that started in the same step form a cohort and are one lot. While a
step lasts asking prices fall; a lot is taken when its ask has come down to what all of it can be
sold for, or in part at the end of the step. Proceeds pay the debt first, then the penalty; what is
left of a lot goes back to the owners, and debt left without a lot is written off.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.indexing import largest, row_sum, select
from jaxrisk.numerics.matmul import full_matmul
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.book import Tranche
from jaxrisk.system.calls import Standing, units_behind
from jaxrisk.system.offer import Moved, Offer, summed
from jaxrisk.system.sale_price import price_of_all
from jaxrisk.system.system import StepRules, System, VenueState
from jaxrisk.system.takeover import Book, by_tranche, left_standing, noted, of_collateral, unsafe
from jaxrisk.venue.auction import (
    Auction,
    AuctionStart,
    AuctionTerms,
    Purchase,
    Vault,
    auction_room,
    buy,
    start_auction,
)
from jaxrisk.venue.stability_fee import SECONDS_PER_YEAR
from jaxrisk.venue.takeover import AuctionedLots, Lots
from jaxrisk.venue.venue import Venue, changed_pool

PerType = Float[Array, " vault_type"]
PerLot = Float[Array, "cohort vault_type"]


@pytree
class Unsafe:
    """The unsafe accounts of a tranche, sums over accounts but for `weight`.

    Attributes:
        weight: `(account,)` share of each account that is unsafe.
        units: collateral they hold.
        debt: `(collateral_asset,)` debt of the accounts that hold each collateral, debt units.
        opening_debt: their debt in opening units.
    """

    weight: Float[Array, " account"]
    units: Float[Array, " collateral_asset"]
    debt: Float[Array, " collateral_asset"]
    opening_debt: Float[Array, " collateral_asset"]


@pytree
class Wanted:
    """What a round seizes, and the lot of each vault type that keepers look at.

    Attributes:
        accounts: per tranche.
        within: per tranche, whether it could be reached at all.
        share: of the unsafe accounts of each vault type, how much is seized.
        started: what the seizures move.
        opening_debt: debt seized, in opening units.
        lots: with the new auctions.
        pick: one-hot choice of the cohort with the lowest ask, by vault type.
        auction: the picked lots.
        fraction: their asking price over their opening price.
        whole: what taking all of each would move.
    """

    accounts: tuple[Unsafe, ...]
    within: tuple[Bool[Array, ""], ...]
    share: PerType
    started: AuctionStart
    opening_debt: PerType
    lots: Lots
    pick: PerLot
    auction: Auction
    fraction: PerType
    whole: Purchase


def look(
    system: System,
    venue: Venue,
    book: Book,
    state: VenueState,
    market: Market,
    rules: StepRules,
) -> tuple[Wanted, tuple[Offer, ...]]:
    """Return what is seized at the prices the venue sees, and an offer for a lot of each type."""
    rule, terms = _rule(venue), _terms(venue)
    seen, owner = venue.oracle.seen(state.oracle, market), venue.accounts
    held, owed = select(seen, owner.collateral_assets), select(seen, owner.debt_assets)
    growth = jnp.exp(state.log_index)
    take = lambda tranche, pair: _unsafe(venue, tranche, pair, held, owed, growth, rules.width)
    accounts, within = by_tranche(system, venue, book, state, seen, take)
    units, debt, opening_debt = (
        _by_type(rule, book, [getattr(a, name) for a in accounts])
        for name in ("units", "debt", "opening_debt")
    )
    price = _of_types(rule, held) / owed
    started = _start(rule, terms, state.execution, units, debt, price)
    share = started.repaid / positive_or_one(debt)
    lots = _joined(state.execution, started)
    pick, auction, lowest, highest = _cheapest(rule, terms, lots)
    ask = _worth(system, venue, market, auction)
    fraction = jnp.clip(ask / positive_or_one(auction.opening_price), lowest, highest)
    whole = buy(terms, auction, fraction, auction.lot)
    wanted = Wanted(
        accounts=accounts,
        within=within,
        share=share,
        started=started,
        opening_debt=share * opening_debt,
        lots=lots,
        pick=pick,
        auction=auction,
        fraction=fraction,
        whole=whole,
    )
    return wanted, _offers(system, venue, market, whole)


def _rule(venue: Venue) -> AuctionedLots:
    assert isinstance(venue.execution, AuctionedLots)
    return venue.execution


def _terms(venue: Venue) -> AuctionTerms:
    """Return the terms with the penalty that the venue's incentive says."""
    rule, held = _rule(venue), len(venue.accounts.collateral_assets)
    penalty = venue.incentive.largest_credit(len(venue.categories), held) - 1.0
    own = jnp.stack([penalty[category, row] for category, row in rule.types])
    return dataclasses.replace(rule.terms, penalty=own)


def _of_types(rule: AuctionedLots, values: Float[Array, " collateral_asset"]) -> PerType:
    return jnp.stack([values[row] for _, row in rule.types])


def _by_type(
    rule: AuctionedLots, book: Book, values: list[Float[Array, " collateral_asset"]]
) -> PerType:
    """Return sums over tranches for each vault type."""
    return jnp.stack(
        [
            summed(
                [v[row] for v, t in zip(values, book, strict=True) if t.category == category]
                or [jnp.zeros_like(values[0][0])]
            )
            for category, row in rule.types
        ]
    )


def _unsafe(
    venue: Venue,
    tranche: Tranche,
    standing: Standing,
    held: Float[Array, " collateral_asset"],
    owed: Float[Array, " debt_asset"],
    growth: Float[Array, " debt_asset"],
    width: Float[Array, ""] | None,
) -> Unsafe:
    weight, value = unsafe(venue, tranche, standing, held, owed * growth, width)
    units = tranche.accounts.collateral
    holds = (units > 0).astype(units.dtype)
    debt = full_matmul(holds, weight * value) / owed
    return Unsafe(
        weight=weight,
        units=units_behind(units, standing[0] * weight[None, :]),
        debt=debt,
        opening_debt=debt / growth,
    )


def _start(
    rule: AuctionedLots,
    terms: AuctionTerms,
    lots: Lots,
    units: PerType,
    debt: PerType,
    price: PerType,
) -> AuctionStart:
    """Return the auctions that start: the unsafe vaults of a type are called as if they were one.

    Types come one after another, in their order; each leaves the rest of the global room.
    """
    running = row_sum(lots.target)
    everywhere = jnp.sum(running)
    target = debt * (1.0 + terms.penalty)
    own = terms.ceiling - running
    own = jnp.where(own > 0, own, jnp.zeros_like(own))
    before = smaller(target, own)
    before = jnp.cumsum(before) - before
    room = auction_room(
        terms,
        outstanding=running,
        global_outstanding=everywhere + before,
        global_ceiling=jnp.broadcast_to(rule.global_ceiling, running.shape),
    )
    vault = Vault(collateral=units, debt=debt, backing=jnp.zeros_like(debt))
    return start_auction(terms, vault, oracle_price=price, room=room)


def _joined(lots: Lots, started: AuctionStart) -> Lots:
    """Return the lots with those that start now, which are the youngest cohort.

    Auctions of one step have one opening price.
    """
    young = lambda rows, first: jnp.concatenate([first[None, :], rows[1:]])
    opening = jnp.where(started.seized > 0, started.opening_price, lots.opening_price[0])
    return dataclasses.replace(
        lots,
        lot=young(lots.lot, lots.lot[0] + started.seized),
        target=young(lots.target, lots.target[0] + started.target),
        claim=young(lots.claim, lots.claim[0] + started.repaid),
        opening_price=young(lots.opening_price, opening),
    )


def _cheapest(
    rule: AuctionedLots, terms: AuctionTerms, lots: Lots
) -> tuple[PerLot, Auction, PerType, PerType]:
    """Return the cohort with the lowest ask of each type, and its lowest and highest ask.

    Asks are fractions of the opening price, over the time since the last step began. An auction
    sells nothing below the price, or beyond the time, at which it must start again.
    """
    ended = smaller(lots.elapsed, jnp.broadcast_to(terms.maximum_duration, lots.elapsed.shape))
    floor = jnp.broadcast_to(terms.price_floor, ended.shape)
    lowest, highest = _fraction(rule, ended), _fraction(rule, lots.since)
    lowest = jnp.where(lowest > floor, lowest, floor)
    highest = jnp.where(highest > lowest, highest, lowest)
    ask = lots.opening_price * lowest
    pick = largest(jnp.where(lots.lot > 0, -ask, jnp.full_like(ask, -jnp.inf)))
    chosen = lambda rows: row_sum(pick * rows)
    auction = Auction(
        target=chosen(lots.target),
        lot=chosen(lots.lot),
        opening_price=chosen(lots.opening_price),
        elapsed=chosen(ended),
    )
    return pick, auction, chosen(lowest), chosen(highest)


def _fraction(rule: AuctionedLots, elapsed: PerLot) -> PerLot:
    return jax.vmap(rule.curve.fraction)(elapsed)


def _worth(system: System, venue: Venue, market: Market, auction: Auction) -> PerType:
    """Return the price at which keepers take a lot whole, in debt units per unit of collateral.

    What the sale brings after slippage, less the keepers' cost and return; once for the whole lot,
    and again for what its target leaves of it at that price.
    """
    rule, keeper = _rule(venue), system.keeper
    assets = tuple(venue.accounts.collateral_assets[row] for _, row in rule.types)
    coin = market.mid[venue.accounts.debt_assets[0]]

    def ask(units: PerType) -> PerType:
        left = price_of_all(system, market, assets, units)
        if keeper.cost is not None:
            left = left - keeper.cost / positive_or_one(units)
        return left / (coin * (1.0 + keeper.minimum_return))

    first = ask(auction.lot)
    needed = auction.target / positive_or_one(first)
    return ask(jnp.where((first > 0) & (needed < auction.lot), needed, auction.lot))


def _offers(system: System, venue: Venue, market: Market, whole: Purchase) -> tuple[Offer, ...]:
    accounts, rule = venue.accounts, _rule(venue)
    none = jnp.zeros((), market.mid.dtype)
    held = jnp.zeros(len(accounts.collateral_assets), none.dtype)
    owed = jnp.zeros(len(accounts.debt_assets), none.dtype)
    paid = whole.repaid * market.mid[accounts.debt_assets[0]]
    calls = (whole.seized > 0).astype(none.dtype)
    return tuple(
        Offer(
            moved=Moved(
                seized=held,
                repaid=owed,
                written_off=owed,
                refund=none,
                calls=none if system.keeper.cost is None else calls[i],
            ),
            fee=held,
            sold=_on_asset(accounts.collateral_assets[row], whole.seized[i], system),
            paid=paid[i],
        )
        for i, (_, row) in enumerate(rule.types)
    )


def _on_asset(asset: int, units: Float[Array, ""], system: System) -> Float[Array, " asset"]:
    return jnp.zeros(len(system.assets), units.dtype).at[asset].set(units)


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
    """Return the venue after the seizures, the purchases as rationed, and the restarts due.

    Seizures need nobody's money and are never rationed. Arguments are those of
    `jaxrisk.system.execution.Play`.
    """
    del offers
    rule, terms, accounts = _rule(venue), _terms(venue), venue.accounts
    growth = jnp.exp(state.log_index)
    coin = market.mid[accounts.debt_assets[0]]
    mid = _of_types(rule, select(market.mid, accounts.collateral_assets))
    bought = buy(terms, wanted.auction, wanted.fraction, jnp.stack(shares) * wanted.whole.seized)
    claim = row_sum(wanted.pick * wanted.lots.claim)
    settled = smaller(bought.repaid, claim)
    penalty = bought.repaid - settled
    lost = jnp.where(bought.lot > 0, jnp.zeros_like(claim), claim - settled)
    lots = _after(wanted, bought, claim - settled - lost)
    sums = lambda x: jnp.sum(x)[None]
    opening_debt = sums(wanted.opening_debt)
    moved = Moved(
        seized=_to_collateral(rule, wanted.started.seized, len(accounts.collateral_assets)),
        repaid=sums(settled),
        written_off=sums(lost),
        refund=jnp.sum(bought.refund * mid),
        calls=_calls(system, wanted.whole, bought),
        charge=jnp.sum(penalty) * coin,
    )
    change = changed_pool(
        cash=sums(bought.repaid),
        debt=-opening_debt * growth,
        in_sale=opening_debt * growth - sums(settled + lost),
        unsettled=sums(lost),
        treasury=sums(penalty),
    )
    part = [
        t.weight * of_collateral(tranche, _share_by_row(rule, tranche.category, wanted.share, t))
        for tranche, t in zip(book, wanted.accounts, strict=True)
    ]
    if state.ledgers is not None:
        whole = jnp.ones((len(venue.categories), len(accounts.collateral_assets)), coin.dtype)
        state = dataclasses.replace(
            state, ledgers=noted(venue, book, state, part, whole, market.mid, refunds=False)
        )
    seen = venue.oracle.seen(state.oracle, market)
    price = _of_types(rule, select(seen, accounts.collateral_assets))
    state = dataclasses.replace(
        state,
        **left_standing(book, state, part, wanted.within),
        owed=state.owed - opening_debt,
        pool=state.pool + change,
        execution=_restarted(rule, terms, lots, price / seen[accounts.debt_assets[0]]),
    )
    offer = Offer(
        moved=moved,
        fee=jnp.zeros_like(moved.seized),
        sold=summed(
            [
                _on_asset(accounts.collateral_assets[row], bought.seized[i], system)
                for i, (_, row) in enumerate(rule.types)
            ]
        ),
        paid=jnp.sum(bought.repaid) * coin,
    )
    return state, offer


def _calls(system: System, whole: Purchase, bought: Purchase) -> Float[Array, ""]:
    """Return how many calls were paid for: of each lot the share bought.

    That can be less than its ration: a purchase that would leave too little to be raised is
    lowered, or refused. Were the ration paid for, what is bought might not earn its cost.
    """
    if system.keeper.cost is None:
        return jnp.zeros((), bought.seized.dtype)
    return jnp.sum(bought.seized / positive_or_one(whole.seized))


def _to_collateral(
    rule: AuctionedLots, values: PerType, count: int
) -> Float[Array, " collateral_asset"]:
    rows = jnp.asarray([row for _, row in rule.types])
    return jnp.zeros(count, values.dtype).at[rows].add(values)


def _share_by_row(
    rule: AuctionedLots, category: int, share: PerType, part: Unsafe
) -> Float[Array, " collateral_asset"]:
    """Return the share seized of a category's accounts that hold each collateral."""
    count = part.units.shape[0]
    index = {row: i for i, (own, row) in enumerate(rule.types) if own == category}
    none = jnp.zeros((), share.dtype)
    return jnp.stack([share[index[row]] if row in index else none for row in range(count)])


def _after(wanted: Wanted, bought: Purchase, claim: PerType) -> Lots:
    """Return the lots after the purchases from the picked ones."""
    put = lambda rows, now: jnp.where(wanted.pick > 0, now[None, :], rows)
    lots = wanted.lots
    return dataclasses.replace(
        lots,
        lot=put(lots.lot, bought.lot),
        target=put(lots.target, bought.target),
        claim=put(lots.claim, claim),
    )


def _restarted(rule: AuctionedLots, terms: AuctionTerms, lots: Lots, price: PerType) -> Lots:
    """Return the lots with those that are due started again, among the youngest.

    Due is what has come to the end of its time or to its lowest price, so that no step is lost
    waiting.
    """
    ended = lots.elapsed >= jnp.broadcast_to(terms.maximum_duration, lots.elapsed.shape)
    low = _fraction(rule, lots.elapsed) <= jnp.broadcast_to(terms.price_floor, lots.lot.shape)
    due = (ended | low) & (lots.lot > 0)
    opening = jnp.where(jnp.any(due, axis=0), price * terms.opening_factor, lots.opening_price[0])

    def moved(rows: PerLot) -> PerLot:
        back = jnp.where(due, rows, jnp.zeros_like(rows))
        return (rows - back).at[0].add(jnp.sum(back, axis=0))

    return dataclasses.replace(
        lots,
        lot=moved(lots.lot),
        target=moved(lots.target),
        claim=moved(lots.claim),
        opening_price=lots.opening_price.at[0].set(opening),
    )


def wait(
    venue: Venue,
    book: tuple[Tranche, ...],
    state: VenueState,
    market: Market,
    rules: StepRules,
) -> VenueState:
    """Return the state with its lots a step older: every cohort moves on, the last two merge."""
    del venue, book, market
    lots = aged(state.execution, rules.step_years)
    return dataclasses.replace(state, execution=lots)


def aged(lots: Lots, years: Float[Array, ""]) -> Lots:
    """Return the lots `years` later."""
    last, before = lots.lot[-1], lots.lot[-2]
    weight = last / positive_or_one(last + before)

    def moved(rows: PerLot) -> PerLot:
        mixed = weight * rows[-1] + (1.0 - weight) * rows[-2]
        return jnp.concatenate([jnp.zeros_like(rows[:1]), rows[:-2], mixed[None, :]])

    def added(rows: PerLot) -> PerLot:
        both = (rows[-1] + rows[-2])[None, :]
        return jnp.concatenate([jnp.zeros_like(rows[:1]), rows[:-2], both])

    since = moved(lots.elapsed)
    return Lots(
        lot=added(lots.lot),
        target=added(lots.target),
        claim=added(lots.claim),
        opening_price=moved(lots.opening_price),
        since=since,
        elapsed=(since + years * SECONDS_PER_YEAR).at[0].set(0.0),
    )


def unsold(
    venue: Venue, lots: Lots, mid: Float[Array, " asset"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return claims beyond the worth of each lot, and the worth of all lots, in the numeraire."""
    accounts = venue.accounts
    price = _of_types(_rule(venue), select(mid, accounts.collateral_assets))
    worth = lots.lot * price[None, :]
    gap = lots.claim * mid[accounts.debt_assets[0]] - worth
    return jnp.sum(jnp.where(gap > 0, gap, jnp.zeros_like(gap))), jnp.sum(worth)
