"""The closed form of one shock is the end of the rounds it stands for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.paths import GivenMoves
from jaxrisk.measure.avalanche import clearing_gap, feedback_gain
from jaxrisk.numerics.keys import root_key
from jaxrisk.system.avalanche import Triggers
from jaxrisk.system.ladder_scope import ladder_of
from jaxrisk.system.simulate import simulate
from tests import ladders
from tests.helpers import assert_close

SEEDS = st.integers(0, 2**32 - 1)
DEPTH = 100.0


def one_law(kind, strength):
    """Return an impact law of one asset."""
    law = ladders.law(kind, strength)
    if kind == "curve":
        return dataclasses.replace(law, share=law.share[:1])
    return dataclasses.replace(law, coefficient=law.coefficient[:1])


def in_rounds(log_trigger, sold, kind, strength, log_price):
    """Return who falls and the price left, found by looking at everybody until nobody falls."""
    fallen = np.zeros(len(sold), bool)
    now = log_price
    while True:
        below = ~fallen & (now < log_trigger)
        if not below.any():
            return fallen, now
        fallen |= below
        now = log_price - ladders.scalar_drop(kind, strength, sold[fallen].sum(), DEPTH)


cleared = jax.jit(lambda triggers, law, x: triggers.cleared(law, ladders.array(DEPTH), x))


@pytest.mark.parametrize("kind", ["linear", "root", "curve"])
@given(seed=SEEDS, strength=st.floats(0.05, 5.0))
def test_one_shock_is_the_end_of_all_rounds(kind, seed, strength):
    rng = np.random.default_rng(seed)
    log_trigger = -rng.exponential(0.3, 40)
    sold = 10 ** rng.uniform(-1.0, 1.5, 40)
    triggers = Triggers.of(ladders.array(log_trigger), ladders.array(sold))
    shocks = -rng.exponential(0.3, 8)
    count, left = cleared(triggers, one_law(kind, strength), ladders.array(shocks))
    for n, shock in enumerate(shocks):
        fallen, now = in_rounds(log_trigger, sold, kind, strength, shock)
        assert int(count[n]) == fallen.sum()
        assert_close(left[n], now, rtol=1e-12, atol=1e-12)


last = jax.jit(lambda triggers, law, x: triggers.cleared_last(law, ladders.array(DEPTH), x))
gap = jax.jit(lambda triggers, law, x: clearing_gap(triggers, law, ladders.array(DEPTH), x))


@pytest.mark.parametrize("kind", ["linear", "root", "curve"])
@given(seed=SEEDS, strength=st.floats(0.05, 5.0))
def test_the_least_and_the_greatest_clearing_price_are_those_of_all_consistent_ones(
    kind, seed, strength
):
    rng = np.random.default_rng(seed)
    log_trigger = np.sort(-rng.exponential(0.3, 40))[::-1]
    sold = 10 ** rng.uniform(-1.0, 1.5, 40)
    triggers = Triggers.of(ladders.array(log_trigger), ladders.array(sold))
    shocks = -rng.exponential(0.3, 8)
    law = one_law(kind, strength)
    most, least = last(triggers, law, ladders.array(shocks))
    few, greatest = cleared(triggers, law, ladders.array(shocks))
    between = gap(triggers, law, ladders.array(shocks))
    for n, shock in enumerate(shocks):
        consistent = []
        for fallen in range(41):
            left = shock - ladders.scalar_drop(kind, strength, sold[:fallen].sum(), DEPTH)
            if (left < log_trigger[:fallen]).all() and (left >= log_trigger[fallen:]).all():
                consistent.append((fallen, left))
        assert (int(few[n]), int(most[n])) == (consistent[0][0], consistent[-1][0])
        assert_close(least[n], consistent[-1][1], rtol=1e-12, atol=1e-12)
        assert_close(between[n], consistent[0][1] - consistent[-1][1], rtol=1e-9, atol=1e-12)
        assert (len(consistent) == 1) == (few[n] == most[n])
        assert_close(greatest[n] - least[n], between[n], rtol=0.0, atol=0.0)


def test_many_small_accounts_clear_at_one_price_where_the_gain_is_below_one():
    """Triggers spread evenly over 1: the gain is the impact of the whole book."""
    accounts, law, depth = 4000, one_law("linear", 1.0), ladders.array(DEPTH)
    before = ladders.array(0.05)
    for total, unique in ((0.9, True), (1.1, False)):
        each = total * DEPTH / float(law.coefficient[0]) / accounts
        triggers = Triggers.of(
            jnp.linspace(0.0, -1.0, accounts), jnp.full(accounts, each, jnp.float64)
        )
        gain = feedback_gain(triggers, law, depth, ladders.array(-0.2), ladders.array(0.3))
        assert_close(gain, total, rtol=1e-2, atol=0.0)
        # Nobody has fallen yet; whether all could is the question.
        assert (float(clearing_gap(triggers, law, depth, before)) == 0.0) == unique


@pytest.mark.parametrize("seed", [0, 1, 2, 4, 5])
def test_with_linear_impact_and_solvent_accounts_it_is_the_dense_engine_s_cascade(seed):
    # A small shock and weak impact, so that everybody has collateral for debt and bonus.
    system = ladders.system_of(seed, kind="linear", strength=0.4, spread=0.02)
    moves = jnp.zeros((1, 1, 3)).at[0, 0, 0].set(-0.01)
    system = dataclasses.replace(system, paths=GivenMoves(log_return=moves))
    ladder, market = ladder_of(system, ladders.STEP_YEARS)
    dense = simulate(
        system,
        root_key(0),
        scenarios=1,
        steps=1,
        step_years=ladders.STEP_YEARS,
        rounds=ladders.ACCOUNTS,
    )
    count, left = Triggers.of_ladder(ladder, market).cleared(
        market.law, market.depth, jnp.log(market.price) + moves[0, 0, 0]
    )
    assert float(dense.bad_debt[0, 0]) == 0.0
    assert float(dense.rounds[0]) > 2.0
    assert_close(jnp.exp(left), dense.price[0, 0], rtol=1e-12, atol=0.0)
    repaid = ladder.sums[count, 1] * market.debt_price
    assert_close(repaid, dense.repaid[0, 0], rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("side", [1, -1])
def test_perpetuals_fall_where_their_margin_no_longer_covers_maintenance(side):
    rng = np.random.default_rng(3)
    size, entry = rng.uniform(0.0, 3.0, 60), rng.uniform(80.0, 120.0, 60)
    size[:3] = 0.0
    margin, maintenance = rng.uniform(1.0, 100.0, 60), rng.uniform(0.01, 0.05, 60)
    margin[5] = 1e4
    build = lambda *book: Triggers.of_perpetuals(*map(ladders.array, book), side=side)
    triggers = build(size, entry, margin, maintenance)
    for price in (40.0, 70.0, 95.0, 130.0, 180.0):
        equity = margin + side * size * (price - entry)
        called = (equity < maintenance * size * price) & (size > 0)
        count = int(np.sum(np.asarray(triggers.log_price) > side * np.log(price)))
        assert count == called.sum()
        turns = (entry - side * margin / np.where(size > 0, size, 1.0)) / (1 - side * maintenance)
        assert_close(triggers.sold[count], (size * turns)[called].sum(), rtol=1e-12, atol=1e-9)


def test_thresholds_are_differentiable_where_the_minimum_is_one():
    rng = np.random.default_rng(1)
    base = Triggers.of(
        ladders.array(-rng.exponential(0.3, 30)), ladders.array(rng.uniform(1.0, 9.0, 30))
    )
    law = one_law("root", 1.0)

    def total(shift, amount, coefficient, depth):
        own = Triggers(log_price=base.log_price + shift * base.log_price, sold=base.sold * amount)
        return jnp.sum(own.thresholds(dataclasses.replace(law, coefficient=coefficient), depth))

    at = (ladders.array(0.0), ladders.array(1.0), law.coefficient, ladders.array(DEPTH))
    slopes = jax.grad(total, argnums=(0, 1, 2, 3))(*at)
    for k, slope in enumerate(slopes):
        moved = lambda h, k=k: total(*(x + h if i == k else x for i, x in enumerate(at)))
        assert abs(float(jnp.sum(slope))) > 0.0
        assert_close(jnp.sum(slope), (moved(1e-6) - moved(-1e-6)) / 2e-6, rtol=1e-6, atol=1e-9)
