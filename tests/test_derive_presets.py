"""Deployed parameters of Derive: scenarios, the cash rate, and growth that cannot be computed."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.venue.presets.derive import (
    GrowthRefusal,
    cash_growth,
    cash_rate,
    cash_utilisation,
    portfolio_terms_1,
    portfolio_terms_2,
)
from tests.helpers import assert_close


@pytest.mark.parametrize(
    ("build", "count", "first", "last"),
    [
        (portfolio_terms_1, 23, (0.2, 1.0, 0.0, 0.0, 1.0), (-0.2, 1.0, 0.0, 0.0, 1.0)),
        (portfolio_terms_2, 33, (0.18, 1.0, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 1.0, 1.0)),
    ],
)
def test_scenarios_are_those_configured(build, count, first, last):
    """Three volatilities within the range, volatility up alone at its ends (the configuration)."""
    rows = build(np.float64).grid.scenarios
    table = np.stack([rows.move, rows.volatility, rows.tilt, rows.wings, rows.weight], axis=1)
    assert table.shape == (count, 5)
    assert_close(table[0], first, rtol=1e-14, atol=0.0)
    assert_close(table[-1], last, rtol=1e-14, atol=0.0)
    inside = table[1:22]
    assert inside[:, 1].tolist() == [1.0, 0.0, -1.0] * 7
    assert_close(inside[:, 0].reshape(7, 3).std(axis=1), np.zeros(7), rtol=0.0, atol=1e-15)
    tails = table[np.abs(table[:, 0]) > 0.25]
    weights = [0.21, 0.42, 0.2772, 0.1386, 0.0693, 0.0462, 0.03465, 0.02772]
    assert_close(tails[:, 4], weights[: len(tails)], rtol=1e-12, atol=0.0)


def test_the_cash_rate_below_at_and_beyond_its_kink():
    use = cash_utilisation(jnp.array([100.0, 100.0, 100.0, 100.0, 0.0, 100.0]),
                           jnp.array([0.0, 50.0, 85.0, 100.0, 5.0, 120.0]))  # fmt: skip
    assert_close(use, [0.0, 0.5, 0.85, 1.0, 0.0, 1.0], rtol=1e-15, atol=0.0)
    rates = [float(cash_rate(np.float64).borrow_rate(use[k : k + 1])[0]) for k in range(4)]
    assert_close(rates, [0.02, 0.06, 0.088, 0.223], rtol=1e-12, atol=0.0)


def test_growth_is_refused_without_time_or_interest():
    growth, refusal = cash_growth(jnp.array([0.05, 0.05, 0.0]), jnp.array([2.0, 0.0, 1.0]))
    assert_close(growth, [np.expm1(0.1), 0.0, 0.0], rtol=1e-14, atol=0.0)
    assert [GrowthRefusal(int(r)) for r in refusal] == [
        GrowthRefusal.NONE,
        GrowthRefusal.NO_TIME,
        GrowthRefusal.UNDERFLOW,
    ]
