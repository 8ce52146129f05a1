"""Generic venues of contracts: what options mean, what is refused, and books from a table."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.errors import ConfigError, DataError
from jaxrisk.market.state import Market
from jaxrisk.measure.leverage import account_columns
from jaxrisk.run.build import build
from jaxrisk.run.load import load_config
from jaxrisk.system.margin_book import slot_of
from jaxrisk.venue.account import Accounts, Positions
from jaxrisk.venue.margin_accounts import Behind
from jaxrisk.venue.presets import PRESETS
from jaxrisk.venue.presets.instruments import instrument, underlying_of
from jaxrisk.venue.presets.options import options
from jaxrisk.venue.presets.perpetuals import perpetuals
from tests.conftest import ROOT
from tests.helpers import assert_close

ASSETS = ("WETH", "USDC")
PRICES = {"WETH": 3000.0, "USDC": 1.0}
TIERS = {"maintenance_margin": 0.02, "tier_2_from": 1e5, "tier_2_maintenance_margin": 0.04}
MARGIN = {"WETH": TIERS}
VOLATILITY = {"WETH": {"volatility": 0.8, "skew": -0.2}}
EXAMPLE_PRICES = {"WETH": 3000.0, "WBTC": 90000.0, "USDC": 1.0}
EXAMPLE = ROOT / "configs" / "perps_adl.toml"


def accounts(contracts, **changes):
    size = jnp.asarray(np.ones((contracts, 2)) * [10.0, -50.0])
    made = Accounts(
        collateral=jnp.asarray([[5e3, 2e4]]),
        debt=jnp.zeros((1, 2)),
        category=jnp.zeros(2, jnp.int32),
        collateral_assets=(1,),
        debt_assets=(1,),
        positions=Positions(size=size, entry=jnp.full((contracts, 2), jnp.nan)),
    )
    return dataclasses.replace(made, **changes)


def perpetual_venue(book=None, instruments=("WETH-PERP",), overrides=MARGIN, **changes):
    return perpetuals(
        accounts(1) if book is None else book,
        ASSETS,
        instruments=instruments,
        prices=PRICES,
        settlement="USDC",
        overrides=overrides,
        **changes,
    )


def test_names_of_contracts():
    assert underlying_of("st-ETH-PERP") == "st-ETH"
    assert underlying_of("st-ETH-7D-3200-P") == "st-ETH"
    call = instrument("WETH-36.5D-3200-C")
    assert (call.underlying, call.is_option) == ("WETH", True)
    assert_close(call.terms.expiry, [0.1], rtol=1e-12, atol=0.0)
    assert float(instrument("WETH-7D-3200-P").terms.option[0]) == -1.0
    for name in ("WETH", "WETH-PERPS", "WETH-7D-3200-X", "-PERP", "WETH-D-3200-C"):
        with pytest.raises(ValueError, match="no contract"):
            instrument(name)


def test_entries_that_are_not_stated_are_the_opening_price_and_tiers_add_up():
    venue = perpetual_venue(behind="positions", trigger=0.9)
    assert venue.accounts.positions is not None
    assert_close(venue.accounts.positions.entry, [[3000.0, 3000.0]], rtol=1e-12, atol=0.0)
    assert slot_of(venue).behind is Behind.POSITIONS
    columns = account_columns(venue, Market.opening(PRICES), np.array([True, False]))
    margin = np.array([600.0, 0.02 * 1e5 + 0.04 * 5e4])
    assert_close(columns["maintenance_margin_usd"], margin, rtol=1e-12, atol=0.0)
    assert_close(columns["health_factor"], [5e3, 2e4] / (0.9 * margin), rtol=1e-12, atol=0.0)
    assert_close(columns["leverage"], [6.0, 7.5], rtol=1e-12, atol=0.0)


def test_the_smile_is_read_at_each_strike():
    names = ("WETH-30D-2700-P", "WETH-30D-3300-C", "WETH-PERP")
    venue = options(
        accounts(3), ASSETS, instruments=names, prices=PRICES, settlement="USDC",
        overrides=VOLATILITY,
    )  # fmt: skip
    expected = 0.8 - 0.2 * np.log([0.9, 1.1, 1.0])
    assert_close(slot_of(venue).opening_volatility, expected, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"instruments": ("WETH-7D-3000-C",)}, "an option"),
        ({"instruments": ("WETH-7D-FUT",)}, "a future; this venue has perpetuals only"),
        ({"overrides": {}}, "WETH.options.maintenance_margin: missing"),
        ({"overrides": {"WETH": {"maintenance": 0.1}}}, "no such parameter maintenance"),
        ({"overrides": {"WETH": {**TIERS, "tier_2_maintenance_margin": 0.01}}}, "tier 2: rate"),
        ({"target": 0.5}, "expected at least trigger"),
        ({"trigger": 0.0}, "expected a positive number"),
        ({"largest": 0.0}, "expected a fraction"),
        ({"fee": 1.0}, "expected a fraction"),
        ({"behind": "winner"}, "expected one of winners"),
        ({"behnd": "winners"}, "no such option behnd"),
        ({"haircut": 1.0}, "expected a fraction"),
        ({"funding_hours": 0.0}, "expected a positive number"),
        ({"funding_cap": -1.0}, "funding_cap -1: expected at least 0"),
        ({"initial_multiple": 0.5}, "initial_multiple 0.5: expected at least 1"),
        (
            {"overrides": {"WETH": {**TIERS, "tier_3_from": 5e4}}},
            "options.tier_3_maintenance_margin: missing",
        ),
        (
            {
                "overrides": {
                    "WETH": {**TIERS, "tier_3_from": 5e4, "tier_3_maintenance_margin": 0.1}
                }
            },
            "tier 2: cap 50000.0: expected more than the floor",
        ),
        ({"overrides": {"WETH": {**TIERS, "maintenance_margin": -0.02}}}, "expected a fraction"),
        ({"instruments": ("WBTC-PERP",), "overrides": {"WBTC": TIERS}}, "no such asset"),
        ({"book": accounts(1, positions=None)}, "no positions"),
        ({"book": accounts(1, debt=jnp.ones((1, 2)))}, "no debt of their own"),
        ({"book": accounts(1, collateral_assets=(0,))}, "collateral must begin with"),
    ],
)
def test_what_does_not_fit_is_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        perpetual_venue(**changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"price_range": 0.5}, "price_range"),
        ({"initial_multiple": 0.9}, "initial_multiple 0.9: expected at least 1"),
        ({"tail_share": 1.5}, r"tail_share 1.5: expected a number in \[0, 1\]"),
        ({"volatility_up": -0.5}, "volatility_up -0.5: expected at least 0"),
        ({"volatility_down": 1.25}, "volatility_down 1.25: expected a number in"),
        ({"short_margin": -0.01}, "short_margin -0.01: expected a number in"),
        ({"stickiness": 3.0}, "stickiness 3: expected a number in"),
        ({"overrides": {"WETH": {"volatility": -0.8}}}, "volatility = -0.8: expected a positive"),
        ({"overrides": {"WETH": {"volatility": 0.8, "realised": 0.0}}}, "realised = 0: expected"),
        ({"overrides": {}}, "volatility is missing"),
        ({"overrides": {"WETH": {"volatility": 0.8, "vega": 1.0}}}, "no such parameter vega"),
        ({"overrides": {"WETH": {"volatility": 0.1, "skew": 2.0}}}, "below 0.05"),
    ],
)
def test_what_does_not_fit_an_options_venue_is_refused(changes, text):
    given = {"overrides": VOLATILITY, **changes}
    with pytest.raises(ValueError, match=text):
        options(
            accounts(1), ASSETS, instruments=("WETH-30D-2000-P",), prices=PRICES,
            settlement="USDC", **given,
        )  # fmt: skip


ETHER = "USDC,collateral,370334.61", "WETH,collateral,100.0"
WEIGHTS = {"collateral_weight": 0.9, "collateral_2_from": 2e5, "collateral_2_weight": 0.5}


def with_ether(tmp_path, options):
    """Return the example built with the first account's collateral in ether."""
    table = (ROOT / "configs" / "perps_adl_positions.csv").read_text()
    assert table.count(ETHER[0]) == 1
    (tmp_path / "perps_adl_positions.csv").write_text(table.replace(*ETHER))
    (tmp_path / "run.toml").write_text(EXAMPLE.read_text())
    changes = [f"venues.perps.{key}={value!r}" for key, value in options.items()]
    return build(load_config(tmp_path / "run.toml", changes, known_presets=PRESETS))


