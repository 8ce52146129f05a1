"""Oracles: which price a venue works with, and what it does not see."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.oracle import (
    DelayedOracle,
    DeviationOracle,
    ExchangeRateOracle,
    SpotOracle,
    opening_prices,
)
from jaxrisk.market.state import Market
from tests.helpers import assert_close

OPENING = Market.opening({"ether": 2000.0, "staked": 2400.0}, pegs={"staked": "ether"})


def at(ether, staked=2400.0, log_ratio=0.0):
    ratio = OPENING.log_ratio + jnp.array([0.0, log_ratio])
    return dataclasses.replace(OPENING, price=jnp.array([ether, staked]), log_ratio=ratio)


def published(oracle, markets):
    """Return the prices worked with after each market was observed in turn."""
    state, prices = oracle.init(OPENING), []
    for market in markets:
        state = oracle.observe(state, market)
        prices.append(np.asarray(oracle.seen(state, market)))
    return np.array(prices)


def test_spot_follows_the_mid_and_so_the_sales():
    market = dataclasses.replace(at(1900.0), displacement=jnp.array([0.1, 0.0]))
    seen = published(SpotOracle(), [market])
    assert_close(seen, [[1900.0 * np.exp(-0.1), 2400.0]], rtol=1e-14, atol=0.0)


def test_the_exchange_rate_is_blind_to_the_basis():
    oracle = ExchangeRateOracle()
    # The staked asset trades 20 % below its exchange rate: nothing is seen of that.
    seen = published(oracle, [at(2000.0, staked=0.8 * 2400.0), at(1500.0, staked=100.0)])
    assert_close(seen, [[2000.0, 2400.0], [1500.0, 1800.0]], rtol=1e-14, atol=0.0)
    grown = published(oracle, [at(2000.0, log_ratio=0.05)])
    assert_close(grown, [[2000.0, 2400.0 * np.exp(0.05)]], rtol=1e-14, atol=0.0)


def test_the_exchange_rate_follows_sales_of_the_underlying_only():
    sold = dataclasses.replace(OPENING, displacement=jnp.array([0.1, 0.3]))
    seen = published(ExchangeRateOracle(), [sold])
    assert_close(seen, np.array([[2000.0, 2400.0]]) * np.exp(-0.1), rtol=1e-14, atol=0.0)


def test_without_pegs_the_exchange_rate_is_the_mid():
    market = Market.opening({"ether": 2000.0, "dollar": 1.0})
    assert opening_prices(ExchangeRateOracle(), market).tolist() == [2000.0, 1.0]


def test_a_push_oracle_waits_for_its_deviation():
    oracle = DeviationOracle(deviation=jnp.array([0.01, 0.01]))
    path = [at(2019.0), at(2020.0), at(2002.0), at(1999.0), at(1995.0)]
    # 1 % of 2,000 is 20; then 1 % of 2,020 is 20.2.
    expected = [2000.0, 2020.0, 2020.0, 1999.0, 1999.0]
    assert published(oracle, path)[:, 0].tolist() == expected
    assert (published(oracle, path)[:, 1] == 2400.0).all()


def test_a_push_oracle_without_deviation_is_the_mid_of_the_step():
    oracle = DeviationOracle(deviation=jnp.zeros(2))
    path = [at(2000.0), at(2000.1), at(1999.9)]
    assert published(oracle, path)[:, 0].tolist() == [2000.0, 2000.1, 1999.9]


def test_a_push_oracle_does_not_see_sales_within_a_step():
    oracle = DeviationOracle(deviation=jnp.zeros(2))
    state = oracle.observe(oracle.init(OPENING), at(1900.0))
    assert oracle.seen(state, at(1000.0)).tolist() == [1900.0, 2400.0]


def test_a_delayed_oracle_sees_the_mid_of_some_steps_ago():
    path = [at(price) for price in (1900.0, 1800.0, 1700.0, 1600.0)]
    assert published(DelayedOracle(steps=1), path)[:, 0].tolist() == [2000, 1900, 1800, 1700]
    assert published(DelayedOracle(steps=3), path)[:, 0].tolist() == [2000, 2000, 2000, 1900]


def test_every_oracle_opens_at_the_opening_prices():
    deviation = jnp.array([0.01, 0.01])
    for oracle in (
        SpotOracle(),
        ExchangeRateOracle(),
        DelayedOracle(steps=2),
        DeviationOracle(deviation=deviation),
    ):
        assert_close(opening_prices(oracle, OPENING), [2000.0, 2400.0], rtol=1e-14, atol=0.0)
