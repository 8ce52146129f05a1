"""Execution of stop orders: holders sell at the market, repay what they owe, and keep the rest.

Nobody stands in between: what the sale brings is the holder's. A debt that a sold-out account
cannot repay is its lender's loss.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.indexing import select, spread
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.book import Tranche
from jaxrisk.system.calls import units_behind, value_behind
from jaxrisk.system.offer import Dealt, Moved, Offer, summed
from jaxrisk.system.system import AccountLedger, StepRules, System, VenueState, booked
from jaxrisk.venue.stop_orders import StopOrders
from jaxrisk.venue.venue import Venue, changed_pool

Book = tuple[Tranche, ...]
PerAccount = Float[Array, " account"]
Parts = tuple[PerAccount, ...]


@pytree
class Sale:
    """What became of one tranche's sale; leaves are `(account,)`, numeraire at the round's mid.

    Attributes:
        worth: of what was sold.
        brought: by it.
        debt: before.
        repaid: of it.
        lost: debt of sold-out accounts beyond that.
    """

    worth: PerAccount
    brought: PerAccount
    debt: PerAccount
    repaid: PerAccount
    lost: PerAccount

    def share(self, amount: PerAccount) -> Float[Array, "1 account"]:
        """Return the part of each debt that an amount is."""
        return (amount / positive_or_one(self.debt))[None, :]


def look(
    system: System, venue: Venue, book: Book, state: VenueState, market: Market, rules: StepRules
) -> tuple[Parts, tuple[Offer, ...]]:
    """Return the part of each account that is sold at the prices its holder sees, and the order."""
    slot, accounts = _slot_of(venue), venue.accounts
    seen, growth = venue.oracle.seen(state.oracle, market), jnp.exp(state.log_index)
    held = lambda price: select(price, accounts.collateral_assets)
    parts, units = [], []
    for tranche, left, owed in zip(book, state.collateral, state.debt, strict=True):
        worth = lambda price, t=tranche, x=left: value_behind(t.accounts.collateral, x, held(price))
        price = select(seen, accounts.debt_assets) * growth
        debt = value_behind(tranche.accounts.debt, owed, price)
        part = slot.part(worth(seen), worth(system.market.mid), debt, rules.width)
        parts.append(part)
        units.append(units_behind(tranche.accounts.collateral, left * part[None, :]))
    return tuple(parts), (_order(venue, summed(units), market),)


def _slot_of(venue: Venue) -> StopOrders:
    assert isinstance(venue.execution, StopOrders)
    return venue.execution


def _order(venue: Venue, units: Float[Array, " collateral_asset"], market: Market) -> Offer:
    zero = jnp.zeros((), units.dtype)
    none = jnp.zeros(len(venue.accounts.debt_assets), units.dtype)
    return Offer(
        moved=Moved(seized=units, repaid=none, written_off=none, refund=zero, calls=zero),
        fee=jnp.zeros_like(units),
        sold=spread(units, venue.accounts.collateral_assets, market.price.shape[0]),
        paid=zero,
        at_market=True,
    )


def go(
    system: System,
    venue: Venue,
    book: Book,
    state: VenueState,
    market: Market,
    wanted: Parts,
    offers: tuple[Offer, ...],
    shares: tuple[Float[Array, ""], ...],
) -> tuple[VenueState, Offer]:
    """Return the venue as it is, and its order; accounts settle once its price is known."""
    del system, venue, book, market, wanted, shares
    return state, offers[0]


def settle(venue: Venue, book: Book, state: VenueState, wanted: Parts, dealt: Dealt) -> VenueState:
    """Return the venue after sales: debts repaid, losses written off, the rest with the holders."""
    growth = jnp.exp(state.log_index)
    price = select(dealt.before.mid, venue.accounts.debt_assets) * growth
    sales = [
        _sale(tranche, left, value_behind(tranche.accounts.debt, owed, price), part, dealt)
        for tranche, left, owed, part in zip(
            book, state.collateral, state.debt, wanted, strict=True
        )
    ]
    units = lambda name: summed(
        [
            units_behind(tranche.accounts.debt, owed * sale.share(getattr(sale, name)))
            for tranche, owed, sale in zip(book, state.debt, sales, strict=True)
        ]
    )
    total = lambda name: summed([jnp.sum(getattr(sale, name)) for sale in sales])
    repaid, lost = units("repaid"), units("lost")
    change = changed_pool(
        cash=repaid * growth, debt=-(repaid + lost) * growth, unsettled=lost * growth
    )
    flows = booked(
        repaid=total("repaid"),
        bad_debt=total("lost"),
        refund=total("brought") - total("repaid"),
        # The market pays the holders themselves: nobody in between earns anything.
        keeper_paid=total("brought"),
    )
    kept = lambda left, part: left * (1.0 - part)[None, :]
    still = lambda owed, sale: owed * (1.0 - sale.share(sale.repaid + sale.lost))
    return dataclasses.replace(
        state,
        collateral=tuple(map(kept, state.collateral, wanted)),
        debt=tuple(map(still, state.debt, sales)),
        touched=tuple(t | jnp.any(p > 0) for t, p in zip(state.touched, wanted, strict=True)),
        owed=state.owed - repaid - lost,
        pool=state.pool + change,
        unsettled=state.unsettled + total("lost"),
        flows=state.flows + flows,
        ledgers=None if state.ledgers is None else tuple(map(_noted, state.ledgers, sales)),
    )


def _sale(
    tranche: Tranche,
    left: Float[Array, "share account"],
    debt: PerAccount,
    part: PerAccount,
    dealt: Dealt,
) -> Sale:
    """Return what the sale of parts of a tranche brought, and what became of its debts."""
    accounts, sold = tranche.accounts, left * part[None, :]
    worth = lambda price: value_behind(
        accounts.collateral, sold, select(price, accounts.collateral_assets)
    )
    brought = worth(dealt.received)
    repaid = smaller(brought, debt)
    lost = jnp.where(part >= 1, debt - repaid, jnp.zeros_like(debt))
    return Sale(worth=worth(dealt.before.mid), brought=brought, debt=debt, repaid=repaid, lost=lost)


def _noted(ledger: AccountLedger, sale: Sale) -> AccountLedger:
    """Return the ledger with a sale noted: taken is what the holder did not get back."""
    return dataclasses.replace(
        ledger,
        seized=ledger.seized + sale.worth - (sale.brought - sale.repaid),
        repaid=ledger.repaid + sale.repaid,
        written_off=ledger.written_off + sale.lost,
    )
