"""Weights that ramp down: worked figures, a scalar reference, changes in mid-ramp, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.weight_ramp import WeightRamp
from tests.helpers import assert_close


def ramp(start, target, end, duration, unit=None, dtype: type = np.float64):
    """Return the ramp of one debt against the collaterals given."""
    row = lambda x: jnp.broadcast_to(jnp.asarray(x, dtype), (1, np.size(start)))
    return WeightRamp(
        start=row(start), target=row(target), borrow=row(target) - jnp.asarray(0.02, dtype),
        end=row(end), duration=row(duration), unit=unit,
    )  # fmt: skip


def reference(start, target, end, duration, time):
    """Return the weight in plain Python."""
    if time >= end or target >= start:
        return target
    return target + (start - target) * (end - time) / duration


@pytest.mark.parametrize(
    ("day", "weight"), [(0.0, 0.90), (7.5, 0.885), (15.0, 0.87), (29.0, 0.842), (30.0, 0.84)]
)
def test_thirty_days_from_90_to_84_per_cent(day, weight):
    """Six percentage points in thirty days are 0.2 a day. Source: EVK LTVConfig `getLTV`."""
    weights = ramp([0.90], [0.84], 30.0, 30.0).liquidation(jnp.array(day))
    assert_close(weights, [[weight]], rtol=1e-12, atol=0.0)


def test_a_raised_weight_holds_at_once():
    weights = ramp([0.80, 0.80], [0.85, 0.80], 30.0, 30.0).liquidation(jnp.array(1.0))
    assert_close(weights, [[0.85, 0.80]], rtol=0.0, atol=0.0)


WEIGHT = st.lists(st.floats(0.0, 0.98), min_size=3, max_size=3)


@given(
    start=WEIGHT, target=WEIGHT, end=st.floats(0.0, 60.0), duration=st.floats(0.1, 60.0),
    share=st.floats(0.0, 1.5), later=st.floats(0.0, 10.0),
)  # fmt: skip
def test_random_ramps_are_those_of_the_reference(start, target, end, duration, share, later):
    time = end - duration + share * duration
    weights = ramp(start, target, end, duration)
    actual = weights.liquidation(jnp.array(time))
    expected = [reference(s, t, end, duration, time) for s, t in zip(start, target, strict=True)]
    assert_close(actual[0], expected, rtol=1e-12, atol=1e-12)
    # It never rises on its own and stays between where it began and where it ends.
    assert bool(jnp.all(weights.liquidation(jnp.array(time + later)) <= actual + 1e-12))
    assert bool(jnp.all(actual >= weights.target))
    assert bool(jnp.all(actual <= jnp.maximum(weights.start, weights.target) + 1e-12))


def test_weights_round_down_to_basis_points():
    weights = ramp([0.90], [0.84], 30.0, 30.0, jnp.array(1e-4)).liquidation(jnp.array(29.93))
    # 0.06 x 0.07 / 30 = 1.4 basis points: one counts.
    assert_close(weights, [[0.8401]], rtol=1e-12, atol=0.0)


def test_a_change_in_mid_ramp_starts_from_where_it_stands():
    first = ramp([0.90], [0.84], 30.0, 30.0)
    now, one = jnp.array(15.0), lambda x: jnp.array([[x]])
    second = first.changed(now, target=one(0.80), borrow=one(0.78), duration=one(10.0))
    assert_close(second.liquidation(now), first.liquidation(now), rtol=1e-14, atol=0.0)
    assert_close(second.liquidation(jnp.array(20.0)), [[0.835]], rtol=1e-12, atol=0.0)
    assert_close(second.borrow, [[0.78]], rtol=0.0, atol=0.0)
    raised = first.changed(now, target=one(0.95), borrow=one(0.93), duration=one(0.0))
    assert_close(raised.liquidation(now), [[0.95]], rtol=0.0, atol=0.0)


@pytest.mark.slow
def test_single_precision_agrees():
    weights = ramp([0.9, 0.8], [0.84, 0.82], 30.0, 30.0, dtype=np.float32)
    single = weights.liquidation(jnp.array(11.0, np.float32))
    assert single.dtype == np.float32
    double = ramp([0.9, 0.8], [0.84, 0.82], 30.0, 30.0).liquidation(jnp.array(11.0))
    assert_close(single, double, rtol=1e-6, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("day", "slope"), [(0.0, -0.002), (15.0, -0.002), (30.0, 0.0)])
def test_gradients(day, slope):
    total = lambda w, t: jnp.sum(w.liquidation(t))
    weights = ramp([0.90], [0.84], 30.0, 30.0)
    assert_close(jax.grad(total, 1)(weights, jnp.array(day)), slope, rtol=1e-12, atol=1e-15)
    instant = ramp([0.90], [0.84], 30.0, 0.0)
    leaves = [
        *jax.tree.leaves(jax.grad(total)(weights, jnp.array(day))),
        *jax.tree.leaves(jax.grad(total)(instant, jnp.array(30.0))),
    ]
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in leaves)
