"""The preset whose lenders state prices: what it builds, what it refuses, and its configuration."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import pytest

from jaxrisk.errors import ConfigError
from jaxrisk.numerics.keys import root_key
from jaxrisk.run.build import build
from jaxrisk.run.load import load_config
from jaxrisk.run.summary import scenario_table
from jaxrisk.system.simulate import simulate
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.health import health_factor
from jaxrisk.venue.lender_auctions import LenderAuctions
from jaxrisk.venue.presets import PRESETS
from jaxrisk.venue.presets.ajna import LOWEST_PRICE, ajna
from jaxrisk.venue.venue import Pool, imbalance
from jaxrisk.venue.waterfall import Residual
from tests.helpers import assert_close

ASSETS = ("WETH", "wstETH", "USDC")
PRICE = jnp.asarray([3000.0, 3600.0, 1.0])
BOOK = Accounts(
    collateral=jnp.asarray([[1.0, 2.0]]),
    debt=jnp.asarray([[2000.0, 3000.0]]),
    category=jnp.zeros(2, jnp.int32),
    collateral_assets=(0,),
    debt_assets=(2,),
)
RATIO = 1.04 * (1.0 + 0.2 / 2.0)
"""Neutral over threshold price at a borrow rate of 4 %."""


def pool(accounts=BOOK, **options):
    return ajna(
        accounts, ASSETS, **{"deposits": "2600: 2000, 2800: 4000", "borrow_rate": 0.04, **options}
    )


def slot(venue) -> LenderAuctions:
    assert isinstance(venue.execution, LenderAuctions)
    return venue.execution


def test_a_pool_stands_on_its_lenders_prices():
    venue = pool(reserves=50.0)
    rule = slot(venue)
    # The highest price first, and last the lowest there is, where nobody lends.
    assert_close(rule.prices, [2800.0, 2600.0, LOWEST_PRICE], rtol=0.0, atol=0.0)
    assert_close(rule.deposits, [4000.0, 2000.0, 0.0], rtol=0.0, atol=0.0)
    opening = {Pool.CASH: 1050.0, Pool.DEBT: 5000.0, Pool.SUPPLIED: 6000.0, Pool.TREASURY: 50.0}
    assert_close(venue.pool[:, 0], [opening.get(row, 0.0) for row in Pool], rtol=0.0, atol=0.0)
    assert float(imbalance(venue.pool)[0]) == 0.0
    assert venue.residual is Residual.LENDERS
    assert venue.treasury_pays
    # Health is what kickers look at: the market over the neutral price.
    expected = [3000.0 / (2000.0 * RATIO), 6000.0 / (3000.0 * RATIO)]
    assert_close(health_factor(venue, PRICE), expected, rtol=1e-12, atol=0.0)
    # Half a week of interest, and half of five basis points at low rates.
    assert_close(rule.cover_share, 0.04 / 52.0 / 2.0, rtol=1e-12, atol=0.0)
    assert_close(slot(pool(borrow_rate=0.01)).cover_share, 0.00025, rtol=1e-12, atol=0.0)
    by_mapping = pool(deposits={2600.0: 2000.0, 2800.0: 4000.0})
    assert_close(slot(by_mapping).deposits, [4000.0, 2000.0, 0.0], rtol=0.0, atol=0.0)


def test_who_would_leave_lowers_the_price_in_use():
    rule = slot(pool())
    at = lambda market, leaving: float(
        dataclasses.replace(rule, leaving=jnp.asarray(leaving)).price_in_use(
            rule.deposits, jnp.asarray(3900.0), jnp.asarray(market)
        )
    )
    assert at(3000.0, 1.0) == 2800.0
    assert at(2700.0, 0.0) == 2800.0
    assert at(2700.0, 0.5) == 2600.0
    assert at(2700.0, 1.0) == LOWEST_PRICE


def test_terms_are_those_the_venue_is_built_with():
    terms = PRESETS["ajna"].terms(
        {}, collateral="WETH", loan="USDC", deposits="1: 1", borrow_rate=0.04
    )
    assert terms.thresholds == {"WETH": pytest.approx(1 / RATIO)}
    assert terms.categories == ("",)


REFUSED = {
    "too little": ({"deposits": "2600: 4999"}, "4999 in all, but 5000 is owed"),
    "empty": ({"deposits": ""}, "deposits: empty; give prices and amounts"),
    "text": ({"deposits": "2600 = 5000"}, "cannot read '2600 = 5000'; expected prices and amounts"),
    "number": ({"deposits": 6000.0}, "cannot read '6000.0'"),
    "twice": ({"deposits": "2600: 3000, 2600: 3000"}, "price 2600 is given twice; add"),
    "price": ({"deposits": "0: 6000"}, "price 0: expected 9.98363e-08 to 1.00497e"),
    "high": ({"deposits": "1e12: 6000"}, "price 1e\\+12: expected"),
    "nan": ({"deposits": "nan: 6000"}, "price nan: expected"),
    "amount": ({"deposits": "2600: 6000, 2500: -1"}, "-1 at 2500: expected an amount"),
    "endless": ({"deposits": "2600: inf"}, "inf at 2600: expected an amount"),
    "percent": ({"borrow_rate": 5.0}, "borrow_rate: 5, expected 0 to 4; did you mean 0.05"),
    "kept": ({"interest_kept": 0.5}, "interest_kept: 0.5, expected 0 to 0.15"),
    "reserves": ({"reserves": -1.0}, "reserves: -1, expected 0 or more"),
    "leaving": ({"leaving": 50.0}, "leaving: 50, expected 0 to 1; did you mean 0.5"),
    "funds": ({"reserve": 10.0}, "no reserve_usd or insurance_usd pays here; the pool's own"),
    "insurance": ({"insurance": 10.0}, "see options.reserves"),
    "overrides": (
        {"overrides": {"WETH": {"liquidation_threshold": 0.8}}},
        "assets.WETH.liquidation_threshold: not a parameter here; expected nothing",
    ),
    "pair": ({"collateral": "wstETH"}, "posts WETH and owes USDC, the pool is wstETH/None"),
    "itself": (
        {"accounts": dataclasses.replace(BOOK, debt_assets=(0,))},
        "WETH is what loans owe and cannot be their collateral",
    ),
    "unbacked": (
        {"accounts": dataclasses.replace(BOOK, collateral=jnp.asarray([[1.0, 0.0]]))},
        "1 accounts lack collateral or debt, the first is number 2",
    ),
    "category": (
        {"accounts": dataclasses.replace(BOOK, category=jnp.asarray([0, 1]))},
        "a pool has no risk categories",
    ),
    "several": (
        {
            "accounts": dataclasses.replace(
                BOOK, collateral=jnp.ones((2, 2)), collateral_assets=(0, 1)
            )
        },
        "a pool has one collateral and one loan asset",
    ),
}


@pytest.mark.parametrize(("options", "text"), REFUSED.values(), ids=REFUSED)
def test_bad_pools_are_refused_with_the_likely_meaning(options, text):
    with pytest.raises(ValueError, match=text):
        pool(**options)


CONFIG = """
name = "lenders"
[run]
scenarios = 16
steps = 12
step_hours = 4.0
rounds = 4
precision = "float64"
output = "out"
[book]
positions = "positions.csv"
[market]
model = "shock"
correlation = [[1.0, 0.0], [0.0, 1.0]]
[market.shock]
name = "a third in eight hours"
falls = { WETH = 0.35 }
hours = 8.0
[assets.WETH]
price = 3000.0
volatility = 0.6
depth_usd = 1.0e7
[assets.USDC]
price = 1.0
volatility = 0.0
depth_usd = 1.0e9
[keeper]
cost_usd = 20.0
[venues.lenders]
preset = "ajna"
collateral = "WETH"
loan = "USDC"
[venues.lenders.options]
deposits = "2600: 1.0e6, 2300: 1.0e6, 1500: 5.0e6"
borrow_rate = 0.05
reserves = 2.0e4
"""
POSITIONS = """account_id,venue,asset,side,amount
ann,lenders,WETH,collateral,1000
ann,lenders,USDC,debt,2400000
ben,lenders,WETH,collateral,900
ben,lenders,USDC,debt,1500000
cid,lenders,WETH,collateral,500
cid,lenders,USDC,debt,600000
"""


def configured(folder: Path, *changes: str):
    (folder / "positions.csv").write_text(POSITIONS)
    path = folder / "lenders.toml"
    path.write_text(CONFIG)
    return build(load_config(path, list(changes), known_presets=PRESETS))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("venues.lenders.options.deposit='1: 1'", "did you mean deposits"),
        ("venues.lenders.options.deposits='2600: 1e6'", "venues.lenders: .*but 4.5e\\+06 is owed"),
        ("venues.lenders.insurance_usd=1.0", "see options.reserves"),
    ],
)
def test_a_configuration_says_what_is_wrong(tmp_path, change, text):
    with pytest.raises(ConfigError, match=text):
        configured(tmp_path, change)


@pytest.mark.slow
def test_a_configured_pool_plays_and_names_who_bears_what(tmp_path):
    built = configured(tmp_path)
    assert any("lenders leave their deposits" in text for text in built.assumptions)
    assert not any("available liquidity" in text for text in built.data_quality)
    outcome = simulate(
        built.system, root_key(1), scenarios=16, steps=12, step_years=4.0 / 8760.0, rounds=4
    )
    table = scenario_table(built.system, outcome, 0)
    assert (table["liquidated_lenders_usd"] > 0).all()
    bad = table["bad_debt_lenders_usd"]
    assert bad.max() > 0
    borne = table["treasury_lenders_usd"] + table["lenders_highest_price_first_lenders_usd"]
    assert_close(borne, bad, rtol=1e-9, atol=1e-6)
    # Deposits above the market got collateral worth less than they paid.
    assert (table["depositor_gain_lenders_usd"] < 0).all()
    assert table["conservation_error_frac"].max() < 1e-12
