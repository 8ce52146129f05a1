"""A system's surplus and unbacked debt: a queue, netting, and auctions of either.

Debt of a seized account waits in a queue, so that its auction has time to pay; what has waited long
enough is free, and is netted against surplus. Large surplus is sold, large free debt is covered by
issuing tokens. The delay of the queue is a real lag between a loss and its recapitalisation.
"""

import dataclasses
from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.pytree import pytree


class SurplusRefusal(IntEnum):
    """Why nothing is booked; data, not an exception."""

    NONE = 0
    INSUFFICIENT_SURPLUS = 1
    INSUFFICIENT_DEBT = 2
    STILL_WAITING = 3
    SURPLUS_LEFT = 4
    DEBT_LEFT = 5
    OVER_LIMIT = 6
    QUEUE_FULL = 7


@pytree
class SurplusRules:
    """What governs the books; every leaf is a scalar or `(system,)`.

    Attributes:
        wait: how long debt is queued, on the caller's clock.
        surplus_lot: surplus sold in one auction.
        surplus_buffer: surplus kept over and above all debt before any is sold.
        surplus_limit: most surplus that may be under auction.
        debt_lot: free debt covered in one auction; infinite where debt auctions are off.
    """

    wait: Float[Array, "*system"]
    surplus_lot: Float[Array, "*system"]
    surplus_buffer: Float[Array, "*system"]
    surplus_limit: Float[Array, "*system"]
    debt_lot: Float[Array, "*system"]


@pytree
class SurplusBook:
    """Books of systems, in the stablecoin; leaves are `(system,)` unless said.

    Debt is kept in three parts rather than as a total: whether any is free decides what may be
    auctioned, and a difference of large sums would not tell.

    Attributes:
        surplus: money held.
        free_debt: unbacked debt neither queued nor under auction.
        auctioned_debt: unbacked debt under auction.
        queued: `(slot, system)` unbacked debt that waits; zero where a slot is free.
        queued_at: `(slot, system)` when it was queued.
        auctioned_surplus: surplus under auction, no longer part of `surplus`.
    """

    surplus: Float[Array, " system"]
    free_debt: Float[Array, " system"]
    auctioned_debt: Float[Array, " system"]
    queued: Float[Array, "slot system"]
    queued_at: Float[Array, "slot system"]
    auctioned_surplus: Float[Array, " system"]

    def debt(self) -> Float[Array, " system"]:
        """Return all unbacked debt: free, under auction and queued."""
        return self.free_debt + self.auctioned_debt + jnp.sum(self.queued, axis=0)


Booked = tuple[SurplusBook, Int[Array, " system"]]


def add_surplus(book: SurplusBook, amount: Float[Array, " system"]) -> SurplusBook:
    """Return the books after income: fees, or what an auction of collateral raised."""
    return dataclasses.replace(book, surplus=book.surplus + amount)


def queue_debt(
    book: SurplusBook, amount: Float[Array, " system"], now: Float[Array, " system"]
) -> Booked:
    """Return the books after the debt of a seized account joins the queue, and refusals.

    Debt of the same moment shares a slot.

    Source: Maker dss vow.sol fess.
    """
    occupied = book.queued > 0
    same = occupied & (book.queued_at == now[None, :])
    found = jnp.any(same, axis=0)
    usable = jnp.where(found[None, :], same, ~occupied)
    slots = jnp.arange(book.queued.shape[0])[:, None]
    goes = jnp.any(usable, axis=0)
    here = (slots == jnp.argmax(usable, axis=0)[None, :]) & goes[None, :] & (amount > 0)[None, :]
    after = dataclasses.replace(
        book,
        queued=jnp.where(here, book.queued + amount[None, :], book.queued),
        queued_at=jnp.where(here, jnp.broadcast_to(now[None, :], here.shape), book.queued_at),
    )
    return after, jnp.where(goes, SurplusRefusal.NONE, SurplusRefusal.QUEUE_FULL)


def release_debt(
    rules: SurplusRules,
    book: SurplusBook,
    queued_at: Float[Array, " system"],
    now: Float[Array, " system"],
) -> Booked:
    """Return the books after debt queued at one moment has become free, and refusals.

    Source: Maker dss vow.sol flog.
    """
    goes = queued_at + rules.wait <= now
    freed = jnp.where((book.queued_at == queued_at[None, :]) & goes[None, :], book.queued, 0.0)
    after = dataclasses.replace(
        book, queued=book.queued - freed, free_debt=book.free_debt + jnp.sum(freed, axis=0)
    )
    return after, jnp.where(goes, SurplusRefusal.NONE, SurplusRefusal.STILL_WAITING)


