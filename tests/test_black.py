"""Black-76: values to the last places, Greeks against differences, and the edges."""

import dataclasses
import decimal
import itertools
from decimal import Decimal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.black import black_greeks, black_price, coin_price
from tests.helpers import assert_close
from tests.reference_normal import DIGITS, cdf

DTYPES = (np.float64, np.float32)
price, greeks = jax.jit(black_price), jax.jit(black_greeks)


def exact_price(forward, strike, years, volatility, sign):
    """Return `sign (F Phi(sign d1) - K Phi(sign d2))` in decimals."""
    with decimal.localcontext(prec=DIGITS):
        f, k = Decimal(float(forward)), Decimal(float(strike))
        s = Decimal(float(volatility)) * Decimal(float(years)).sqrt()
        d1 = (f / k).ln() / s + s / 2
        # Powers of a long fraction grow; forty digits of the distances are plenty.
        short = decimal.Context(prec=60)
        one, two = (short.create_decimal(int(sign) * d) for d in (d1, d1 - s))
        return float(int(sign) * (f * cdf(one) - k * cdf(two)))


def sample(dtype, *, deviations, size=40):
    """Return options whose strikes lie up to `deviations` off, over short and long times."""
    draw = np.random.default_rng(5)
    years = np.geomspace(1e-3, 2.0, size)
    volatility = draw.uniform(0.1, 1.5, size)
    distance = draw.uniform(-deviations, deviations, size)
    forward = draw.uniform(0.5, 2.0, size) * 10.0 ** draw.integers(-3, 5, size)
    strike = forward * np.exp(distance * volatility * np.sqrt(years))
    sign = np.where(strike > forward, 1.0, -1.0)
    return tuple(x.astype(dtype) for x in (forward, strike, years, volatility, sign))


@pytest.mark.parametrize("dtype", DTYPES)
def test_out_of_the_money_values_keep_their_digits_in_the_wings(dtype):
    options = sample(dtype, deviations=9.0)
    expected = np.array([exact_price(*o) for o in zip(*options, strict=True)])
    wings = np.abs(np.log(options[1] / options[0])) / (options[3] * np.sqrt(options[2]))
    # A unit in the distance y costs y^2 units, one in the two tails (1 + y) / s; a few of each.
    loss = wings**2 + (1.0 + wings) / (options[3] * np.sqrt(options[2]))
    error = np.abs(np.asarray(price(*options), np.float64) / expected - 1.0)
    assert (error <= 5.0 * np.finfo(dtype).eps * loss).all()
    assert expected.min() / options[0].max() < 1e-15


@pytest.mark.parametrize("dtype", DTYPES)
def test_parity_holds_to_rounding_of_the_larger_value(dtype):
    forward, strike, years, volatility, _ = sample(dtype, deviations=5.0)
    call = price(forward, strike, years, volatility, np.ones_like(forward))
    put = price(forward, strike, years, volatility, -np.ones_like(forward))
    largest = np.maximum(call, put)
    gap = np.abs(np.asarray(call - put, np.float64) - (forward - strike).astype(np.float64))
    assert (gap <= 2 * np.finfo(dtype).eps * (largest + np.abs(forward - strike))).all()
    assert (np.asarray(call) >= np.maximum(forward - strike, 0)).all()


def test_quantlib_agrees():
    quantlib = pytest.importorskip("QuantLib")
    options = sample(np.float64, deviations=4.0)
    kind = {1.0: quantlib.Option.Call, -1.0: quantlib.Option.Put}
    expected, volatility = [], []
    for f, k, t, v, sign in zip(*map(np.ndarray.tolist, options), strict=True):
        expected.append(quantlib.blackFormula(kind[sign], k, f, v * t**0.5, 1.0))
        volatility.append(v)
    scale = np.asarray(options[0]).max()
    assert_close(price(*options), np.array(expected), rtol=1e-9, atol=1e-15 * scale)


