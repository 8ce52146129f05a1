"""The one step: move, accrue, reprice, see, act, prepare, cascade, absorb.

Read this file first. Every verb is a pure function from a state to the next; every flow is booked
in the venue's balance sheet (units) and in its cumulated flows (numeraire). A scenario is this step
scanned over time; scenarios are mapped over that.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.indexing import select
from jaxrisk.system.act import act
from jaxrisk.system.book import Tranche
from jaxrisk.system.cascade import cascade
from jaxrisk.system.claim_prices import repriced
from jaxrisk.system.execution import play_of
from jaxrisk.system.halts import watched
from jaxrisk.system.keepers import prepare
from jaxrisk.system.system import State, StepRules, System, VenueState, booked
from jaxrisk.venue.interest import Balance
from jaxrisk.venue.venue import Pool, Venue, changed_pool
from jaxrisk.venue.waterfall import Loss, Residual, pay_in_order


def step(
    system: System,
    books: tuple[tuple[Tranche, ...], ...],
    rules: StepRules,
    state: State,
    noise: Any,
) -> State:
    """Return the state one step later.

    Args:
        system: what the scenario starts from.
        books: each venue's accounts in tranches.
        rules: how the step is played.
        state: the scenario so far.
        noise: the step's random numbers, as the path model draws them.
    """
    state = move(system, rules, state, noise)
    state = accrue(system, books, rules, state)
    state = reprice(system, books, state)
    state = see(system, state)
    state = act(system, books, rules, state)
    state = prepare(system, books, rules, state)
    state = cascade(system, books, rules, state)
    state = absorb(system, state)
    return reprice(system, books, state)


def move(system: System, rules: StepRules, state: State, noise: Any) -> State:
    """Return the state after prices have moved and the market's memory has faded."""
    paths, shift = system.paths.advance(state.paths, noise, rules.step_years)
    market = system.liquidity.relax(state.market, shift.log_return, rules.step_years)
    market = dataclasses.replace(market, price=market.price * jnp.exp(shift.log_return))
    if market.underlying is not None:
        reference = shift.log_reference_return
        ratio = market.log_ratio + reference - select(reference, market.underlying)
        market = dataclasses.replace(market, log_ratio=ratio)
    return dataclasses.replace(state, market=market, paths=paths)


def accrue(
    system: System, books: tuple[tuple[Tranche, ...], ...], rules: StepRules, state: State
) -> State:
    """Return the state after interest: borrowers owe more, suppliers and treasury own it.

    What a kind of execution keeps may change with time too.
    """
    mid, venues = state.market.mid, []
    for venue, book, venue_state in zip(system.venues, books, state.venues, strict=True):
        price = select(mid, venue.accounts.debt_assets)
        accrued, wait = _accrue_venue(venue, venue_state, price, rules), play_of(venue).wait
        venues.append(accrued if wait is None else wait(venue, book, accrued, state.market, rules))
    return dataclasses.replace(state, venues=tuple(venues))


def _accrue_venue(
    venue: Venue, state: VenueState, price: Float[Array, " debt_asset"], rules: StepRules
) -> VenueState:
    debt = state.pool[Pool.DEBT]
    balance = Balance(debt=debt, cash=state.pool[Pool.CASH], supplied=state.pool[Pool.SUPPLIED])
    accrued = venue.interest.advance(state.interest, balance, rules.step_years)
    # Kahan's sum: a year of hourly additions in float32 would drift otherwise. Interest is the
    # growth of the debt itself, so that the books of many steps add up to the index.
    growth = accrued.log_growth - state.index_carry
    log_index = state.log_index + growth
    interest = state.owed * jnp.exp(log_index) - debt
    kept = interest * accrued.kept
    return dataclasses.replace(
        state,
        log_index=log_index,
        index_carry=(log_index - state.log_index) - growth,
        interest=accrued.state,
        pool=state.pool + changed_pool(debt=interest, supplied=interest - kept, treasury=kept),
        flows=state.flows
        + booked(interest=jnp.sum(interest * price), reserve_interest=jnp.sum(kept * price)),
    )


def reprice(system: System, books: tuple[tuple[Tranche, ...], ...], state: State) -> State:
    """Return the state after claims on venues have followed what is behind them.

    Owners do so once they have acted, and a cascade after each of its rounds.
    """
    market = repriced(system, books, state.market, state.venues)
    return dataclasses.replace(state, market=market)


def see(system: System, state: State) -> State:
    """Return the state after oracles, and circuit breakers, have seen the market."""
    venues = tuple(
        dataclasses.replace(s, oracle=venue.oracle.observe(s.oracle, state.market))
        for venue, s in zip(system.venues, state.venues, strict=True)
    )
    halts = watched(system.halts, state.halts, system.venues, state.market)
    return dataclasses.replace(state, venues=venues, halts=halts)


def absorb(system: System, state: State) -> State:
    """Return the state after the funds, in order, and then the residual bearer took the loss.

    Where the venue says so, the protocol's own claims come before the funds.
    """
    venues = tuple(
        _absorb_venue(venue, venue_state, state.market)
        for venue, venue_state in zip(system.venues, state.venues, strict=True)
    )
    return dataclasses.replace(state, venues=venues)


def _absorb_venue(venue: Venue, state: VenueState, market: Market) -> VenueState:
    """Allot what was written off in this step: funds in order, then the residual bearer."""
    price = select(market.mid, venue.accounts.debt_assets)
    units, loss = state.pool[Pool.UNSETTLED], state.unsettled
    left, own = units, jnp.zeros_like(loss)
    if venue.treasury_pays:
        treasury = state.pool[Pool.TREASURY]
        held = smaller(units, jnp.where(treasury > 0, treasury, jnp.zeros_like(units)))
        own = loss * (jnp.sum(held * price) / positive_or_one(jnp.sum(units * price)))
        left = units - held
    settled = pay_in_order(
        venue.waterfall,
        Loss.opening(left, loss - own, price),
        state.funds,
        state.offsets,
        venue.oracle.seen(state.oracle, market),
    )
    end = settled.loss
    borne, unpaid = end.units, end.left
    zero, none = jnp.zeros_like(borne), jnp.zeros_like(unpaid)
    diluted, carried = (venue.residual is r for r in (Residual.DILUTED, Residual.CARRIED))
    change = changed_pool(
        cash=end.cash + borne if diluted else end.cash,
        unsettled=-units,
        deficit=borne if carried else zero,
        supplied=(zero if carried or diluted else -borne) - end.cancelled - end.treasury,
        treasury=left - units + end.treasury,
    )
    flows = booked(
        residual=none if diluted else unpaid,
        dilution=unpaid if diluted else none,
        treasury_paid=own,
        slash_fee=end.fee,
    )
    return dataclasses.replace(
        state,
        pool=state.pool + change,
        unsettled=jnp.zeros_like(loss),
        funds=settled.funds,
        offsets=settled.offsets,
        paid=state.paid + settled.paid,
        flows=state.flows + flows,
    )
