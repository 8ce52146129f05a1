import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.measure.backtest import coverage_test, kupiec_test, shortfall_scores, traffic_light
from jaxrisk.numerics.normal import normal_density, normal_quantile

CRITICAL = 3.841458820694124  # chi-squared with one degree of freedom, 95 %
TAIL_DAYS = 4_000


@pytest.mark.parametrize(
    ("observations", "exceedances", "published"),
    [(255, 7, 5.316), (250, 10, 12.955), (255, 0, 5.13)],
)
def test_published_statistics(observations, exceedances, published):
    # Kupiec 1995, and tables of the same test at p = 1 %; to the digits published.
    statistic = kupiec_test(exceedances, observations, 0.01).statistic
    assert statistic == pytest.approx(published, abs=0.006)


@pytest.mark.parametrize(
    ("observations", "lowest", "highest"), [(255, 1, 6), (510, 2, 10), (1000, 5, 16)]
)
def test_published_region_of_acceptance(observations, lowest, highest):
    # Kupiec 1995, table 3, p = 1 %. At 255 days no exceedance at all is formally rejected too.
    accepted = [x for x in range(40) if kupiec_test(x, observations, 0.01).statistic < CRITICAL]
    assert accepted == list(range(lowest, highest + 1))


def test_p_value_at_the_critical_statistic():
    result = kupiec_test(7, 255, 0.01)
    assert result.p_value == pytest.approx(math.erfc(math.sqrt(result.statistic / 2.0)))
    assert 0.02 < result.p_value < 0.05


def test_normal_tail_figures():
    # ES at 97.5 % and VaR at 99 % of the standard normal law, as Basel's change of measure cites.
    shortfall = float(normal_density(normal_quantile(jnp.asarray(0.025)))) / 0.025
    assert shortfall == pytest.approx(2.33780, abs=5e-6)
    assert float(normal_quantile(jnp.asarray(0.99))) == pytest.approx(2.32635, abs=5e-6)


@pytest.mark.parametrize(
    ("exceedances", "zone"), [(4, "green"), (5, "yellow"), (9, "yellow"), (10, "red")]
)
def test_traffic_light(exceedances, zone):
    assert traffic_light(exceedances) == zone


def test_clustered_exceedances_fail_independence_alone():
    losses = np.zeros(1_000)
    losses[100:110] = 2.0
    coverage = coverage_test(losses, np.ones(1_000), 0.01)
    assert coverage.unconditional.p_value > 0.9
    assert coverage.independence.p_value < 1e-6
    assert coverage.conditional.statistic == pytest.approx(
        coverage.unconditional.statistic + coverage.independence.statistic
    )


def test_scattered_exceedances_pass():
    losses = np.zeros(1_000)
    losses[50::100] = 2.0
    coverage = coverage_test(losses, np.ones(1_000), 0.01)
    assert coverage.conditional.p_value > 0.5


def test_scores_of_right_and_understated_shortfalls():
    # Quantiles of the standard normal law in place of draws: the forecast is then right.
    losses = np.asarray(normal_quantile(jnp.asarray((np.arange(TAIL_DAYS) + 0.5) / TAIL_DAYS)))
    var = float(normal_quantile(jnp.asarray(0.975)))
    shortfall = float(normal_density(jnp.asarray(var))) / 0.025
    series = lambda x: np.full(TAIL_DAYS, x)
    given_hit, overall = shortfall_scores(losses, series(var), series(shortfall), 0.025)
    assert given_hit == pytest.approx(0.0, abs=2e-3)
    assert overall == pytest.approx(0.0, abs=2e-3)
    worse = shortfall_scores(losses, series(var), series(shortfall / 2.0), 0.025)
    assert worse == pytest.approx((-1.0, -1.0), abs=4e-3)


@given(st.integers(1, 500), st.data(), st.floats(0.001, 0.5))
def test_the_ratio_is_never_negative_and_zero_where_the_forecast_is_met(days, data, tail):
    hits = data.draw(st.integers(0, days))
    assert kupiec_test(hits, days, tail).statistic >= 0.0
    if 0 < hits < days:
        assert kupiec_test(hits, days, hits / days).statistic == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: kupiec_test(3, 2, 0.01), "3 exceedances in 2"),
        (lambda: kupiec_test(1, 2, 1.0), "tail must be inside"),
        (lambda: traffic_light(-1), "-1 exceedances"),
        (lambda: coverage_test([1.0, 2.0], [1.0], 0.01), "not one a day"),
        (lambda: coverage_test([1.0, math.nan], [1.0, 1.0], 0.01), "finite"),
        (lambda: shortfall_scores([1.0, 2.0], [1.0, 1.0], [0.0, 1.0], 0.01), "positive"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
