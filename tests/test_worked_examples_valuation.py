"""Worked examples that venues publish, as far as they are about what a contract is worth."""

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.black import black_price
from jaxrisk.market.contract import profit_between
from jaxrisk.market.smile import Svi
from jaxrisk.numerics.normal import normal_density, normal_quantile
from tests.helpers import assert_close

YEAR = 365.0 * 86_400.0


def test_an_inverse_perpetual_over_a_grid_of_prices():
    # Deribit, private/pme/simulate: BTC-PERPETUAL +0.314538364 coins, nine prices within 16 %.
    moves = np.linspace(-0.16, 0.16, 9)
    price = 64_000.0
    gain = profit_between(
        jnp.asarray(price), jnp.asarray(price * (1 + moves)), jnp.asarray(0.314538364),
        jnp.asarray(price), inverse=1.0,
    )  # fmt: skip
    published = {
        0: -0.0599120693, 1: -0.0428915951, 2: -0.0273511621, 3: -0.0131057652, 4: 0.0,
        5: 0.0120976294, 8: 0.0433846019,
    }  # fmt: skip
    for position, expected in published.items():
        assert_close(gain[position], expected, rtol=0.0, atol=1e-10)
    # The dated future beside it is short, -0.001187534: the worst of both is the published one.
    both = gain * (0.314538364 - 0.001187534) / 0.314538364
    assert_close(-np.min(both), 0.0596858724, rtol=2e-9, atol=0.0)


def test_a_call_on_a_forward():
    # Derive, StandardManager test-cases.json: one call sold is worth -79.37158519.
    forward, volatility = 1500.8332793109938176, 1.04788449408498624
    value = black_price(forward, 1_500.0, 500_400 / YEAR, volatility, 1.0)
    assert_close(value, 79.37158519, rtol=1e-10, atol=0.0)


def test_a_call_marked_on_its_smile():
    # Derive, PMRM_2 test 12: its volatility is the smile's, its mark Black's.
    smile = Svi(
        a=jnp.array(0.002138900837), b=jnp.array(0.041639765820), rho=jnp.array(-0.290894349),
        m=jnp.array(-0.026351062568), sigma=jnp.array(0.062563079314),
    )  # fmt: skip
    volatility = jnp.sqrt(smile.total_variance(jnp.array(0.0431510179)) / 0.02520611364789)
    assert_close(volatility, 0.453803924, rtol=1e-8, atol=0.0)
    years = 794_852 / YEAR
    # Discounted at the 15 % a year of that expiry.
    value = np.exp(-0.15 * years) * black_price(95_776.674, 100_000.0, years, volatility, 1.0)
    assert_close(value, 1_186.41857, rtol=1e-7, atol=0.0)


def test_quantiles_of_the_normal_distribution():
    assert_close(normal_quantile(jnp.array(0.99)), 2.32635, rtol=1e-6, atol=5e-6)
    shortfall = normal_density(normal_quantile(jnp.array(0.975))) / 0.025
    assert_close(shortfall, 2.33780, rtol=0.0, atol=5e-6)
