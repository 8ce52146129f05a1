"""Recorded chains: every option from its mark volatility to its mark, and back."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.market.black import coin_price
from jaxrisk.market.contract import Contracts, Quotes, mark_price
from jaxrisk.market.implied import implied_volatility
from tests.chain import rows


def option_arguments(column):
    """Return forward, strike, years, volatility and sign of each option."""
    sign = np.where(column["option_type"] == "call", 1.0, -1.0)
    names = ("futures_price", "strike", "time_to_maturity", "implied_volatility")
    return (*(column[name] for name in names), sign)


def assert_marks(error):
    """Fail unless errors, in coin, are those of volatilities quoted to four decimals."""
    figures = np.quantile(error, [0.5, 0.99, 1.0])
    report = f"{error.size} options, error in coin: median, 99 %, worst {figures}"
    print(report)
    assert error.size > 37_000, report
    assert figures[0] <= 5e-5, report
    assert figures[1] <= 1.3e-3, report
    # The worst are puts of 4 coins, at strikes five times the forward.
    assert figures[2] <= 5e-3, report


def test_every_option_is_priced_to_its_mark(shared):
    column = rows(shared)
    forward, strike, years, volatility, sign = option_arguments(column)
    price = np.asarray(jax.jit(coin_price)(forward, strike, years, volatility, sign))
    assert_marks(np.abs(price - column["mark_price"]))


def test_the_table_of_contracts_prices_them_too(shared):
    column = rows(shared)
    forward, strike, years, volatility, sign = option_arguments(column)
    array = jnp.asarray
    one = jnp.ones(strike.shape)
    contracts = Contracts(
        multiplier=one,
        inverse=0 * one,
        option=array(sign),
        coin_quoted=one,
        strike=array(strike),
        expiry=array(years),
    )
    quotes = Quotes(
        forward=array(forward), volatility=array(volatility), settlement=one, time=array(0.0)
    )
    marks = np.asarray(jax.jit(mark_price)(contracts, quotes))
    assert_marks(np.abs(marks - column["mark_price"]))


def test_marks_imply_the_quoted_volatility(shared):
    column = rows(shared)
    forward, strike, years, volatility, sign = option_arguments(column)
    price = column["mark_price"] * forward
    found = np.asarray(jax.jit(implied_volatility)(price, forward, strike, years, sign))
    # Where a mark, quoted to 1e-6 coin or so, still says something about volatility.
    near = np.abs(np.log(strike / forward)) < 1.5 * volatility * np.sqrt(years)
    error = np.abs(found - volatility)[near]
    report = f"{near.sum()} options: median, 90 % {np.quantile(error, [0.5, 0.9])}"
    assert near.sum() > 15_000, report
    assert np.isfinite(found[near]).mean() > 0.99, report
    assert np.nanmedian(error) < 5e-4, report
