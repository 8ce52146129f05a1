"""Margins in coins and by size: published examples, a scalar reference, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.chain import OptionChain
from jaxrisk.venue.coin_margin import CoinHoldings, coin_gains, coin_margin
from jaxrisk.venue.presets.deribit import coin_terms, futures_margin
from jaxrisk.venue.requirement import INITIAL, MAINTENANCE
from tests import reference_margin as reference
from tests.helpers import assert_close

TOLERANCE = {np.float32: {"rtol": 1e-4, "atol": 1e-4}, np.float64: {"rtol": 1e-10, "atol": 1e-12}}
DAY = 1.0 / 365.0
margin = jax.jit(coin_margin)
gains_of = jax.jit(coin_gains)


@pytest.mark.parametrize(
    ("contract", "size", "price", "initial", "maintenance"),
    [
        ("BTC", 25.0, 100_000.0, 53_125.0, 28_125.0),
        ("BTC", 350.0, 100_000.0, 1_312_500.0, 962_500.0),
        ("SOL_USDC", -6_000.0, 200.0, 84_000.0, 60_000.0),
    ],
)
def test_published_requirements_of_futures(contract, size, price, initial, maintenance):
    """Deribit, Linear Perpetual: rates rise by 0.005 % a bitcoin, by 0.0005 % a SOL."""
    rule = futures_margin(contract, np.float64)
    actual = rule.required(jnp.array([size]), jnp.array([price]))
    assert_close(actual[:, 0], [initial, maintenance], rtol=1e-12, atol=0.0)


def chain_of(options, *, years=20 * DAY, forward=60_000.0, dtype: type = np.float64):
    """Return a chain whose first expiry is the perpetual's, with 3 options in the second."""
    number = lambda x: jnp.asarray(x, dtype)
    rows = [*options, *[(0.0, False, 0.0, 0.0)] * (3 - len(options))]
    empty = [0.0] * 3
    chain = OptionChain(
        years=number([0.0, years]),
        forward=number([forward, forward]),
        fixed=number([0.0, 0.0]),
        discount=number([1.0, 1.0]),
        strike=number([empty, [r[0] for r in rows]]),
        volatility=number([empty, [r[3] for r in rows]]),
        is_call=jnp.asarray([[False] * 3, [r[1] for r in rows]]),
    )
    return chain, number([empty, [r[2] for r in rows]])[..., None]


def holdings(amount, futures, *, equity=0.0, orders=0.0):
    number = lambda x: jnp.asarray(x, amount.dtype)
    return CoinHoldings(
        equity=number([equity]), futures=number(futures)[:, None], options=amount,
        orders=number([orders]),
    )  # fmt: skip


def test_the_published_simulation():
    """Deribit, docs of `private/pme/simulate`: a perpetual and a future of eleven days."""
    chain, amount = chain_of([], years=11 * DAY)
    held = holdings(amount, [0.314538364, -0.001187534], orders=0.06 + 0.000018212)
    gains = gains_of(coin_terms(np.float64).grid, chain, held)[:, 0]
    alone = holdings(amount, [0.314538364, 0.0])
    vector = gains_of(coin_terms(np.float64).grid, chain, alone)[::3, 0]
    assert_close(vector[:6], [-0.05991206933333334, -0.04289159509090909, -0.027351162086956524,
                              -0.013105765166666668, 0.0, 0.012097629384615385],
                 rtol=1e-12, atol=1e-17)  # fmt: skip
    assert_close(vector[8], 0.0433846019, rtol=1e-8, atol=0.0)
    assert_close(gains[:3], [-0.05968587238095239] * 3, rtol=1e-12, atol=0.0)
    assert_close(gains[9], -0.013056284583333334, rtol=1e-12, atol=0.0)
    state = margin(coin_terms(np.float64), chain, held)
    # Published sums are of parts rounded to nine decimals.
    assert_close(-state.surplus[MAINTENANCE, 0], 0.050274504784, rtol=0.0, atol=1e-9)
    assert_close(-state.surplus[INITIAL, 0], 0.122861343, rtol=0.0, atol=1e-9)
    assert int(state.binding[0, 0]) == 0


OPTION = st.tuples(st.sampled_from([40_000.0, 60_000.0, 90_000.0]), st.booleans(),
                   st.floats(-3.0, 3.0), st.floats(0.3, 1.2))  # fmt: skip


@pytest.mark.parametrize("dtype", [pytest.param(np.float32, marks=pytest.mark.slow), np.float64])
@given(
    options=st.lists(OPTION, max_size=3),
    perpetual=st.floats(-2.0, 2.0),
    days=st.sampled_from([0.5, 7.0, 90.0]),
)
def test_gains_are_those_of_the_reference(dtype, options, perpetual, days):
    chain, amount = chain_of(options, years=days * DAY, dtype=dtype)
    held = holdings(amount, [perpetual, 0.0])
    shock = {"up": 0.5, "down": 0.25, "short_power": 0.3, "long_power": 0.13, "minimum": 0.5,
             "cap": 0.0, "cap_slope": 0.0, "width": 4.0, "level": 0.6}  # fmt: skip
    expected = []
    for k in range(-4, 5):
        move = 0.04 * k
        for direction in (1.0, 0.0, -1.0):
            gain = perpetual * (1.0 - 1.0 / (1.0 + move))
            for strike, is_call, size, volatility in options:
                row = (move, direction, 0.0, 0.0, 1.0)
                sigma = reference.shocked_volatility(volatility, days * DAY, 0.0, row, shock)
                price = lambda f, v: reference.black(f, strike, days * DAY, v, 1.0, is_call) / f  # noqa: B023
                gain += size * (price(60_000.0 * (1 + move), sigma) - price(60_000.0, volatility))
            expected.append(gain)
    gains = gains_of(coin_terms(dtype).grid, chain, held)
    assert_close(gains[:, 0], expected, **TOLERANCE[dtype])
    state = margin(coin_terms(dtype), chain, held)
    # Nothing is asked of an account for its gains.
    assert bool(jnp.all(state.surplus <= 0.0))


def test_gradients_are_those_of_central_differences():
    options = [
        (50_000.0, False, -1.0, 0.7),
        (70_000.0, True, -2.0, 0.6),
        (90_000.0, True, 1.0, 0.6),
    ]
    chain, amount = chain_of(options)
    terms = coin_terms(np.float64)

    @jax.jit
    def surplus(amount):
        return margin(terms, chain, holdings(amount, [0.4, 0.0])).surplus[MAINTENANCE, 0]

    slope, step = jax.grad(surplus)(amount), 1e-6
    bumps = [
        (surplus(amount.at[1, n, 0].add(step)) - surplus(amount.at[1, n, 0].add(-step)))
        / (2 * step)
        for n in range(3)
    ]
    assert_close(slope[1, :, 0], jnp.stack(bumps), rtol=1e-6, atol=0.0)