def test_greeks_are_central_differences():
    forward, strike, years, volatility, sign = sample(np.float64, deviations=2.5)
    value = lambda f, t, v: np.asarray(price(f, strike, t, v, sign))
    delta = lambda f, t, v: np.asarray(greeks(f, strike, t, v, sign).delta)
    point = (forward, years, volatility)

    def slope(function, axis):
        h = 1e-5 * point[axis]
        moved = [tuple(x + d * h * (i == axis) for i, x in enumerate(point)) for d in (1, -1)]
        return (function(*moved[0]) - function(*moved[1])) / (2 * h)

    vega = lambda f, t, v: np.asarray(greeks(f, strike, t, v, sign).vega)
    expected = {
        "delta": slope(value, 0), "gamma": slope(delta, 0), "vega": slope(value, 2),
        "theta": -slope(value, 1), "vanna": slope(delta, 2), "volga": slope(vega, 2),
        "charm": -slope(delta, 1),
    }  # fmt: skip
    actual = greeks(forward, strike, years, volatility, sign)
    assert list(expected) == [field.name for field in dataclasses.fields(actual)]
    for name, right in expected.items():
        scale = np.abs(right).max()
        assert_close(getattr(actual, name), right, rtol=1e-5, atol=1e-8 * scale)


def test_derivatives_of_the_value_are_the_greeks():
    forward, strike, years, volatility, sign = map(jnp.asarray, sample(np.float64, deviations=4.0))
    options = (forward, strike, years, volatility, sign)
    first = jax.grad(black_price, argnums=(0, 2, 3))
    d_forward, d_years, d_volatility = jax.jit(jax.vmap(first))(*options)
    second = jax.jit(jax.vmap(jax.jacfwd(first, argnums=(0, 2, 3))))(*options)
    actual = greeks(*options)
    pairs = (
        (actual.delta, d_forward), (actual.theta, -d_years), (actual.vega, d_volatility),
        (actual.gamma, second[0][0]), (actual.vanna, second[0][2]),
        (actual.charm, -second[0][1]), (actual.volga, second[2][2]),
    )  # fmt: skip
    for closed, automatic in pairs:
        scale = np.abs(automatic).max()
        assert_close(closed, automatic, rtol=1e-11, atol=1e-15 * scale)
    # Euler: a value of degree one in forward and strike.
    d_strike = jax.jit(jax.vmap(jax.grad(black_price, argnums=1)))(*options)
    whole = forward * d_forward + strike * d_strike
    assert_close(whole, price(*options), rtol=0.0, atol=1e-15 * float(jnp.max(forward)))


NOTHING = ((0.0, 0.5), (0.5, 0.0), (0.0, 0.0), (-0.1, 0.5))
"""(years, volatility) of options that cannot move any more."""


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_without_time_or_volatility_it_is_the_intrinsic_value(dtype, sign):
    strikes, (years, volatility) = (90.0, 100.0, 110.0), np.array(NOTHING, dtype).T
    for strike in strikes:
        forward = np.full(len(NOTHING), 100.0, dtype)
        options = (forward, np.full_like(forward, strike), years, volatility)
        signs = np.full_like(forward, sign)
        value = price(*options, signs)
        assert value.tolist() == [max(sign * (100.0 - strike), 0.0)] * len(NOTHING)
        slopes = jax.jit(jax.vmap(jax.grad(black_price, argnums=(0, 1, 2, 3))))(*options, signs)
        step = 0.5 * (1.0 + np.sign(sign * (100.0 - strike)))
        assert slopes[0].tolist() == [sign * step] * len(NOTHING)
        assert slopes[1].tolist() == [-sign * step] * len(NOTHING)
        assert slopes[2].tolist() == [0.0] * len(NOTHING)
        # Volatility helps from nothing only at the money and while there is time.
        one_sided = 100.0 * 0.5**0.5 / (2 * np.pi) ** 0.5 if strike == 100.0 else 0.0
        assert_close(slopes[3], np.array([0, one_sided, 0, 0]), rtol=1e-6, atol=0.0)
        actual = greeks(*options, signs)
        assert_close(actual.vega, slopes[3], rtol=1e-6, atol=0.0)
        for leaf in (actual.gamma, actual.theta, actual.vanna, actual.volga, actual.charm):
            assert leaf.tolist() == [0.0] * len(NOTHING)


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_derivatives_are_finite_at_every_edge(dtype):
    forwards, strikes = (0.0, 1e-6, 100.0, 1e6), (0.0, 1e-6, 100.0, 1e6)
    years, volatilities = (0.0, 1e-38, 1e-8, 5.0), (0.0, 1e-12, 1e-3, 20.0)
    corners = np.array(
        list(itertools.product(forwards, strikes, years, volatilities, (1.0, -1.0))), dtype
    ).T
    first = jax.grad(black_price, argnums=(0, 1, 2, 3))
    second = jax.jacfwd(first, argnums=(0, 1, 3))
    results = (price(*corners), jax.jit(jax.vmap(first))(*corners), greeks(*corners))
    for leaf in jax.tree.leaves((results, jax.jit(jax.vmap(second))(*corners))):
        assert np.isfinite(leaf).all()


