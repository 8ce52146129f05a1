"""The preset of markets in price bands: shipped terms, what it refuses, and thresholds."""

import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.errors import ConfigError
from jaxrisk.run.build import build
from jaxrisk.run.load import load_config
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.accrual import CurveInterest
from jaxrisk.venue.band_conversion import BandConversion
from jaxrisk.venue.band_loan import effective_collateral
from jaxrisk.venue.exponential_rate import HyperbolicRate, LogLinearRate, PegRate
from jaxrisk.venue.liquidation_price import liquidation_price
from jaxrisk.venue.presets import PRESETS
from jaxrisk.venue.presets.crvusd import PRESET, crvusd
from jaxrisk.venue.presets.crvusd_markets import DEPLOYMENTS
from jaxrisk.venue.venue import Pool
from tests.helpers import assert_close

ASSETS = ("wstETH", "crvUSD")
EXAMPLE = Path(__file__).resolve().parent.parent / "configs" / "crvusd_oscillation.toml"


def book(held=(10.0, 5.0), owed=(2e4, 5e3)):
    return Accounts(
        collateral=jnp.asarray([held]),
        debt=jnp.asarray([owed]),
        category=jnp.zeros(len(held), jnp.int32),
        collateral_assets=(0,),
        debt_assets=(1,),
    )


def rules_of(venue):
    assert isinstance(venue.execution, BandConversion)
    return venue.execution


def interest_of(venue):
    assert isinstance(venue.interest, CurveInterest)
    return venue.interest


def curve_of(venue):
    return interest_of(venue).curve


def test_the_mint_market_of_staked_ether():
    # A 100, discounts 9 % and 6 %: the example of the crvUSD simulator's readme.
    venue = crvusd(book(), ASSETS)
    rules = rules_of(venue)
    assert (float(rules.grid.amplification), float(rules.loan_discount)) == (100.0, 0.09)
    credit = float(venue.incentive.largest_credit(1, 1)[0, 0])
    assert_close(1.0 - 1.0 / credit, 0.06, rtol=1e-14, atol=0.0)
    assert isinstance(curve_of(venue), PegRate)
    # All interest is the protocol's; as much again may still be minted as is owed.
    assert float(interest_of(venue).reserve_factor[0]) == 1.0
    assert_close(venue.pool[: Pool.DEBT + 1], [[2.5e4], [2.5e4]], rtol=1e-15, atol=0.0)


