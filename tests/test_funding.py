"""Funding by premium: a recorded figure, a scalar reference, bounds, what accounts pay others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.funding import (
    PerpetualPositions,
    PremiumFunding,
    impact_premium,
    rising_average,
)
from jaxrisk.venue.presets import binance_usdm, bitmex, deribit, hyperliquid, okx
from jaxrisk.venue.presets.derive import HOURS_PER_YEAR, perpetual_funding
from tests.helpers import assert_close

TOLERANCE = {np.float32: {"rtol": 2e-4, "atol": 2e-3}, np.float64: {"rtol": 1e-11, "atol": 1e-13}}
OFFSETS = st.floats(-0.05, 0.05)


def hourly_rate(rule, index, bid, ask, dtype: type[np.floating] = np.float64):
    one = lambda x: jnp.asarray([x], dtype)
    return float(rule.rate(impact_premium(one(index), one(bid), one(ask)))[0]) / HOURS_PER_YEAR


def reference_rate(index, bid, ask, *, hours=8.0, interest=0.0000125, cap=0.004):
    premium = (max(bid - index, 0.0) - max(index - ask, 0.0)) / index
    return min(max(premium / hours + interest, -cap), cap)


def test_a_recorded_rate():
    """Derive v2 PerpAsset at 7736900d: bid and ask below the index, interest 0.001 % an hour."""
    rule = PremiumFunding(
        period=jnp.asarray(8.0 / HOURS_PER_YEAR),
        interest=jnp.asarray(1e-5 * HOURS_PER_YEAR),
        cap=jnp.asarray(1e-3 * HOURS_PER_YEAR),
    )
    actual = hourly_rate(rule, 44135.334530127264, 43912.9660780688, 43956.279073364085)
    assert_close(actual, -0.000497120481439173, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(bid=OFFSETS, spread=st.floats(0.0, 0.02))
def test_the_rate_is_that_of_the_reference_and_within_its_bounds(dtype, bid, spread):
    bid, ask = float(dtype(2000.0 * (1.0 + bid))), float(dtype(2000.0 * (1.0 + bid + spread)))
    actual = hourly_rate(perpetual_funding(dtype), 2000.0, bid, ask, dtype)
    assert_close(actual, reference_rate(2000.0, bid, ask), **TOLERANCE[dtype])
    assert abs(actual) <= 0.004 * (1.0 + 1e-6)


def test_inside_the_book_only_interest_is_paid():
    assert_close(
        hourly_rate(perpetual_funding(np.float64), 100.0, 99.0, 101.0), 0.0000125,
        rtol=1e-12, atol=0.0,
    )  # fmt: skip


def empty(accounts):
    zero = jnp.zeros((1, accounts))
    return PerpetualPositions(size=zero, mark=zero, paid=zero, settled=zero)


STEP = st.tuples(
    st.floats(50.0, 200.0), st.floats(-1.0, 1.0), st.sampled_from([(0, 1), (1, 2), (2, 0)]),
    st.floats(-5.0, 5.0),
)  # fmt: skip


@given(steps=st.lists(STEP, min_size=4, max_size=4))
def test_what_one_account_earns_another_pays(steps):
    """Against a record of every trade: its own price and funding index, kept one by one."""
    positions, trades = empty(3), []
    paid, one = 0.0, lambda x: jnp.asarray([x])
    for mark, funding, (seller, buyer), amount in steps:
        paid += funding
        change = np.zeros((1, 3))
        change[0, seller], change[0, buyer] = -amount, amount
        positions = positions.traded(jnp.asarray(change), one(mark), one(paid))
        trades.append((change[0], mark, paid))
        cash = np.asarray(positions.cash(one(mark), one(paid)))[0]
        expected = sum(c * ((mark - m) - (paid - p)) for c, m, p in trades)
        assert_close(cash, expected, rtol=1e-10, atol=1e-9)
        assert abs(cash.sum()) < 1e-9
    assert_close(positions.size[0], sum(c for c, _, _ in trades), rtol=0.0, atol=1e-12)


@pytest.mark.parametrize(("bid", "expected"), [(2010.0, 1.0), (1990.0, 0.0), (2200.0, 0.0)])
def test_the_rate_rises_with_the_bid_between_the_index_and_the_cap(bid, expected):
    slope = jax.grad(
        lambda b: (
            perpetual_funding(np.float64)
            .rate(impact_premium(jnp.array([2000.0]), b[None], jnp.array([2300.0])))
            .sum()
        )
    )(jnp.array(bid))
    assert_close(slope, expected * HOURS_PER_YEAR / 8.0 / 2000.0, rtol=1e-12, atol=0.0)


def yearly(rule, premium):
    return float(rule.rate(jnp.asarray([premium]))[0])


def test_a_published_rate_of_a_clamped_premium():
    """Hyperliquid, Funding: impact bid 10,100 over an oracle price of 10,000 gives 0.95 %."""
    one = lambda x: jnp.asarray([x])
    premium = impact_premium(one(10_000.0), one(10_100.0), one(10_200.0))
    rate = hyperliquid.funding().rate(premium) / HOURS_PER_YEAR
    assert_close(rate * 8.0, [0.0095], rtol=1e-12, atol=0.0)
    assert_close(yearly(hyperliquid.funding(), 0.9) / HOURS_PER_YEAR, 0.04, rtol=1e-12, atol=0.0)


@given(premium=st.floats(-0.1, 0.1))
def test_funding_of_each_venue_is_that_of_its_formula(premium):
    clip = lambda x, bound: min(max(x, -bound), bound)
    towards = premium + clip(1e-4 - premium, 5e-4)
    tolerance = {"rtol": 1e-11, "atol": 1e-16}
    # Binance: [P + clamp] / (8 / N) in N = 4 h, at most 2 %.
    rate = yearly(binance_usdm.funding(0.02, hours=4.0), premium) * 4.0 / HOURS_PER_YEAR
    assert_close(rate, clip(towards / 2.0, 0.02), **tolerance)
    # BitMEX: at most 75 % of 1 % less 0.5 %.
    rate = yearly(bitmex.funding(0.01, 0.005), premium) * 8.0 / HOURS_PER_YEAR
    assert_close(rate, clip(towards, 0.00375), **tolerance)
    # OKX: the premium, capped. Deribit: max(d, P) + min(-d, P), capped.
    rate = yearly(okx.funding(0.015), premium) * 8.0 / HOURS_PER_YEAR
    assert_close(rate, clip(premium, 0.015), **tolerance)
    rate = yearly(deribit.funding(0.005), premium) * 8.0 / HOURS_PER_YEAR
    assert_close(rate, clip(max(2.5e-4, premium) + min(-2.5e-4, premium), 0.005), **tolerance)


def test_the_last_samples_of_a_premium_count_most():
    samples = jnp.asarray([[1.0, 6.0], [2.0, 0.0], [3.0, 0.0]])
    assert_close(rising_average(samples), [14.0 / 6.0, 1.0], rtol=1e-14, atol=0.0)
