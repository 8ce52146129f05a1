"""Implied volatility: round trips over the whole range, bounds, and implicit derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.market.black import black_greeks, black_price, time_value
from jaxrisk.market.implied import STEPS, implied_volatility
from tests.helpers import assert_close

DTYPES = (np.float64, np.float32)
SLOPES = jax.jit(jax.grad(implied_volatility, argnums=(0, 1, 2, 3)))
solve, price = jax.jit(implied_volatility), jax.jit(black_price)


def sample(dtype, size=20_000):
    """Return options out of the money, from a minute at 10 % to years at 300 %."""
    draw = np.random.default_rng(11)
    wings = {np.float64: 30.0, np.float32: 9.0}[dtype]
    deviation = 10.0 ** draw.uniform(-4.0, 0.75, size)
    moneyness = deviation * draw.uniform(0.0, 1.0, size) ** 2 * wings
    moneyness[:500] = 0.0
    # So that a time value can still be told from its bound.
    near = moneyness < 20.0
    sign = np.where(draw.random(size) < 0.5, 1.0, -1.0)
    years = 10.0 ** draw.uniform(-3.0, 0.5, size)
    options = (np.exp(-sign * moneyness), np.ones(size), years, deviation / np.sqrt(years), sign)
    return tuple(x[near].astype(dtype) for x in options)


@pytest.mark.parametrize("dtype", DTYPES)
def test_volatility_comes_back_as_far_as_the_value_knows_it(dtype):
    forward, strike, years, volatility, sign = sample(dtype)
    value = price(forward, strike, years, volatility, sign)
    found = np.asarray(solve(value, forward, strike, years, sign), np.float64)
    value = np.asarray(value, np.float64)
    eps = np.finfo(dtype).eps
    again = np.asarray(price(forward, strike, years, found.astype(dtype), sign), np.float64)
    # The value returns to a few units of itself, a digit or two more in the wings.
    low = np.minimum(forward, strike).astype(np.float64)
    wings = np.abs(np.log(forward / strike)) / (volatility * np.sqrt(years))
    assert (np.abs(again - value) <= eps * (8.0 * low + (8.0 + wings**2) * value)).all()
    # And the volatility to what a unit of the value is worth in volatility.
    vega = np.asarray(black_greeks(forward, strike, years, volatility, sign).vega, np.float64)
    told = eps * (low + value) / (vega * volatility)
    known = told < 1e-3
    assert known.mean() > 0.5
    error = np.abs(found / volatility - 1.0)
    assert (error <= 16.0 * eps * (1.0 + wings**2) + 8.0 * told)[known].all()


def test_the_stated_accuracy_at_ordinary_options():
    draw = np.random.default_rng(2)
    years, volatility = draw.uniform(0.002, 2.0, 5000), draw.uniform(0.1, 2.0, 5000)
    strike = np.exp(draw.uniform(-3.0, 3.0, 5000) * volatility * np.sqrt(years))
    sign = np.where(strike > 1.0, 1.0, -1.0)
    found = solve(price(1.0, strike, years, volatility, sign), 1.0, strike, years, sign)
    assert_close(found, volatility, rtol=2e-12, atol=0.0)


def test_more_steps_change_nothing(monkeypatch):
    # The steps are bounded; that the bound is enough is seen by doubling it.
    forward, strike, years, volatility, sign = sample(np.float64, 4000)
    value = price(forward, strike, years, volatility, sign)
    few = solve(value, forward, strike, years, sign)
    monkeypatch.setattr("jaxrisk.market.implied.STEPS", 2 * STEPS)
    many = jax.jit(lambda *o: 1.0 * implied_volatility(*o))(value, forward, strike, years, sign)
    deviation = volatility * np.sqrt(years)
    noise = 1e-15 * (1.0 + 1.0 / deviation) + 1e-13
    assert (np.abs(many / few - 1.0) <= 10 * noise).all()


def test_no_volatility_gives_a_price_outside_its_bounds():
    forward, strike = np.full(7, 100.0), np.array([110.0, 90.0, 90.0, 90.0, 110.0, 100.0, 90.0])
    sign = np.array([1.0, 1.0, 1.0, 1.0, -1.0, 1.0, 1.0])
    value = np.array([0.0, 10.0, 9.999, 100.0, 110.0, np.nan, 1e3])
    expected = [0.0, 0.0, np.nan, np.nan, np.nan, np.nan, np.nan]
    assert np.array_equal(solve(value, forward, strike, 0.5, sign), expected, equal_nan=True)
    # Without time only the intrinsic value is a price.
    assert float(solve(10.0, 100.0, 90.0, 0.0, 1.0)) == 0.0
    assert np.isnan(solve(10.1, 100.0, 90.0, 0.0, 1.0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_derivatives_are_those_of_the_implicit_function(dtype):
    options = (100.0, 105.0, 0.3, 0.6, 1.0)
    forward, strike, years, volatility, sign = (jnp.asarray(x, dtype) for x in options)
    value = price(forward, strike, years, volatility, sign)
    d_price, d_forward, d_strike, d_years = SLOPES(value, forward, strike, years, sign)
    g = black_greeks(forward, strike, years, volatility, sign)
    d_value = jax.grad(black_price, argnums=1)(forward, strike, years, volatility, sign)
    actual = np.array([d_price, d_forward, d_strike, d_years])
    expected = np.array([1.0, -g.delta, -d_value, g.theta]) / np.asarray(g.vega)
    rtol = {np.float64: 1e-12, np.float32: 2e-5}[dtype]
    assert_close(actual, expected, rtol=rtol, atol=0.0)
    if dtype is np.float64:
        h = 1e-5
        moved = [float(solve(value + d, forward, strike, years, sign)) for d in (h, -h)]
        assert_close(d_price, (moved[0] - moved[1]) / (2 * h), rtol=1e-7, atol=0.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_derivatives_are_finite_where_vega_vanishes(dtype):
    options = np.array([(0.0, 100.0, 110.0, 0.5, 1.0), (10.0, 100.0, 90.0, 0.5, 1.0),
                        (10.0, 100.0, 90.0, 0.0, 1.0), (0.0, 100.0, 100.0, 0.5, -1.0)],
                       dtype).T  # fmt: skip
    assert all(np.isfinite(s).all() for s in jax.jit(jax.vmap(SLOPES))(*options))


def test_the_time_value_is_a_share():
    x, s = jnp.linspace(0.0, 8.0, 41)[:, None], jnp.geomspace(1e-6, 50.0, 30)[None, :]
    b = np.asarray(jax.jit(time_value)(*jnp.broadcast_arrays(x, s)))
    assert ((b >= 0.0) & (b <= 1.0)).all()
    assert (np.diff(b, axis=1) >= -1e-15).all()
    assert (np.diff(b, axis=0) <= 1e-15).all()
    assert (time_value(x, jnp.zeros_like(x)) == 0.0).all()