def test_other_collateral_counts_by_slices_and_is_all_in_the_equity(tmp_path):
    own = {f"assets.WETH.options.{key}": value for key, value in WEIGHTS.items()}
    venue = with_ether(tmp_path, own).system.venues[0]
    assert venue.accounts.collateral_assets == (2, 0)
    (at,) = np.flatnonzero(np.asarray(venue.accounts.collateral)[1])
    columns = account_columns(venue, Market.opening(EXAMPLE_PRICES), np.array([True, True, False]))
    assert_close(columns["collateral_usd"][at], 3e5, rtol=1e-12, atol=0.0)
    lost = columns["equity_usd"][at] - 3e5
    backing = columns["health_factor"][at] * columns["maintenance_margin_usd"][at]
    assert_close(backing - lost, 0.9 * 2e5 + 0.5 * 1e5, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "venues.perps.assets.WETH.options.collateral_weight: missing; accounts post WETH"),
        (
            {"assets.WETH.options.collateral_weight": 0.9}
            | {"assets.WETH.options.collateral_2_from": 1e5},
            r"perps.assets.WETH.options.collateral_2_weight: missing; collateral_2_from goes with",
        ),
        ({"assets.WETH.options.collateral_weight": 1.5}, "WETH, slice 1: weight 1.5: expected one"),
        ({"options.collateral_buffer": -0.1}, "collateral_buffer -0.1: expected a number in"),
        ({"options.collateral_allowance": -1.0}, "collateral_allowance -1: expected at least 0"),
    ],
)
def test_collateral_without_a_proper_weight_is_refused(tmp_path, options, text):
    with pytest.raises(ConfigError, match=text):
        with_ether(tmp_path, options)


