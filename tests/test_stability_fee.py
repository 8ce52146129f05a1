"""The stability fee: recorded growth, agreement with repeated multiplication, precision."""

from decimal import Decimal, getcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.stability_fee import SECONDS_PER_YEAR, StabilityFee
from tests.helpers import assert_close

FEE = 1.647125985827094528e-9


def test_a_recorded_day():
    """Jug.drip of Maker dss (fa4f663): base and duty are 1.647...e-9 over one, for a day."""
    fee = StabilityFee(per_second=jnp.array([FEE]))
    after = 1.053316535401889118560 * fee.growth(jnp.array([86_400.0]))
    assert_close(after, [1.053466445319655384], rtol=1e-15, atol=0.0)


@given(fee=st.floats(1e-12, 1e-7), seconds=st.integers(0, 40_000_000))
def test_growth_is_the_power(fee, seconds):
    getcontext().prec = 50
    expected = float((1 + Decimal(fee)) ** seconds)
    actual = StabilityFee(per_second=jnp.array([fee])).growth(jnp.array([float(seconds)]))
    assert_close(actual, [expected], rtol=1e-13, atol=0.0)


def test_the_yearly_rate_compounds_to_the_growth_of_a_year():
    fee = StabilityFee(per_second=jnp.array([FEE, 0.0]))
    rate = fee.borrow_rate(jnp.array([0.5, 1.0]))
    year = fee.growth(jnp.full(2, SECONDS_PER_YEAR))
    assert_close(jnp.exp(rate), year, rtol=1e-14, atol=0.0)
    assert float(rate[1]) == 0.0


@pytest.mark.slow
def test_single_precision_agrees_over_a_year():
    run = lambda dtype: StabilityFee(per_second=jnp.array([FEE], dtype)).growth(
        jnp.array([SECONDS_PER_YEAR], dtype)
    )
    assert run(np.float32).dtype == np.float32
    assert_close(run(np.float32), run(np.float64), rtol=1e-6, atol=0.0)


@pytest.mark.slow
def test_the_derivative_in_the_fee_is_time_times_growth():
    seconds = jnp.array([SECONDS_PER_YEAR])
    slope = jax.grad(lambda f: StabilityFee(per_second=f).growth(seconds)[0])(jnp.array([FEE]))
    expected = SECONDS_PER_YEAR * (1 + FEE) ** (SECONDS_PER_YEAR - 1)
    # The power itself is good to 7 digits in float64: that is why the excess is kept.
    assert_close(slope, [expected], rtol=1e-7, atol=0.0)