def test_lending_markets():
    venue = crvusd(book(), ASSETS, deployment="llamalend_v2")
    curve = curve_of(venue)
    assert isinstance(curve, LogLinearRate)
    assert (float(curve.minimum[0]), float(curve.maximum[0])) == (0.005, 0.5)
    assert float(interest_of(venue).reserve_factor[0]) == 0.0
    terms = {"base_rate": 0.08, "lowest_multiple": 0.5, "highest_multiple": 3.0}
    venue = crvusd(
        book(), ("sDOLA", "crvUSD"), deployment="llamalend_v2", overrides={"crvUSD": terms}
    )
    curve = curve_of(venue)
    assert isinstance(curve, HyperbolicRate)
    assert_close(curve.borrow_rate(jnp.array([0.9])), [0.08], rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("bands", [4, 10, 50])
def test_health_one_is_where_conversion_begins(bands):
    venue = crvusd(book(), ASSETS, bands=bands)
    rules = rules_of(venue)
    price = np.asarray(liquidation_price(venue, jnp.array([3600.0, 1.0]))[0])
    first = rules.first_position(venue.accounts)
    top = np.asarray(rules.grid.upper_price(rules.grid.numbers()[first]))
    # The first band with a top at or above the price at which the loan would be refused.
    assert (top >= price * (1.0 - 1e-12)).all()
    assert (top * 0.99 <= price).all()
    backed = effective_collateral(
        rules.grid.amplification, jnp.array([1.0]), jnp.array([bands]), rules.loan_discount
    )
    assert_close(venue.collateral.liquidation_threshold[0], backed, rtol=1e-12, atol=0.0)
    assert PRESET.terms({}, bands=bands).thresholds["wstETH"] == pytest.approx(float(backed[0]))


def test_the_grid_spans_every_loan_and_one_band_before():
    venue = crvusd(book(owed=(3e4, 1e-9)), ASSETS, base_price=2500.0)
    grid, bands = rules_of(venue).grid, rules_of(venue).bands
    first = int(np.asarray(rules_of(venue).first_position(venue.accounts)).min())
    assert first == 1
    assert grid.count == 1024 + 1
    assert int(rules_of(venue).first_position(venue.accounts)[1]) == grid.count - bands
    assert float(grid.base_price) == 2500.0
    riskiest = 3e4 / (10.0 * float(venue.collateral.liquidation_threshold[0, 0]))
    top = 2500.0 * math.exp(math.log1p(-0.01) * int(grid.numbers()[first]))
    assert top * 0.99 <= riskiest <= top


def test_every_shipped_market_is_whole():
    given = {
        "hyperbolic": {"base_rate": 0.1, "lowest_multiple": 0.5, "highest_multiple": 3.0},
        "peg": {"ceiling": 1e6},
        "log_linear": {},
    }
    for name, table in DEPLOYMENTS.items():
        for asset, market in table.items():
            venue = crvusd(
                book(), (asset, "coin"), deployment=name, overrides={"coin": given[market.policy]}
            )
            rate = curve_of(venue).borrow_rate(jnp.array([0.5]))
            assert 0.0 < float(rate[0]) < 1.0
            assert PRESET.terms({}, deployment=name).thresholds[asset] > 0.5


REFUSED = {
    "swapped discounts": (
        {"overrides": {"wstETH": {"loan_discount": 0.06, "liquidation_discount": 0.09}}},
        r"liquidation_discount = 0.09: expected .* below loan_discount .* swapped\?",
    ),
    "discount in percent": (
        {"overrides": {"wstETH": {"loan_discount": 9.0}}},
        r"loan_discount = 9: expected a fraction in \(0, 1\)",
    ),
    "fee in percent": ({"overrides": {"wstETH": {"fee": 1.4}}}, r"fee = 1.4: expected a fraction"),
    "share": ({"overrides": {"wstETH": {"admin_share": 2.0}}}, "admin_share = 2: expected 0 to 1"),
    "amplification": (
        {"overrides": {"wstETH": {"amplification": 0.01}}},
        r"amplification = 0.01: expected 2 to 10000 \(100 makes bands 1 % wide\)",
    ),
    "bands too narrow": (
        {"overrides": {"wstETH": {"amplification": 1e9}}},
        r"amplification = 1e\+09: expected 2 to 10000",
    ),
    "more reserve than debt": (
        {"overrides": {"crvUSD": {"reserve_share": 5.0}}},
        "reserve_share = 5: expected 0 to 1",
    ),
    "rate moved below zero": (
        {
            "policy": "hyperbolic",
            "overrides": {
                "crvUSD": {
                    "base_rate": 0.1,
                    "target_utilisation": 0.9,
                    "lowest_multiple": 0.5,
                    "highest_multiple": 3.0,
                    "rate_shift": -0.5,
                }
            },
        },
        "rate_shift = -0.5: expected 0 or more",
    ),
    "bands": ({"bands": 3}, "bands = 3: expected a whole number from 4 to 50"),
    "part of a band": ({"bands": 9.5}, "bands = 9.5: expected a whole number"),
    "base price": ({"base_price": -1.0}, "base_price = -1: expected a price above 0"),
    "policy": ({"policy": "kinked"}, "policy = 'kinked': expected one of peg, log_linear"),
    "unknown risk": (
        {"overrides": {"wstETH": {"liquidation_bonus": 0.05}}},
        "wstETH: no such parameter liquidation_bonus; collateral takes amplification",
    ),
    "unknown rate": (
        {"overrides": {"crvUSD": {"slope1": 0.05}}},
        "crvUSD: no such parameter slope1; with a peg rate the borrowed coin takes base_rate",
    ),
    "missing rate": (
        {"policy": "log_linear"},
        "a log_linear rate has no default for minimum_rate, maximum_rate; give it",
    ),
    "swapped rates": (
        {
            "policy": "log_linear",
            "overrides": {"crvUSD": {"minimum_rate": 0.5, "maximum_rate": 0.005}},
        },
        r"minimum_rate = 0.5: expected at most maximum_rate .* swapped\?",
    ),
    "rate of zero": (
        {
            "policy": "log_linear",
            "overrides": {"crvUSD": {"minimum_rate": 0.0, "maximum_rate": 0.005}},
        },
        "minimum_rate = 0: expected above 0",
    ),
    "multiples": (
        {
            "policy": "hyperbolic",
            "overrides": {
                "crvUSD": {
                    "base_rate": 0.1,
                    "target_utilisation": 0.9,
                    "lowest_multiple": 2.0,
                    "highest_multiple": 3.0,
                }
            },
        },
        "lowest_multiple = 2, highest_multiple = 3: expected below and above 1",
    ),
    "target": (
        {
            "policy": "hyperbolic",
            "overrides": {
                "crvUSD": {
                    "base_rate": 0.1,
                    "target_utilisation": 90.0,
                    "lowest_multiple": 0.5,
                    "highest_multiple": 3.0,
                }
            },
        },
        r"target_utilisation = 90: expected a fraction in \(0, 1\)",
    ),
    "ceiling below debt": (
        {"overrides": {"crvUSD": {"ceiling": 1e4}}},
        "crvUSD: ceiling = 10000 is below the 25000 that the book owes",
    ),
    "foreign asset": ({"overrides": {"WBTC": {}}}, "WBTC: the market has wstETH and crvUSD only"),
    "insurance": ({"insurance": 1e6}, "nothing is written off here, so a reserve or insurance"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_says_why(case):
    options, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        crvusd(book(), ASSETS, **options)


def test_a_collateral_without_shipped_terms_says_what_it_needs():
    with pytest.raises(
        ValueError, match=r"tBTC: not in mint_ethereum; also give amplification, fe"
    ):
        crvusd(book(), ("tBTC", "crvUSD"))


@pytest.mark.parametrize(("held", "owed"), [((10.0, 0.0), (2e4, 1.0)), ((10.0, 1.0), (2e4, 0.0))])
def test_loans_have_collateral_and_debt(held, owed):
    with pytest.raises(ValueError, match="1 accounts lack collateral or debt, the first at pos"):
        crvusd(book(held, owed), ASSETS)


def test_bands_take_one_pair():
    two = Accounts(
        collateral=jnp.ones((2, 1)),
        debt=jnp.ones((1, 1)),
        category=jnp.zeros(1, jnp.int32),
        collateral_assets=(0, 1),
        debt_assets=(1,),
    )
    with pytest.raises(ValueError, match="one collateral and one borrowed coin"):
        crvusd(two, ASSETS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("venues.bands.options.bands=3", "venues.bands: bands = 3: expected a whole number"),
        ("venues.bands.insurance_usd=3e5", "venues.bands: .* would never pay"),
        (
            "venues.bands.assets.wstETH.options.liquidation_discount=0.2",
            r"venues.bands: wstETH: liquidation_discount = 0.2: .* swapped\?",
        ),
        ("venues.bands.options.band=3", r"venues.bands.options.band: .* did you mean bands\?"),
    ],
)
def test_a_configuration_names_the_venue(change, message):
    config = load_config(EXAMPLE, [change], known_presets=PRESETS)
    with pytest.raises(ConfigError, match=message):
        build(config)
