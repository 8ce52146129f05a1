"""A rate with a drifting slope: worked figures, a stepped reference, bounds, caps, gradients."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.drifting_rate import DriftingRate
from tests.helpers import assert_close

# Per year: falls below 60 %, rises above 80 %, steeper above 90 %; slope between 0.1 and 2.
SETTINGS = {
    "low": 0.5, "calm_below": 0.6, "calm_above": 0.8, "critical": 0.9,
    "minimum_rate": 0.01, "minimum_slope": 0.1, "maximum_slope": 2.0, "steepening": 4.0,
    "fall": 0.5, "fall_gain": 10.0, "rise": 0.2, "rise_gain": 8.0, "maximum_rise": 1.5,
    "growth_cap": 5.0, "rate_cap": 25.0,
}  # fmt: skip


def rule(dtype: type = np.float64, speed_unit=None, **changes):
    """Return the curve of one asset."""
    values = {name: jnp.asarray([x], dtype) for name, x in (SETTINGS | changes).items()}
    return DriftingRate(**values, speed_unit=speed_unit)


def advance(curve, use, slope, elapsed, **options):
    """Return interest and slope as numbers."""
    one = lambda x: jnp.asarray([x], curve.low.dtype)
    growth, end = curve.advance(one(use), one(slope), one(elapsed), **options)
    return float(growth[0]), float(end[0])


def stepped(use, slope, elapsed, steps=20_000, **changes):
    """Integrate rate and slope in small steps with NumPy floats: no closed form in it."""
    s = SETTINGS | changes
    dt = elapsed / steps
    speed = 0.0
    if use < s["calm_below"]:
        speed = -(s["fall"] + s["fall_gain"] * (s["calm_below"] - use))
    elif use > s["calm_above"]:
        speed = min(s["rise"] + s["rise_gain"] * (use - s["calm_above"]), s["maximum_rise"])
    excess = max(use - s["low"], 0.0) + s["steepening"] * max(use - s["critical"], 0.0)
    slopes = np.clip(
        slope + speed * dt * np.arange(steps + 1), s["minimum_slope"], s["maximum_slope"]
    )
    integral = float(np.sum(slopes[1:] + slopes[:-1]) * dt / 2.0)
    growth = math.expm1(s["minimum_rate"] * elapsed + excess * integral)
    if growth > s["growth_cap"] * elapsed:
        return s["growth_cap"] * elapsed, s["minimum_slope"]
    return growth, float(slopes[-1])


@pytest.mark.parametrize(
    ("use", "rate"),
    [(0.3, 0.01), (0.5, 0.01), (0.7, 0.21), (0.9, 0.41), (0.95, 0.66), (1.0, 0.91)],
)
def test_worked_rates(use, rate):
    """1 % and a slope of 1 from 50 %, of 5 from 90 %."""
    actual = rule().borrow_rate(jnp.array([use]), jnp.array([1.0]))
    assert_close(actual, [rate], rtol=1e-12, atol=0.0)


def test_a_worked_interval():
    """At 85 % for half a year from 1: up by 0.3 to 1.3, on average 1.15; excess 35 %."""
    growth, end = advance(rule(), 0.85, 1.0, 0.5)
    assert_close([growth, end], [math.expm1(0.005 + 0.35 * 1.15 * 0.5), 1.3], rtol=1e-12, atol=0.0)


USE = st.floats(0.0, 1.0)
SLOPE = st.floats(0.1, 2.0)
TIME = st.floats(0.0, 2.0)


@given(use=USE, slope=SLOPE, elapsed=TIME)
def test_random_intervals_are_those_of_the_reference(use, slope, elapsed):
    # Steps miss the corner where the slope meets its bound by at most half a step's triangle.
    assert_close(
        advance(rule(), use, slope, elapsed), stepped(use, slope, elapsed), rtol=1e-6, atol=1e-9
    )


@given(use=USE, slope=SLOPE, elapsed=TIME, share=st.floats(0.0, 1.0))
def test_an_interval_may_be_cut_in_two(use, slope, elapsed, share):
    """Growth compounds and slopes meet, as long as the cap on growth is out of the way."""
    curve = rule(growth_cap=1e9)
    whole, end = advance(curve, use, slope, elapsed)
    first, middle = advance(curve, use, slope, share * elapsed)
    second, last = advance(curve, use, middle, (1.0 - share) * elapsed)
    assert_close((1 + first) * (1 + second), 1 + whole, rtol=1e-11, atol=0.0)
    assert_close(last, end, rtol=0.0, atol=1e-9)
    assert 0.1 <= end <= 2.0


@given(low=USE, high=USE, slope=SLOPE, elapsed=TIME)
def test_more_use_costs_more(low, high, slope, elapsed):
    low, high = min(low, high), max(low, high)
    curve = rule(growth_cap=1e9)
    less, flat = advance(curve, low, slope, elapsed)
    more, steep = advance(curve, high, slope, elapsed)
    assert less <= more + 1e-12
    assert flat <= steep + 1e-12


def test_the_cap_on_growth_resets_the_slope():
    assert_close(advance(rule(growth_cap=0.3), 1.0, 2.0, 0.5), [0.15, 0.1], rtol=1e-12, atol=0.0)


def test_no_time_changes_nothing():
    assert advance(rule(), 0.95, 1.2, 0.0) == (0.0, 1.2)


def test_without_debt_only_the_slope_moves():
    growth, end = advance(rule(), 0.85, 1.0, 0.5, owes=jnp.array([False]))
    assert_close([growth, end], [0.0, 1.3], rtol=1e-12, atol=0.0)
    rate = rule().borrow_rate(jnp.array([0.85]), jnp.array([1.0]), owes=jnp.array([False]))
    assert float(rate[0]) == 0.0


def test_the_quoted_rate_follows_the_slope_and_is_capped():
    arguments = jnp.array([0.85]), jnp.array([1.0]), jnp.array([0.5])
    assert_close(rule().borrow_rate(*arguments), [0.01 + 0.35 * 1.3], rtol=1e-12, atol=0.0)
    capped = rule(rate_cap=0.2).borrow_rate(*arguments)
    assert_close(capped, [0.2], rtol=0.0, atol=0.0)


def test_speeds_round_down_to_contract_units():
    # 8 x 0.05 = 0.4 in units of 0.3 is 0.3: the slope rises at 0.5 instead of 0.6.
    _, end = advance(rule(speed_unit=jnp.array(0.3)), 0.85, 1.0, 0.5)
    assert_close(end, 1.25, rtol=1e-12, atol=0.0)


@pytest.mark.slow
def test_single_precision_agrees():
    for use in (0.3, 0.7, 0.85, 0.97):
        single = advance(rule(np.float32), use, 1.0, 0.7)
        assert_close(single, advance(rule(), use, 1.0, 0.7), rtol=1e-5, atol=1e-7)
    one = jnp.ones(1, jnp.float32)
    assert rule(np.float32).advance(one, one, one)[0].dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize("use", [0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("elapsed", [0.0, 0.5, 5.0])
def test_gradients_are_finite_at_the_kinks(use, elapsed):
    def total(curve, u, slope, time):
        growth, end = curve.advance(u, slope, time)
        return jnp.sum(growth + end + curve.borrow_rate(u, slope, time))

    gradients = jax.grad(total, (0, 1, 2, 3))(
        rule(), jnp.array([use]), jnp.array([1.0]), jnp.array([elapsed])
    )
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(gradients))


@pytest.mark.slow
def test_a_gradient_in_closed_form():
    """Without drift, d growth / d slope = (u - low) t (1 + growth)."""
    curve = dataclasses.replace(rule(), growth_cap=jnp.array([1e9]))
    growth = lambda k: curve.advance(jnp.array([0.7]), k, jnp.array([0.5]))[0].sum()
    expected = 0.2 * 0.5 * math.exp(0.005 + 0.2 * 0.5)
    assert_close(jax.grad(growth)(jnp.array([1.0])), [expected], rtol=1e-12, atol=0.0)
