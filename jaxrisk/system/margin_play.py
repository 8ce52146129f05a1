"""Execution of accounts on margin: market orders close positions, the venue bears the rest.

A market order is dealt whatever the price is, so the account bears the slippage of the round in
proportion to what it closes. Collateral in other assets is sold in the same way where an account
owes of the settlement currency. What one without positions and collateral then owes is bad debt: it
is paid by the insurance fund, then by those whom the venue names, and the rest is carried as a
deficit.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.market.contract import is_perpetual
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
    posted_assets,
    settlement_of,
    slot_of,
)
from jaxrisk.system.margin_ledger import Change, closed_books, fund_left
from jaxrisk.system.margin_loss import Deleveraging, deleveraging, no_deleveraging, ranked
from jaxrisk.system.offer import Dealt, Moved, Offer
from jaxrisk.system.system import StepRules, System, VenueState, booked
from jaxrisk.venue.close_out import OpenAccounts
from jaxrisk.venue.margin_accounts import Behind, MarginState
from jaxrisk.venue.venue import Venue

Book = tuple[Tranche, ...]
PerAccount = Float[Array, " account"]
PerPosition = Float[Array, "contract account"]


@pytree
class Wanted:
    """What a round closes.

    Attributes:
        closing: `(contract, account)` closed by market orders, as a fraction of the opening
            position.
        fee: `(contract, account)` of the notional closed, to the insurance fund.
        forfeited: `(account,)` part of the balance of those closed whole that the fund takes.
        due: `(account,)` paid to the fund beside the fee; `None` for nothing.
        discount: `(account,)` what takers gain at least; `None` where there are none.
        memory: of the close-out rule after these orders.
        selling: `(asset, account)` of other collateral sold, as a fraction of what was posted.
        deleveraging: what is closed between accounts.
        here: contracts at the market's mid.
        seen: worth of a unit at the prices the venue sees, settlement currency.
    """

    closing: PerPosition
    fee: PerPosition
    forfeited: PerAccount
    due: PerAccount | None
    discount: PerAccount | None
    memory: Any
    selling: Float[Array, "asset account"]
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
    count = jnp.abs(size)
    view = OpenAccounts(
        equity=held.equity(kept, seen, backing=True),
        requirement=maintenance(venue, kept, held, seen),
        count=count,
        notional=count * seen.notional[:, None],
    )
    orders = slot.close.orders(view, kept.closing, rules.width)
    between = no_deleveraging(held)
    if slot.behind is Behind.WINNERS:
        fund = fund_left(state) / market.mid[settlement_of(venue)]
        score = slot.ranking.score(ranked(held, kept, seen, view))
        between = deleveraging(held, kept, seen, orders.called, fund, score)
    closing = orders.share * (kept.fraction - between.fraction)
    wanted = Wanted(
        closing=smaller(closing, orders.largest * jnp.ones_like(closing)),
        fee=orders.fee,
        forfeited=orders.forfeited,
        due=orders.due,
        discount=orders.discount,
        memory=orders.memory,
        selling=_selling(held, kept, here),
        deleveraging=between,
        here=here,
        seen=seen.value,
    )
    return wanted, (_offer(venue, held, wanted, market),)


def _held(venue: Venue, book: Book) -> Opened:
    return opened(venue, [tranche.accounts for tranche in book])


def _selling(held: Opened, kept: MarginState, here: Marks) -> Float[Array, "asset account"]:
    """Return what is sold of other collateral, as a fraction of what was posted."""
    if held.rule is None:
        return jnp.zeros_like(held.posted)
    balance = held.collateral + kept.cash
    return held.rule.sold(balance, held.posted * kept.posted, here.posted)[None] * kept.posted


def _offer(venue: Venue, held: Opened, wanted: Wanted, market: Market) -> Offer:
    """Return the market orders; what contracts hedge into is dealt in the underlying."""
    slot, here, zero = slot_of(venue), wanted.here, jnp.zeros_like(market.mid[0])
    closed = held.size * wanted.closing
    exposure = closed * here.delta[:, None]
    none, units = jnp.zeros_like(closed), len(venue.accounts.debt_assets)
    posted = jnp.sum(held.posted * wanted.selling, axis=1)
    side = lambda part: on_assets(jnp.sum(part, axis=1), slot.underlying, market.mid.shape[0])
    # What is closed between accounts has two sides, of which one is called.
    every = jnp.abs(closed) + 0.5 * jnp.abs(held.size * wanted.deleveraging.fraction)
    return Offer(
        moved=Moved(
            seized=jnp.concatenate([jnp.sum(every * here.notional[:, None])[None], posted]),
            repaid=jnp.zeros(units, zero.dtype),
            written_off=jnp.zeros(units, zero.dtype),
            refund=zero,
            calls=zero,
        ),
        fee=jnp.zeros(1 + len(posted), zero.dtype),
        sold=side(jnp.where(exposure > 0, exposure, none))
        + on_assets(posted, posted_assets(venue), market.mid.shape[0]),
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
        taken: `(account,)` gained by those who took positions over.
        earned: by all who did, in the market too.
        traded: what outsiders pay for the positions they took over, beyond their worth now, and for
            collateral.
    """

    kept: MarginState
    slippage: PerAccount
    fee: PerAccount
    taken: PerAccount
    earned: Float[Array, ""]
    traded: Float[Array, ""]


