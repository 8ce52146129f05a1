"""Margin of written options by a bound of their value: published figures, reference, slopes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.presets.opyn import PRODUCTS, naked_margin
from jaxrisk.venue.stability_fee import SECONDS_PER_YEAR
from jaxrisk.venue.upper_bound_margin import ShortOption
from tests.helpers import assert_close

DAY = 86_400.0
PRICES = st.floats(1.0, 1e4)
DAYS = st.integers(0, 4 * 56).map(lambda quarters: quarters / 4)
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-13}


def short(strike, days, is_put, size=1.0, dtype=np.float64):
    number = lambda x: jnp.asarray(x, dtype)
    return ShortOption(
        strike=number(strike), size=number(size), years=number(days * DAY / SECONDS_PER_YEAR),
        is_put=jnp.asarray(is_put),
    )  # fmt: skip


def required(strike, spot, days, is_put, size=1.0, dtype=np.float64):
    margin = naked_margin(dtype).margin(
        short(strike, days, is_put, size, dtype), jnp.asarray(spot, dtype)
    )
    return margin.required


def reference(strike, spot, days, is_put, size):
    """Return the margin of one option in plain Python: its bound, then the shocked price."""
    table = PRODUCTS["weth_tests"]
    bound = next(u for d, u in zip(table.days, table.upper_bound, strict=True) if days <= d)
    if is_put:
        low = table.spot_shock * spot
        return size * (bound * strike if strike < low else bound * low + strike - low)
    high = spot / table.spot_shock
    unit = bound if strike > high else (bound * strike + high - strike) / high
    return size * unit


def test_published_figures():
    """Source: opynfinance/GammaProtocol, test/unit-tests/marginCalculatorNakedMargin.test.ts.

    The figures there are rounded: the exact ones are the bound times the strike, or the bound.
    """
    assert_close(required(100.0, 150.0, 7.0, True), 16.78, rtol=1e-12, atol=0.0)
    assert_close(required(100.0, 150.0, 7.0, True), 16.77778677, rtol=0.0, atol=0.01)
    assert_close(required(2500.0, 1800.0, 7.0, False), 0.1678, rtol=1e-12, atol=0.0)
    assert_close(required(2500.0, 1800.0, 7.0, False, 1e5), 16780.0, rtol=1e-12, atol=0.0)
    assert_close(required(100.0, 150.0, 14.0, True), 23.7, rtol=1e-12, atol=0.0)


def test_a_recorded_figure():
    """Restated from the contract's output: a put near the money, in 1e-6 of a dollar."""
    rule = naked_margin(np.float64)
    option = short(4280.0, 6.0, True, 67.08032653)
    rule = dataclasses.replace(
        rule,
        upper_bound=rule.upper_bound.at[0].set(0.054987884),
        spot_shock=jnp.asarray(0.821133116),
    )
    margin = rule.margin(option, jnp.asarray(4529.38880638))
    assert_close(margin.required, 51335.333348, rtol=0.0, atol=1e-6)


@given(
    strike=PRICES, spot=PRICES, days=DAYS, is_put=st.booleans(),
    size=st.one_of(st.just(0.0), st.floats(0.01, 1e3)),
)  # fmt: skip
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_rule_is_that_of_the_reference(dtype, strike, spot, days, is_put, size):
    strike, spot = float(dtype(strike)), float(dtype(spot))
    expected = reference(strike, spot, days, is_put, size)
    actual = required(strike, spot, days, is_put, size, dtype)
    assert actual.dtype == dtype
    assert_close(actual, expected, rtol=TOLERANCE[dtype], atol=1e-6 * TOLERANCE[dtype])


def test_a_bound_holds_to_its_last_second_and_the_last_is_the_end():
    rule = naked_margin(np.float64)
    second = 1.0 / DAY
    at = lambda d: rule.margin(short(100.0, d, True), jnp.asarray(200.0))
    for bucket, days in enumerate((7.0, 14.0, 28.0, 42.0, 56.0)):
        assert at(days).bucket == bucket
        assert at(days + second).bucket == bucket + 1
    assert jnp.isinf(at(56.0 + second).required)
    nothing = rule.margin(short(100.0, 60.0, True, size=0.0), jnp.asarray(200.0))
    assert nothing.required == 0.0


@given(
    strike=PRICES, spot=PRICES, days=st.floats(0.0, 56.0), is_put=st.booleans(),
    factor=st.floats(1.0, 3.0),
)  # fmt: skip
def test_bounds_and_monotonicity(strike, spot, days, is_put, factor):
    margin = float(required(strike, spot, days, is_put))
    most = strike if is_put else 1.0
    intrinsic = max(strike - spot, 0.0) if is_put else max(1.0 - strike / spot, 0.0)
    slack = 1e-12 * most
    # Never more than full cover, never less than what exercise would cost now.
    assert intrinsic - slack <= margin <= most + slack
    # A price that moves against the writer never lowers the margin; nor does a later expiry.
    against = spot / factor if is_put else spot * factor
    assert float(required(strike, against, days, is_put)) >= margin - slack
    later = min(days * factor, 56.0)
    assert float(required(strike, spot, later, is_put)) >= margin - slack
    # The numeraire does not matter: puts scale with it, calls are counted in kind.
    scaled = float(required(factor * strike, factor * spot, days, is_put))
    assert_close(scaled, margin * (factor if is_put else 1.0), rtol=1e-12, atol=slack)


@pytest.mark.parametrize(
    ("strike", "is_put"), [(100.0, True), (200.0, True), (150.0, False), (300.0, False)]
)
def test_slopes_are_those_of_central_differences(strike, is_put):
    value = lambda k, s: required(k, s, 20.0, is_put, 3.0)
    slopes = jax.grad(value, argnums=(0, 1))(strike, 170.0)
    h = 1e-4
    bumped = (
        (value(strike + h, 170.0) - value(strike - h, 170.0)) / (2 * h),
        (value(strike, 170.0 + h) - value(strike, 170.0 - h)) / (2 * h),
    )
    assert_close(jnp.stack(slopes), jnp.stack(bumped), rtol=1e-7, atol=1e-9)


def test_slopes_are_finite_where_no_bound_is_known():
    value = lambda s: jnp.where(True, required(100.0, s, 60.0, False, 0.0), 0.0)
    assert jnp.isfinite(jax.grad(value)(0.0))
