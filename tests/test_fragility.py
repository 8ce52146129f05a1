"""Forced sales by asset, feedback and survival of two shocks, against loops and by hand."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.oracle import ExchangeRateOracle
from jaxrisk.market.state import Market
from jaxrisk.measure.exposure import liquidation_map
from jaxrisk.measure.fragility import (
    falls,
    feedback_columns,
    gain_matrix,
    points_of,
    survival_columns,
)
from jaxrisk.system.avalanche import Triggers
from jaxrisk.system.ladder_scope import ladder_of
from tests import ladders
from tests.helpers import assert_close

ETHER, DOLLAR, OTHER = range(3)
CHANGES = np.linspace(0.0, -0.7, 36)


def pair_system(**options):
    return ladders.system_of(3, kind="linear", strength=2.0, **options)


def test_a_book_of_one_pair_sells_what_its_ladder_sells():
    system = pair_system()
    own = falls(system, ETHER)
    ladder, market = ladder_of(system, ladders.STEP_YEARS)
    expected, found = Triggers.of_ladder(ladder, market), own.triggers(ETHER)
    now = float(jnp.log(market.price))
    known = np.isfinite(np.asarray(expected.log_price))
    assert known.sum() == ladders.ACCOUNTS - 1
    assert_close(found.log_price[known], (expected.log_price - now)[known], rtol=1e-12, atol=1e-13)
    # The ladder's sale is net of the fee of a tenth of the bonus, and what is sold is gross of it.
    gross = expected.sold * 1.07 / (1.07 - 0.1 * 0.07)
    assert_close(found.sold, gross, rtol=1e-12, atol=1e-6)
    assert own.sold[DOLLAR].sum() == own.sold[OTHER].sum() == 0.0


def test_the_columns_are_those_of_a_loop():
    system = pair_system()
    own = falls(system, ETHER)
    columns = feedback_columns(system, own, ETHER, CHANGES, 0.05)
    sold = lambda high, low: own.sold[ETHER][(own.log_price > low) & (own.log_price <= high)].sum()
    for i, change in enumerate(CHANGES):
        level = np.log1p(change)
        total = sold(np.inf, level)
        assert_close(columns["forced_sales_usd"][i], total, rtol=1e-12, atol=1e-9)
        assert_close(columns["own_drop_frac"][i], 1 - np.exp(-0.2 * total / 1e6), rtol=1e-9, atol=0)
        gain = 0.2 * sold(level, level - 0.05) / 1e6 / 0.05
        assert_close(columns["feedback_gain"][i], gain, rtol=1e-9, atol=1e-12)
        whole = 1.0 / (1.0 - gain) if gain < 1.0 else np.inf
        assert_close(columns["amplification"][i], whole, rtol=1e-9, atol=0.0)
    some = columns["forced_sales_usd"] > 0
    assert some.any()
    assert (columns["depth_cover"][~some] == np.inf).all()
    assert_close(
        columns["depth_cover"][some], 1e6 / columns["forced_sales_usd"][some], rtol=1e-12, atol=0.0
    )


def test_points_are_in_deviations_over_the_horizon():
    system = pair_system(spread=0.05)
    variance = system.market.variance.at[ETHER].set(0.64)
    system = dataclasses.replace(
        system, market=dataclasses.replace(system.market, variance=variance)
    )
    found = points_of(system, falls(system, ETHER), ETHER, 0.25)
    assert found.accounts.max() > 1
    assert_close(found.distance, -found.log_price / 0.4, rtol=1e-12, atol=0.0)


def test_gains_between_assets_are_log_drops_per_fall():
    system = pair_system(spread=0.05)
    own = falls(system, ETHER)
    gain, radius = gain_matrix(system, [own], 0.1)
    hit = (own.log_price > -0.1) & (own.log_price <= 0.0)
    expected = 0.2 * own.sold[ETHER, hit].sum() / 1e6 / 0.1
    assert expected > 0.0
    assert_close(gain[ETHER, ETHER], expected, rtol=1e-12, atol=0.0)
    assert_close(radius, expected, rtol=1e-12, atol=0.0)
    assert np.count_nonzero(gain) == 1
    # Ether that falls as the other asset's sellers sell it, and the other way round: the radius is
    # the geometric mean of the two.
    sold = np.zeros_like(own.sold)
    sold[OTHER] = own.sold[ETHER]
    back = np.zeros_like(own.sold)
    back[ETHER] = own.sold[ETHER]
    pair = [
        dataclasses.replace(own, sold=sold),
        dataclasses.replace(own, asset=OTHER, sold=back),
    ]
    gain, radius = gain_matrix(system, pair, 0.1)
    assert_close(radius, np.sqrt(gain[OTHER, ETHER] * gain[ETHER, OTHER]), rtol=1e-12, atol=0.0)
    assert radius > 0.0


def test_one_shock_alone_is_the_liquidation_map_and_a_basis_is_not_seen_by_every_oracle():
    system = pair_system()
    market = Market.opening(ladders.PRICE, pegs={"other": "ether"}, dtype=np.float64)
    accounts = dataclasses.replace(system.venues[0].accounts, collateral_assets=(OTHER,))
    accounts = dataclasses.replace(accounts, collateral=accounts.collateral * 400.0)
    seen_spot = ladders.with_venue(dataclasses.replace(system, market=market), accounts=accounts)
    changes = np.stack([np.linspace(0.0, -0.5, 3), np.linspace(0.0, -0.4, 3)])
    table = survival_columns(seen_spot, (ETHER, OTHER), changes)
    alone = table["second_change_frac"] == 0.0
    known = liquidation_map(seen_spot, jnp.asarray(changes[0]), ETHER)
    assert_close(table["liquidatable_debt_usd"][alone], known.debt[0], rtol=1e-12, atol=0.0)
    assert_close(table["bad_debt_usd"][alone], known.bad_debt[0], rtol=1e-12, atol=0.0)
    steps = np.diff(table["standing_debt_frac"].reshape(3, 3), axis=1)
    assert (steps <= 1e-15).all()
    assert steps.min() < -0.1
    by_rate = ladders.with_venue(seen_spot, oracle=ExchangeRateOracle())
    rate = survival_columns(by_rate, (ETHER, OTHER), changes)
    assert (np.diff(rate["standing_debt_frac"].reshape(3, 3), axis=1) == 0.0).all()
