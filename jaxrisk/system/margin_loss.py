"""Who pays for bankrupt accounts where an insurance fund does not: winners, or all positions."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.margin_book import Marks, Opened
from jaxrisk.venue.auto_deleverage import close_proportional, close_ranked
from jaxrisk.venue.close_out import OpenAccounts
from jaxrisk.venue.deleverage_ranking import RankedPositions
from jaxrisk.venue.margin_accounts import Behind, MarginState

PerAccount = Float[Array, " account"]
PerPosition = Float[Array, "contract account"]


@pytree
class Deleveraging:
    """Positions closed against each other, without the market.

    Attributes:
        fraction: `(contract, account)` closed, as a fraction of the opening position.
        cash: `(account,)` what that brings beyond closing at the mark: up to zero equity for
            bankrupt accounts, less for the others; sums to zero.
        loss: what bankrupt accounts lacked and the others gave up.
    """

    fraction: PerPosition
    cash: PerAccount
    loss: Float[Array, ""]


def no_deleveraging(held: Opened) -> Deleveraging:
    """Return one that closes nothing."""
    zero = jnp.zeros_like(held.collateral)
    return Deleveraging(fraction=jnp.zeros_like(held.size), cash=zero, loss=jnp.sum(zero))


def ranked(held: Opened, kept: MarginState, seen: Marks, view: OpenAccounts) -> RankedPositions:
    """Return what rankings look at, at the prices the venue sees."""
    size = held.size * kept.fraction
    wide = lambda x: jnp.broadcast_to(x, size.shape)
    return RankedPositions(
        size=size,
        mark=wide(seen.price[:, None]),
        entry=held.entry,
        value=jnp.sign(size) * view.notional,
        profit=held.profit(kept, seen.value),
        equity=wide(held.equity(kept, seen)[None, :]),
        requirement=wide(view.requirement[None, :]),
    )


def deleveraging(
    held: Opened,
    kept: MarginState,
    seen: Marks,
    called: PerAccount,
    fund: Float[Array, ""],
    score: PerPosition,
) -> Deleveraging:
    """Return what is closed against winners because the fund cannot pay for it.

    Of every bankrupt account the share that the fund can pay for is left to the market; the rest is
    closed at its bankruptcy price against opposite positions that still gain at that price, those
    with the highest score first. An account's lack is split over its contracts by notional, and all
    that is taken over on one side of a contract has one mean price. What finds no winner is left
    to the market too.

    Args:
        held: positions at time 0.
        kept: what still stands.
        seen: contracts at the prices the venue sees.
        called: share of each account that is called; 1 where it is bankrupt.
        fund: what the insurance fund can pay, settlement currency.
        score: of every position, by the venue's ranking.
    """
    equity = held.equity(kept, seen)
    dust = held.dust(kept)
    lack = called * jnp.where(equity < -dust, -equity, jnp.zeros_like(equity))

    def some() -> Deleveraging:
        total = jnp.sum(lack)
        unpaid = jnp.where(total > fund, (total - fund) / positive_or_one(total), 0.0)
        size = held.size * kept.fraction
        about = jnp.abs(size) * seen.notional[:, None]
        lacked = (unpaid * lack)[None, :] * about / positive_or_one(jnp.sum(about, axis=0))[None, :]
        taken = jnp.where((lack > 0)[None, :], unpaid * size, jnp.zeros_like(size))
        able = equity > dust
        sides = [_side(held, seen, size, able, taken, lacked, score, s) for s in (1.0, -1.0)]
        back = jnp.where(size != 0, kept.fraction / jnp.where(size != 0, size, 1.0), 0.0)
        closed = sides[0][0] + sides[1][0]
        given = sides[0][1] + sides[1][1]
        return Deleveraging(
            fraction=closed * back,
            cash=jnp.sum(given, axis=0),
            loss=jnp.sum(jnp.where(given > 0, given, jnp.zeros_like(given))),
        )

    return lax.cond(jnp.sum(lack) > fund, some, lambda: no_deleveraging(held))


def _side(
    held: Opened,
    seen: Marks,
    size: PerPosition,
    able: Bool[Array, " account"],
    taken: PerPosition,
    lacked: PerPosition,
    score: PerPosition,
    side: float,
) -> tuple[PerPosition, PerPosition]:
    """Return signed sizes closed where bankrupt accounts are on one side, and what moves for it."""
    none = jnp.zeros_like(size)
    over = jnp.where(taken * side > 0, jnp.abs(taken), none)
    lift = jnp.where(over > 0, lacked, none)
    units = jnp.sum(over, axis=1)
    price = jnp.sum(lift, axis=1) / positive_or_one(units)
    gain = jnp.sign(size) * (seen.value[:, None] - held.entered)
    wins = (size * side < 0) & able[None, :] & (gain >= price[:, None])
    capacity = jnp.where(wins, jnp.abs(size), none)
    room = jnp.sum(capacity, axis=1)
    matched = smaller(units, room)
    closed = jax.vmap(close_ranked)(capacity, score, matched)
    part = (matched / positive_or_one(units))[:, None]
    signed = side * (part * over - closed)
    return signed, part * lift - closed * price[:, None]


def charged(
    behind: Behind,
    held: Opened,
    kept: MarginState,
    marks: Marks,
    loss: Float[Array, ""],
) -> PerAccount:
    """Return what each account bears of a loss, never more than it has.

    Args:
        behind: who bears it. Winners give up unrealised profit, that with most of it for their
            equity first; positions pay in proportion to notional, gainers to what they have gained
            since time 0.
        held: positions at time 0.
        kept: what still stands.
        marks: contracts now.
        loss: settlement currency.
    """
    none = jnp.zeros_like(held.collateral)
    if behind is Behind.NOBODY:
        return none

    def some() -> PerAccount:
        equity = held.equity(kept, marks)
        has = jnp.where(equity > 0, equity, none)
        if behind is Behind.WINNERS:
            profit = held.profit(kept, marks.value)
            profit = jnp.sum(jnp.where(profit > 0, profit, jnp.zeros_like(profit)), axis=0)
            return close_ranked(smaller(profit, has), profit / positive_or_one(has), loss)
        if behind is Behind.GAINERS:
            # What was sold of other collateral is no gain: it counts as if it had been kept.
            sold = jnp.sum(held.posted * (1.0 - kept.posted) * marks.posted[:, None], axis=0)
            profit = jnp.sum(held.profit(kept, marks.value), axis=0)
            gain = kept.cash - sold + profit - held.begun
            gain = jnp.where(gain > 0, gain, none)
            return close_proportional(smaller(gain, has), gain, loss)
        notional = jnp.abs(held.size * kept.fraction) * marks.notional[:, None]
        return close_proportional(has, jnp.sum(notional, axis=0), loss)

    return lax.cond(loss > 0, some, lambda: none)
