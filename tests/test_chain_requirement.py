"""Margin of portfolios of contracts as a venue of the step asks for it, against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.contract import Contracts, Quotes, european_option, future, perpetual, table
from jaxrisk.venue.chain_requirement import (
    ChainPortfolioMargin,
    ChainStandardMargin,
    CoinPortfolioMargin,
    SumOfMargins,
)
from jaxrisk.venue.contract_chain import ChainPlaces
from jaxrisk.venue.margin_accounts import Requirement
from jaxrisk.venue.option_requirement import ScanRequirement
from jaxrisk.venue.presets import deribit, derive
from jaxrisk.venue.presets.span import span_scenarios
from jaxrisk.venue.risk_array import ScanMargin
from jaxrisk.venue.scenario_grid import ScenarioGrid, VolatilityShock
from tests import reference_margin as reference
from tests.helpers import assert_close

WEEK, MONTH = 7.0 / 365.0, 30.0 / 365.0
OPTIONS = ((2700.0, False, MONTH), (3300.0, True, WEEK), (3000.0, True, MONTH),
           (3000.0, False, WEEK))  # fmt: skip
VOLATILITY = (0.9, 0.7, 0.8, 1.1)
COUNT = 2 + len(OPTIONS)
FACE, MULTIPLIER = 10.0, 2.0
SIZES = st.lists(st.floats(-20.0, 20.0), min_size=COUNT, max_size=COUNT)
SPOT = st.floats(2000.0, 4500.0)
TIME = st.sampled_from([0.0, 0.5 * WEEK])
# As the reference names the parameters of each grid. The first in dollars discounts gains alone: no
# growth of a negative value is too much for the bound at its full worth.
DERIBIT = {"up": 0.5, "down": 0.25, "short_power": 0.3, "long_power": 0.13, "minimum": 0.5,
           "cap": 0.0, "cap_slope": 0.0, "width": 4.0, "level": 0.6}  # fmt: skip
FIRST = {"up": 0.6, "down": 0.3, "short_power": 0.3, "long_power": 0.13, "minimum": 0.0, "cap": 0.0,
         "cap_slope": 0.0, "width": 4.0, "level": 0.6, "long": 0.95, "short": 1e9, "spread": 0.12,
         "basis": 0.05, "flat": 1.0, "per_year": 1.2}  # fmt: skip
SECOND = {**FIRST, "up": 0.5, "minimum": 0.4, "cap": 0.25, "cap_slope": -0.1, "long": 1.05,
          "short": 0.95, "spread": 0.16, "basis": 0.045, "flat": 0.5, "per_year": 2.0}  # fmt: skip


def contracts_of(*, coin: bool) -> Contracts:
    """Return a perpetual, options of two expiries and a future, not in the order of expiries."""
    linear = [perpetual(FACE, inverse=True), future(FACE, MONTH, inverse=True)]
    if not coin:
        linear = [perpetual(MULTIPLIER), future(MULTIPLIER, MONTH)]
    options = [
        european_option(strike, years, call=call, coin_quoted=coin, multiplier=MULTIPLIER)
        for strike, call, years in OPTIONS
    ]
    return table([linear[0], *options, linear[1]])


def quotes_of(spot: float, time: float) -> Quotes:
    return Quotes(
        forward=jnp.full(COUNT, spot),
        volatility=jnp.asarray([1.0, *VOLATILITY, 1.0]),
        settlement=jnp.ones(COUNT),
        time=jnp.asarray(time),
    )


COIN, LINEAR = contracts_of(coin=True), contracts_of(coin=False)
PLACES = ChainPlaces.of(COIN, range(COUNT))
asked = jax.jit(lambda rule, size, contracts, quotes: rule.required(size, contracts, quotes))


def of(rule: Requirement, size: list[float], spot: float, time: float, contracts=LINEAR):
    found = asked(rule, jnp.asarray(size)[:, None], contracts, quotes_of(spot, time))
    return np.asarray(found)[:, 0]


def held_of(size: list[float], time: float):
    """Yield years, strike, whether a call, units and volatility of each option."""
    for (strike, call, years), amount, implied in zip(OPTIONS, size[1:-1], VOLATILITY, strict=True):
        yield years - time, strike, call, MULTIPLIER * amount, implied


def test_contracts_stand_by_expiry():
    assert PLACES.options == ((-1, -1), (2, 4), (1, 3))
    assert PLACES.futures == ((0,), (-1,), (5,))
    assert PLACES.first.tolist() == [0, 2, 5]
    chain = PLACES.chain(COIN, quotes_of(3000.0, 0.5 * WEEK))
    assert_close(chain.years, [0.0, 0.5 * WEEK, MONTH - 0.5 * WEEK], rtol=1e-12, atol=0.0)
    assert_close(chain.strike, [[0, 0], [3300, 3000], [2700, 3000]], rtol=0.0, atol=0.0)
    with pytest.raises(ValueError, match="no contract"):
        ChainPlaces.of(COIN, [])


@given(size=SIZES, spot=SPOT, time=TIME)
def test_portfolio_margin_in_coins_is_that_of_loops(size, spot, time):
    futures = [(0.0, FACE * size[0] / spot), (MONTH - time, FACE * size[-1] / spot)]
    matrix = reference.coin_portfolio(list(held_of(size, time)), futures, spot, DERIBIT)
    rule = CoinPortfolioMargin(terms=deribit.coin_terms(np.float64), places=PLACES)
    found = of(rule, size, spot, time, COIN)
    assert_close(found, [matrix, 0.8 * matrix], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("version", [1, 2])
@given(size=SIZES, spot=SPOT, time=TIME)
def test_portfolio_margin_in_dollars_is_that_of_loops(version, size, spot, time):
    terms = (derive.portfolio_terms_1, derive.portfolio_terms_2)[version - 1](np.float64)
    p, factor, perp, naked = (
        (FIRST, (1.25, 1.0), (0.03 * 1.25, 0.03), (0.02 * 1.25, 0.02)),
        (SECOND, (1.0, 0.8), (0.04, 0.03), (0.005, 0.003)),
    )[version - 1]
    rows = list(
        zip(*(np.asarray(x, float) for x in jax.tree.leaves(terms.grid.scenarios)), strict=True)
    )
    held = list(held_of(size, time))
    expiries = [
        (ends - time, spot, 0.0, 1.0, [o[1:] for o in held if o[0] == ends - time])
        for ends in (WEEK, MONTH)
    ]
    linear = MULTIPLIER * (size[0] + size[-1])
    gains, basis, _ = reference.portfolio(expiries, linear * spot, rows, p)
    worst = -min(*gains, basis)
    short = sum(reference.naked([(o[0], o[1], o[2]) for o in e[-1]]) for e in expiries)
    expected = [
        f * worst + spot * (a * abs(linear) + b * short)
        for f, a, b in zip(factor, perp, naked, strict=True)
    ]
    rule = ChainPortfolioMargin(terms=terms, places=PLACES)
    assert_close(of(rule, size, spot, time), expected, rtol=1e-8, atol=1e-6)


@given(size=SIZES, spot=SPOT, time=TIME)
def test_standard_margin_is_that_of_loops_and_gives_no_credit_for_options_held(size, spot, time):
    expected = np.zeros(2)
    for ends in (WEEK, MONTH):
        alone, payoffs, calls = np.zeros(2), [], 0.0
        for years, strike, call, units, implied in held_of(size, time):
            if years != ends - time:
                continue
            mark = reference.black(spot, strike, years, implied, 1.0, call)
            one = reference.short_option(
                spot, strike, call, mark, highest=0.15, lowest=0.13, share=0.09, cover=1.05
            )
            alone += max(-units, 0.0) * np.array(one)
            payoffs.append((strike, call, units))
            calls += units if call else 0.0
            # What is held is worth this, and backs nothing; what is owed is in the formula.
            expected += units * mark
        bounded = reference.worst_payoff(payoffs) + np.array([1.2, 1.1]) * spot * max(-calls, 0.0)
        expected += np.minimum(alone, bounded)
    expected += MULTIPLIER * abs(size[0] + size[-1]) * spot * np.array([0.1, 0.065])
    rule = ChainStandardMargin(terms=derive.standard_terms("ETH", np.float64), places=PLACES)
    assert_close(of(rule, size, spot, time), expected, rtol=1e-9, atol=1e-6)


@given(size=SIZES, spot=SPOT)
def test_scanning_risk_is_that_of_loops(size, spot):
    scenarios = span_scenarios(jnp.asarray(0.12), np.float64)
    number = jnp.asarray
    shock = VolatilityShock(
        up=number(0.2), down=number(0.2), short_power=number(0.0), long_power=number(0.0),
        pivot=number(MONTH), floor=number(1.0 / 365.0), minimum=number(0.0),
    )  # fmt: skip
    rule = ScanRequirement(
        grid=ScenarioGrid(scenarios=scenarios, volatility=shock),
        margin=ScanMargin(minimum=number(15.0)), initial=number(1.1), underlying=(0,) * COUNT,
    )  # fmt: skip
    worst = 0.0
    for move, level, _, _, weight in zip(
        *(np.asarray(x) for x in jax.tree.leaves(scenarios)), strict=True
    ):
        gain = MULTIPLIER * (size[0] + size[-1]) * spot * move
        for years, strike, call, units, implied in held_of(size, 0.0):
            price = lambda f, v: reference.black(f, strike, years, v, 1.0, call)  # noqa: B023
            gain += units * (
                price(spot * (1.0 + move), implied * (1 + 0.2 * level)) - price(spot, implied)
            )
        worst = max(worst, -gain * weight)
    least = 15.0 * sum(max(-x, 0.0) for x in size[1:-1])
    expected = max(worst, least)
    assert_close(of(rule, size, spot, 0.0), [1.1 * expected, expected], rtol=1e-9, atol=1e-6)


@given(size=SIZES, scale=st.floats(0.0, 3.0))
def test_margin_scales_with_the_portfolio_and_underlyings_do_not_offset(size, scale):
    """Closing a share of everything frees that share of the margin: what a close-out relies on."""
    coin = CoinPortfolioMargin(terms=deribit.coin_terms(np.float64), places=PLACES)
    both = table([COIN, COIN])
    rows = (range(COUNT), range(COUNT, 2 * COUNT))
    apart = SumOfMargins(
        parts=tuple(
            CoinPortfolioMargin(terms=coin.terms, places=ChainPlaces.of(both, own)) for own in rows
        )
    )
    quotes = jax.tree.map(lambda x: jnp.tile(x, 2) if x.ndim else x, quotes_of(3000.0, 0.0))
    one = np.asarray(size)
    book = jnp.asarray(np.stack([np.r_[one, 0 * one], np.r_[one, scale * one]], axis=1))
    found = np.asarray(asked(apart, book, both, quotes))
    assert_close(found[:, 0], of(coin, size, 3000.0, 0.0, COIN), rtol=1e-9, atol=1e-12)
    assert_close(found[:, 1], (1.0 + scale) * found[:, 0], rtol=1e-9, atol=1e-12)
