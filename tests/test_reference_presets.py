"""Steps of every preset closed by calls, against the scalar reference of its protocol.

The reference's terms are those that the pages of the venues state, not those of the engine.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrisk.market.oracle import DeviationOracle
from jaxrisk.market.paths import GivenMoves
from jaxrisk.system.system import State, System
from jaxrisk.venue.venue import Venue
from tests import call_venues, systems
from tests import reference_calls as calls
from tests import reference_cascade as reference
from tests.call_venues import PRE_LIQUIDATION, WEIGHTS
from tests.reference import liquidation_incentive_factor
from tests.reference_calls import Protocol
from tests.reference_market import World
from tests.reference_systems import Terms, compare, reference_venue, reference_world
from tests.test_every_call_preset import every_preset

LOAN_TO_VALUE = 0.86
FACTOR = liquidation_incentive_factor(LOAN_TO_VALUE)
POOL = Terms(threshold=[[0.83, 0.81]], bonus=[[0.05, 0.06]], fee_share=[0.1, 0.1])
MARKET = Terms(threshold=[[LOAN_TO_VALUE]], bonus=[[FACTOR - 1.0]], fee_share=[0.0])
EARLY = list(PRE_LIQUIDATION.values())


class Case(NamedTuple):
    """A protocol, and the terms of ether and staked ether, or of the latter alone."""

    protocol: Callable[[], Protocol]
    terms: Terms
    debts: tuple[str, ...] = ("USDC",)


def weighted(bonus: float = 0.0, fee_share: float = 0.0) -> Terms:
    """Return terms of one bonus, with the weights that are given as options."""
    return Terms([list(WEIGHTS.values())], [[bonus, bonus]], [fee_share, fee_share])


def single(threshold: float, bonus: float = 0.0) -> Terms:
    """Return terms of one collateral whose bonus the keeper gets."""
    return Terms([[threshold]], [[bonus]], [0.0])


BOTH = ("WETH", "USDC")
CASES: dict[str, Case] = {
    "aave_v3": Case(calls.AaveV3, POOL, BOTH),
    "aave_v3_legacy": Case(calls.AaveV3Legacy, POOL, BOTH),
    "aave_v4": Case(
        lambda: calls.AaveV4(target=1.24, health_for_maximum=0.9, minimum_share=0.9),
        Terms(threshold=[[0.83, 0.80]], bonus=[[0.0555, 0.0666]], fee_share=[0.1, 0.1]),
        BOTH,
    ),
    "compound_v2": Case(calls.CompoundV2, weighted(0.08, 0.028), BOTH),
    "euler_v2": Case(
        lambda: calls.EulerV2(maximum_discount=0.15, minimum_socialised=5e3),
        Terms(threshold=[[0.86, 0.84]], bonus=[[0.0, 0.0]], fee_share=[0.0, 0.0]),
    ),
    "gearbox_v3": Case(lambda: calls.GearboxV3(premium=0.04, fee=0.015), weighted()),
    "silo_v2": Case(lambda: calls.SiloV2(target=0.765), single(0.85, 0.05)),
    "fluid": Case(
        lambda: calls.Fluid(level=0.88, max_limit=0.925, penalty=0.02), single(0.88, 0.02)
    ),
    "morpho_blue": Case(calls.MorphoBlue, MARKET),
    "morpho_pre_liquidation": Case(
        lambda: calls.MorphoPreLiquidation(
            lower=EARLY[0],
            upper=LOAN_TO_VALUE,
            factors=(EARLY[1], EARLY[2]),
            credits=(EARLY[3], EARLY[4]),
        ),
        single(EARLY[0], FACTOR - 1.0),
    ),
}

DRAWN: dict[str, Any] = {
    "seed": st.integers(0, 2**32 - 1),
    "fall": st.floats(0.0, 0.5),
    "log_depth": st.floats(5.0, 9.0),
    "log_funds": st.floats(0.0, 7.0),
}
# Where the rules for what a call leaves bind: around the 1,000 USD that must remain.
SMALL = (3.0, 4.0)

on_both_policies = pytest.mark.parametrize(
    ("policy", "has_cost"), [("pro_rata", True), ("best_pair", False)]
)


def scalar(system: System, policy: str) -> World:
    """Return the reference of a system whose venues are named after their cases."""
    price = np.array(system.market.price)
    venues = [
        reference_venue(venue, price, CASES[venue.name].protocol(), CASES[venue.name].terms)
        for venue in system.venues
    ]
    return reference_world(system, policy, venues)


def after_steps(system: System) -> list[State]:
    """Return the engine's state after each step."""
    return [s for verb, s in systems.played_verb_by_verb(system) if verb == "absorb"]


