"""Presets of stablecoin issuers: what they take from the shipped tables, and what they refuse."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.market.oracle import opening_prices
from jaxrisk.market.state import Market
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.deposit_pool import DepositPool
from jaxrisk.venue.health import health_factor
from jaxrisk.venue.presets import PRESETS
from jaxrisk.venue.presets.liquity_v1 import liquity_v1
from jaxrisk.venue.presets.liquity_v2 import liquity_v2
from jaxrisk.venue.waterfall import Residual
from tests.helpers import assert_close

ASSETS = ("WETH", "wstETH", "rETH", "STABLE")
MARKET = Market.opening({"WETH": 2000.0, "wstETH": 2400.0, "rETH": 2200.0, "STABLE": 0.9})


def book(collateral, debt, held=(0,), category=None):
    count = len(debt)
    return Accounts(
        collateral=jnp.asarray(np.asarray(collateral, float).reshape(len(held), count)),
        debt=jnp.asarray(debt, float)[None],
        category=jnp.zeros(count, jnp.int32) if category is None else jnp.asarray(category),
        collateral_assets=held,
        debt_assets=(3,),
    )


ONE = book([1.0, 2.0], [1000.0, 2000.0])
TWO = book([[1.0, 0.0], [0.0, 1.0]], [1000.0, 1500.0], held=(0, 1), category=[0, 1])


def test_a_unit_of_the_stablecoin_counts_as_one_whatever_it_trades_at():
    venue = liquity_v1(ONE, ASSETS, deposits=500.0)
    seen = opening_prices(venue.oracle, MARKET)
    assert seen.tolist() == [2000.0, 2400.0, 2200.0, 1.0]
    assert_close(health_factor(venue, seen), [2.0 / 1.1, 2.0 / 1.1], rtol=1e-12, atol=0.0)
    assert venue.residual is Residual.BORROWERS
    assert isinstance(venue.execution, DepositPool)
    assert_close(venue.execution.deposits, [500.0], rtol=0.0, atol=0.0)


def test_accounts_stand_in_the_branch_of_their_collateral_at_the_rate_of_their_group():
    overrides = {"wstETH": {"deposits": 300.0, "minimum_ratio": 1.25}}
    venue = liquity_v2(TWO, ASSETS, rate=0.03, rates="fast: 0.2", overrides=overrides)
    assert venue.accounts.category.tolist() == [0, 1]
    assert venue.categories == ("WETH", "wstETH")
    assert_close(venue.accounts.rate, [0.03, 0.2], rtol=0.0, atol=0.0)
    assert isinstance(venue.execution, DepositPool)
    assert_close(venue.execution.deposits, [0.0, 300.0], rtol=0.0, atol=0.0)
    assert_close(venue.execution.liquidation.peer_penalty, [0.1, 0.2], rtol=0.0, atol=0.0)
    minimum = 1.0 / np.diagonal(venue.collateral.liquidation_threshold)
    assert_close(minimum, [1.1, 1.25], rtol=1e-12, atol=0.0)


def test_terms_are_those_the_venue_is_built_with():
    terms = PRESETS["liquity_v2"].terms(
        {"WETH": {"minimum_ratio": 1.15}}, rates="low: 0.01, high: 0.05"
    )
    assert terms.thresholds["WETH"] == pytest.approx(1 / 1.15)
    assert terms.thresholds["rETH"] == pytest.approx(1 / 1.2)
    assert terms.categories == ("", "low", "high")
    one = PRESETS["liquity_v1"].terms({}, collateral="WETH", loan="STABLE", deposits=1.0)
    assert one.thresholds == {"WETH": pytest.approx(1 / 1.1)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deposits": -1.0}, "deposits: -1, expected 0 or more"),
        ({"deposits": 3001.0}, "deposits: 3001 in all, but only 3000 of the stablecoin"),
        ({"sale_share": 50.0}, "sale_share: 50, expected 0 to 1; did you mean 0.5"),
        ({"redemptions": "no"}, 'redemptions = .no.: expected "on" or "off"'),
        ({"insurance": 10.0}, "no reserve or insurance pays here; depositors do"),
        ({"collateral": "rETH"}, "posts WETH and owes STABLE, the market is rETH/None"),
        (
            {"overrides": {"WETH": {"minimum_ratio": 110.0}}},
            "minimum_ratio: 110, expected 1 to 10; did you mean 1.1",
        ),
        (
            {"overrides": {"WETH": {"critical_ratio": 1.05}}},
            "critical_ratio: 1.05, expected 1.1 to 10",
        ),
        (
            {"overrides": {"WETH": {"liquidation_bonus": 0.1}}},
            "assets.WETH.liquidation_bonus: not a parameter here; expected minimum_ratio",
        ),
        ({"overrides": {"rETH": {"minimum_ratio": 1.2}}}, "expected nothing of this asset"),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        liquity_v1(ONE, ASSETS, **({"deposits": 100.0} | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 5.0}, "rate: 5, expected 0.005 to 2.5; did you mean 0.05"),
        ({"rates": "low 0.01"}, "rates: cannot read 'low 0.01'; expected groups and rates"),
        ({"rates": "low: 0.001"}, "rate of low: 0.001, expected 0.005"),
        ({"rates": "low: 0.01, low: 0.02"}, "rates: group 'low' is given twice"),
        ({"rates": ": 0.02"}, "rates: cannot read ': 0.02'"),
        ({"overrides": {"WETH": {"caller_cap": -1.0}}}, "caller_cap: -1, expected 0 or more"),
        (
            {"overrides": {"WETH": {"minimum_ratio": 0.5}}},
            r"minimum_ratio: 0\.5, expected 1 to 10$",
        ),
        (
            {"overrides": {"WETH": {"pool_penalty": 0.2}}},
            "assets.WETH.options.pool_penalty: 0.2, expected 0 to 0.1",
        ),
        (
            {"overrides": {"wstETH": {"peer_penalty": 0.01}}},
            "assets.wstETH.options.peer_penalty: 0.01, expected 0.05 to 0.2",
        ),
        (
            {"overrides": {"WETH": {"deposits": 2000.0}, "wstETH": {"deposits": 600.0}}},
            "2600 in all, but only 2500 of the stablecoin is owed",
        ),
    ],
)
def test_terms_of_branches_that_do_not_fit_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        liquity_v2(TWO, ASSETS, **({"rates": "fast: 0.2"} | options))


@pytest.mark.parametrize(
    ("accounts", "message"),
    [
        (book([1.0, 2.0], [1000.0, 0.0]), "1 accounts, the first is number 2"),
        (book([[1.0], [1.0]], [1000.0], held=(0, 1)), "do not hold one collateral"),
    ],
)
def test_accounts_that_cannot_stand_here_are_refused(accounts, message):
    with pytest.raises(ValueError, match=message):
        liquity_v2(accounts, ASSETS)


def test_a_collateral_that_is_not_deployed_needs_its_terms():
    accounts = book([1.0], [1000.0], held=(3,))
    with pytest.raises(ValueError, match=r"assets\.STABLE: not in the deployment; also give"):
        liquity_v2(accounts, ASSETS)