def test_the_example_is_built_as_its_table_says():
    built = build(load_config(EXAMPLE, known_presets=PRESETS))
    perps, other = built.system.venues
    assert perps.accounts.positions is not None
    assert perps.accounts.positions.size.shape == (2, 70)
    assert slot_of(other).underlying == (0,) * 4
    assert built.books[0].owner[0] == built.books[1].owner[0] == "o01"
    assert any("market orders" in text for text in built.assumptions)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("USDC,collateral,370334.61", "USDC,debt,370334.61", "no debt of their own"),
        ("WBTC-PERP,long,10.6063,93233.67", "WBTC,long,10.6063,93233.67", "no contract"),
        ("WBTC-PERP,long,10.6063,93233.67", "WBTC-90000-C,long,1,", "has no expiry"),
        ("WETH-30D-2700-P,short,14.79", "WETH-30D-P,short,14.79", "'WETH-30D-P' has no strike"),
        ("WETH-30D-2700-P,short,14.79", "WETH-0D-2700-P,short,14.79", "expires at the start"),
        ("WETH-30D-2700-P,short,14.79", "WETH-30D-0-P,short,14.79", "must be positive"),
    ],
)
def test_books_that_are_none_of_contracts_are_refused(tmp_path, old, new, text):
    table = (ROOT / "configs" / "perps_adl_positions.csv").read_text()
    assert table.count(old) == 1
    (tmp_path / "perps_adl_positions.csv").write_text(table.replace(old, new))
    (tmp_path / "run.toml").write_text(EXAMPLE.read_text())
    with pytest.raises(DataError, match=rf"perps_adl_positions.csv: venue \w+: account .*{text}"):
        build(load_config(tmp_path / "run.toml", known_presets=PRESETS))


def test_a_venue_of_contracts_needs_its_settlement_currency(tmp_path):
    with pytest.raises(ConfigError, match="settlement"):
        build(load_config(EXAMPLE, ["venues.perps.options={fee=0.005}"], known_presets=PRESETS))
