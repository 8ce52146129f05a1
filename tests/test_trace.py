"""Traces: what accounts, steps and scenarios say of the same path adds up."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxrisk.numerics.keys import root_key
from jaxrisk.system.simulate import Outcome, Plan, cut_books, layouts, simulator, step_rules
from jaxrisk.system.system import Flow
from jaxrisk.system.trace import Trace, tracer
from tests import call_venues
from tests.helpers import assert_close
from tests.systems import STEP_YEARS, stochastic_system

PLAN = Plan(steps=3, rounds=3)
IDS = np.arange(512)


@pytest.fixture(scope="module")
def played() -> tuple[Outcome, Trace]:
    """Outcomes and traces of the same scenarios; some pool debt is in an asset being sold."""
    system = stochastic_system(1)
    rules, key = step_rules(system, PLAN, STEP_YEARS), root_key(1)
    ended = simulator(PLAN)(system, cut_books(system, layouts(system, PLAN)), rules, key, IDS)
    traced = tracer(PLAN, keep_steps=False)(system, rules, key, IDS)
    return jax.device_get(ended), jax.device_get(traced)


def test_paths_end_where_scenarios_end(played):
    ended, traced = played
    assert_close(traced.mid[:, -1], ended.price, rtol=1e-12, atol=0.0)
    for name in ("liquidated", "bad_debt", "supplier_loss"):
        path, end = getattr(traced, name), getattr(ended, name)
        assert_close(path[:, -1], end, rtol=1e-9, atol=1e-6)
        assert (np.diff(path, axis=1) >= 0.0).all(), name


@pytest.mark.parametrize("venue", [0, 1], ids=["pool", "isolated"])
@pytest.mark.parametrize(
    ("entry", "flow"),
    [("seized", "liquidated"), ("repaid", "repaid"), ("written_off", "bad_debt")],
)
def test_accounts_add_up_to_their_venue(played, entry, flow, venue):
    ended, traced = played
    accounts = getattr(traced.accounts[venue], entry).sum(axis=1)
    whole = getattr(ended, flow)[:, venue]
    assert (whole > 0.0).any()
    assert_close(accounts, whole, rtol=1e-9, atol=1e-6)


@pytest.mark.slow
def test_what_borrowers_get_back_of_accounts_sold_whole_is_not_their_loss():
    rng = np.random.default_rng(3)
    venue = call_venues.random_venue("gearbox_v3", rng, accounts=8, funds=0.0)
    system = dataclasses.replace(stochastic_system(1), venues=(venue,))
    plan = Plan(steps=3, rounds=3, health_groups=2)
    rules, key, ids = step_rules(system, plan, STEP_YEARS), root_key(1), np.arange(64)
    ended = simulator(plan)(system, cut_books(system, layouts(system, plan)), rules, key, ids)
    (accounts,) = tracer(plan, keep_steps=False)(system, rules, key, ids).accounts
    assert (ended.flows[:, Flow.REFUND, 0] > 0).any()
    lost = (accounts.seized - accounts.repaid).sum(axis=1)
    assert_close(lost, ended.borrower_loss[:, 0], rtol=1e-9, atol=1e-6)
