"""Execution by absorption: whole accounts are taken at once, their collateral is sold afterwards.

What the venue pays for an account, its debt or its credit, whichever is larger, is booked as a
claim on the collateral taken. Sales release claims at their average cost per unit: what they bring
beyond that is the protocol's, what they fall short of it is written off.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.indexing import select, spread
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.book import Tranche
from jaxrisk.system.calls import Standing, units_behind, value_behind
from jaxrisk.system.offer import Moved, Offer, summed
from jaxrisk.system.system import StepRules, System, VenueState
from jaxrisk.system.takeover import Book, by_tranche, left_standing, noted, unsafe
from jaxrisk.venue.storefront import Storefront
from jaxrisk.venue.takeover import AbsorbedStock, Stock
from jaxrisk.venue.venue import Pool, Venue, changed_pool

PerCollateral = Float[Array, " collateral_asset"]


@pytree
class Absorbed:
    """What is absorbed of a tranche; sums over accounts but for `weight`, values at seen prices.

    Attributes:
        weight: `(account,)` share of each account that is absorbed.
        units: collateral taken.
        cost: value that each collateral is paid with: its part of the larger of debt and credit.
        debt: opening units of debt paid off.
        repaid: debt value that the credit covers.
        refund: value credited to borrowers beyond their debt.
        worthless: debt value of accounts without any credit.
    """

    weight: Float[Array, " account"]
    units: PerCollateral
    cost: PerCollateral
    debt: Float[Array, " debt_asset"]
    repaid: Float[Array, ""]
    refund: Float[Array, ""]
    worthless: Float[Array, ""]


@pytree
class Wanted:
    """What a round absorbs and puts up for sale.

    Attributes:
        absorbed: per tranche.
        within: per tranche, whether it could be reached at all.
        stock: after the absorption.
        for_sale: units on offer.
        payment: debt units asked for each unit.
    """

    absorbed: tuple[Absorbed, ...]
    within: tuple[Bool[Array, ""], ...]
    stock: Stock
    for_sale: PerCollateral
    payment: PerCollateral


def look(
    system: System,
    venue: Venue,
    book: Book,
    state: VenueState,
    market: Market,
    rules: StepRules,
) -> tuple[Wanted, tuple[Offer, ...]]:
    """Return what is absorbed at the prices the venue sees, and the stock's offers.

    One class a collateral asset. What a round absorbs is for sale in the same round.
    """
    seen, accounts = venue.oracle.seen(state.oracle, market), venue.accounts
    held, owed = select(seen, accounts.collateral_assets), select(seen, accounts.debt_assets)
    working = owed * jnp.exp(state.log_index)
    factor = _credited(venue)
    take = lambda tranche, pair: _absorbed(venue, tranche, pair, held, working, factor, rules.width)
    absorbed, within = by_tranche(system, venue, book, state, seen, take)
    stock = Stock(
        units=state.execution.units + summed([a.units for a in absorbed]),
        claims=state.execution.claims + summed([a.cost for a in absorbed]) / owed,
    )
    ask = _ask(venue, held, factor[0])
    for_sale = stock.units * _open_share(venue, state, stock, ask, owed[0], market)
    payment = ask / owed
    paid = for_sale * payment * select(market.mid, accounts.debt_assets)
    offers = tuple(_offer(venue, system, i, for_sale[i], paid[i]) for i in range(len(held)))
    wanted = Wanted(
        absorbed=absorbed, within=within, stock=stock, for_sale=for_sale, payment=payment
    )
    return wanted, offers


def _credited(venue: Venue) -> Float[Array, "category collateral_asset"]:
    """Return the share of its value that each collateral is credited at."""
    held = len(venue.accounts.collateral_assets)
    return 1.0 / venue.incentive.largest_credit(len(venue.categories), held)


def _absorbed(
    venue: Venue,
    tranche: Tranche,
    standing: Standing,
    held: PerCollateral,
    owed: Float[Array, " debt_asset"],
    factor: Float[Array, "category collateral_asset"],
    width: Float[Array, ""] | None,
) -> Absorbed:
    """Return what is absorbed of a tranche, as `Absorption.absorb` does account by account."""
    accounts = tranche.accounts
    weight, debt = unsafe(venue, tranche, standing, held, owed, width)
    worth = held * factor[tranche.category]
    credit = value_behind(accounts.collateral, standing[0], worth)
    covered = smaller(credit, debt)
    paid = jnp.where(credit > debt, credit, debt) / positive_or_one(credit)
    paid = jnp.where(credit > 0, weight * paid, jnp.zeros_like(paid))
    nothing = jnp.where(credit > 0, jnp.zeros_like(debt), debt)
    return Absorbed(
        weight=weight,
        units=units_behind(accounts.collateral, standing[0] * weight[None, :]),
        cost=worth * units_behind(accounts.collateral, standing[0] * paid[None, :]),
        debt=units_behind(accounts.debt, standing[1] * weight[None, :]),
        repaid=jnp.sum(weight * covered),
        refund=jnp.sum(weight * (credit - covered)),
        worthless=jnp.sum(weight * nothing),
    )


def _ask(venue: Venue, held: PerCollateral, factor: PerCollateral) -> PerCollateral:
    rule = venue.execution
    assert isinstance(rule, AbsorbedStock)
    store = Storefront(
        discount_share=rule.discount_share[None],
        liquidation_factor=factor,
        target_reserves=rule.target_reserves[None],
    )
    return store.ask_price(held)


def _open_share(
    venue: Venue,
    state: VenueState,
    stock: Stock,
    ask: PerCollateral,
    owed: Float[Array, ""],
    market: Market,
) -> Float[Array, ""]:
    """Return the share of the stock that may be sold before reserves reach their target.

    Small purchases one after another stop there; the contract refuses the next one.
    """
    rule, pool = venue.execution, state.pool[:, 0]
    assert isinstance(rule, AbsorbedStock)
    fund = state.funds[0] / market.mid[venue.accounts.debt_assets[0]]
    newly = jnp.sum(stock.claims) - jnp.sum(state.execution.claims)
    behind = pool[Pool.IN_SALE] + pool[Pool.UNSETTLED] + pool[Pool.DEFICIT] + newly
    room = (rule.target_reserves - (pool[Pool.TREASURY] + fund - behind)) * owed
    worth = jnp.sum(stock.units * ask)
    return jnp.clip(room / positive_or_one(worth), 0.0, 1.0)


def _offer(
    venue: Venue, system: System, row: int, units: Float[Array, ""], paid: Float[Array, ""]
) -> Offer:
    accounts, none = venue.accounts, jnp.zeros_like(paid)
    calls = none if system.keeper.cost is None else (units > 0).astype(paid.dtype)
    asset = (accounts.collateral_assets[row],)
    owed = jnp.zeros(len(accounts.debt_assets), paid.dtype)
    held = jnp.zeros(len(accounts.collateral_assets), paid.dtype)
    return Offer(
        moved=Moved(seized=held, repaid=owed, written_off=owed, refund=none, calls=calls),
        fee=held,
        sold=spread(units[None], asset, len(system.assets)),
        paid=paid,
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
    """Return the venue after the absorptions and the sales as far as they were rationed.

    Absorptions need nobody's money and are never rationed. Arguments are those of
    `jaxrisk.system.execution.Play`.
    """
    del system
    accounts, growth = venue.accounts, jnp.exp(state.log_index)
    seen = select(venue.oracle.seen(state.oracle, market), accounts.debt_assets)
    price = select(market.mid, accounts.debt_assets)
    total, stock = summed(offers), wanted.stock
    sold = wanted.for_sale * jnp.stack(shares)
    part = sold / positive_or_one(stock.units)
    released = jnp.sum(stock.claims * part)[None]
    raised = jnp.sum(sold * wanted.payment)[None]
    gain = jnp.where(raised > released, raised - released, jnp.zeros_like(raised))
    opening_debt = summed([a.debt for a in wanted.absorbed])
    debt = opening_debt * growth
    refund = summed([a.refund for a in wanted.absorbed])
    worthless = summed([a.worthless for a in wanted.absorbed]) / seen
    written_off = gain - (raised - released) + worthless
    change = changed_pool(
        cash=raised,
        debt=-debt,
        in_sale=debt + refund / seen - worthless - released,
        unsettled=written_off,
        supplied=refund / seen,
        treasury=gain,
    )
    moved = dataclasses.replace(
        total.moved,
        seized=summed([a.units for a in wanted.absorbed]),
        repaid=summed([a.repaid for a in wanted.absorbed]) / seen,
        written_off=written_off,
        refund=refund,
        charge=jnp.sum(gain * price),
    )
    weights = [a.weight for a in wanted.absorbed]
    if state.ledgers is not None:
        ledgers = noted(venue, book, state, weights, _credited(venue), market.mid, refunds=True)
        state = dataclasses.replace(state, ledgers=ledgers)
    state = dataclasses.replace(
        state,
        **left_standing(book, state, weights, wanted.within),
        owed=state.owed - opening_debt,
        pool=state.pool + change,
        execution=Stock(units=stock.units - sold, claims=stock.claims * (1.0 - part)),
    )
    return state, dataclasses.replace(total, moved=moved)


def unsold(
    venue: Venue, stock: Stock, mid: Float[Array, " asset"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Return claims beyond the worth of the stock, and that worth, in the numeraire."""
    worth = jnp.sum(stock.units * select(mid, venue.accounts.collateral_assets))
    claims = jnp.sum(stock.claims * select(mid, venue.accounts.debt_assets))
    return jnp.where(claims > worth, claims - worth, jnp.zeros_like(worth)), worth
