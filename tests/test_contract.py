"""Contracts: one formula against the textbook's four, side by side in one table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.black import black_price
from jaxrisk.market.contract import (
    Quotes,
    european_option,
    mark_price,
    perpetual,
    profit,
    profit_between,
    settlement_value,
    table,
    value,
)
from tests.helpers import assert_close

BOOK = table([
    perpetual(0.001),
    perpetual(100.0, inverse=True),
    perpetual(1e-6),
    european_option(52_000.0, 0.5, call=True),
    european_option(48_000.0, 0.5, call=False, multiplier=0.1, coin_quoted=True),
])  # fmt: skip
FORWARD = (50_000.0, 50_100.0, 3_000.0, 50_500.0, 50_500.0)
SETTLEMENT = (1.0, 50_000.0, 50_000.0, 1.0, 50_000.0)
gains, worth = jax.jit(profit), jax.jit(value)


def quotes(forward=FORWARD, settlement=SETTLEMENT, time=0.1, volatility=0.6):
    array = lambda x: jnp.broadcast_to(jnp.asarray(x, float), (5,))
    return Quotes(
        forward=array(forward),
        volatility=array(volatility),
        settlement=array(settlement),
        time=jnp.asarray(time, float),
    )


def textbook(entry, mark, size):
    """Return the profit of each row of the book, written out kind by kind."""
    return [
        size[0] * 0.001 * (mark[0] - entry[0]),
        size[1] * 100.0 * (1 / entry[1] - 1 / mark[1]) * 50_000.0,
        size[2] * 1e-6 * (mark[2] - entry[2]) * 50_000.0,
        size[3] * (mark[3] - entry[3]),
        size[4] * 0.1 * (mark[4] - entry[4]) * 50_000.0,
    ]


def test_marks_are_prices_and_premiums():
    marks = jax.jit(mark_price)(BOOK, quotes())
    call = float(black_price(50_500.0, 52_000.0, 0.4, 0.6, 1.0))
    put = float(black_price(50_500.0, 48_000.0, 0.4, 0.6, -1.0)) / 50_500.0
    assert_close(marks, [50_000.0, 50_100.0, 3_000.0, call, put], rtol=1e-14, atol=0.0)


@given(st.lists(st.floats(-50.0, 50.0), min_size=5, max_size=5), st.floats(0.5, 2.0))
def test_every_kind_gains_what_the_textbook_says(size, ratio):
    q = quotes()
    marks = np.asarray(mark_price(BOOK, q))
    entry = jnp.asarray(marks * ratio)
    actual = gains(BOOK, q, jnp.asarray(size), entry)
    expected = textbook(np.asarray(entry), marks, size)
    assert_close(actual, expected, rtol=1e-12, atol=1e-9 * np.abs(size).max() + 1e-200)
    # Zero-sum: who is short loses what who is long gains.
    other = gains(BOOK, q, -jnp.asarray(size), entry)
    assert_close(np.asarray(actual) + np.asarray(other), np.zeros(5), rtol=0.0, atol=0.0)


def test_profit_is_the_difference_of_values():
    q = quotes()
    entry = 0.9 * mark_price(BOOK, q)
    bought = q.settlement * settlement_value(BOOK, entry)
    one = jnp.ones(5)
    assert_close(gains(BOOK, q, one, entry), worth(BOOK, q) - bought, rtol=1e-10, atol=1e-12)
    # The worth of an inverse contract is its face, owed, whatever its price in numeraire terms.
    at_par = quotes(settlement=(1.0, 50_100.0, 1.0, 1.0, 1.0))
    assert_close(worth(BOOK, at_par)[1], -100.0, rtol=1e-15, atol=0.0)


def test_accounts_stand_behind_contracts():
    q = quotes()
    size = jnp.asarray(np.random.default_rng(1).normal(size=(5, 7)))
    entry = jnp.asarray(mark_price(BOOK, q))[:, None] * jnp.linspace(0.7, 1.3, 7)[None, :]
    many = gains(BOOK, q, size, entry)
    for account in range(7):
        one = gains(BOOK, q, size[:, account], entry[:, account])
        assert_close(many[:, account], one, rtol=1e-13, atol=0.0)
    # A place without a position needs no entry price.
    empty = gains(BOOK, q, size.at[:, 3].set(0.0), entry.at[:, 3].set(0.0))
    assert_close(empty[:, 3], np.zeros(5), rtol=0.0, atol=0.0)
    assert_close(empty[:, 2], many[:, 2], rtol=1e-13, atol=0.0)


def test_small_gains_of_inverse_contracts_do_not_cancel():
    entry, mark = jnp.float32(50_000.0), jnp.float32(50_000.0 * (1 + 2.0**-20))
    actual = profit_between(entry, mark, jnp.float32(1.0), jnp.float32(1e6), inverse=1.0)
    exact = 1e6 * (float(mark) - 50_000.0) / (50_000.0 * float(mark))
    assert_close(np.float64(actual), exact, rtol=1e-6, atol=0.0)


def test_options_run_off_and_pay_at_expiry():
    for time in (0.5, 0.7):
        expired = worth(BOOK, quotes(time=time, forward=60_000.0, settlement=60_000.0))[3:]
        assert_close(expired, [8_000.0 * 60_000.0, 0.0], rtol=1e-14, atol=0.0)
        # A coin-settled put pays (K - S) / S coins: 0.1 of 8 000 in the numeraire at 40 000.
        low = worth(BOOK, quotes(time=time, forward=40_000.0, settlement=40_000.0))[4]
        assert_close(low, 800.0, rtol=1e-13, atol=0.0)
    earlier, later = worth(BOOK, quotes(time=0.1))[3:], worth(BOOK, quotes(time=0.2))[3:]
    assert (np.asarray(earlier) > np.asarray(later)).all()


def test_derivatives_are_finite_and_right_in_every_row():
    q, entry = quotes(), jnp.asarray(mark_price(BOOK, quotes())) * 1.1
    size = jnp.asarray([3.0, -5.0, 2.0, 1.0, -4.0])
    total = lambda q, c: jnp.sum(profit(c, q, size, entry))
    by_quotes, by_terms = jax.jit(jax.grad(total, argnums=(0, 1)))(q, BOOK)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((by_quotes, by_terms)))
    h = 1e-4
    for i in range(5):
        step = jnp.zeros(5).at[i].set(h * FORWARD[i])
        up, down = (quotes(forward=q.forward + d * step) for d in (1.0, -1.0))
        bump = (float(total(up, BOOK)) - float(total(down, BOOK))) / (2 * h * FORWARD[i])
        assert_close(by_quotes.forward[i], bump, rtol=1e-6, atol=0.0)
    # Only options feel volatility and time.
    assert by_quotes.volatility[:3].tolist() == [0.0, 0.0, 0.0]
    assert by_terms.strike[:3].tolist() == [0.0, 0.0, 0.0]
    # And none is spoilt where nothing is held, at a price of nothing.
    spared = jax.grad(lambda e: jnp.sum(profit(BOOK, q, jnp.zeros(5), e)))(jnp.zeros(5))
    assert spared.tolist() == [0.0] * 5


@pytest.mark.parametrize(
    ("build", "what"),
    [
        (lambda: perpetual(0.0), "multiplier 0.0"),
        (lambda: perpetual(float("nan"), inverse=True), "multiplier nan"),
        (lambda: european_option(-1.0, 0.5, call=True), "strike -1.0"),
        (lambda: european_option(1.0, float("inf"), call=False), "expiry inf"),
    ],
)
def test_impossible_terms_are_refused(build, what):
    with pytest.raises(ValueError, match=what):
        build()
