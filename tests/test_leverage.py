"""Leverage, loan to value and the distance to liquidation of single accounts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.oracle import opening_prices
from jaxrisk.measure.leverage import (
    account_columns,
    account_leverage,
    distance_to_liquidation,
)
from jaxrisk.run.columns import column
from jaxrisk.venue.health import health_factor
from jaxrisk.venue.liquidation_price import liquidation_price
from tests import books
from tests.helpers import assert_close
from tests.systems import random_system

PRICE = jnp.array(books.PRICE)
ETHER = jnp.array([True, False])
VOLATILE = jnp.array([True, True, False])

jitted_distance = jax.jit(distance_to_liquidation)
jitted_health = jax.jit(health_factor)
jitted_liquidation_price = jax.jit(liquidation_price)


@pytest.mark.parametrize("threshold", [0.75, 0.95])
def test_a_loop_is_liquidated_where_price_has_gone_to_l_minus_one_over_threshold_l(threshold):
    multiple = np.array([1.2, 2.0, 3.5])
    figures = account_leverage(books.loops(list(multiple), threshold=threshold), PRICE, ETHER)
    fall = 1.0 - (multiple - 1.0) / (threshold * multiple)
    assert_close(figures["distance_to_liquidation_frac"], fall, rtol=1e-12, atol=1e-14)
    assert_close(figures["leverage"], multiple, rtol=1e-12, atol=0.0)
    assert_close(figures["debt_to_equity"], multiple - 1.0, rtol=1e-12, atol=0.0)
    health = threshold * multiple / (multiple - 1.0)
    assert_close(figures["health_factor"], health, rtol=1e-12, atol=0.0)
    assert_close(figures["loan_to_value_frac"], (multiple - 1) / multiple, rtol=1e-12, atol=0.0)
    prices = np.asarray(liquidation_price(books.loops(list(multiple), threshold=threshold), PRICE))
    assert_close(prices[0], PRICE[0] * (1.0 - fall), rtol=1e-12, atol=0.0)


@given(seed=st.integers(0, 10**6))
def test_health_is_one_after_the_stated_joint_fall(seed):
    system = random_system(seed)
    for venue in system.venues:
        price = opening_prices(venue.oracle, system.market)
        distance = np.asarray(jitted_distance(venue, price, VOLATILE))
        health = np.asarray(jitted_health(venue, price))
        for account in np.flatnonzero(np.isfinite(distance)):
            fallen = jnp.where(VOLATILE, price * (1.0 - distance[account]), price)
            assert_close(jitted_health(venue, fallen)[account], 1.0, rtol=0.0, atol=1e-12)
            assert (distance[account] > 0) == (health[account] > 1)


@given(seed=st.integers(0, 10**6))
def test_health_is_one_at_every_stated_liquidation_price(seed):
    system = random_system(seed)
    for venue in system.venues:
        price = opening_prices(venue.oracle, system.market)
        crossing = np.asarray(jitted_liquidation_price(venue, price))
        assert np.isfinite(crossing).any()
        for asset, account in zip(*np.nonzero(np.isfinite(crossing)), strict=True):
            moved = price.at[asset].set(crossing[asset, account])
            assert_close(jitted_health(venue, moved)[account], 1.0, rtol=0.0, atol=1e-12)


def test_an_account_beyond_its_threshold_has_a_negative_distance():
    distance = distance_to_liquidation(books.pair_venue([100.0], [88.0]), PRICE, ETHER)
    assert_close(distance, [1.0 - 88.0 / 80.0], rtol=1e-12, atol=0.0)


def test_no_distance_where_no_joint_fall_liquidates():
    debt_free = books.pair_venue([100.0], [0.0])
    assert np.isnan(distance_to_liquidation(debt_free, PRICE, ETHER)).all()
    short = books.pair_venue([100.0], [50.0], pair=(1, 0))
    assert np.isnan(distance_to_liquidation(short, PRICE, ETHER)).all()
    # Both sides in what moves: health stays as it is.
    assert np.isnan(distance_to_liquidation(books.loops([3.0]), PRICE, jnp.array([True, True])))
    assert np.isnan(distance_to_liquidation(books.loops([3.0]), PRICE, jnp.array([False, False])))
    beyond = books.pair_venue([100.0], [88.0])
    assert np.isnan(distance_to_liquidation(beyond, PRICE, jnp.array([False, False])))


def test_figures_without_debt_without_equity_and_without_collateral():
    venue = books.pair_venue([100.0, 100.0, 0.0], [0.0, 120.0, 5.0])
    figures = account_leverage(venue, PRICE, ETHER)
    assert_close(figures["loan_to_value_frac"], [0.0, 1.2, np.inf], rtol=1e-12, atol=0.0)
    assert_close(figures["leverage"], [1.0, np.inf, np.inf], rtol=0.0, atol=0.0)
    assert_close(figures["debt_to_equity"], [0.0, np.inf, np.inf], rtol=0.0, atol=0.0)
    assert_close(figures["health_factor"], [np.inf, 80 / 120, 0.0], rtol=1e-12, atol=0.0)
    assert_close(figures["toxic"], [0.0, 1.0, 1.0], rtol=0.0, atol=0.0)


def test_columns_are_float64_documented_and_leave_out_prices_that_do_not_exist():
    system = random_system(4, dtype=np.float32)
    venue = system.venues[1]
    columns = account_columns(venue, system.market, np.asarray(VOLATILE))
    assert columns["toxic"].dtype == bool
    assert all(v.dtype == np.float64 for name, v in columns.items() if name != "toxic")
    assert all(column("accounts", name).name == name for name in columns)
    assert "liquidation_price_wstETH_usd" in columns
    assert "liquidation_price_WETH_usd" not in columns
    held = np.asarray(venue.accounts.collateral, np.float64)[0] * 3600.0
    owed = np.asarray(venue.accounts.debt, np.float64)[0]
    assert_close(columns["collateral_usd"], held, rtol=1e-6, atol=0.0)
    assert_close(columns["loan_to_value_frac"], owed / held, rtol=1e-6, atol=0.0)
    assert_close(columns["leverage"], held / (held - owed), rtol=1e-4, atol=0.0)
    health = columns["health_factor"]
    assert_close(columns["distance_to_liquidation_frac"], 1 - 1 / health, rtol=1e-4, atol=1e-5)
