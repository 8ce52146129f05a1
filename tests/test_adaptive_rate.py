"""The adaptive rate: published figures, the drift's direction and bounds, derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.adaptive_rate import quadratic_exponential
from jaxrisk.venue.presets.morpho_adaptive_curve import adaptive_curve
from tests.helpers import assert_close

TOLERANCE = {np.float32: {"rtol": 3e-5, "atol": 0.0}, np.float64: {"rtol": 1e-12, "atol": 0.0}}
USES = st.floats(0.0, 1.0)
TARGETS = st.floats(0.001, 2.0)
YEARS = st.one_of(st.just(0.0), st.floats(1e-8, 2.0))


def reference(use, rate, years):
    """Return (mean rate, next target) from the formula, in NumPy scalars."""
    side = 0.1 if use > 0.9 else 0.9
    distance = (use - 0.9) / side
    slope = 3.0 if distance > 0 else 0.75
    if rate <= 0:
        return 0.04 * (1.0 + slope * distance), 0.04
    at = lambda t: np.clip(rate * np.exp(np.clip(50.0 * distance * t, -700, 700)), 0.001, 2.0)
    mean = (rate + 2.0 * at(years / 2.0) + at(years)) / 4.0
    return mean * (1.0 + slope * distance), at(years)


@functools.cache
def compiled(dtype, as_contract):
    return jax.jit(adaptive_curve(dtype, as_contract=as_contract).borrow_rate)


def rates(use, rate, years, dtype=np.float64, *, as_contract=False):
    one = lambda x: jnp.asarray([x], dtype)
    mean, end = compiled(dtype, as_contract)(one(use), one(rate), one(years))
    return float(mean[0]), float(end[0])


@given(use=USES, rate=st.one_of(st.just(0.0), TARGETS), years=YEARS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_rates_are_those_of_the_reference(dtype, use, rate, years):
    use, rate, years = (float(dtype(x)) for x in (use, rate, years))
    # Next to the target a rounding of the distance, times 50 a year, is all there is.
    expected = reference(use, rate, years)
    tolerance = dict(TOLERANCE[dtype])
    tolerance["rtol"] += 200 * years * float(np.finfo(dtype).eps) / 0.1
    assert_close(rates(use, rate, years, dtype), expected, **tolerance)


def test_published_figures_of_the_curve():
    """Four times the target rate at full use, a quarter at none; the target starts at 4 %."""
    for use, expected in ((1.0, 0.16), (0.9, 0.04), (0.0, 0.01), (0.95, 0.10), (0.45, 0.025)):
        assert_close(rates(use, 0.0, 1.0), (expected, 0.04), rtol=1e-12, atol=0.0)


def test_at_full_use_the_target_doubles_in_five_days():
    """ln 2 / 50 a year is 5.06 days: the figure of the contract's documentation."""
    _, end = rates(1.0, 0.04, np.log(2.0) / 50.0)
    assert_close(end, 0.08, rtol=1e-12, atol=0.0)
    assert_close(np.log(2.0) / 50.0 * 365.0, 5.06, rtol=1e-3, atol=0.0)


def test_a_recorded_call_of_the_contract():
    """Rate per second at target 1,268,391,679e-18, 12 s at 90 %: what `borrowRate` returned."""
    year = 365.0 * 86400.0
    use = 20336779396642089369 / 22596421551824543744
    mean, end = rates(use, 1268391679e-18 * year, 12.0 / year, as_contract=True)
    assert_close(mean / year * 1e18, 1268391679.0, rtol=0.0, atol=1.0)
    assert_close(end / year * 1e18, 1268391679.0, rtol=0.0, atol=1.0)


@given(use=USES, rate=TARGETS, years=st.floats(1e-4, 2.0))
def test_the_target_moves_towards_use_and_stays_within_its_bounds(use, rate, years):
    mean, end = rates(use, rate, years)
    assert 0.001 <= end <= 2.0
    assert end >= min(rate * (1 - 1e-12), 2.0) if use >= 0.9 else end <= max(rate, 0.001)
    assert 0.25 * 0.001 * (1 - 1e-12) <= mean <= 4.0 * 2.0 * (1 + 1e-12)


@given(low=USES, high=USES, rate=TARGETS, years=YEARS)
def test_more_use_never_costs_less(low, high, rate, years):
    low, high = sorted((low, high))
    below, above = rates(low, rate, years), rates(high, rate, years)
    assert above[0] >= below[0] * (1 - 1e-12)
    assert above[1] >= below[1] * (1 - 1e-12)


@given(x=st.floats(-40.0, 90.0))
def test_the_contracts_exponential_is_within_one_percent(x):
    ratio = float(quadratic_exponential(jnp.array(x))) / np.exp(x)
    half = np.log(2.0) / 2.0
    lowest = (1 + half + half**2 / 2) / np.exp(half)
    highest = (1 - half + half**2 / 2) / np.exp(-half)
    assert lowest - 1e-9 <= ratio <= highest + 1e-9
    assert lowest > 0.99
    assert highest < 1.01


def test_the_two_exponentials_differ_where_the_contract_does():
    exact, contract = rates(1.0, 0.04, 0.006), rates(1.0, 0.04, 0.006, as_contract=True)
    assert 1e-4 < abs(contract[1] / exact[1] - 1.0) < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("as_contract", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("use", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("years", [0.0, 0.01, 5.0])
def test_derivatives_are_finite_at_the_kinks(dtype, use, years, as_contract):
    rule = adaptive_curve(dtype, as_contract=as_contract)

    def total(use, rate, years):
        mean, end = rule.borrow_rate(use, rate, years)
        return mean[0] + end[0]

    one = lambda x: jnp.asarray([x], dtype)
    for rate in (0.0, 0.001, 0.04, 2.0):
        slopes = jax.grad(total, argnums=(0, 1, 2))(one(use), one(rate), one(years))
        assert np.isfinite(np.concatenate(slopes)).all()


@pytest.mark.slow
def test_the_derivative_is_that_of_a_difference():
    slope = jax.grad(lambda u: adaptive_curve(np.float64).borrow_rate(
        u, jnp.array([0.05]), jnp.array([0.01]))[0][0])(jnp.array([0.95]))  # fmt: skip
    step = 1e-6
    bump = (rates(0.95 + step, 0.05, 0.01)[0] - rates(0.95 - step, 0.05, 0.01)[0]) / (2 * step)
    assert_close(float(slope[0]), bump, rtol=1e-6, atol=0.0)