def settle(venue: Venue, book: Book, state: VenueState, wanted: Wanted, dealt: Dealt) -> VenueState:
    """Return the venue once its orders are dealt: profits realised, losses borne, all booked."""
    held, old, between = _held(venue, book), state.execution, wanted.deleveraging
    money = dealt.before.mid[settlement_of(venue)]
    marks = marks_at(venue, old, dealt.after.mid)
    done = _settled(venue, held, old, wanted, dealt, marks)
    fee, taken = jnp.sum(done.fee), jnp.sum(done.taken)
    orders = _offer(venue, held, wanted, dealt.before)
    assert orders.bought is not None
    flows = booked(
        repaid=(_worth(orders, wanted.here) - jnp.sum(done.slippage) - taken - fee) * money,
        bad_debt=between.loss * money,
        fee=fee * money,
        # The market pays the accounts themselves, or those who take positions over.
        keeper_paid=jnp.sum(orders.sold * dealt.received)
        - jnp.sum(orders.bought * dealt.paid)
        - done.earned * money,
        deleveraged=between.loss * money,
    )
    state = dataclasses.replace(
        state, funds=state.funds.at[0].add(fee * money), flows=state.flows + flows
    )
    net = jnp.sum(held.size * old.fraction, axis=1)
    none = jnp.zeros_like(between.cash)
    change = Change(
        kept=done.kept,
        outside=jnp.sum(net * (marks.value - old.mark)) + done.traded - taken - fee,
        lost=done.slippage
        + done.fee
        + done.taken
        + jnp.where(between.cash < 0, -between.cash, none),
        forgiven=jnp.where(between.cash > 0, between.cash, none),
    )
    return closed_books(venue, book, state, held, change, marks, money)