def net(book: SurplusBook, amount: Float[Array, " system"]) -> Booked:
    """Return the books after `amount` of free debt is paid from surplus, and refusals.

    Source: Maker dss vow.sol heal.
    """
    refusal = _payment_refusal(book, amount, book.free_debt)
    paid = jnp.where(refusal == SurplusRefusal.NONE, amount, jnp.zeros_like(amount))
    after = dataclasses.replace(book, surplus=book.surplus - paid, free_debt=book.free_debt - paid)
    return after, refusal


def net_auctioned(book: SurplusBook, amount: Float[Array, " system"]) -> Booked:
    """Return the books after `amount` of debt under auction is paid from surplus, and refusals.

    Source: Maker dss vow.sol kiss.
    """
    refusal = _payment_refusal(book, amount, book.auctioned_debt)
    paid = jnp.where(refusal == SurplusRefusal.NONE, amount, jnp.zeros_like(amount))
    after = dataclasses.replace(
        book, surplus=book.surplus - paid, auctioned_debt=book.auctioned_debt - paid
    )
    return after, refusal


def receive_bid(book: SurplusBook, bid: Float[Array, " system"]) -> SurplusBook:
    """Return the books after the first bid of a debt auction, which pays for debt under auction.

    Source: Maker dss flop.sol dent (first bid), vow.sol kiss.
    """
    paid_in = add_surplus(book, bid)
    after, _ = net_auctioned(paid_in, smaller(bid, book.auctioned_debt))
    return after


def start_debt_auction(rules: SurplusRules, book: SurplusBook) -> Booked:
    """Return the books after one lot of free debt goes under auction, and refusals.

    Only where there is no surplus: what can be netted is netted first.

    Source: Maker dss vow.sol flop.
    """
    refusal = jnp.where(book.surplus == 0, SurplusRefusal.NONE, SurplusRefusal.SURPLUS_LEFT)
    refusal = jnp.where(book.free_debt >= rules.debt_lot, refusal, SurplusRefusal.INSUFFICIENT_DEBT)
    zero = jnp.zeros_like(book.free_debt)
    lot = jnp.where(refusal == SurplusRefusal.NONE, rules.debt_lot, zero)
    after = dataclasses.replace(
        book, free_debt=book.free_debt - lot, auctioned_debt=book.auctioned_debt + lot
    )
    return after, refusal


def start_surplus_auction(rules: SurplusRules, book: SurplusBook) -> Booked:
    """Return the books after one lot of surplus goes under auction, and refusals.

    `surplus >= debt + surplus_lot + surplus_buffer`, no free debt, and no more than
    `surplus_limit` under auction.

    Source: Maker dss vow.sol flap, flap.sol kick.
    """
    none = SurplusRefusal.NONE
    within = book.auctioned_surplus + rules.surplus_lot <= rules.surplus_limit
    refusal = jnp.where(within, none, SurplusRefusal.OVER_LIMIT)
    # Debt under auction does not count as free; the queue does not either.
    refusal = jnp.where(book.free_debt == 0, refusal, SurplusRefusal.DEBT_LEFT)
    needed = book.debt() + rules.surplus_lot + rules.surplus_buffer
    refusal = jnp.where(book.surplus >= needed, refusal, SurplusRefusal.INSUFFICIENT_SURPLUS)
    zero = jnp.zeros_like(book.surplus)
    lot = jnp.where(refusal == none, rules.surplus_lot, zero)
    after = dataclasses.replace(
        book, surplus=book.surplus - lot, auctioned_surplus=book.auctioned_surplus + lot
    )
    return after, refusal


def end_surplus_auction(book: SurplusBook, lot: Float[Array, " system"]) -> SurplusBook:
    """Return the books after a surplus lot has left the auction for its buyer.

    Source: Maker dss flap.sol deal.
    """
    return dataclasses.replace(book, auctioned_surplus=book.auctioned_surplus - lot)


def _payment_refusal(book: SurplusBook, amount: Array, debt: Array) -> Array:
    refusal = jnp.where(amount <= debt, SurplusRefusal.NONE, SurplusRefusal.INSUFFICIENT_DEBT)
    return jnp.where(amount <= book.surplus, refusal, SurplusRefusal.INSUFFICIENT_SURPLUS)