def check(system: System, states: list[State], world: World) -> None:
    """Play the reference beside the engine's states and compare after every step."""
    assert isinstance(system.paths, GivenMoves)
    for state, move in zip(states, np.asarray(system.paths.log_return[0]), strict=True):
        reference.step(world, move, systems.STEP_YEARS, systems.ROUNDS)
        compare(state, world, rtol=1e-9)


@pytest.mark.slow
@on_both_policies
@settings(max_examples=5)
@given(**DRAWN)
def test_all_presets_in_one_market_step_as_the_scalar_reference(policy, has_cost, **drawn):
    system = every_preset(policy, has_cost, **drawn)
    assert {venue.name for venue in system.venues} == set(CASES)
    check(system, after_steps(system), scalar(system, policy))


def with_rival(
    kind: str,
    policy: str,
    has_cost: bool,
    *,
    log_sizes: tuple[float, float],
    seed: int,
    fall: float,
    log_depth: float,
    log_funds: float,
) -> System:
    """Return a preset and an isolated market in one market, the preset behind a push oracle."""
    system = systems.random_system(
        seed, policy=policy, has_cost=has_cost, fall=fall, depth=10**log_depth, funds=10**log_funds
    )
    rng = np.random.default_rng([seed, 2])
    oracle = DeviationOracle(deviation=jnp.asarray([0.005, 0.005, 0.001]))
    options: dict[str, Any] = {"oracle": oracle}
    if kind == "compound_v2":
        # No table ships, so that ether needs a curve as soon as it is owed.
        given = call_venues.OPTIONS[kind][1]["overrides"]
        options["overrides"] = {**given, "WETH": {**given["WETH"], **given["USDC"]}}
    own = call_venues.random_venue(
        kind,
        rng,
        accounts=4,
        owed=CASES[kind].debts,
        log_sizes=log_sizes,
        funds=10**log_funds,
        **options,
    )
    rival: Venue = dataclasses.replace(system.venues[1], name="morpho_blue")
    return dataclasses.replace(system, venues=(own, rival))


@pytest.mark.slow
@pytest.mark.parametrize("kind", CASES)
@on_both_policies
@given(log_sizes=st.sampled_from([call_venues.LOG_SIZES, SMALL]), **DRAWN)
def test_a_step_of_a_preset_is_that_of_the_scalar_reference(kind, policy, has_cost, **drawn):
    system = with_rival(kind, policy, has_cost, **drawn)
    check(system, after_steps(system), scalar(system, policy))


