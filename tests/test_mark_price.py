"""Index and mark prices, price bands and open-interest caps against figures and NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.mark_price import DecayingAverage, funding_price, middle, weighted_median
from jaxrisk.venue.presets import binance_usdm, hyperliquid, okx
from tests.helpers import assert_close

PRICES = st.lists(st.floats(50.0, 150.0), min_size=5, max_size=5)
WEIGHTS = st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0]), min_size=5, max_size=5)
column = lambda values: jnp.asarray(values, float)[:, None]


@given(a=st.floats(1.0, 9.0), b=st.floats(1.0, 9.0), c=st.floats(1.0, 9.0))
def test_the_middle_is_the_median(a, b, c):
    found = middle(*(jnp.asarray([x]) for x in (a, b, c)))
    assert_close(found, [np.median([a, b, c])], rtol=0.0, atol=0.0)


@given(price=PRICES, weight=WEIGHTS)
def test_the_weighted_median_is_that_of_repeated_prices(price, weight):
    if not sum(weight):
        return
    repeated = np.repeat(price, np.asarray(weight, int))
    found = weighted_median(column(price), column(weight))
    assert_close(found, [np.median(repeated)], rtol=1e-14, atol=0.0)


def test_an_oracle_of_eight_sources():
    """Hyperliquid's weights: three sources of seven in twelve decide, whatever the others say."""
    weight = column(list(hyperliquid.ORACLE_WEIGHTS.values()))
    price = column([100.0, 101.0, 102.0, 1.0, 1.0, 500.0, 500.0, 500.0])
    assert_close(weighted_median(price, weight), [101.0], rtol=0.0, atol=0.0)


def test_a_source_gone_astray_is_left_out_and_two_make_the_median():
    """Binance, protections of the price index: 5 % from the median."""
    rule, weight = binance_usdm.index(), column([1.0, 1.0, 1.0, 1.0, 4.0])
    near = [100.0, 101.0, 99.0, 100.0]
    assert_close(rule.price(column([*near, 104.0]), weight), [102.0], rtol=1e-14, atol=0.0)
    assert_close(rule.price(column([*near, 106.0]), weight), [100.0], rtol=1e-14, atol=0.0)
    two = column([100.0, 101.0, 99.0, 80.0, 106.0])
    assert_close(rule.price(two, weight), [100.0], rtol=1e-14, atol=0.0)
    slope = jax.grad(lambda p: jnp.sum(rule.price(p, weight)))(column([*near, 106.0]))
    assert_close(slope[:, 0], [0.25, 0.25, 0.25, 0.25, 0.0], rtol=1e-14, atol=0.0)


def test_the_mark_price_of_a_perpetual():
    """Median of the index with funding, the index with the average basis, and the last price."""
    index = jnp.asarray([50_000.0])
    rate = jnp.asarray([1e-4 * 3 * 365.0])
    first = funding_price(index, rate, jnp.asarray([6.0 / 8760.0]))
    assert_close(first, [50_003.75], rtol=1e-14, atol=0.0)
    assert_close(middle(first, index + 12.0, index + 400.0), [50_012.0], rtol=0.0, atol=0.0)


def test_a_decaying_average_weighs_samples_by_how_long_they_lasted():
    """Hyperliquid's EMA: numerator and denominator decay by exp(-t / 2.5 minutes)."""
    state = DecayingAverage(weighted=jnp.zeros(1), weight=jnp.zeros(1))
    assert state.value.tolist() == [0.0]
    memory = jnp.asarray(hyperliquid.BASIS_SECONDS)
    numerator = denominator = 0.0
    for sample, seconds in ((20.0, 3.0), (-5.0, 4.0), (7.0, 300.0), (8.0, 1.0)):
        state = state.after(jnp.asarray([sample]), jnp.asarray(seconds), memory)
        numerator = numerator * np.exp(-seconds / 150.0) + sample * seconds
        denominator = denominator * np.exp(-seconds / 150.0) + seconds
        assert_close(state.value, [numerator / denominator], rtol=1e-13, atol=0.0)


@pytest.mark.parametrize(
    ("premium", "lowest", "highest"),
    [
        (0.0, 98.0, 102.0),
        (1.5, 99.5, 103.5),
        (4.0, 100.0, 105.0),
        (-2.5, 95.5, 100.0),
        (-9.0, 95.0, 100.0),
    ],
)
def test_price_limits_follow_the_premium_within_the_outer_band(premium, lowest, highest):
    """OKX, majors: Y 2 %, Z 5 %."""
    band = okx.price_band(["swap, tier 1"])
    bounds = band.bounds(jnp.asarray([100.0]), jnp.asarray([premium]))
    assert_close(jnp.concatenate(bounds), [lowest, highest], rtol=1e-14, atol=0.0)


def test_open_interest_is_capped_by_notional_and_by_units():
    cap = hyperliquid.open_interest_cap(jnp.asarray([1e6, 1e12, 1e6]))
    room = cap.room(jnp.asarray([4e3, 9e8, 2e5]), jnp.asarray([100.0, 2.0, 10.0]))
    assert_close(room, [6e3, 1e8, 0.0], rtol=1e-12, atol=0.0)
