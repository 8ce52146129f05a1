"""Execution by auctions between lenders: kicks, takes by buckets and outsiders, settlement.

A loan under auction stays an account: it owes and accrues interest until it is taken. Kicks and
takes by buckets need nobody's money and are never rationed; what outsiders take they sell, and that
is. A take by a bucket burns its deposit against the debt, and its lenders own the collateral.
"""

import dataclasses

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.indexing import spread
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.branch import Branch, branches_of, split, with_branches
from jaxrisk.system.lender_takes import (
    Asked,
    Took,
    Window,
    after,
    by_buckets,
    by_outsiders,
    room_outside,
)
from jaxrisk.system.offer import Moved, Offer, summed
from jaxrisk.system.system import AccountLedger, StepRules, System, VenueState, booked
from jaxrisk.system.takeover import Book
from jaxrisk.venue.half_life_auction import Lot, take
from jaxrisk.venue.lender_auctions import LenderAuctions, LoanAuctions
from jaxrisk.venue.venue import Pool, Venue, changed_pool
from jaxrisk.venue.waterfall import ordered_payment

Scalar = Float[Array, ""]
PerLoan = Float[Array, " account"]


@pytree
class Wanted:
    """What happens in a round.

    Attributes:
        loans: the accounts before it.
        kept: the auctions with those that start in it.
        kicks: how many start.
        window: prices that auctions pass through.
        lots: the loans after buckets have taken.
        took: what buckets took.
        deposits: `(bucket,)` what they have left.
        asked: what outsiders would take.
    """

    loans: Branch
    kept: LoanAuctions
    kicks: Scalar
    window: Window
    lots: Lot
    took: Took
    deposits: Float[Array, " bucket"]
    asked: Asked


def look(
    system: System,
    venue: Venue,
    book: Book,
    state: VenueState,
    market: Market,
    rules: StepRules,
) -> tuple[Wanted, tuple[Offer, ...]]:
    """Return kicks, takes by buckets, and the offers of outsiders.

    Offers are of loans that would be taken whole, and of those that would be in part. Triggers are
    exact: the smooth twin of a width is not made.
    """
    del rules
    rule = slot_of(venue)
    loans = branches_of(book, state, 1, jnp.exp(state.log_index)[0])[0]
    kept, kicked = _kick(system, venue, state, market, loans)
    lots, window = kept.lots(loans.collateral, loans.debt), Window.of(rule, kept)

    def takes(lots: Lot) -> tuple[Lot, Took, Array, Asked]:
        room = room_outside(system, venue, market, rule.prices)
        lots, took, left = by_buckets(rule, lots, window, kept.deposits, room)
        return lots, took, left, by_outsiders(system, venue, market, rule, lots, window)

    def nothing(lots: Lot) -> tuple[Lot, Took, Array, Asked]:
        none = jnp.zeros_like(lots.debt)
        return lots, Took.nothing(none), kept.deposits, Asked(price=none, whole=none, part=none)

    lots, took, left, asked = lax.cond(jnp.any(window.years > 0), takes, nothing, lots)
    wanted = Wanted(
        loans=loans,
        kept=kept,
        kicks=jnp.sum(kicked.astype(lots.debt.dtype)),
        window=window,
        lots=lots,
        took=took,
        deposits=left,
        asked=asked,
    )
    offers = tuple(_offer(venue, market, units, asked.price) for units in (asked.whole, asked.part))
    return wanted, offers


def slot_of(venue: Venue) -> LenderAuctions:
    """Return the venue's kind of execution, which is played here."""
    assert isinstance(venue.execution, LenderAuctions)
    return venue.execution


