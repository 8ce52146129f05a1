"""Every venue closed by calls in one step: balance sheets, bearers, liability, derivatives."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrisk.numerics.keys import root_key
from jaxrisk.system.cascade import cascade_round
from jaxrisk.system.simulate import Plan, cut_books, layouts, simulate
from jaxrisk.system.system import Flow, StepRules, System, opening_state
from jaxrisk.venue.venue import Pool
from jaxrisk.venue.waterfall import Residual
from tests import call_venues, systems
from tests.helpers import assert_close
from tests.test_step import check_conservation, rounds_of

on_every_kind = pytest.mark.parametrize(
    ("policy", "has_cost"), [("pro_rata", True), ("best_pair", False)]
)
on_random_systems = given(
    seed=st.integers(0, 2**32 - 1),
    fall=st.floats(0.0, 0.5),
    log_depth=st.floats(5.0, 9.0),
    log_funds=st.floats(0.0, 7.0),
)


def every_preset(
    policy, has_cost, seed, fall, log_depth, log_funds, dtype: Any = np.float64
) -> System:
    """Return one venue of each preset in one market."""
    system = systems.random_system(
        seed, policy=policy, has_cost=has_cost, fall=fall, depth=10**log_depth, dtype=dtype
    )
    venues = call_venues.every_venue(seed, funds=10**log_funds, dtype=dtype)
    return dataclasses.replace(system, venues=venues)


@pytest.mark.slow
@on_every_kind
@settings(max_examples=15)
@on_random_systems
def test_every_balance_sheet_holds_and_losses_end_on_named_bearers(
    policy, has_cost, seed, fall, log_depth, log_funds
):
    system = every_preset(policy, has_cost, seed, fall, log_depth, log_funds)
    played = systems.played_verb_by_verb(system)
    check_conservation(system, played)
    for verb, state in played:
        for rules, venue in zip(system.venues, state.venues, strict=True):
            for fraction in (*venue.collateral, *venue.debt):
                assert fraction.min() >= -1e-12
                assert fraction.max() <= 1.0
            if verb != "absorb":
                continue
            flows = venue.flows
            size = np.abs(flows).sum()
            assert (flows >= -1e-12 * size).all(), rules.name
            borne = venue.paid.sum() + flows[Flow.RESIDUAL] + flows[Flow.TREASURY_PAID]
            assert_close(borne, flows[Flow.BAD_DEBT], rtol=1e-12, atol=1e-9)
            assert (venue.pool[Pool.UNSETTLED] == 0).all()
            if rules.residual is Residual.STANDING:
                assert flows[Flow.BAD_DEBT] == 0
            if rules.residual is not Residual.CARRIED:
                assert (venue.pool[Pool.DEFICIT] == 0).all()


@on_every_kind
@settings(max_examples=10)
@on_random_systems
def test_keepers_do_not_sell_at_a_loss(policy, has_cost, seed, fall, log_depth, log_funds):
    """A call pays on the whole class it belongs to; with a cost, after that too."""
    system = every_preset(policy, has_cost, seed, fall, log_depth, log_funds)
    for old, new in rounds_of(systems.played_verb_by_verb(system)):
        for rules, before, after in zip(system.venues, old.venues, new.venues, strict=True):
            flows = after.flows - before.flows
            paid = flows[Flow.KEEPER_PAID] + flows[Flow.KEEPER_COST]
            assert flows[Flow.PROCEEDS] - paid >= -1e-9 * paid, rules.name


def test_every_preset_does_something_in_a_crash():
    # A slow fall and a gap: a vault that is drawn down in the first is under water in the second.
    flows: dict[str, np.ndarray] = {}
    for fall in (0.1, 0.35):
        system = every_preset("pro_rata", True, 3, fall, 8.0, 3.0)
        state = systems.played_verb_by_verb(system)[-1][1]
        for venue, end in zip(system.venues, state.venues, strict=True):
            flows[venue.name] = flows.get(venue.name, 0.0) + np.asarray(end.flows)
    assert all(f[Flow.REPAID] > 0 for f in flows.values())
    for name in ("aave_v3", "aave_v4", "euler_v2", "gearbox_v3", "morpho_blue"):
        assert flows[name][Flow.BAD_DEBT] > 0, name
    assert flows["compound_v2"][Flow.FEE] > 0
    assert flows["gearbox_v3"][Flow.REFUND] + flows["gearbox_v3"][Flow.FEE] > 0


@pytest.mark.slow
def test_single_precision_is_close():
    exact = every_preset("pro_rata", True, 11, 0.2, 8.0, 3.0)
    rough = every_preset("pro_rata", True, 11, 0.2, 8.0, 3.0, dtype=np.float32)
    ends = [systems.played_verb_by_verb(s)[-1][1] for s in (exact, rough)]
    assert ends[1].venues[0].flows.dtype == np.float32
    for fine, coarse in zip(ends[0].venues, ends[1].venues, strict=True):
        size = np.abs(fine.flows).sum()
        assert_close(coarse.flows.astype(float), fine.flows, rtol=0.02, atol=0.02 * size)


@pytest.mark.slow
def test_derivatives_are_finite_exact_and_smooth():
    system = every_preset("pro_rata", True, 5, 0.25, 8.0, 3.0)
    layout = layouts(system, Plan(steps=1, health_groups=1))

    def loss(scale, width):
        venues = tuple(
            dataclasses.replace(v, incentive=v.incentive.scaled(scale)) for v in system.venues
        )
        price = system.market.price * jnp.where(jnp.arange(3) < 2, scale, 1.0)
        market = dataclasses.replace(system.market, price=price)
        changed = dataclasses.replace(system, venues=venues, market=market)
        books = cut_books(changed, layout)
        state = opening_state(changed, books)
        rules = StepRules(step_years=jnp.asarray(0.0), width=width)
        ends = cascade_round(changed, books, rules, state)[0].venues
        return sum(jnp.sum(end.flows) for end in ends)

    slope = jax.jit(jax.grad(loss))
    for width in (0.0, 0.1):
        found = slope(jnp.array(0.8), jnp.array(width))
        assert bool(jnp.isfinite(found))
        assert found != 0


@on_every_kind
@settings(max_examples=10)
@on_random_systems
def test_larger_funds_never_raise_what_suppliers_bear(
    policy, has_cost, seed, fall, log_depth, log_funds
):
    system = every_preset(policy, has_cost, seed, fall, log_depth, log_funds)
    insured = systems.with_venues(system, lambda v: dataclasses.replace(v, funds=3.0 * v.funds))
    before, after = (systems.played_verb_by_verb(s)[-1][1] for s in (system, insured))
    for old, new in zip(before.venues, after.venues, strict=True):
        bad_debt = old.flows[Flow.BAD_DEBT]
        assert new.flows[Flow.RESIDUAL] <= old.flows[Flow.RESIDUAL] + 1e-9 * bad_debt


@pytest.mark.slow
def test_scenarios_side_by_side_are_scenarios():
    """A small book in one round is played in lanes; the same ids in other lanes end alike."""
    system = dataclasses.replace(
        systems.stochastic_system(3), venues=call_venues.every_venue(3, funds=1e4)
    )
    play = lambda ids: simulate(
        system, root_key(2), scenarios=ids, steps=2, step_years=1e-3, rounds=1
    )
    many, few = play(np.arange(32)), play(np.arange(20, 32))
    assert_close(many.flows[20:], few.flows, rtol=1e-9, atol=1e-6)
    assert bool(jnp.isfinite(many.flows).all())
    assert float(many.conservation_error.max()) < 1e-9
    assert bool((many.liquidated.max(axis=0) > 0).all())
