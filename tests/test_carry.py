"""Carry, drift and calls of leveraged strategies: published figures and the rules of venues."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.contract import perpetual, table
from jaxrisk.measure.carry import (
    Rates,
    break_even_borrow_rate,
    equity_volatility,
    health_after,
    loan_health,
    loan_liquidation_price,
    margin_liquidation_price,
    nested_liquidation_prices,
    net_apy,
    years_to_liquidation,
)
from jaxrisk.system.claims import value_claims
from jaxrisk.system.loop import flash_built, looped, nested_claims, with_perpetual
from jaxrisk.venue.interest import Balance
from jaxrisk.venue.liquidation_price import liquidation_price
from jaxrisk.venue.margin_book import MarginBook
from jaxrisk.venue.margin_tiers import Bracket, MarginTiers
from jaxrisk.venue.presets.aave_v3 import aave_v3
from tests import books
from tests.helpers import assert_close

FREE = jnp.array(0.0)
FOREVER = jnp.array(math.inf)


def number(x):
    return jnp.asarray(x, float)


def rates(**given):
    names = ("collateral_yield", "borrow_rate", "collateral_reward", "borrow_reward", "funding")
    return Rates(**{name: number(given.get(name, 0.0)) for name in names})


@given(l=st.floats(1.1, 12.0), y=st.floats(0.0, 0.1), r=st.floats(0.0, 0.1))
def test_net_apy_of_a_loop_is_l_y_less_l_minus_one_r(l, y, r):
    loop = flash_built(number(l), FREE)
    earned = net_apy(loop, rates(collateral_yield=y, borrow_rate=r), FOREVER)
    assert_close(earned, l * y - (l - 1) * r, rtol=1e-12, atol=1e-14)
    even = break_even_borrow_rate(loop, number(y))
    assert_close(even, y * l / (l - 1), rtol=1e-12, atol=1e-300)
    nothing = net_apy(loop, rates(collateral_yield=y, borrow_rate=float(even)), FOREVER)
    assert_close(nothing, 0.0, rtol=0.0, atol=1e-13)


def test_costs_are_spread_over_the_time_held():
    loop = flash_built(number(5.0), number(0.001))
    given_rates = rates(collateral_yield=0.03, borrow_rate=0.02)
    free = net_apy(loop, given_rates, FOREVER)
    assert_close(free, 5 * 0.03 - 4 / 0.999 * 0.02, rtol=1e-12, atol=0.0)
    year = net_apy(loop, given_rates, number(0.25))
    assert_close(free - year, 4 * 0.001 * 4 / 0.999, rtol=1e-12, atol=0.0)
    assert np.isinf(break_even_borrow_rate(flash_built(number(1.0), FREE), number(0.03)))


def test_a_basis_trade_earns_yield_and_funding_and_bears_no_price():
    basis = with_perpetual(flash_built(number(1.0), FREE), number(0.5), number(-1.0))
    earned = net_apy(basis, rates(collateral_yield=0.03, borrow_rate=0.05, funding=0.11), FOREVER)
    assert_close(earned, 0.03 - 0.5 * 0.05 + 0.11, rtol=1e-13, atol=0.0)
    assert float(equity_volatility(basis, number(0.8))) == 0.0
    assert_close(
        equity_volatility(flash_built(number(4.0), FREE), number(0.05)), 0.2, rtol=1e-13, atol=0.0
    )
    long = with_perpetual(flash_built(number(1.0), FREE), number(0.5), number(2.0))
    paid = net_apy(long, rates(borrow_rate=0.05, funding=0.11), FOREVER)
    assert_close(paid, -0.5 * 0.05 - 2.0 * 0.11, rtol=1e-13, atol=0.0)


def test_a_farm_may_pay_for_borrowing():
    # Both sides of one dollar market: 3 % + 2 % on deposits, 6 % - 4 % on loans, three times.
    farm = flash_built(number(3.0), FREE)
    earned = net_apy(
        farm,
        rates(collateral_yield=0.03, collateral_reward=0.02, borrow_rate=0.06, borrow_reward=0.04),
        FOREVER,
    )
    assert_close(earned, 3 * 0.05 - 2 * 0.02, rtol=1e-13, atol=0.0)


# Borrow rate a year and years until drift alone liquidates: 93 % borrowed, called at 95 %, a staked
# token that earns 2.8 %. Worked out by hand: ln(0.95 / 0.93) / (r - y).
DRIFT = [(0.035, 3.0), (0.05, 0.97), (0.08, 0.41), (0.105, 0.28)]


@pytest.mark.parametrize(("rate", "years"), DRIFT)
def test_drift_liquidates_an_endless_loop_after_years(rate, years):
    loop = looped(number(0.93), FOREVER, FREE)
    health = loan_health(loop, number(0.95), number(1.0))
    assert_close(health, 1.0215, rtol=0.0, atol=5e-5)
    found = years_to_liquidation(health, number(0.028), number(rate))
    assert_close(found, years, rtol=0.02, atol=0.0)
    left = health_after(health, number(0.028), number(rate), found)
    assert_close(left, 1.0, rtol=1e-13, atol=0.0)


def test_the_last_of_these_rates_is_that_of_a_drained_pool():
    accounts = books.pair_venue([3.0], [1.0]).accounts
    pool = aave_v3(accounts, ("USDC", "WETH"))
    drained = Balance(debt=number([100.0]), cash=number([0.0]), supplied=number([100.0]))
    grown = pool.interest.advance(pool.interest.opening(), drained, number(1.0))
    assert_close(grown.log_growth, [DRIFT[-1][0]], rtol=1e-12, atol=0.0)


def test_no_drift_no_date():
    at = lambda h, y, r: float(years_to_liquidation(number(h), number(y), number(r)))
    assert at(1.02, 0.03, 0.03) == at(1.02, 0.04, 0.03) == math.inf
    assert at(0.99, 0.03, 0.05) == at(1.0, 0.05, 0.03) == 0.0
    slope = jax.grad(lambda r: years_to_liquidation(number(1.02), number(0.03), r))(number(0.03))
    assert np.isfinite(slope)


@given(l=st.floats(1.05, 15.0), threshold=st.floats(0.5, 0.97))
def test_the_loan_is_called_where_the_venue_calls_it(l, threshold):
    loop = flash_built(number(l), FREE)
    at = loan_liquidation_price(loop, number(threshold))
    assert_close(at, (l - 1) / (threshold * l), rtol=1e-12, atol=0.0)
    assert_close(loan_health(loop, number(threshold), at), 1.0, rtol=1e-12, atol=0.0)
    venue = books.loops([l], threshold=threshold)
    expected = liquidation_price(venue, number(books.PRICE))[0, 0] / books.PRICE[0]
    assert_close(at, expected, rtol=1e-11, atol=0.0)


def test_without_debt_nothing_is_called():
    spot = flash_built(number(1.0), FREE)
    assert float(loan_liquidation_price(spot, number(0.8))) == 0.0
    assert np.isinf(loan_health(spot, number(0.8), number(0.5)))
    assert np.isnan(margin_liquidation_price(spot, number(0.05)))


@pytest.mark.parametrize("notional", [2.0, -1.0, 0.6])
def test_the_perpetual_is_called_where_a_book_under_margin_is(notional):
    position = with_perpetual(flash_built(number(1.0), FREE), number(0.5), number(notional))
    x = float(margin_liquidation_price(position, number(0.05)))
    book = MarginBook.from_positions(
        table([perpetual(1.0)]),
        MarginTiers.from_brackets({"ether": [Bracket(0.0, math.inf, 0.05, 10.0)]}),
        size=[[notional]],
        entry=[[1.0]],
        margin=[[0.5]],
    )
    assert_close(x, liquidation_price(book, jnp.ones(1))[0, 0], rtol=1e-12, atol=0.0)
    assert (x > 1.0) == (notional < 0)


def test_margin_of_a_whole_long_covers_it_down_to_nothing():
    position = with_perpetual(flash_built(number(1.0), FREE), number(0.5), number(0.4))
    assert float(margin_liquidation_price(position, number(0.05))) < 0.0


def test_layers_of_a_stack_are_called_where_the_share_below_has_fallen():
    leverage, threshold = np.array([3.0, 2.5, 1.8]), np.array([0.8, 0.75, 0.7])
    prices = nested_liquidation_prices(number(leverage), number(threshold))
    graph = nested_claims(
        leverage.tolist(), asset="ether", debt_asset="dollar", price=1.0, debt_price=1.0
    )
    for layer, x in enumerate(np.asarray(prices)):
        sheet = value_claims(graph, number([x, 1.0]))
        health = threshold[layer] * sheet.assets[layer] / sheet.liabilities[layer]
        assert_close(health, 1.0, rtol=1e-12, atol=0.0)
    # Nearly no fall is left to the top, though each layer alone has room for a sixth and more.
    alone = 1.0 - (leverage - 1.0) / (threshold * leverage)
    assert_close(1.0 - prices, alone / np.cumprod([1.0, *leverage[:-1]]), rtol=1e-12, atol=0.0)