def _kick(
    system: System, venue: Venue, state: VenueState, market: Market, loans: Branch
) -> tuple[LoanAuctions, Bool[Array, " account"]]:
    """Return the auctions with those that start at the prices kickers see, and which do."""
    accounts, cost = venue.accounts, system.keeper.cost
    seen = venue.oracle.seen(state.oracle, market)
    held, owed = seen[accounts.collateral_assets[0]], seen[accounts.debt_assets[0]]
    return slot_of(venue).kick(
        state.execution,
        loans.collateral,
        loans.debt,
        market=held / owed,
        weight=venue.collateral.liquidation_threshold[0, 0],
        cost=jnp.zeros_like(owed) if cost is None else cost / owed,
    )


def _offer(venue: Venue, market: Market, units: PerLoan, price: PerLoan) -> Offer:
    """Return what takers sell and pay; what it moves in the book is known once it is rationed."""
    accounts, zero = venue.accounts, jnp.zeros((1,), units.dtype)
    moved = Moved(
        seized=zero,
        repaid=zero,
        written_off=zero,
        refund=zero[0],
        calls=jnp.sum((units > 0).astype(units.dtype)),
    )
    return Offer(
        moved=moved,
        fee=zero,
        sold=spread(jnp.sum(units)[None], accounts.collateral_assets, market.mid.shape[0]),
        paid=jnp.sum(units * price) * market.mid[accounts.debt_assets[0]],
    )


def go(
    system: System,
    venue: Venue,
    book: Book,
    state: VenueState,
    market: Market,
    wanted: Wanted,
    offers: tuple[Offer, ...],
    shares: tuple[Scalar, ...],
) -> tuple[VenueState, Offer]:
    """Return the venue after kicks, takes and settlement, and all that was moved and is sold.

    Args:
        system: the system.
        venue: the venue.
        book: its accounts in tranches.
        state: the venue before the round.
        market: the market before the round.
        wanted: from `look`.
        offers: of loans taken whole and in part, as far as they go through.
        shares: how far that is.
    """
    del system
    rule, asked, buckets = slot_of(venue), wanted.asked, wanted.took
    amount = shares[0] * asked.whole + shares[1] * asked.part
    bought = take(rule.bond, wanted.lots, asked.price, wanted.window.years, amount)
    lots, total, mids = after(wanted.lots, bought), buckets.and_by(bought), _mids(venue, market)
    over = wanted.kept.running & ((lots.collateral <= 0) | (lots.debt <= 0))
    bad = jnp.where(over, lots.debt, jnp.zeros_like(lots.debt))
    fee, brought = jnp.sum(total.fee), jnp.sum(bought.repaid + bought.fee) + jnp.sum(buckets.lost)
    deposits, paid, lost = _settled(wanted, bad, state.pool[Pool.TREASURY, 0] + fee)
    burnt = jnp.sum(wanted.kept.deposits - wanted.deposits)
    gone = jnp.sum(total.repaid) + jnp.sum(bad)
    change = changed_pool(
        cash=brought[None],
        debt=-gone[None],
        supplied=-(burnt + lost)[None],
        treasury=(fee - paid)[None],
    )
    flows = booked(
        bad_debt=jnp.sum(bad) * mids[1],
        treasury_paid=paid * mids[1],
        depositor_loss=lost * mids[1],
        depositor_gain=jnp.sum(buckets.seized) * mids[0] - burnt * mids[1],
    )
    kept = dataclasses.replace(wanted.kept, bond=lots.bond, deposits=deposits).ended(over)
    touched = (wanted.kicks > 0) | (gone > 0)
    loans = _left(wanted.loans, lots, over, total.seized > 0)
    state = dataclasses.replace(
        with_branches(book, state, [loans]),
        touched=tuple(t | touched for t in state.touched),
        owed=state.owed - gone / jnp.exp(state.log_index),
        pool=state.pool + change,
        execution=kept,
        flows=state.flows + flows,
    )
    if state.ledgers is not None:
        state = dataclasses.replace(state, ledgers=_noted(book, state, total, bad, mids))
    return state, _gone_through(offers, total, wanted.kicks, fee * mids[1], brought * mids[1])


