"""What both kinds of takeover share: which accounts are taken, and what then stands."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import gate
from jaxrisk.numerics.indexing import select
from jaxrisk.numerics.matmul import full_matmul
from jaxrisk.system.book import Tranche, within_reach
from jaxrisk.system.calls import Standing, value_behind
from jaxrisk.system.system import AccountLedger, System, VenueState
from jaxrisk.venue.venue import Venue

Book = tuple[Tranche, ...]
Part = TypeVar("Part")


def unsafe(
    venue: Venue,
    tranche: Tranche,
    standing: Standing,
    held: Float[Array, " collateral_asset"],
    owed: Float[Array, " debt_asset"],
    width: Float[Array, ""] | None,
) -> tuple[Float[Array, " account"], Float[Array, " account"]]:
    """Return which accounts may be taken over, 0 or 1 (smooth with a width), and their debt.

    An account may be taken once its weighted collateral is worth less than its debt.

    Args:
        venue: the venue.
        tranche: accounts of one category.
        standing: fractions of the book that still stand.
        held: seen price of each collateral.
        owed: seen price of one opening unit of each debt, interest included.
        width: of the smooth twin of the trigger.
    """
    weighted = held * venue.collateral.liquidation_threshold[tranche.category]
    backing = value_behind(tranche.accounts.collateral, standing[0], weighted)
    debt = value_behind(tranche.accounts.debt, standing[1], owed)
    return gate(debt - backing, debt, width), debt


def by_tranche(
    system: System,
    venue: Venue,
    book: Book,
    state: VenueState,
    seen: Float[Array, " asset"],
    take: Callable[[Tranche, Standing], Part],
) -> tuple[tuple[Part, ...], tuple[Bool[Array, ""], ...]]:
    """Return `take` of every tranche, zeros for those out of reach, and whether each is in reach.

    Args:
        system: the system, for its opening prices.
        venue: the venue.
        book: its accounts in tranches.
        state: the venue now.
        seen: prices as the venue sees them.
        take: what is taken of a tranche, every leaf zero where no account may be.
    """
    growth = jnp.exp(state.log_index)
    parts, within = [], []
    for tranche, collateral, debt, touched in zip(
        book, state.collateral, state.debt, state.touched, strict=True
    ):
        pair = (collateral, debt)
        if not tranche.skippable:
            parts.append(take(tranche, pair))
            within.append(jnp.ones((), bool))
            continue
        hit = within_reach(tranche, touched, venue, system.market, seen, growth)
        whole = lambda p, t=tranche: take(t, p)
        shapes = jax.eval_shape(whole, pair)
        none = lambda p, s=shapes: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), s)
        parts.append(lax.cond(hit, whole, none, pair))
        within.append(hit)
    return tuple(parts), tuple(within)


def left_standing(
    book: Book,
    state: VenueState,
    shares: list[Float[Array, " account"]],
    within: tuple[Bool[Array, ""], ...],
) -> dict[str, Any]:
    """Return the fields of the venue that change when a share of each account is taken over."""
    collateral, debt, touched = [], [], []
    for tranche, held, owed, before, share, hit in zip(
        book, state.collateral, state.debt, state.touched, shares, within, strict=True
    ):
        shrink = lambda c, d, s: (c * (1.0 - s)[None, :], d * (1.0 - s)[None, :])
        if tranche.skippable:
            left = lax.cond(hit, shrink, lambda c, d, s: (c, d), held, owed, share)
        else:
            left = shrink(held, owed, share)
        collateral.append(left[0])
        debt.append(left[1])
        touched.append(before | jnp.any(share > 0))
    return {"collateral": tuple(collateral), "debt": tuple(debt), "touched": tuple(touched)}


def noted(
    venue: Venue,
    book: Book,
    state: VenueState,
    shares: list[Float[Array, " account"]],
    credited: Float[Array, "category collateral_asset"],
    mid: Float[Array, " asset"],
    *,
    refunds: bool,
) -> tuple[AccountLedger, ...]:
    """Return the ledgers with this round's takeovers noted, at the round's mid.

    What an account leaves unpaid is its debt beyond what its collateral is credited at when it is
    taken. What the collateral then sells for is the venue's affair.

    Args:
        venue: the venue.
        book: its accounts in tranches.
        state: the venue before the round.
        shares: of each account, how much of it is taken.
        credited: share of its value that each collateral is credited at.
        mid: the market's mid.
        refunds: whether credit beyond the debt is paid out at once; it is then no loss.
    """
    held = select(mid, venue.accounts.collateral_assets)
    owed = select(mid, venue.accounts.debt_assets) * jnp.exp(state.log_index)
    assert state.ledgers is not None
    ledgers = []
    for ledger, tranche, collateral, debt, share in zip(
        state.ledgers, book, state.collateral, state.debt, shares, strict=True
    ):
        accounts = tranche.accounts
        seized = share * value_behind(accounts.collateral, collateral, held)
        worth = held * credited[tranche.category]
        credit = share * value_behind(accounts.collateral, collateral, worth)
        taken = share * value_behind(accounts.debt, debt, owed)
        unpaid = jnp.where(taken > credit, taken - credit, jnp.zeros_like(taken))
        if refunds:
            seized = seized - jnp.where(credit > taken, credit - taken, jnp.zeros_like(taken))
        ledgers.append(
            dataclasses.replace(
                ledger,
                seized=ledger.seized + seized,
                repaid=ledger.repaid + taken - unpaid,
                written_off=ledger.written_off + unpaid,
            )
        )
    return tuple(ledgers)


def of_collateral(
    tranche: Tranche, values: Float[Array, " collateral_asset"]
) -> Float[Array, " account"]:
    """Return for each account the value of the collateral it holds, of accounts that hold one."""
    holds = (tranche.accounts.collateral > 0).astype(values.dtype)
    return full_matmul(values, holds)