def test_far_off_it_is_worth_its_bound():
    # A put on a forward of 0, a call struck at 0, and a volatility beyond all measure.
    value = price(
        np.array([0.0, 7.0, 7.0]), np.array([5.0, 0.0, 5.0]), 1.0, np.array([0.5, 0.5, 1e3]),
        np.array([-1.0, 1.0, 1.0]),
    )  # fmt: skip
    assert_close(value, [5.0, 7.0, 7.0], rtol=1e-15, atol=0.0)


@given(
    st.floats(0.2, 5.0), st.floats(0.001, 3.0), st.floats(0.01, 3.0), st.booleans(),
    st.floats(1e-6, 1e6),
)  # fmt: skip
def test_units_cancel_and_value_rises_with_volatility(ratio, years, volatility, call, scale):
    sign = 1.0 if call else -1.0
    one = float(price(1.0, ratio, years, volatility, sign))
    scaled = float(price(scale, ratio * scale, years, volatility, sign))
    assert_close(scaled, one * scale, rtol=1e-11, atol=1e-16 * scale)
    assert float(price(1.0, ratio, years, 1.1 * volatility, sign)) >= one * (1 - 1e-12)
    assert max(sign * (1.0 - ratio), 0.0) <= one <= (1.0 if call else ratio) * (1 + 1e-15)


def test_a_coin_settled_option_is_its_value_over_the_forward():
    strike = np.array([[50.0], [120.0]])
    forward = np.array([[100.0, 80.0, 200.0]])
    coins = coin_price(forward, strike, 0.25, 0.7, 1.0)
    assert coins.shape == (2, 3)
    expected = np.asarray(price(forward, strike, 0.25, 0.7, 1.0)) / np.broadcast_to(forward, (2, 3))
    assert_close(coins, expected, rtol=1e-14, atol=0.0)
    # It pays (S - K) / S coins, so an inverse call is never worth more than one coin.
    assert float(np.max(coins)) < 1.0
    at_expiry = coin_price(200.0, 50.0, 0.0, 0.7, 1.0)
    assert_close(at_expiry, 0.75, rtol=1e-15, atol=0.0)


def test_a_derivative_not_asked_for_costs_nothing():
    options = [jnp.asarray(x) for x in sample(np.float64, deviations=2.0)]

    def exponentials(argnums):
        tangents = jax.grad(lambda *o: jnp.sum(black_price(*o)), argnums=argnums)
        return jax.jit(tangents).lower(*options).as_text().count("stablehlo.exponential")

    # The value is dead code in a gradient; vega needs one density, delta and vega two.
    assert exponentials((3,)) < exponentials((0, 3)) < exponentials((0, 1, 3))