def _settled(
    venue: Venue,
    held: Opened,
    old: MarginState,
    wanted: Wanted,
    dealt: Dealt,
    marks: Marks,
) -> Settled:
    """Return accounts after their positions were closed at the round's prices."""
    here, between = wanted.here, wanted.deleveraging
    closed = held.size * wanted.closing
    market, price = _prices(venue, closed, here, dealt)
    swapped = held.size * between.fraction
    units, settlement = held.posted * wanted.selling, dealt.before.mid[settlement_of(venue)]
    brought = dealt.received[np.asarray(posted_assets(venue), int)] / settlement
    proceeds = jnp.sum(units * brought[:, None], axis=0)
    realised = closed * (price - held.entered) + swapped * (wanted.seen[:, None] - held.entered)
    kept = dataclasses.replace(
        old,
        closing=wanted.memory,
        fraction=(old.fraction - between.fraction) - wanted.closing,
        posted=old.posted - wanted.selling,
        cash=old.cash + jnp.sum(realised, axis=0) + between.cash + proceeds,
    )
    charged = jnp.sum(wanted.fee * jnp.abs(closed) * here.notional[:, None], axis=0)
    equity = held.equity(kept, here)
    slippage = jnp.sum(closed * (here.value[:, None] - price), axis=0)
    charged = charged if wanted.due is None else charged + wanted.due
    fee = smaller(charged, jnp.where(equity > 0, equity, 0.0))
    taken = _taken(wanted.discount, slippage, equity - fee)
    left = held.collateral + kept.cash - fee - taken
    gone = (left > 0) & jnp.all(held.size * kept.fraction == 0, axis=0)
    fee = fee + jnp.where(gone, wanted.forfeited * left, jnp.zeros_like(left))
    return Settled(
        kept=dataclasses.replace(kept, cash=kept.cash - fee - taken),
        slippage=slippage + jnp.sum(units * here.posted[:, None], axis=0) - proceeds,
        fee=fee,
        taken=taken,
        earned=jnp.sum(closed * (market - price)) + jnp.sum(taken),
        traded=jnp.sum(closed * (price - marks.value[:, None])) + jnp.sum(proceeds),
    )


def _taken(discount: PerAccount | None, slippage: PerAccount, equity: PerAccount) -> PerAccount:
    """Return what takers gain beyond what closing costs, as far as there is equity."""
    none = jnp.zeros_like(slippage)
    if discount is None:
        return none
    beyond = jnp.where(discount > slippage, discount - slippage, none)
    return smaller(beyond, jnp.where(equity > 0, equity, none))


def _prices(
    venue: Venue, closed: PerPosition, here: Marks, dealt: Dealt
) -> tuple[PerPosition, PerPosition]:
    """Return what a unit of each position brings in the market, and what its account gets."""
    slot = slot_of(venue)
    mid = select(dealt.before.mid, slot.underlying)
    at = lambda price: here.value + here.slope * (select(price, slot.underlying) - mid)
    sells = closed * here.delta[:, None] > 0
    market = jnp.where(sells, at(dealt.received)[:, None], at(dealt.paid)[:, None])
    if slot.taker_fee is None:
        return market, market
    fee = jnp.sign(closed) * slot.taker_fee * here.notional[:, None]
    return market, here.value[:, None] - fee


def _worth(orders: Offer, here: Marks) -> Float[Array, ""]:
    """Return what orders move, settlement currency at the market's mid."""
    seized = orders.moved.seized
    return seized[0] + jnp.sum(seized[1:] * here.posted)


def wait(
    venue: Venue, book: Book, state: VenueState, market: Market, rules: StepRules
) -> VenueState:
    """Return the state a step later: volatilities moved, funding paid, what has expired settled."""
    slot, held, old = slot_of(venue), _held(venue, book), state.execution
    kept = dataclasses.replace(
        old,
        time=old.time + rules.step_years,
        volatility=_volatility(venue, old, market),
        closing=slot.close.aged(old.closing, rules.step_years),
    )
    marks, money = marks_at(venue, kept, market.mid), market.mid[settlement_of(venue)]
    net = jnp.sum(held.size * old.fraction, axis=1)
    paid = _funding(venue, kept, market, marks, rules.step_years)
    funding = jnp.sum(held.size * kept.fraction * paid[:, None], axis=0)
    expired = ~is_perpetual(slot.contracts) & (
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
    none = jnp.zeros_like(funding)
    outside = jnp.sum(net * (marks.value - old.mark)) - to_others
    change = Change(kept=kept, outside=outside, lost=none, forgiven=none)
    return closed_books(venue, book, state, held, change, marks, money)


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
    return jnp.where(is_perpetual(slot.contracts), paid, jnp.zeros_like(paid))


def standing(
    venue: Venue, book: Book, state: VenueState, mid: Float[Array, " asset"]
) -> PerAccount:
    """Return the equity of each account, numeraire, tranche after tranche."""
    kept = state.execution
    equity = _held(venue, book).equity(kept, marks_at(venue, kept, mid))
    return equity * mid[settlement_of(venue)]
