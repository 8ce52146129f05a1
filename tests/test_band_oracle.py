"""The limited oracle of bands: recorded fees, its window, its bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.band_oracle import OracleState
from jaxrisk.venue.presets.crvusd import YEAR_SECONDS, limited_oracle
from tests.helpers import assert_close

SECOND = 1.0 / YEAR_SECONDS


def state(price, fee=0.0, seconds=0.0, dtype=jnp.float64):
    return OracleState(
        price=jnp.asarray(price, dtype),
        fee=jnp.asarray(fee, dtype),
        elapsed=jnp.asarray(seconds * SECOND, dtype),
    )


def test_a_recorded_fee():
    # curve-stablecoin at 63ac0686: 96 seconds after 37,127.43 the feed says 34,737.40.
    seen = limited_oracle().see(
        state(37127.432005986186952704, 0.0, 96), jnp.array(34737.400243909036)
    )
    assert_close(seen.fee, 0.036191211154026401, rtol=1e-12, atol=0.0)
    assert_close(seen.price, 34737.400243909036, rtol=0.0, atol=0.0)


@given(st.floats(0.3, 3.0), st.floats(0.0, 0.3), st.floats(0.0, 300.0))
def test_price_and_fee_follow_the_formula(move, last_fee, seconds):
    seen = limited_oracle().see(state(100.0, last_fee, seconds), jnp.asarray(100.0 * move))
    if seconds >= 120.0:
        assert [float(seen.price), float(seen.fee)] == [100.0 * move, 0.0]
        return
    bounded = min(max(move, 1 / 1.25), 1.25)
    ratio = min(bounded, 1 / bounded)
    expected = min((last_fee + 1 - ratio**3) * (1 - seconds / 120.0), 1.0)
    assert_close(seen.price, 100.0 * bounded, rtol=1e-12, atol=0.0)
    assert_close(seen.fee, expected, rtol=1e-9, atol=1e-12)


def test_a_second_look_in_the_same_moment_keeps_the_fee():
    seen = limited_oracle().see(state(100.0, 0.0, 30), jnp.array(97.0))
    again = limited_oracle().see(limited_oracle().record(seen), jnp.array(97.0))
    assert_close(again.fee, seen.fee, rtol=1e-14, atol=0.0)
    assert float(again.fee) > 0.06


def test_the_fee_covers_what_knowing_the_move_would_earn():
    # Quotes move with the cube of the oracle price.
    seen = limited_oracle().see(state(100.0), jnp.array(95.0))
    assert_close(1.0 - seen.fee, 0.95**3, rtol=1e-12, atol=0.0)


@pytest.mark.slow
def test_single_precision():
    seen = limited_oracle(jnp.float32).see(
        state(100.0, 0.01, 30, jnp.float32), jnp.array(97.0, "float32")
    )
    assert seen.fee.dtype == seen.price.dtype == jnp.float32
    assert_close(seen.fee, (0.01 + 1 - 0.97**3) * 0.75, rtol=1e-5, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("feed", [0.0, 80.0, 100.0, 125.0, 1e9])
@pytest.mark.parametrize("seconds", [0.0, 120.0])
def test_derivatives_are_finite_at_the_kinks(feed, seconds):
    def fee(feed, price):
        seen = limited_oracle().see(state(price, 0.0, seconds), feed)
        return seen.fee + seen.price

    slopes = jax.grad(fee, argnums=(0, 1))(jnp.asarray(feed), jnp.array(100.0))
    assert np.all(np.isfinite(np.asarray(slopes)))