# Coefficients of the reference that are changed, one at a time, to see that the comparison tells.
# `bonus`, `threshold` and `fee_share` are terms of the collateral, times what is given.
BROKEN = [
    ("aave_v3", "close_factor", 0.501),
    ("aave_v3", "leftover", 1.1e3),
    ("aave_v3", "full_below_health", 0.9),
    ("aave_v3_legacy", "close_factor", 0.501),
    ("aave_v3_legacy", "full_below_health", 0.9),
    ("aave_v4", "target", 1.241),
    ("aave_v4", "health_for_maximum", 0.901),
    ("aave_v4", "minimum_share", 0.901),
    ("aave_v4", "leftover", 1.1e3),
    ("aave_v4", "fee_share", 1.001),
    ("compound_v2", "close_factor", 0.501),
    ("compound_v2", "bonus", 1.001),
    ("compound_v2", "fee_share", 1.001),
    ("euler_v2", "maximum_discount", 0.1501),
    ("euler_v2", "minimum_socialised", 1e7),
    ("euler_v2", "threshold", 1.001),
    ("silo_v2", "target", 0.766),
    ("silo_v2", "whole_above", 0.5),
    ("silo_v2", "bonus", 1.001),
    ("gearbox_v3", "premium", 0.0401),
    ("gearbox_v3", "fee", 0.0151),
    ("fluid", "level", 0.8801),
    ("fluid", "max_limit", 0.99),
    ("fluid", "penalty", 0.0201),
    ("morpho_blue", "bonus", 1.001),
    ("morpho_pre_liquidation", "upper", 0.861),
    ("morpho_pre_liquidation", "factors", (0.06, 0.5)),
    ("morpho_pre_liquidation", "credits", (1.011, 1.04)),
]


# A slow fall, two gaps, and a book of small accounts: in one of them each coefficient matters.
# Calls on small accounts cost nothing, or nobody would make them.
PLAYED = [
    ("pro_rata", True, 3, 0.05, call_venues.LOG_SIZES),
    ("pro_rata", True, 33, 0.2, call_venues.LOG_SIZES),
    ("pro_rata", True, 28, 0.2, call_venues.LOG_SIZES),
    ("best_pair", False, 61, 0.02, SMALL),
]


@functools.cache
def one_market(number: int) -> tuple[System, list[State]]:
    """Return one venue of each preset in one market, and the states after its steps."""
    policy, has_cost, seed, fall, log_sizes = PLAYED[number]
    system = every_preset(policy, has_cost, seed=seed, fall=fall, log_depth=8.0, log_funds=3.0)
    venues = call_venues.every_venue(seed, log_sizes=log_sizes, funds=1e3)
    system = dataclasses.replace(system, venues=venues)
    return system, after_steps(system)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name", "value"), BROKEN)
def test_one_coefficient_off_is_noticed(kind, name, value):
    noticed = []
    for number, (policy, *_) in enumerate(PLAYED):
        system, states = one_market(number)
        world = scalar(system, policy)
        (venue,) = (v for v in world.venues if v.name == kind)
        if name in ("bonus", "threshold", "fee_share"):
            setattr(venue, name, getattr(venue, name) * value)
        else:
            assert hasattr(venue.protocol, name)
            setattr(venue.protocol, name, value)
        try:
            check(system, states, world)
        except AssertionError as error:
            noticed.append(str(error))
            break
    assert noticed
    assert "values are off" in noticed[0]


def test_the_comparison_is_not_of_nothing():
    """Everybody is called, and every bearer of losses bears some."""
    flows: dict[str, dict[str, float]] = {kind: {} for kind in CASES}
    for number, (policy, *_) in enumerate(PLAYED):
        system, states = one_market(number)
        world = scalar(system, policy)
        check(system, states, world)
        for venue in world.venues:
            own = flows[venue.name]
            own |= {entry: own.get(entry, 0.0) + value for entry, value in venue.flows.items()}
    for kind, own in flows.items():
        standing = kind in ("aave_v3_legacy", "compound_v2", "silo_v2", "fluid")
        assert own["liquidated"] > own["repaid"] > 0, kind
        assert (own["bad_debt"] > 0) == (not standing), kind
        assert standing or own["residual"] > 0, kind
    assert flows["gearbox_v3"]["refund"] > 0
    assert flows["gearbox_v3"]["treasury_paid"] > 0
    for kind in ("aave_v3", "aave_v3_legacy", "aave_v4", "compound_v2", "gearbox_v3"):
        assert flows[kind]["fee"] > 0, kind
