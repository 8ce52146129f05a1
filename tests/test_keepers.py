"""Keepers with limits: capital, time and a crowd; what they do is the scalar reference's."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.paths import GivenMoves
from jaxrisk.system.policy import Capital
from jaxrisk.system.system import Flow, KeeperState, State, System
from tests import reference_cascade as reference
from tests import systems
from tests.helpers import assert_close
from tests.reference_systems import compare
from tests.test_reference_cascade import two_venues
from tests.test_step import check_conservation

LIMITS = ("capital", "latency", "congestion")
LONG = 1.0 / systems.STEP_YEARS

SEEDS = st.integers(0, 2**32 - 1)


def limited(system: System, limits: tuple[str, ...] = LIMITS, **terms: float) -> System:
    """Return the system with keepers under these limits, which do not bind where not stated.

    Most tests state all of them: systems of one shape share a compilation.
    """
    at = lambda name, default: jnp.asarray(terms.get(name, default))
    capital = Capital(amount=at("capital", 1e12), recovery_rate=at("recovery_rate", 0.5 * LONG))
    keeper = dataclasses.replace(
        system.keeper,
        capital=capital if "capital" in limits else None,
        latency=at("latency", 0.0) if "latency" in limits else None,
        congestion=at("congestion", 0.0) if "congestion" in limits else None,
    )
    return dataclasses.replace(system, keeper=keeper)


def costly(seed: int, **terms: Any) -> System:
    """Return a system in which calls cost something."""
    return systems.random_system(seed, has_cost=True, **terms)


def kept(state: State) -> KeeperState:
    """Return what keepers have and did."""
    assert state.keepers is not None
    return state.keepers


def total(state: State, entry: Flow) -> float:
    return float(sum(venue.flows[entry] for venue in state.venues))


@pytest.mark.parametrize(
    ("limits", "policy"),
    [
        (LIMITS, "pro_rata"),
        pytest.param(LIMITS, "best_pair", marks=pytest.mark.slow),
        *(pytest.param((limit,), "pro_rata", marks=pytest.mark.slow) for limit in LIMITS),
    ],
)
@given(seed=SEEDS, fall=st.floats(0.0, 0.4), log_depth=st.floats(6.0, 9.0), has=st.floats(3.0, 7.0))
def test_a_step_of_limited_keepers_is_that_of_the_scalar_reference(
    limits, policy, seed, fall, log_depth, has
):
    system = systems.random_system(
        seed, policy=policy, has_cost=True, fall=fall, depth=10**log_depth
    )
    system = limited(system, limits, capital=10**has, latency=1.0, congestion=0.3)
    assert isinstance(system.paths, GivenMoves)
    world = two_venues(system, policy)
    played = systems.played_verb_by_verb(system)
    check_conservation(system, played)
    absorbed = [s for verb, s in played if verb == "absorb"]
    for state, move in zip(absorbed, np.asarray(system.paths.log_return[0]), strict=True):
        reference.step(world, move, systems.STEP_YEARS, systems.ROUNDS)
        compare(state, world, rtol=1e-8)
        assert_close(kept(state).free, world.free, rtol=1e-8, atol=1e-3)
        assert_close(kept(state).calls, world.calls, rtol=1e-8, atol=1e-9)


def first_step(system: System) -> State:
    """Return the state after the first step."""
    return next(s for verb, s in systems.played_verb_by_verb(system) if verb == "absorb")


@given(seed=SEEDS, fall=st.floats(0.1, 0.4), has=st.floats(2.0, 6.0), more=st.floats(0.0, 2.0))
def test_less_capital_never_liquidates_more_in_a_round(seed, fall, has, more):
    """In later rounds and steps it may: what is not sold today is sold at other prices."""
    rounds = []
    for amount in (10**has, 10 ** (has + more)):
        system = limited(costly(seed, fall=fall), capital=amount)
        played = systems.played_verb_by_verb(system)
        rounds.append(next(s for verb, s in played if verb == "round 1"))
    little, much = (total(state, Flow.LIQUIDATED) for state in rounds)
    assert little <= much * (1.0 + 1e-12)
    for state, amount in zip(rounds, (10**has, 10 ** (has + more)), strict=True):
        assert total(state, Flow.KEEPER_PAID) <= amount * (1.0 + 1e-12)


@given(seed=SEEDS, fall=st.floats(0.1, 0.4))
def test_keepers_never_spend_what_they_do_not_have(seed, fall):
    system = limited(costly(seed, fall=fall), capital=2e4, recovery_rate=0.0)
    end = systems.played_verb_by_verb(system)[-1][1]
    paid = total(end, Flow.KEEPER_PAID)
    assert_close(kept(end).free + paid, 2e4, rtol=1e-9, atol=0.0)


def test_capital_comes_back_with_its_half_life():
    system = limited(costly(5, fall=0.3, depth=1e9), capital=2e4, recovery_rate=np.log(2.0) * LONG)
    played = systems.played_verb_by_verb(system)
    states = [s for verb, s in played if verb == "absorb"]
    assert kept(states[0]).free < 1.0
    second = total(states[1], Flow.KEEPER_PAID) - total(states[0], Flow.KEEPER_PAID)
    assert_close(second, 1e4 - kept(states[1]).free, rtol=1e-9, atol=1e-6)


def test_nobody_is_called_before_the_latency_is_over():
    system = costly(5, fall=0.3, depth=1e9)
    for latency in (0, 1, 2):
        played = systems.played_verb_by_verb(limited(system, latency=float(latency)))
        seized = [total(s, Flow.LIQUIDATED) for verb, s in played if verb == "absorb"]
        assert [x > 0 for x in seized] == [t >= latency for t in range(systems.STEPS)]


@given(seed=SEEDS, fall=st.floats(0.1, 0.4))
def test_a_crowd_makes_calls_dearer_and_fewer(seed, fall):
    plain = costly(seed, fall=fall)
    alone, crowd = first_step(limited(plain)), first_step(limited(plain, congestion=0.5))
    unlimited = first_step(plain)
    compare_flows = [np.asarray(v.flows) for v in unlimited.venues]
    for venue, flows in zip(alone.venues, compare_flows, strict=True):
        assert_close(venue.flows, flows, rtol=1e-12, atol=1e-9)
    made = kept(crowd).calls
    if made > 0:
        assert plain.keeper.cost is not None
        assert total(crowd, Flow.KEEPER_COST) > plain.keeper.cost * made