def _gone_through(
    offers: tuple[Offer, ...], total: Took, kicks: Scalar, fee: Scalar, brought: Scalar
) -> Offer:
    """Return all that was moved and is sold.

    Args:
        offers: of outsiders, as far as they go through.
        total: taken by buckets and outsiders.
        kicks: how many.
        fee: value that reserves got.
        brought: value that keepers brought: for what they took, less the kickers' rewards, and
            what kickers lost to reserves.
    """
    one = lambda x: jnp.sum(x)[None]
    moved = Moved(
        seized=one(total.seized),
        repaid=one(total.repaid),
        written_off=jnp.zeros_like(one(fee)),
        refund=jnp.zeros_like(fee),
        calls=kicks + summed([offer.moved.calls for offer in offers]),
        charge=fee,
    )
    sold = summed([offer.sold for offer in offers])
    return Offer(moved=moved, fee=jnp.zeros_like(moved.seized), sold=sold, paid=brought)


def _mids(venue: Venue, market: Market) -> tuple[Scalar, Scalar]:
    """Return the market's mid of collateral and loan asset."""
    accounts = venue.accounts
    return market.mid[accounts.collateral_assets[0]], market.mid[accounts.debt_assets[0]]


def _settled(
    wanted: Wanted, bad: PerLoan, reserves: Scalar
) -> tuple[Float[Array, " bucket"], Scalar, Scalar]:
    """Return the deposits after bad debt, what reserves paid of it, and what deposits lost.

    Reserves pay up to the cover of each loan, then the highest deposits, then reserves again: what
    the pool owes never exceeds what is owed to it and its cash, so that suffices.
    """
    total = jnp.sum(bad)
    own = jnp.where(reserves > 0, reserves, jnp.zeros_like(reserves))
    first = smaller(jnp.sum(smaller(bad, wanted.kept.cover)), own)
    lost, left = ordered_payment(total - first, wanted.deposits)
    return wanted.deposits - lost, first + left, total - first - left


def _left(
    loans: Branch, lots: Lot, over: Bool[Array, " account"], taken: Bool[Array, " account"]
) -> Branch:
    """Return what stands of the loans; those that nothing was taken of are left as they are."""
    none = jnp.zeros_like(lots.debt)
    owed = jnp.where(over, none, lots.debt / positive_or_one(loans.debt_units))
    return dataclasses.replace(
        loans,
        held=jnp.where(
            taken, lots.collateral / positive_or_one(loans.collateral_units), loans.held
        ),
        owed=jnp.where(taken | over, owed, loans.owed),
    )


def _noted(
    book: Book, state: VenueState, total: Took, bad: PerLoan, mids: tuple[Scalar, Scalar]
) -> tuple[AccountLedger, ...]:
    """Return the ledgers with this round noted account by account, at the round's mid."""
    assert state.ledgers is not None
    values = (total.seized * mids[0], total.repaid * mids[1], bad * mids[1])
    rows = zip(state.ledgers, *(split(book, [part]) for part in values), strict=True)
    return tuple(
        dataclasses.replace(
            ledger,
            seized=ledger.seized + seized,
            repaid=ledger.repaid + repaid,
            written_off=ledger.written_off + lost,
        )
        for ledger, seized, repaid, lost in rows
    )


def wait(
    venue: Venue, book: Book, state: VenueState, price: Float[Array, "1"], rules: StepRules
) -> VenueState:
    """Return the state a step later: auctions are older, and deposits have earned interest.

    Interest goes to all deposits in proportion.
    """
    del venue, book, price
    kept: LoanAuctions = state.execution
    earned = state.pool[Pool.SUPPLIED, 0] / positive_or_one(jnp.sum(kept.deposits))
    older = jnp.where(kept.running, kept.elapsed + rules.step_years, kept.elapsed)
    kept = dataclasses.replace(
        kept, since=kept.elapsed, elapsed=older, deposits=kept.deposits * earned
    )
    return dataclasses.replace(state, execution=kept)
