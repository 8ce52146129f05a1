"""What limits keepers besides liquidity: capital, the time it takes to call, a crowd at the gate.

`jaxrisk.system.policy.Keeper` states the limits; here is what of them changes in a scenario.
Keepers without limits keep nothing, and cost nothing.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.indexing import select
from jaxrisk.system.book import Tranche
from jaxrisk.system.calls import value_behind
from jaxrisk.system.offer import Offer, summed
from jaxrisk.system.policy import Keeper
from jaxrisk.system.ration import SMALLEST_RATION
from jaxrisk.system.system import KeeperState, State, StepRules, System, VenueState
from jaxrisk.venue.venue import Venue

Scalar = Float[Array, ""]


def prepare(
    system: System, books: tuple[tuple[Tranche, ...], ...], rules: StepRules, state: State
) -> State:
    """Return the state as keepers find it: capital come back, a new block, accounts watched.

    Args:
        system: what the scenario starts from.
        books: each venue's accounts in tranches.
        rules: how the step is played.
        state: the scenario so far.
    """
    keeper, kept = system.keeper, state.keepers
    if kept is None:
        return state
    free = kept.free
    if keeper.capital is not None:
        gone = -jnp.expm1(-keeper.capital.recovery_rate * rules.step_years)
        free = free + (keeper.capital.amount - free) * gone
    venues = state.venues
    if keeper.latency is not None:
        venues = tuple(
            _watched(venue, book, venue_state, state)
            for venue, book, venue_state in zip(system.venues, books, venues, strict=True)
        )
    kept = dataclasses.replace(kept, free=free, calls=jnp.zeros_like(kept.calls))
    return dataclasses.replace(state, venues=venues, keepers=kept)


def _watched(venue: Venue, book: tuple[Tranche, ...], state: VenueState, at: State) -> VenueState:
    """Return the venue with the steps counted in which each account could be called in a row."""
    if state.callable_steps is None:
        return state
    seen = venue.oracle.seen(state.oracle, at.market)
    accounts, growth = venue.accounts, jnp.exp(state.log_index)
    held, owed = select(seen, accounts.collateral_assets), select(seen, accounts.debt_assets)
    counts = []
    for place, (tranche, count) in enumerate(zip(book, state.callable_steps, strict=True)):
        weight = held * venue.collateral.liquidation_threshold[tranche.category]
        backing = value_behind(tranche.accounts.collateral, state.collateral[place], weight)
        debt = value_behind(tranche.accounts.debt, state.debt[place], owed * growth)
        counts.append(jnp.where(debt > backing, count + 1.0, jnp.zeros_like(count)))
    return dataclasses.replace(state, callable_steps=tuple(counts))


def crowded(keeper: Keeper, kept: KeeperState | None, more: Scalar | float = 0.0) -> Keeper:
    """Return the keeper at the cost that the calls of the step and some more of them make.

    Args:
        keeper: at the cost of the first call.
        kept: the calls made so far; `None` where there are no limits.
        more: calls of the round at hand, which all pay the price that they make together.
    """
    if kept is None or keeper.congestion is None or keeper.cost is None:
        return keeper
    cost = keeper.cost * (1.0 + keeper.congestion * (kept.calls + more))
    return dataclasses.replace(keeper, cost=cost)


def within_capital(
    keeper: Keeper, kept: KeeperState | None, classes: list[Offer], shares: Float[Array, " class"]
) -> Float[Array, " class"]:
    """Return the shares of the classes cut alike to what keepers can pay for."""
    if kept is None or keeper.capital is None:
        return shares
    needed = jnp.sum(jnp.stack([offer.paid for offer in classes]) * shares)
    cut = jnp.clip(kept.free / positive_or_one(needed), 0.0, 1.0)
    cut = jnp.where(needed > 0, cut, jnp.ones_like(cut))
    return shares * jnp.where(cut < SMALLEST_RATION, jnp.zeros_like(cut), cut)


def spent(kept: KeeperState | None, through: list[Offer], calls: Scalar) -> KeeperState | None:
    """Return what keepers keep after a round.

    Args:
        kept: before it; `None` where there are no limits.
        through: what went through of the offers that are rationed.
        calls: made in the round.
    """
    if kept is None:
        return None
    free = kept.free
    if through:
        free = free - summed([offer.paid for offer in through])
    return KeeperState(
        free=jnp.where(free > 0, free, jnp.zeros_like(free)), calls=kept.calls + calls
    )
