"""The engine's step against the scalar reference, flow by flow and unit by unit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.paths import GivenMoves
from jaxrisk.system.system import Flow, System
from tests import reference_cascade as reference
from tests import systems
from tests.reference import liquidation_incentive_factor
from tests.reference_calls import AaveV3, MorphoBlue
from tests.reference_market import World
from tests.reference_systems import Terms, compare, reference_venue, reference_world

SEEDS = st.integers(0, 2**32 - 1)

# Ether and staked ether, of accounts in no e-mode and in that of ether.
POOL = Terms(
    threshold=[[0.83, 0.81], [0.95, 0.95]], bonus=[[0.05, 0.06], [0.01, 0.01]], fee_share=[0.1, 0.1]
)
ISOLATED = Terms(
    threshold=[[systems.ISOLATED_LTV]],
    bonus=[[liquidation_incentive_factor(systems.ISOLATED_LTV) - 1.0]],
    fee_share=[0.0],
)


def two_venues(system: System, policy: str) -> World:
    """Return the reference of the pool and the isolated market of `systems`."""
    pool, isolated = system.venues
    price = np.array(system.market.price)
    venues = [
        reference_venue(pool, price, AaveV3(), POOL),
        reference_venue(isolated, price, MorphoBlue(), ISOLATED),
    ]
    return reference_world(system, policy, venues)


@pytest.mark.parametrize("policy", systems.POLICIES)
@pytest.mark.parametrize("has_cost", [False, True])
@given(
    seed=SEEDS,
    fall=st.floats(0.0, 0.5),
    log_depth=st.floats(5.0, 9.0),
    log_funds=st.floats(0.0, 7.0),
)
def test_a_step_is_that_of_the_scalar_reference(policy, has_cost, seed, fall, log_depth, log_funds):
    system = systems.random_system(
        seed, policy=policy, has_cost=has_cost, fall=fall, depth=10**log_depth, funds=10**log_funds
    )
    assert isinstance(system.paths, GivenMoves)
    absorbed = [s for verb, s in systems.played_verb_by_verb(system) if verb == "absorb"]
    world = two_venues(system, policy)
    for state, move in zip(absorbed, np.asarray(system.paths.log_return[0]), strict=True):
        reference.step(world, move, systems.STEP_YEARS, systems.ROUNDS)
        compare(state, world, rtol=1e-8)


def test_the_comparison_is_not_of_nothing():
    system = systems.random_system(5, depth=1e8)
    state = systems.played_verb_by_verb(system)[-1][1]
    for venue in state.venues:
        for entry in (Flow.LIQUIDATED, Flow.REPAID, Flow.BAD_DEBT, Flow.PROCEEDS, Flow.INTEREST):
            assert venue.flows[entry] > 0
    changed = two_venues(system, "pro_rata")
    changed.coefficient = changed.coefficient * 1.01
    assert isinstance(system.paths, GivenMoves)
    for move in np.asarray(system.paths.log_return[0]):
        reference.step(changed, move, systems.STEP_YEARS, systems.ROUNDS)
    with pytest.raises(AssertionError, match="values are off"):
        compare(state, changed, rtol=1e-8)
