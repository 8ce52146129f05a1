"""The two presets that take accounts over: what they ship, what they replace, what they refuse."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.errors import ConfigError
from jaxrisk.run.build import build
from jaxrisk.run.load import load_config
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.accrual import CurveInterest, SpreadInterest
from jaxrisk.venue.auction_price import LinearDecrease
from jaxrisk.venue.health import health_factor
from jaxrisk.venue.presets import PRESETS
from jaxrisk.venue.presets.compound_v3 import compound_v3
from jaxrisk.venue.presets.sky import sky
from jaxrisk.venue.takeover import AbsorbedStock, AuctionedLots
from jaxrisk.venue.venue import Pool
from jaxrisk.venue.waterfall import Residual
from tests.conftest import ROOT
from tests.helpers import assert_close

ASSETS = ("WETH", "wstETH", "USDC")
PRICE = jnp.asarray([3000.0, 3600.0, 1.0])


def book(held=((1.0, 2.0), (0.0, 0.0)), owed=((2000.0, 3000.0),), category=(0, 0), debts=(2,)):
    return Accounts(
        collateral=jnp.asarray(held),
        debt=jnp.asarray(owed),
        category=jnp.asarray(category, jnp.int32),
        collateral_assets=(0, 1),
        debt_assets=debts,
    )


def market(**options):
    return compound_v3(options.pop("accounts", book()), ASSETS, **options)


def vaults(**options):
    accounts = options.pop("accounts", book())
    fee = options.pop("stability_fee", 0.06)
    return sky(accounts, ASSETS, stability_fee=fee, **options)


def test_a_market_stands_under_the_deployed_parameters():
    venue = market()
    assert_close(
        health_factor(venue, PRICE), [3000 * 0.895 / 2000, 6000 * 0.895 / 3000], rtol=1e-12, atol=0
    )
    assert_close(venue.incentive.largest_credit(1, 2), [[1 / 0.95, 1 / 0.92]], rtol=1e-12, atol=0)
    assert isinstance(venue.execution, AbsorbedStock)
    assert venue.residual is Residual.CARRIED
    assert venue.treasury_pays


def test_a_market_takes_what_is_replaced():
    overrides = {"WETH": {"liquidation_factor": 0.97}, "USDC": {"available_liquidity": 5.0}}
    venue = market(overrides=overrides, discount_share=0.8, borrow_base=0.02, reserve=7.0)
    assert_close(venue.incentive.largest_credit(1, 2)[0, 0], 1 / 0.97, rtol=1e-12, atol=0)
    assert isinstance(venue.execution, AbsorbedStock)
    assert isinstance(venue.interest, SpreadInterest)
    assert_close(venue.execution.discount_share, 0.8, rtol=0, atol=0)
    assert_close(venue.interest.rates.borrow.base, [0.02], rtol=0, atol=0)
    opening = {Pool.CASH: 5.0, Pool.DEBT: 5000.0, Pool.SUPPLIED: 5005.0}
    assert_close(venue.pool[:, 0], [opening.get(row, 0.0) for row in Pool], rtol=0, atol=0)
    assert_close(venue.funds, [7.0, 0.0], rtol=0, atol=0)


def test_vaults_stand_under_the_terms_of_their_type():
    venue = vaults(accounts=book(category=(0, 1)))
    assert venue.categories[:2] == ("", "ETH-B")
    assert_close(health_factor(venue, PRICE), [1.5 / 1.45, 2.0 / 1.30], rtol=1e-12, atol=0)
    rule = venue.execution
    assert isinstance(rule, AuctionedLots)
    assert rule.types == ((0, 0), (1, 0))
    assert_close(rule.terms.ceiling, [40e6, 15e6], rtol=0, atol=0)
    assert_close(rule.terms.minimum_target, [7500 * 1.13, 25000 * 1.13], rtol=1e-12, atol=0)
    assert isinstance(venue.interest, CurveInterest)
    rate = venue.interest.curve.borrow_rate(jnp.zeros(1))
    assert_close(np.expm1(rate), [0.06], rtol=1e-9, atol=0)


def test_vaults_take_what_is_replaced():
    overrides = {"WETH": {"liquidation_ratio": 1.6, "linear_duration": 21600.0}}
    venue = vaults(overrides=overrides, debt_auctions="dilution", cohorts=6)
    assert_close(health_factor(venue, PRICE)[0], 1.5 / 1.6, rtol=1e-12, atol=0)
    assert isinstance(venue.execution, AuctionedLots)
    assert isinstance(venue.execution.curve, LinearDecrease)
    assert venue.execution.cohorts == 6
    assert venue.residual is Residual.DILUTED


REFUSED_MARKETS = {
    "another base": ({"deployment": "ethereum_usdt"}, "lends USDT alone; is it another deployment"),
    "base as collateral": (
        {"accounts": dataclasses.replace(book(), collateral_assets=(0, 2))},
        "USDC is the base asset and cannot be collateral",
    ),
    "unknown": ({"overrides": {"WETH": {"slope1": 0.1}}}, "WETH: no such parameter slope1"),
    "bonus": (
        {"overrides": {"WETH": {"liquidation_bonus": 0.05}}},
        "the bonus is 1 / options.liquidation_factor - 1",
    ),
    "swapped": (
        {"overrides": {"WETH": {"loan_to_value": 0.9}}},
        "liquidation_threshold 0.895 is below loan_to_value 0.9; are the two swapped?",
    ),
    "a loss by design": (
        {"overrides": {"WETH": {"liquidation_factor": 0.85}}},
        "liquidation_factor 0.85: expected a fraction from liquidation_threshold",
    ),
    "incomplete": (
        {"overrides": {"GOLD": {"loan_to_value": 0.5}}},
        "GOLD: not in the deployment; also give liquidation_threshold, liquidation_factor",
    ),
    "of the base": (
        {"overrides": {"USDC": {"reserve_factor": 0.1}}},
        "USDC: reserve_factor cannot be set for the base asset",
    ),
    "percent": ({"discount_share": 50.0}, "discount_share 50: expected a fraction in"),
    "kink": ({"borrow_kink": 1.0}, "borrow_kink 1: expected a utilisation inside"),
    "slope": ({"supply_slope_above": -0.1}, "supply_slope_above -0.1: expected a rate"),
    "target": ({"target_reserves": -1.0}, "target_reserves -1: expected base units"),
    "option": ({"borrow_knik": 0.8}, "no such option borrow_knik"),
}

REFUSED_VAULTS = {
    "two coins": (
        {"accounts": book(owed=((1.0, 1.0), (1.0, 1.0)), debts=(1, 2))},
        "vaults owe one asset, the stablecoin",
    ),
    "coin as collateral": ({"accounts": book(debts=(1,))}, "cannot be their collateral"),
    "two collaterals": (
        {"accounts": book(held=((1.0, 1.0), (1.0, 0.0)))},
        "1 accounts hold several collaterals; a vault holds one",
    ),
    "nothing held": (
        {"accounts": book(held=((0.0, 0.0), (0.0, 0.0)))},
        "no account of the book holds any collateral",
    ),
    "no type": (
        {"accounts": book(held=((0.0, 0.0), (1.0, 1.0)), category=(1, 1))},
        "wstETH: no vault type for this collateral in its category",
    ),
    "threshold": (
        {"overrides": {"WETH": {"liquidation_threshold": 0.7}}},
        "meant is options.liquidation_ratio, its inverse",
    ),
    "ratio": ({"overrides": {"WETH": {"liquidation_ratio": 0.69}}}, "expected above 1"),
    "worsens": (
        {"overrides": {"WETH": {"liquidation_ratio": 1.1}}},
        "penalty 0.13 exceeds what a vault at its liquidation ratio",
    ),
    "ceiling": (
        {"overrides": {"WETH": {"ceiling": 100.0}}},
        "ceiling 100: expected at least minimum_debt with its penalty .*no auction could start",
    ),
    "cut": ({"overrides": {"WETH": {"cut": 1.0}}}, "cut 1: expected what a cut leaves"),
    "duration": ({"overrides": {"WETH": {"maximum_duration": 0.0}}}, "no auction would sell"),
    "linear": ({"overrides": {"WETH": {"linear_duration": -5.0}}}, "linear_duration: expected"),
    "new type": ({"overrides": {"GOLD": {"penalty": 0.1}}}, "no vault type of the deployment"),
    "fee": ({"stability_fee": -0.01}, "stability_fee -0.01: expected a rate a year"),
    "hole": ({"global_ceiling": 0.0}, "global_ceiling 0: expected at least the smallest min"),
    "bearer": ({"debt_auctions": "maybe"}, "debt_auctions 'maybe': expected one of carried"),
    "cohorts": ({"cohorts": 1}, "cohorts 1: expected a whole number from 2 to 10000"),
    "too many cohorts": ({"cohorts": 1e9}, r"cohorts 1e\+09: expected a whole number from 2 to"),
}


@pytest.mark.parametrize(("options", "text"), REFUSED_MARKETS.values(), ids=REFUSED_MARKETS)
def test_bad_markets_are_refused_with_the_likely_meaning(options, text):
    with pytest.raises(ValueError, match=text):
        market(**options)


@pytest.mark.parametrize(("options", "text"), REFUSED_VAULTS.values(), ids=REFUSED_VAULTS)
def test_bad_vaults_are_refused_with_the_likely_meaning(options, text):
    with pytest.raises(ValueError, match=text):
        vaults(**options)


@pytest.mark.parametrize(
    ("name", "line", "text"),
    [
        ("compound_v3", "venues.market.options.target_reserve=1.0", "did you mean target_reserves"),
        (
            "compound_v3",
            "venues.market.options.borrow_kink=1.2",
            "venues.market: .*borrow_kink 1.2",
        ),
        ("sky", "venues.slow.options.debt_auctions='often'", "venues.slow: .*expected one of"),
    ],
)
def test_a_configuration_says_where(name, line, text):
    key, _, value = line.partition("=")
    with pytest.raises(ConfigError, match=text):
        build(
            load_config(
                ROOT / "configs" / f"{name}.toml", [f"{key}={value}"], known_presets=PRESETS
            )
        )


def test_every_preset_names_the_thresholds_of_a_book():
    assert PRESETS["compound_v3"].terms({}).thresholds["WETH"] == 0.895
    terms = PRESETS["sky"].terms({"WETH": {"liquidation_ratio": 2.0}}, stability_fee=0.0)
    assert terms.thresholds["WETH"] == 0.5
    assert terms.category_thresholds["ETH-B"] == 1 / 1.3
