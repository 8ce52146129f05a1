"""Contracts on margin in a run's snapshot: the liquidation map, and owners over all venues."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.market.state import Market
from jaxrisk.measure.exposure import liquidation_table
from jaxrisk.measure.owner import account_exposure, owner_table
from jaxrisk.run.build import build
from jaxrisk.run.columns import check_columns
from jaxrisk.run.load import load_config
from jaxrisk.run.summary import liquidation_map_table, owners_table
from jaxrisk.system.execution import play_of
from jaxrisk.system.system import System
from jaxrisk.venue.presets import PRESETS
from jaxrisk.venue.presets.options import options
from jaxrisk.venue.venue import Venue
from tests import margin_systems
from tests.conftest import ROOT
from tests.helpers import assert_close
from tests.test_margin_presets import ASSETS, PRICES, VOLATILITY, accounts, perpetual_venue

CHANGES = (-0.4, -0.2, -0.16, 0.0, 0.02, 0.1, 0.3)
EXAMPLE = ROOT / "configs" / "basis_trade.toml"


def system_of(*venues: Venue) -> System:
    """Return a system of the venues; the snapshot looks at no more than them and the market."""
    market = Market.opening(PRICES)
    return dataclasses.replace(margin_systems.random_system(1), market=market, venues=venues)


def loops(change: float) -> np.ndarray:
    """Return debt, notional, collateral and losses of those called: a long of 10, a short of 50."""
    price, found = 3000.0 * (1.0 + change), np.zeros(4)
    for size, collateral in ((10.0, 5e3), (-50.0, 2e4)):
        notional = abs(size) * price
        equity = collateral + size * (price - 3000.0)
        margin = 0.02 * min(notional, 1e5) + 0.04 * max(notional - 1e5, 0.0)
        if equity < margin:
            found += (0.0, notional, collateral, max(-equity, 0.0))
    return found


def test_the_map_of_contracts_agrees_with_loops():
    system = system_of(perpetual_venue())
    table = liquidation_table(system, CHANGES, np.array([True, False]))
    check_columns("liquidation_map", table)
    assert list(dict.fromkeys(table["asset"])) == ["WETH", "USDC", "all"]
    names = ("debt", "notional", "collateral")
    for asset in ("WETH", "all"):
        rows = table["asset"] == asset
        columns = [table[f"liquidatable_{name}_usd"][rows] for name in names]
        found = np.column_stack([*columns, table["bad_debt_usd"][rows]])
        expected = [loops(change) for change in CHANGES]
        assert_close(found, expected, rtol=1e-12, atol=1e-9)
    # The long is called by a fall, the short by a rise, and one of them at each end owes.
    called = table["liquidatable_notional_usd"][table["asset"] == "WETH"] > 0
    assert called.tolist() == [True, True, True, False, False, False, True]
    assert (table["bad_debt_usd"][table["asset"] == "WETH"][[0, -1]] > 0).all()


def test_volatilities_move_with_the_price_in_the_map():
    """A seller of puts is called by a smaller fall where fear comes with it."""
    size = jnp.asarray([[10.0, -50.0]])

    def called(beta: float) -> np.ndarray:
        book = accounts(1)
        assert book.positions is not None
        book = dataclasses.replace(book, positions=dataclasses.replace(book.positions, size=size))
        venue = options(
            book, ASSETS, instruments=("WETH-30D-2700-P",), prices=PRICES, settlement="USDC",
            overrides={"WETH": {**VOLATILITY["WETH"], "beta": beta}},
        )  # fmt: skip
        table = liquidation_table(system_of(venue), CHANGES, np.array([True, False]))
        return table["bad_debt_usd"][table["asset"] == "WETH"]

    calm, afraid = called(0.0), called(-2.0)
    assert afraid[0] > calm[0] > 0
    assert_close(afraid[3], calm[3], rtol=0.0, atol=0.0)


@pytest.mark.slow
def test_vega_belongs_to_the_exposure_where_volatilities_follow_the_price():
    def exposure(beta: float) -> float:
        venue = options(
            accounts(1), ASSETS, instruments=("WETH-30D-3000-C",), prices=PRICES,
            settlement="USDC", overrides={"WETH": {"volatility": 0.8, "beta": beta}},
        )  # fmt: skip
        return float(account_exposure(venue, jnp.asarray([3000.0, 1.0]))[0, 0])

    # 10 calls: vega S phi(d1) sqrt(T) a unit of volatility, which moves by beta 0.8 a log price.
    root = np.sqrt(30.0 / 365.0)
    d1 = 0.5 * 0.8 * root
    vega = 3000.0 * np.exp(-0.5 * d1**2) / np.sqrt(2.0 * np.pi) * root
    found = exposure(-1.5) - exposure(0.0)
    assert found == pytest.approx(-1.5 * 0.8 * vega * 10.0, rel=1e-9)


@pytest.mark.slow
def test_a_run_over_two_venues_has_owners_and_contracts_in_its_tables():
    built = build(load_config(EXAMPLE, known_presets=PRESETS))
    owners = owners_table(built)
    assert owners is not None
    check_columns("owners", owners)
    assert (owners["venues"] == 2).any()
    hedged = owners["venues"] == 2
    netted = owners["net_exposure_usd"] / owners["gross_exposure_usd"]
    assert (netted <= 1.0 + 1e-12).all()
    assert netted[hedged].min() < 0.5 < netted[~hedged].min()
    table = liquidation_map_table(built)
    check_columns("liquidation_map", table)
    margined = [venue.name for venue in built.system.venues if play_of(venue).margin is not None]
    for venue in built.system.venues:
        rows = table["venue"] == venue.name
        some = table["liquidatable_notional_usd"][rows]
        assert bool((some > 0).any()) == (venue.name in margined)
    nobody = [dataclasses.replace(book, owner=("",) * len(book.owner)) for book in built.books]
    assert owners_table(dataclasses.replace(built, books=tuple(nobody))) is None
    assert len(owner_table(built.system, [b.owner for b in nobody])["owner"]) == sum(
        len(book.owner) for book in built.books
    )
