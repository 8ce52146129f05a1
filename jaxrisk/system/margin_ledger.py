"""Booking of accounts on margin: bad debt recognised, its bearers named, the balance sheet kept."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.book import Tranche
from jaxrisk.system.margin_book import Marks, Opened, slot_of
from jaxrisk.system.margin_loss import charged
from jaxrisk.system.system import AccountLedger, VenueState, booked
from jaxrisk.venue.margin_accounts import Behind, MarginState
from jaxrisk.venue.venue import Pool, Venue, changed_pool

PerAccount = Float[Array, " account"]


@pytree
class Change:
    """What happened to accounts, before losses are borne; settlement currency but for the state.

    Attributes:
        kept: what stands after it.
        outside: cash that outsiders paid to the venue; negative where they got it.
        lost: `(account,)` what it cost each account, for its ledger.
        forgiven: `(account,)` what others have borne of each account already.
    """

    kept: MarginState
    outside: Float[Array, ""]
    lost: PerAccount
    forgiven: PerAccount


def fund_left(state: VenueState) -> Float[Array, ""]:
    """Return what the venue's funds can still pay, numeraire."""
    left = jnp.sum(state.funds) - state.unsettled
    return jnp.where(left > 0, left, jnp.zeros_like(left))


def closed_books(
    venue: Venue,
    book: tuple[Tranche, ...],
    state: VenueState,
    held: Opened,
    change: Change,
    marks: Marks,
    money: Float[Array, ""],
) -> VenueState:
    """Return the venue after a change of its accounts: losses borne, everything booked.

    What an account owes that has neither positions nor collateral left is forgiven. The funds are
    to pay it at the end of the step as far as they reach; the rest is charged to whoever stands
    behind them, and what those do not have is left to be carried.

    Args:
        venue: the venue.
        book: its accounts in tranches.
        state: before.
        held: positions at time 0.
        change: what happened.
        marks: contracts now.
        money: worth of the settlement currency, numeraire.
    """
    behind = slot_of(venue).behind
    bad = _owed(held, change.kept)
    kept = dataclasses.replace(change.kept, cash=change.kept.cash + bad)
    total = jnp.sum(bad)
    unpaid = total - fund_left(state) / money
    unpaid = jnp.where(unpaid > 0, unpaid, jnp.zeros_like(unpaid))
    charges = charged(behind, held, kept, marks, unpaid)
    kept = dataclasses.replace(kept, cash=kept.cash - charges, mark=marks.value)
    borne = jnp.sum(charges)
    entry = "deleveraged" if behind is Behind.WINNERS else "socialised"
    row = changed_pool(
        cash=change.outside[None],
        unsettled=(total - borne)[None],
        supplied=jnp.sum(kept.cash - state.execution.cash)[None],
        unrealised=jnp.sum(held.profit(kept, marks.value))[None] - state.pool[Pool.UNREALISED],
    )
    return dataclasses.replace(
        state,
        pool=state.pool + row,
        execution=kept,
        unsettled=state.unsettled + (total - borne) * money,
        flows=state.flows + booked(bad_debt=total * money) + booked(**{entry: borne * money}),
        ledgers=_noted(
            state.ledgers, book, (change.lost + charges) * money, (bad + change.forgiven) * money
        ),
    )


def _owed(held: Opened, kept: MarginState) -> PerAccount:
    """Return what accounts with neither positions nor collateral to sell owe."""
    has = held.collateral + kept.cash
    owes = (has < -held.dust(kept)) & jnp.all(held.size * kept.fraction == 0, axis=0)
    owes = owes & jnp.all(held.posted * kept.posted == 0, axis=0)
    return jnp.where(owes, -has, jnp.zeros_like(has))


def _noted(
    ledgers: tuple[AccountLedger, ...] | None,
    book: tuple[Tranche, ...],
    lost: PerAccount,
    bad: PerAccount,
) -> tuple[AccountLedger, ...] | None:
    """Return the ledgers with what accounts lost and left unpaid, numeraire."""
    if ledgers is None:
        return None
    noted, start = [], 0
    for ledger, tranche in zip(ledgers, book, strict=True):
        own = slice(start, start + tranche.accounts.count)
        start += tranche.accounts.count
        noted.append(
            dataclasses.replace(
                ledger,
                seized=ledger.seized + lost[own],
                written_off=ledger.written_off + bad[own],
            )
        )
    return tuple(noted)
