"""Execution of accounts on margin: market orders close positions, the venue bears the rest.

A market order is dealt whatever the price is, so the account bears the slippage of the round in
proportion to what it closes. What an account without positions then owes is bad debt: it is paid by
the insurance fund, then by those whom the venue names, and the rest is carried as a deficit.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.indexing import select
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.book import Tranche
from jaxrisk.system.margin_book import (
    Marks,
    Opened,
    maintenance,
    marks_at,
    on_assets,
    opened,
    settlement_of,
    slot_of,
)
from jaxrisk.system.margin_loss import (
    Deleveraging,
    after_charges,
    charged,
    deleveraging,
    no_deleveraging,
)
from jaxrisk.system.offer import Dealt, Moved, Offer
from jaxrisk.system.system import AccountLedger, StepRules, System, VenueState, booked
from jaxrisk.venue.margin_accounts import Behind, MarginState, closed_fraction
from jaxrisk.venue.venue import Pool, Venue, changed_pool

Book = tuple[Tranche, ...]
PerAccount = Float[Array, " account"]
PerPosition = Float[Array, "contract account"]

# An account without positions that owes less than this many roundings of its size owes nothing.
_ROUNDINGS = 256


@pytree
class Wanted:
    """What a round closes.

    Attributes:
        closing: `(contract, account)` closed by market orders, as a fraction of the opening
            position.
        deleveraging: what is closed between accounts.
        here: contracts at the market's mid.
        seen: worth of a unit at the prices the venue sees, settlement currency.
    """

    closing: PerPosition
    deleveraging: Deleveraging
    here: Marks
    seen: Float[Array, " contract"]


def look(
    system: System,
    venue: Venue,
    book: Book,
    state: VenueState,
    market: Market,
    rules: StepRules,
) -> tuple[Wanted, tuple[Offer, ...]]:
    """Return what is closed of each account at the prices the venue sees, and the orders for it."""
    del system
    slot, kept, held = slot_of(venue), state.execution, _held(venue, book)
    here = marks_at(venue, kept, market.mid)
    seen = marks_at(venue, kept, venue.oracle.seen(state.oracle, market))
    size = held.size * kept.fraction
    share = slot.close.share(
        held.equity(kept, seen.value, backing=True),
        maintenance(venue, kept, held, seen),
        jnp.sum(jnp.abs(size) * seen.notional[:, None], axis=0),
        rules.width,
    )
    between = no_deleveraging(held)
    if slot.behind is Behind.WINNERS:
        fund = _fund(state) / market.mid[settlement_of(venue)]
        between = deleveraging(held, kept, seen, share, fund)
    left = kept.fraction - between.fraction
    closing = closed_fraction(share, left, slot.close.largest)
    wanted = Wanted(closing=closing, deleveraging=between, here=here, seen=seen.value)
    return wanted, (_offer(venue, held, wanted, market),)


def _held(venue: Venue, book: Book) -> Opened:
    return opened(venue, [tranche.accounts for tranche in book])


def _fund(state: VenueState) -> Float[Array, ""]:
    """Return what the venue's funds can still pay, numeraire."""
    left = jnp.sum(state.funds) - state.unsettled
    return jnp.where(left > 0, left, jnp.zeros_like(left))


