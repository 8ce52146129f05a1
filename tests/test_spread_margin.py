"""Worst loss of option spreads at expiry, and what is left after it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.option_payoff import payoff, settled
from jaxrisk.venue.spread_margin import spread_margin
from tests.helpers import assert_close

LEGS = 4
STRIKES = st.lists(st.floats(1.0, 100.0), min_size=LEGS, max_size=LEGS)
SIZES = st.lists(
    st.one_of(st.just(0.0), st.floats(-10.0, -0.01), st.floats(0.01, 10.0)),
    min_size=LEGS, max_size=LEGS,
)  # fmt: skip


def columns(values, dtype=np.float64):
    return jnp.asarray(values, dtype)[:, None]


def worst(strike, size, is_put, dtype=np.float64):
    return spread_margin(columns(strike, dtype), columns(size, dtype), jnp.asarray([is_put]))


def loss(strike, size, is_put, price):
    """Return the loss at a price in NumPy, calls in kind."""
    strike, size = np.asarray(strike), np.asarray(size)
    if is_put:
        return -float(np.sum(size * np.maximum(strike - price, 0.0)))
    return -float(np.sum(size * np.maximum(1.0 - strike / price, 0.0)))


@given(strike=STRIKES, size=SIZES, is_put=st.booleans())
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_price_loses_more_and_the_worst_loses_that(dtype, strike, size, is_put):
    found = worst(strike, size, is_put, dtype)
    required, at = float(found.required[0]), float(found.price[0])
    slack = (1e-3 if dtype == np.float32 else 1e-10) * (1.0 + float(np.sum(np.abs(size))))
    grid = [*np.linspace(1e-6, 300.0, 401), *strike, 1e-9, 1e12]
    assert max(loss(strike, size, is_put, p) for p in grid) <= required + slack
    assert required >= 0.0
    finite = min(at, 1e15) if at > 0 else 1e-12
    assert_close(loss(strike, size, is_put, finite), required, rtol=1e-5, atol=slack)


@given(
    short_strike=st.floats(1.0, 100.0), long_strike=st.floats(1.0, 100.0),
    written=st.floats(0.01, 10.0), held=st.one_of(st.just(0.0), st.floats(0.01, 10.0)),
)  # fmt: skip
def test_two_legs_are_the_published_formula(short_strike, long_strike, written, held):
    legs = ([short_strike, long_strike], [-written, held])
    put = max(written * short_strike - long_strike * min(written, held), 0.0)
    assert_close(worst(*legs, True).required, [put], rtol=1e-12, atol=1e-10)
    gap = (long_strike - short_strike) / long_strike * written if held > 0 else written
    call = max(gap, written - held, 0.0)
    assert_close(worst(*legs, False).required, [call], rtol=1e-12, atol=1e-12)


@given(strike=STRIKES, size=SIZES, is_put=st.booleans(), more=st.floats(0.0, 5.0))
def test_options_bought_never_raise_the_margin(strike, size, is_put, more):
    before = float(worst(strike, size, is_put).required[0])
    bought = [size[0] + more, *size[1:]]
    assert float(worst(strike, bought, is_put).required[0]) <= before + 1e-9
    # It is counted per contract: twice the spread needs twice the margin.
    double = float(worst(strike, [2 * s for s in size], is_put).required[0])
    assert_close(double, 2.0 * before, rtol=1e-12, atol=1e-12)


@given(strike=STRIKES, size=SIZES, is_put=st.booleans(), price=st.floats(0.5, 300.0))
def test_a_covered_account_is_never_short_at_expiry(strike, size, is_put, price):
    found = worst(strike, size, is_put)
    left = settled(
        found.required, columns(strike), columns(size), jnp.asarray([price]), jnp.asarray([is_put])
    )
    assert float(left[0]) >= -1e-9
    gain = -loss(strike, size, is_put, price)
    assert_close(left - found.required, [gain], rtol=1e-9, atol=1e-9)


def test_recorded_figures():
    """Restated from the contract: a put spread, a call spread, and payouts of 1e8 contracts."""
    found = spread_margin(
        jnp.asarray([[4280.0, 1954.0], [3775.0, 2203.0]]),
        jnp.asarray([[-67.08032653, -59.40356973], [33.54016326, 59.40356973]]),
        jnp.asarray([True, False]),
    )
    assert_close(found.required, [160489.6812419, 6.714248235483431684], rtol=1e-14, atol=0.0)
    assert_close(found.price, [0.0, 2203.0], rtol=0.0, atol=0.0)
    rate = payoff(
        jnp.asarray([3365.0, 4425.0]), jnp.asarray([2020.75472537, 6859.73914815]),
        jnp.asarray([True, False]),
    )  # fmt: skip
    assert_close(rate, [1344.245274, 0.354931739468055970], rtol=0.0, atol=1e-6)


def test_calls_naked_lose_most_without_bound():
    found = worst([50.0, 70.0], [-3.0, 1.0], False)
    assert_close(found.required, [2.0], rtol=0.0, atol=0.0)
    assert np.isinf(float(found.price[0]))


@pytest.mark.parametrize("is_put", [True, False])
def test_slopes_are_those_of_central_differences(is_put):
    legs = [jnp.asarray([40.0, 50.0, 60.0]), jnp.asarray([1.0, -3.0, 1.5])]

    def value(strike, size):
        return spread_margin(strike[:, None], size[:, None], jnp.asarray([is_put])).required[0]

    slopes = jax.grad(value, argnums=(0, 1))(*legs)
    for position in range(2):
        for leg in range(3):
            moved = []
            for step in (1e-5, -1e-5):
                bumped = list(legs)
                bumped[position] = bumped[position].at[leg].add(step)
                moved.append(value(*bumped))
            expected = (moved[0] - moved[1]) / 2e-5
            assert_close(slopes[position][leg], expected, rtol=1e-6, atol=1e-8)


def test_an_empty_account_needs_nothing_and_has_finite_slopes():
    value = lambda k: jnp.sum(spread_margin(k, jnp.zeros((2, 1)), jnp.asarray([False])).required)
    assert value(jnp.zeros((2, 1))) == 0.0
    assert jnp.isfinite(jax.grad(value)(jnp.zeros((2, 1)))).all()
