"""Price curves of Dutch auctions: a published clock, the formula, shape, precision, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.auction_price import (
    ExponentialDecrease,
    LinearDecrease,
    StairstepDecrease,
    TwoPhaseDecrease,
)
from tests.helpers import assert_close

CURVES = {
    "linear": lambda dtype: LinearDecrease(duration=jnp.full(4, 7200.0, dtype)),
    "stairstep": lambda dtype: StairstepDecrease(
        cut=jnp.full(4, 0.99, dtype), step=jnp.full(4, 90.0, dtype)
    ),
    "two phases": lambda dtype: TwoPhaseDecrease(
        start=jnp.full(4, 0.95, dtype),
        turn=jnp.full(4, 0.7, dtype),
        fast=jnp.full(4, 900.0, dtype),
        slow=jnp.full(4, 7200.0, dtype),
    ),
    "exponential": lambda dtype: ExponentialDecrease(cut=jnp.full(4, 0.9998, dtype)),
}


def reference(kind, elapsed):
    """Return the fraction left, one second count at a time, from the formula."""
    if kind == "linear":
        return max(7200.0 - elapsed, 0.0) / 7200.0
    if kind == "two phases":
        return np.interp(elapsed, [0.0, 900.0, 8100.0], [0.95, 0.7, 0.0])
    if kind == "exponential":
        return np.exp(elapsed * np.log(0.9998))
    left = 1.0
    for _ in range(int(elapsed // 90)):
        left *= 0.99
    return left


def test_the_clock_of_an_auction_that_opens_ten_percent_up_and_loses_one_percent_in_90_seconds():
    """Parameters of ETH-A (Sky, spells-mainnet config, May 2026)."""
    curve = StairstepDecrease(cut=jnp.array(0.99), step=jnp.array(90.0))
    minutes = jnp.array([14.9, 15.0, 22.5, 30.0, 48.0, 120.0])
    actual = 1.1 * curve.fraction(minutes * 60.0)
    assert_close(actual, [1.0049, 0.9948, 0.9461, 0.8997, 0.7975, 0.4923], rtol=0.0, atol=5e-5)
    # A reset at 45 % of the opening price is due just before the 120 minutes are over.
    at_45 = curve.fraction(jnp.array([7110.0, 7200.0]))
    assert at_45[0] >= 0.45 > at_45[1]


@pytest.mark.parametrize("kind", CURVES)
@given(elapsed=st.lists(st.integers(0, 20_000), min_size=4, max_size=4))
def test_curves_are_those_of_the_formula_and_fall(kind, elapsed):
    times = np.sort(np.array(elapsed, float))
    actual = np.asarray(CURVES[kind](np.float64).fraction(jnp.asarray(times)))
    assert_close(actual, [reference(kind, t) for t in times], rtol=1e-11, atol=0.0)
    assert (np.diff(actual) <= 0).all()
    assert (actual <= 1).all()
    assert (actual >= 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", CURVES)
def test_single_precision_agrees(kind):
    times = np.array([0.0, 89.0, 3600.0, 7199.0])
    double = CURVES[kind](np.float64).fraction(jnp.asarray(times))
    single = CURVES[kind](np.float32).fraction(jnp.asarray(times, np.float32))
    assert single.dtype == np.float32
    assert_close(single, double, rtol=1e-3, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("kind", CURVES)
def test_gradients_are_finite_at_the_start_at_a_step_and_at_the_end(kind):
    times = jnp.array([0.0, 90.0, 7200.0, 9000.0])
    parameters, slope = jax.grad(lambda curve, t: jnp.sum(curve.fraction(t)), argnums=(0, 1))(
        CURVES[kind](np.float64), times
    )
    for leaf in [*jax.tree.leaves(parameters), slope]:
        assert np.isfinite(leaf).all()