def _offer(venue: Venue, held: Opened, wanted: Wanted, market: Market) -> Offer:
    """Return the market orders; what they hedge into is dealt in the underlying."""
    slot, here, zero = slot_of(venue), wanted.here, jnp.zeros_like(market.mid[0])
    closed = held.size * wanted.closing
    exposure = closed * here.delta[:, None]
    none, units = jnp.zeros_like(closed), len(venue.accounts.debt_assets)
    side = lambda part: on_assets(jnp.sum(part, axis=1), slot.underlying, market.mid.shape[0])
    # What is closed between accounts has two sides, of which one is called.
    every = jnp.abs(closed) + 0.5 * jnp.abs(held.size * wanted.deleveraging.fraction)
    return Offer(
        moved=Moved(
            seized=jnp.sum(every * here.notional[:, None])[None],
            repaid=jnp.zeros(units, zero.dtype),
            written_off=jnp.zeros(units, zero.dtype),
            refund=zero,
            calls=zero,
        ),
        fee=jnp.zeros(1, zero.dtype),
        sold=side(jnp.where(exposure > 0, exposure, none)),
        paid=zero,
        bought=side(jnp.where(exposure < 0, -exposure, none)),
        at_market=True,
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
    """Return the venue as it is, and its orders; accounts settle once their prices are known."""
    del system, venue, book, market, wanted, shares
    return state, offers[0]


@pytree
class Settled:
    """Accounts after a round; all but the state is settlement currency.

    Attributes:
        kept: what stands, and cash.
        slippage: `(account,)` what market orders cost beyond the mid.
        fee: `(account,)` paid to the insurance fund.
        bad_debt: `(account,)` owed by accounts without positions, and forgiven.
        traded: what outsiders pay for the positions they took over, beyond their worth now.
    """

    kept: MarginState
    slippage: PerAccount
    fee: PerAccount
    bad_debt: PerAccount
    traded: Float[Array, ""]


def settle(venue: Venue, book: Book, state: VenueState, wanted: Wanted, dealt: Dealt) -> VenueState:
    """Return the venue once its orders are dealt: profits realised, losses borne, all booked."""
    slot, held, old = slot_of(venue), _held(venue, book), state.execution
    money = dealt.before.mid[settlement_of(venue)]
    marks = marks_at(venue, old, dealt.after.mid)
    done = _settled(venue, held, old, wanted, dealt, marks)
    funds = state.funds.at[0].add(jnp.sum(done.fee) * money)
    state = dataclasses.replace(state, funds=funds)
    bad = jnp.sum(done.bad_debt)
    unpaid = bad - _fund(state) / money
    unpaid = jnp.where(unpaid > 0, unpaid, jnp.zeros_like(bad))
    charges = charged(slot.behind, held, done.kept, marks, unpaid)
    kept = after_charges(done.kept, charges)
    borne, between = jnp.sum(charges), wanted.deleveraging.loss
    winners = slot.behind is Behind.WINNERS
    none = jnp.zeros_like(borne)
    cost = jnp.sum(done.slippage + done.fee)
    moved = _offer(venue, held, wanted, dealt.before)
    assert moved.bought is not None
    flows = booked(
        repaid=(moved.moved.seized[0] - cost) * money,
        bad_debt=(bad + between) * money,
        fee=jnp.sum(done.fee) * money,
        # The market pays the accounts themselves: nobody in between earns anything.
        keeper_paid=jnp.sum(moved.sold * dealt.received) - jnp.sum(moved.bought * dealt.paid),
        deleveraged=(between + (borne if winners else none)) * money,
        socialised=(none if winners else borne) * money,
    )
    state = dataclasses.replace(
        state,
        unsettled=state.unsettled + (bad - borne) * money,
        flows=state.flows + flows,
        ledgers=_noted(state, book, wanted, done, charges, money),
    )
    net = jnp.sum(held.size * old.fraction, axis=1)
    return _booked(
        state,
        held,
        kept,
        marks.value,
        outside=jnp.sum(net * (marks.value - old.mark)) + done.traded - jnp.sum(done.fee),
        written_off=bad - borne,
    )


def _settled(
    venue: Venue,
    held: Opened,
    old: MarginState,
    wanted: Wanted,
    dealt: Dealt,
    marks: Marks,
) -> Settled:
    """Return accounts after their positions were closed at the round's prices."""
    slot, here, between = slot_of(venue), wanted.here, wanted.deleveraging
    mid = select(dealt.before.mid, slot.underlying)
    at = lambda price: here.value + here.slope * (select(price, slot.underlying) - mid)
    closed = held.size * wanted.closing
    sells = closed * here.delta[:, None] > 0
    price = jnp.where(sells, at(dealt.received)[:, None], at(dealt.paid)[:, None])
    swapped = held.size * between.fraction
    realised = closed * (price - held.entered) + swapped * (wanted.seen[:, None] - held.entered)
    kept = dataclasses.replace(
        old,
        fraction=(old.fraction - between.fraction) - wanted.closing,
        cash=old.cash + jnp.sum(realised, axis=0) + between.cash,
    )
    notional = jnp.sum(jnp.abs(closed) * here.notional[:, None], axis=0)
    equity = held.equity(kept, here.value)
    fee = smaller(slot.close.fee * notional, jnp.where(equity > 0, equity, 0.0))
    cash = kept.cash - fee
    has = held.collateral + cash
    # Rounding is in proportion to what was added up.
    size = held.collateral + jnp.abs(old.cash) + jnp.sum(jnp.abs(realised), axis=0)
    dust = _ROUNDINGS * jnp.finfo(has.dtype).eps * size
    owes = (has < -dust) & jnp.all(held.size * kept.fraction == 0, axis=0)
    bad = jnp.where(owes, -has, jnp.zeros_like(has))
    return Settled(
        kept=dataclasses.replace(kept, cash=cash + bad),
        slippage=jnp.sum(closed * (here.value[:, None] - price), axis=0),
        fee=fee,
        bad_debt=bad,
        traded=jnp.sum(closed * (price - marks.value[:, None])),
    )


def _booked(
    state: VenueState,
    held: Opened,
    kept: MarginState,
    value: Float[Array, " contract"],
    *,
    outside: Float[Array, ""],
    written_off: Float[Array, ""],
) -> VenueState:
    """Return the venue with its balance sheet booked for a change of its accounts.

    Args:
        state: before.
        held: positions at time 0.
        kept: what stands after the change.
        value: worth of a unit now.
        outside: cash that outsiders paid to the venue; negative where they got it.
        written_off: bad debt of accounts that nobody among them bears.
    """
    profit = jnp.sum(held.profit(kept, value))[None]
    change = changed_pool(
        cash=outside[None],
        unsettled=written_off[None],
        supplied=jnp.sum(kept.cash - state.execution.cash)[None],
        unrealised=profit - state.pool[Pool.UNREALISED],
    )
    kept = dataclasses.replace(kept, mark=value)
    return dataclasses.replace(state, pool=state.pool + change, execution=kept)


def _noted(
    state: VenueState,
    book: Book,
    wanted: Wanted,
    done: Settled,
    charges: PerAccount,
    money: Float[Array, ""],
) -> tuple[AccountLedger, ...] | None:
    """Return the ledgers with what this round cost each account: closing, and others' losses."""
    if state.ledgers is None:
        return None
    given = wanted.deleveraging.cash
    given = jnp.where(given < 0, -given, jnp.zeros_like(given))
    lifted = wanted.deleveraging.cash + given
    lost = (done.slippage + done.fee + charges + given) * money
    bad, ledgers, start = (done.bad_debt + lifted) * money, [], 0
    for ledger, tranche in zip(state.ledgers, book, strict=True):
        own = slice(start, start + tranche.accounts.count)
        start += tranche.accounts.count
        ledgers.append(
            dataclasses.replace(
                ledger,
                seized=ledger.seized + lost[own],
                written_off=ledger.written_off + bad[own],
            )
        )
    return tuple(ledgers)


def wait(
    venue: Venue, book: Book, state: VenueState, market: Market, rules: StepRules
) -> VenueState:
    """Return the state a step later: volatilities moved, funding paid, expired options settled."""
    slot, held, old = slot_of(venue), _held(venue, book), state.execution
    kept = dataclasses.replace(
        old, time=old.time + rules.step_years, volatility=_volatility(venue, old, market)
    )
    marks, money = marks_at(venue, kept, market.mid), market.mid[settlement_of(venue)]
    net = jnp.sum(held.size * old.fraction, axis=1)
    paid = _funding(venue, kept, market, marks, rules.step_years)
    funding = jnp.sum(held.size * kept.fraction * paid[:, None], axis=0)
    expired = (slot.contracts.option != 0) & (
        slot.contracts.expiry <= kept.time + 0.001 * rules.step_years
    )
    due = jnp.where(expired[:, None], held.profit(kept, marks.value), jnp.zeros_like(held.size))
    kept = dataclasses.replace(
        kept,
        fraction=jnp.where(expired[:, None], jnp.zeros_like(held.size), kept.fraction),
        cash=kept.cash + jnp.sum(due, axis=0) - funding,
    )
    to_others = jnp.sum(net * paid)
    state = dataclasses.replace(state, flows=state.flows + booked(funding=to_others * money))
    outside = jnp.sum(net * (marks.value - old.mark)) - to_others
    return _booked(
        state, held, kept, marks.value, outside=outside, written_off=jnp.zeros_like(outside)
    )


def _volatility(venue: Venue, kept: MarginState, market: Market) -> Float[Array, " contract"]:
    """Return implied volatilities at the market as it is now."""
    slot = slot_of(venue)
    if slot.moves is None:
        return kept.volatility
    forward = marks_at(venue, kept, market.mid).quotes.forward
    return slot.moves.now(
        slot.opening_volatility,
        jnp.log(forward / slot.opening_forward),
        select(market.variance, slot.underlying),
    )


def _funding(
    venue: Venue,
    kept: MarginState,
    market: Market,
    marks: Marks,
    years: Float[Array, ""],
) -> Float[Array, " contract"]:
    """Return what a long of one contract pays in a step, settlement currency.

    Forced orders displace the perpetual from its index, which is the price without that.
    """
    slot = slot_of(venue)
    if slot.funding is None:
        return jnp.zeros_like(marks.value)
    index = marks_at(venue, kept, market.price)
    premium = marks.quotes.forward / index.quotes.forward - 1.0
    paid = slot.funding.rate(premium) * index.notional * years
    return jnp.where(slot.contracts.option == 0, paid, jnp.zeros_like(paid))


def standing(
    venue: Venue, book: Book, state: VenueState, mid: Float[Array, " asset"]
) -> PerAccount:
    """Return the equity of each account, numeraire, tranche after tranche."""
    kept = state.execution
    equity = _held(venue, book).equity(kept, marks_at(venue, kept, mid).value)
    return equity * mid[settlement_of(venue)]
