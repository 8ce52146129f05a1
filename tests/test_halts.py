"""Circuit breakers: when they trip, what stops, for how long, and what goes on."""

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.paths import GivenMoves
from jaxrisk.system.halts import Breaker, Halts, shut, watched
from jaxrisk.system.owners import OwnerFlow
from jaxrisk.system.system import Flow, State, System
from tests import margin_systems, owner_systems, systems
from tests.helpers import assert_close
from tests.test_step import check_conservation

NEVER = 1e9
ETHER, STAKED = 0, 1


def halting(
    system: System, *, market: float = NEVER, pool: float = NEVER, steps: float = 1.0
) -> System:
    """Return the system with breakers at these log moves, of all markets and of its first venue."""
    breaker = lambda move: Breaker(move=jnp.asarray(move), steps=jnp.asarray(steps))
    venues = (breaker(pool), *(None for _ in system.venues[1:]))
    return dataclasses.replace(system, halts=Halts(markets=breaker(market), venues=venues))


def moving(*moves: float, depth: float = 1e9) -> System:
    """Return a system in which ether, and staked ether with it, makes these log moves."""
    system = systems.random_system(5, fall=0.0, depth=depth)
    table = np.array([[move, move, 0.0] for move in moves])
    return dataclasses.replace(system, paths=GivenMoves(log_return=jnp.asarray(table[None])))


def after_steps(system: System) -> list[State]:
    return [s for verb, s in systems.played_verb_by_verb(system) if verb == "absorb"]


def liquidated(state: State) -> list[float]:
    return [float(venue.flows[Flow.LIQUIDATED]) for venue in state.venues]


def test_breakers_that_do_not_trip_change_nothing():
    plain = systems.random_system(7, fall=0.2)
    for one, other in zip(after_steps(plain), after_steps(halting(plain)), strict=True):
        for a, b in zip(one.venues, other.venues, strict=True):
            assert_close(b.flows, a.flows, rtol=1e-12, atol=1e-9)


def test_a_venue_stops_for_its_steps_and_the_others_go_on():
    system = halting(moving(-0.4, 0.0, 0.0), pool=0.3, steps=2.0)
    first, second, third = (liquidated(s) for s in after_steps(system))
    assert first[0] == 0
    assert first[1] > 0
    # The move has gone, but the step it cost has not.
    assert second[0] == 0
    assert third[0] > 0


def test_halts_last_as_long_as_stated():
    for steps in (1.0, 2.0, 3.0):
        end = after_steps(halting(moving(-0.4, 0.0, 0.0), pool=0.3, steps=steps))
        assert [liquidated(s)[0] == 0 for s in end] == [t < steps for t in range(systems.STEPS)]


def test_a_rise_trips_as_a_fall_does():
    end = after_steps(halting(moving(0.4, -0.8, 0.0), pool=0.3, steps=1.0))
    assert end[0].halts is not None
    assert end[0].halts.venues[0] > 0


def test_nothing_is_sold_in_a_closed_market():
    system = halting(moving(-0.4, 0.0, 0.0), market=0.3)
    opening = systems.played_verb_by_verb(system)[0][1]
    first = after_steps(system)[0]
    assert first.market.recent_sales[ETHER] == opening.market.recent_sales[ETHER] == 0
    assert first.market.displacement[ETHER] == 0
    assert liquidated(first) == [0.0, 0.0]


def test_sales_that_move_a_price_too_far_stop_their_own_step():
    system = halting(moving(0.0), market=0.25, pool=0.15)
    halts, market = system.halts, system.market
    assert halts is not None
    kept = halts.opening(market)
    for drop, markets, venues in ((0.1, False, False), (0.2, False, True), (0.3, True, True)):
        fallen = dataclasses.replace(market, displacement=jnp.array([0.0, drop, 0.0]))
        closed = shut(halts, kept, system.venues, fallen)
        assert closed is not None
        assert closed.markets.tolist() == [False, markets, False]
        assert closed.venues.tolist() == [venues, False]
        later = watched(halts, kept, system.venues, fallen)
        assert later is not None
        assert (later.markets > 0).tolist() == [False, markets, False]


@given(seed=st.integers(0, 2**32 - 1), fall=st.floats(0.05, 0.4), move=st.floats(0.05, 0.4))
def test_books_balance_and_a_stopped_venue_keeps_its_accounts(seed, fall, move):
    system = halting(systems.random_system(seed, fall=fall), pool=move, market=1.5 * move)
    played = systems.played_verb_by_verb(system)
    check_conservation(system, played)
    for (_, before), (verb, after) in itertools.pairwise(played):
        if verb.startswith("round") and after.halts is not None and after.halts.venues[0] > 0:
            for a, b in zip(before.venues[0].debt, after.venues[0].debt, strict=True):
                assert_close(b, a, rtol=0.0, atol=0.0)


def test_owners_cannot_trade_what_is_closed():
    wallet = np.full(owner_systems.COUNT, 1e6)
    acting = lambda system: after_steps(owner_systems.with_owners(system, "top_up", wallet))[0]
    fall = moving(-0.25, 0.0, 0.0)
    for system, may in ((fall, True), (halting(fall, market=0.2), False)):
        owners = acting(system).owners
        assert owners is not None
        assert (owners.flows[OwnerFlow.SPENT].sum() > 0) == may


@pytest.mark.slow
def test_contracts_are_not_closed_while_their_market_is():
    plain = margin_systems.random_system(3, fall=0.2, leverage=60.0)
    seized = []
    for system in (plain, halting(plain, market=0.0, steps=100.0)):
        played = systems.played_verb_by_verb(system)
        check_conservation(system, played)
        seized.append(sum(liquidated(played[-1][1])))
    assert seized[0] > 0
    assert seized[1] == 0
