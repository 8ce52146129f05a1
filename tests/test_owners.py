"""Owners who act: what they do is the scalar reference's, and nothing is lost on the way."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.paths import GivenMoves
from jaxrisk.system.owners import OwnerFlow, OwnerState
from jaxrisk.system.system import State, System
from tests import owner_systems, systems
from tests import reference_cascade as reference
from tests.helpers import assert_close
from tests.reference_systems import compare
from tests.test_reference_cascade import two_venues
from tests.test_step import check_conservation

# Every policy is in one of these; the others are for a look at each by itself.
QUICK = [("in_turn", "pro_rata"), ("layers", "best_pair")]

MARKS = {kind: () if kind in dict(QUICK) else pytest.mark.slow for kind in owner_systems.KINDS}


def owners_of(state: State) -> OwnerState:
    """Return what owners have and did."""
    assert state.owners is not None
    return state.owners


def acting(kind: str, seed: int, policy: str = "pro_rata", **terms: Any) -> System:
    """Return a system with owners who have little to much cash."""
    wallet = 10 ** np.random.default_rng(seed).uniform(2.0, 6.0, owner_systems.COUNT)
    system = systems.random_system(seed, policy=policy, **terms)
    return owner_systems.with_owners(system, kind, wallet)


@pytest.mark.parametrize(
    ("kind", "policy"),
    [
        pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow)
        for case in itertools.product(owner_systems.KINDS, systems.POLICIES)
    ],
)
@given(seed=st.integers(0, 2**32 - 1), fall=st.floats(0.0, 0.3), log_depth=st.floats(6.0, 9.0))
def test_a_step_with_owners_is_that_of_the_scalar_reference(kind, policy, seed, fall, log_depth):
    system = acting(kind, seed, policy, fall=fall, depth=10**log_depth)
    assert isinstance(system.paths, GivenMoves)
    assert system.owners is not None
    world = two_venues(system, policy)
    world.owners = owner_systems.reference_owners(world, kind, np.array(system.owners.wallet))
    absorbed = [s for verb, s in systems.played_verb_by_verb(system) if verb == "absorb"]
    for state, move in zip(absorbed, np.asarray(system.paths.log_return[0]), strict=True):
        reference.step(world, move, systems.STEP_YEARS, systems.ROUNDS)
        compare(state, world, rtol=1e-8)
        owners = owners_of(state)
        assert_close(owners.wallet, world.owners.wallet, rtol=1e-8, atol=1e-4)
        for v, flows in enumerate(world.owners.flows):
            expected = [flows.get(entry.name.lower(), 0.0) for entry in OwnerFlow]
            assert_close(owners.flows[:, v], expected, rtol=1e-8, atol=1e-4)


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=m) for kind, m in MARKS.items()])
@given(seed=st.integers(0, 2**32 - 1), fall=st.floats(0.0, 0.3), log_depth=st.floats(6.0, 9.0))
def test_what_owners_move_adds_up(kind, seed, fall, log_depth):
    system = acting(kind, seed, fall=fall, depth=10**log_depth)
    played = systems.played_verb_by_verb(system)
    check_conservation(system, played)
    for (_, before), (_, after) in itertools.pairwise(played):
        old, new = owners_of(before), owners_of(after)
        flows = new.flows - old.flows
        at = lambda name, f=flows: f[OwnerFlow[name.upper()]]
        size = 1e-9 * np.abs(flows).sum() + 1e-9
        came = at("proceeds") + at("drawn") + at("paid_in")
        went = at("repaid") + at("spent") + at("taken_out")
        assert (np.abs(came - went) <= size).all()
        change = (new.wallet - old.wallet).sum()
        assert abs(change - (at("taken_out") - at("paid_in")).sum()) <= size
        assert (new.wallet >= 0).all()
        assert (at("proceeds") <= at("sold") + size).all()
        assert (at("bought") <= at("spent") + size).all()


@pytest.mark.parametrize(
    ("kind", "happens"),
    [
        pytest.param(kind, happens, marks=MARKS[kind])
        for kind, happens in {
            "top_up": ("paid_in", "spent", "bought"),
            "deleverage": ("sold", "proceeds", "repaid"),
            "band": ("sold", "repaid", "drawn", "bought"),
            "layers": ("taken_out", "paid_in", "sold"),
            "unwound": ("repaid", "taken_out", "paid_in"),
            "in_turn": ("sold", "repaid", "paid_in", "bought"),
        }.items()
    ],
)
def test_every_policy_does_something(kind, happens):
    flows = np.zeros(len(OwnerFlow))
    for seed in range(4):
        system = acting(kind, seed, fall=0.03, depth=1e9)
        flows += owners_of(systems.played_verb_by_verb(system)[-1][1]).flows.sum(axis=1)
    for name in happens:
        assert flows[OwnerFlow[name.upper()]] > 0, name


def test_cash_that_nobody_asks_for_stays():
    """However little it is: a wallet is emptied only where it does not suffice."""
    wallet = np.full(owner_systems.COUNT, 0.5)
    system = owner_systems.with_owners(systems.random_system(3, fall=0.02), "top_up", wallet)
    end = owners_of(systems.played_verb_by_verb(system)[-1][1])
    paid = end.flows[OwnerFlow.PAID_IN].sum()
    assert_close(wallet.sum() - end.wallet.sum(), paid, rtol=1e-9, atol=0.0)
    assert 0 < paid < wallet.sum()
