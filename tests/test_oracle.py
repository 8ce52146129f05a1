"""Oracles: which price a venue works with, and what it does not see."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.oracle import (
    AverageOracle,
    DelayedOracle,
    DeviationOracle,
    ExchangeRateOracle,
    FixedOracle,
    SpotOracle,
    opening_prices,
)
from jaxrisk.market.oracle_overlay import (
    CappedOracle,
    FaceValueOracle,
    GrowthCapOracle,
    LateRateOracle,
    LinearDiscountOracle,
    PrintOracle,
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


def test_a_late_rate_is_an_old_one_at_todays_price_of_the_underlying():
    oracle = LateRateOracle(others=ExchangeRateOracle(), steps=2)
    seen = published(oracle, [at(2000.0, log_ratio=-0.5), at(1500.0, log_ratio=-0.5)] * 2)
    rate = 2400.0 / 2000.0
    late = rate * np.exp([0.0, 0.0, -0.5, -0.5])
    assert_close(seen[:, 1], late * seen[:, 0], rtol=1e-14, atol=0.0)
    assert_close(seen[:, 0], [2000.0, 1500.0] * 2, rtol=1e-14, atol=0.0)


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


def test_a_heartbeat_publishes_what_the_deviation_would_not():
    path = [at(2001.0), at(2002.0), at(2003.0), at(2100.0), at(2101.0), at(2102.0), at(2103.0)]
    oracle = DeviationOracle(deviation=jnp.array([0.01, 0.01]), heartbeat=jnp.array(3.0))
    # A move within the heartbeat sets its clock again.
    expected = [2000.0, 2000.0, 2003.0, 2100.0, 2100.0, 2100.0, 2103.0]
    assert published(oracle, path)[:, 0].tolist() == expected


def test_an_average_is_the_mean_of_the_window_and_a_window_of_one_the_last_mid():
    path = [at(price) for price in (1900.0, 1800.0, 1700.0, 1600.0)]
    seen = published(AverageOracle(steps=3), path)[:, 0]
    assert_close(seen, [5900 / 3, 1900.0, 1800.0, 1700.0], rtol=1e-14, atol=0.0)
    assert published(AverageOracle(steps=1), path)[:, 0].tolist() == [1900, 1800, 1700, 1600]


def growth_cap(growth, others=None):
    return GrowthCapOracle(
        others=others or SpotOracle(),
        growth=jnp.full(2, growth),
        opening=jnp.exp(OPENING.log_ratio),
    )


def test_a_ratio_is_seen_to_grow_no_faster_than_its_cap_and_to_fall_at_once():
    path = [at(2000.0, log_ratio=np.log(1.05)), at(1000.0, log_ratio=np.log(1.05))]
    path += [at(2000.0, staked=1.0, log_ratio=np.log(0.5))]
    seen = published(growth_cap(0.01), path)
    staked = [2400.0 * 1.01, 1200.0 * 1.02, 1200.0]
    assert_close(seen, np.stack([[2000.0, 1000.0, 2000.0], staked], 1), rtol=1e-12, atol=0.0)
    # Below the cap it is the exchange rate oracle.
    path = [at(1900.0, staked=5.0, log_ratio=0.001)]
    assert_close(
        published(growth_cap(0.01), path), published(ExchangeRateOracle(), path),
        rtol=1e-12, atol=0.0,
    )  # fmt: skip


def test_a_cap_on_shrinking_ratios_leaves_the_underlying_alone():
    path = [at(2000.0), at(3000.0)]
    assert published(growth_cap(-0.1), path)[:, 0].tolist() == [2000.0, 3000.0]


def test_overlays_see_the_underlying_through_the_oracle_below():
    path = [at(1900.0), at(1800.0), at(1700.0)]
    seen = published(growth_cap(0.01, DelayedOracle(steps=2)), path)
    assert_close(seen[:, 1], 1.2 * np.array([2000.0, 2000.0, 1900.0]), rtol=1e-12, atol=0.0)


def test_a_ceiling_lets_falls_pass():
    oracle = CappedOracle(others=SpotOracle(), ceiling=jnp.array([2050.0, jnp.inf]))
    seen = published(oracle, [at(2100.0), at(1000.0)])
    assert seen.tolist() == [[2050.0, 2400.0], [1000.0, 2400.0]]


def discounted(rate, days):
    return LinearDiscountOracle(
        others=SpotOracle(), discount=jnp.array(rate), maturity_years=jnp.array(days / 365.0),
        step_years=jnp.array(10.0 / 365.0), asset=1, underlying=0,
    )  # fmt: skip


def test_a_discount_runs_out_at_maturity_whatever_the_asset_trades_at():
    oracle, rate = discounted(0.10, 25.0), 0.10
    seen = published(oracle, [at(2000.0, staked=x) for x in (1.0, 9e9, 2000.0)])
    left = np.array([15.0, 5.0, 0.0]) / 365.0
    assert_close(seen[:, 1], 2000.0 * (1.0 - rate * left), rtol=1e-12, atol=0.0)
    assert (seen[:, 0] == 2000.0).all()


def false_print(factor, first, last, others=None):
    return PrintOracle(
        others=others or SpotOracle(),
        factor=jnp.array([factor, 1.0]),
        first=jnp.array([float(first), jnp.inf]),
        last=jnp.array([float(last), 0.0]),
    )


def test_a_false_print_is_seen_while_it_lasts_and_moves_no_market():
    path = [at(2000.0), at(1900.0), at(1800.0), at(1700.0)]
    seen = published(false_print(1.3, 2, 3), path)
    assert_close(seen[:, 0], [2000.0, 1.3 * 1900, 1.3 * 1800, 1700.0], rtol=1e-14, atol=0.0)
    assert (seen[:, 1] == 2400.0).all()
    # It comes before no oracle's memory: a delayed one prints its own old price times the factor.
    seen = published(false_print(1.3, 2, 2, DelayedOracle(steps=1)), path)
    assert_close(seen[:, 0], [2000.0, 1.3 * 2000.0, 1900.0, 1800.0], rtol=1e-14, atol=0.0)


def test_a_price_written_in_stays():
    oracle = FaceValueOracle(others=SpotOracle(), face_value=jnp.array(2222.0), asset=1)
    assert published(oracle, [at(1.0, staked=1.0)]).tolist() == [[1.0, 2222.0]]


def test_every_oracle_opens_at_the_opening_prices():
    deviation = jnp.array([0.01, 0.01])
    for oracle in (
        SpotOracle(),
        ExchangeRateOracle(),
        DelayedOracle(steps=2),
        DeviationOracle(deviation=deviation),
        DeviationOracle(deviation=deviation, heartbeat=jnp.array(3.0)),
        AverageOracle(steps=3),
        FixedOracle(),
        CappedOracle(others=SpotOracle(), ceiling=jnp.array([2000.0, jnp.inf])),
        growth_cap(0.01),
        false_print(1.3, 1, 2),
    ):
        assert_close(opening_prices(oracle, OPENING), [2000.0, 2400.0], rtol=1e-14, atol=0.0)
