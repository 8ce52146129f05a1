"""Exchanges as a configuration sees them: tables of tiers, options, refusals, small runs."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from jaxrisk.errors import ConfigError
from jaxrisk.run.build import build, input_files
from jaxrisk.run.load import load_config
from jaxrisk.system.margin_book import slot_of
from jaxrisk.venue.margin_tiers import MarginTiers, SlabTiers
from jaxrisk.venue.notional_margin import NotionalMargin
from jaxrisk.venue.presets import PRESETS
from tests.command_line import calls_here, table
from tests.helpers import assert_close

HEAD = """
[run]
scenarios = 64
steps = 4
seed = 2
confidences = [0.9]
output = "out"
[book]
positions = "positions.csv"
[market]
model = "gbm"
[assets.BTC]
price = 60000.0
volatility = 1.2
depth_usd = 2e7
[assets.USDT]
price = 1.0
volatility = 0.001
depth_usd = 1e9
[sensitivities]
parameters = []
[report]
fan_scenarios = 8
"""
TABLE = (
    "symbol,tier,min_notional,max_notional,maintenance_margin_rate,max_leverage\n"
    "BTCUSDT,1,0,100000,0.005,100\nBTCUSDT,2,100000,1e9,0.01,50\n"
)
OWN = "[venues.x.assets.BTC.options]\nmaintenance_margin = 0.005\n"
symbol = lambda name: f'[venues.x.assets.BTC]\nsymbol = "{name}"\n'
VENUES = {
    "binance_usdm": ("USDT", "options.clearance_fee = 0.002\n", symbol("BTCUSDT")),
    "bybit": ("USDT", "options.funding_cap = 0.005\n", OWN),
    "okx": (
        "USDT",
        "options.funding_cap = 0.005\noptions.contract_value = 1.0\n",
        symbol("ADA-USDT-SWAP"),
    ),
    "hyperliquid": ("USDT", "options.vault_hours = 2\n", ""),
    "dydx_v4": ("USDT", "", symbol("large_cap")),
    "drift_v2": (
        "USDT",
        "options.liquidator_fee = 0.005\noptions.insurance_fee = 0.005\n",
        OWN + "size_factor = 0.0001\n",
    ),
    "binance_coinm": ("BTC", "", symbol("BTCUSD")),
    "bitmex": ("BTC", "", symbol("XBTUSD")),
}
FACE = {"binance_coinm": 100.0, "bitmex": 1.0}


def write(folder: Path, preset: str, *, options=None, tail=None) -> Path:
    """Return a configuration of one exchange with six accounts of 8 to 80 times leverage."""
    settlement, own, assets = VENUES[preset]
    rows = ["account_id,venue,asset,side,amount"]
    for i, leverage in enumerate((8, 20, 35, 50, 65, 80)):
        margin = 3e5 / leverage
        contracts = 3e5 / FACE.get(preset, 60000.0)
        posted = margin / 60000.0 if settlement == "BTC" else margin
        rows.append(f"a{i},x,{settlement},collateral,{posted!r}")
        rows.append(f"a{i},x,BTC-PERP,{'long' if i % 2 else 'short'},{contracts!r}")
    (folder / "positions.csv").write_text("\n".join(rows) + "\n")
    (folder / "tiers.csv").write_text(TABLE)
    path = folder / "exchange.toml"
    path.write_text(
        f'{HEAD}[venues.x]\npreset = "{preset}"\ninsurance_usd = 1000.0\n'
        f'options.settlement = "{settlement}"\n'
        + (own if options is None else options)
        + (assets if tail is None else tail)
    )
    return path


def built_from(path: Path):
    return build(load_config(path, known_presets=PRESETS)).system.venues[0]


def tiers_of(path: Path):
    requirement = slot_of(built_from(path)).requirement
    assert isinstance(requirement, NotionalMargin)
    assert isinstance(requirement.tiers, MarginTiers | SlabTiers)
    return requirement.tiers


def test_tiers_are_those_shipped_those_of_a_table_or_those_stated(tmp_path):
    shipped = tiers_of(write(tmp_path, "binance_usdm"))
    assert_close(shipped.rate[:2, 0], [0.004, 0.005], rtol=1e-12, atol=0.0)
    named = 'options.clearance_fee = 0.002\nmargin_tiers = "tiers.csv"\n'
    read = tiers_of(path := write(tmp_path, "binance_usdm", options=named))
    assert_close(read.rate[:, 0], [0.005, 0.01], rtol=1e-12, atol=0.0)
    assert_close(read.floor[:, 0], [0.0, 1e5], rtol=1e-12, atol=0.0)
    files = input_files(load_config(path, known_presets=PRESETS))
    assert [file.name for file in files] == ["positions.csv", "tiers.csv"]
    stated = tiers_of(write(tmp_path, "binance_usdm", options=named, tail=OWN))
    assert_close(stated.rate[:, 0], [0.005], rtol=1e-12, atol=0.0)


def test_coins_are_settled_in_themselves(tmp_path):
    venue = built_from(write(tmp_path, "binance_coinm"))
    slot = slot_of(venue)
    assert_close(slot.opening_forward, [60000.0], rtol=1e-12, atol=0.0)
    assert_close(slot.contracts.multiplier, [100.0], rtol=1e-12, atol=0.0)
    assert (np.asarray(slot.contracts.inverse) > 0).all()


REFUSED = {
    "no tiers": (
        {"preset": "binance_usdm", "tail": ""},
        ("venues.x.assets.BTC.options.maintenance_margin: missing", "symbol to one of BTCUSDT"),
    ),
    "no table": ({"preset": "bybit", "tail": ""}, ("maintenance_margin: missing", "margin_tiers")),
    "no cap": ({"preset": "bybit", "options": ""}, ("venues.x.options.funding_cap: missing",)),
    "unknown kind": (
        {"preset": "bybit", "options": 'options.funding_cap = 0.01\noptions.kind = "quanto"\n'},
        ("venues.x", "kind 'quanto': expected one of linear, inverse"),
    ),
    "a text for a number": (
        {"preset": "okx", "options": 'options.funding_cap = "high"\n'},
        ("venues.x.options.funding_cap: expected a number, got 'high'",),
    ),
    "a percentage": (
        {"preset": "okx", "options": "options.funding_cap = 1.0\noptions.liquidation_fee = 5\n"},
        ("liquidation_fee 5: expected a number in [0, 0.5]",),
    ),
    "negative time": (
        {"preset": "hyperliquid", "options": "options.vault_hours = -1\n"},
        ("vault_hours -1: expected at least 0",),
    ),
    "no block": (
        {"preset": "dydx_v4", "options": "options.block_seconds = 0\n"},
        ("block_seconds 0: expected at least 0.001",),
    ),
    "no fee": (
        {"preset": "drift_v2", "options": ""},
        ("venues.x.options.liquidator_fee: missing", "venues.x.options.insurance_fee: missing"),
    ),
    "no margin": (
        {"preset": "drift_v2", "tail": ""},
        ("venues.x: BTC: maintenance_margin is missing",),
    ),
    "margin above notional": (
        {"preset": "drift_v2", "tail": OWN.replace("0.005", "1.5")},
        ("assets.BTC.options.maintenance_margin: 1.5, expected a fraction in (0, 1)",),
    ),
    "less initially": (
        {"preset": "drift_v2", "tail": OWN + "initial_margin = 0.001\n"},
        ("assets.BTC.options.initial_margin: 0.001, expected at least 0.005",),
    ),
    "misspelt": (
        {"preset": "binance_usdm", "options": "options.clearence_fee = 0.01\n"},
        ("venues.x.options.clearence_fee", "clearance_fee"),
    ),
    "no face": (
        {"preset": "binance_coinm", "options": "options.face = 0\n"},
        ("face 0: expected at least 1e-09",),
    ),
    "half a tier": (
        {"preset": "binance_usdm", "tail": OWN + "tier_2_from = 1e5\n"},
        ("assets.BTC.options.tier_2_maintenance_margin: missing for tier 2",),
    ),
    "tiers that fall": (
        {
            "preset": "binance_usdm",
            "tail": OWN + "tier_2_from = 1e5\ntier_2_maintenance_margin = 0.001\n",
        },
        ("BTC-PERP, tier 2: rate 0.001: expected more than 0.005",),
    ),
    "a further tier alone": (
        {
            "preset": "binance_usdm",
            "tail": "[venues.x.assets.BTC.options]\ntier_2_from = 1e5\n",
        },
        ("maintenance_margin: missing for the first tier",),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_by_its_key(case, tmp_path):
    given, words = REFUSED[case]
    path = write(tmp_path, **given)
    with pytest.raises(ConfigError) as refused:
        build(load_config(path, known_presets=PRESETS))
    for word in words:
        assert word in str(refused.value)


def test_a_contract_on_another_coin_is_refused(tmp_path):
    path = write(tmp_path, "bitmex")
    path.write_text(path.read_text().replace('settlement = "BTC"', 'settlement = "USDT"'))
    book = tmp_path / "positions.csv"
    book.write_text(book.read_text().replace("BTC,collateral", "USDT,collateral"))
    with pytest.raises(ConfigError, match="BTC: its contract is settled in BTC; expected"):
        build(load_config(path, known_presets=PRESETS))


def test_tables_are_for_venues_that_look_them_up(tmp_path):
    text = write(tmp_path, "binance_usdm").read_text()
    for line in ('margin_tiers = "tiers.csv"', 'assets.BTC.symbol = "BTCUSDT"'):
        path = tmp_path / "other.toml"
        head = text.partition("[venues.x]")[0]
        path.write_text(
            f'{head}[venues.x]\npreset = "options"\n{line}\noptions.settlement = "USDT"\n'
        )
        key = line.split(" ")[0]
        with pytest.raises(ConfigError, match=f"venues.x.{key}: preset options has no table"):
            build(load_config(path, known_presets=PRESETS))


@pytest.fixture(name="call")
def fixture_call(monkeypatch, capsys):
    yield from calls_here(monkeypatch, capsys)


def test_a_table_without_the_contract_is_refused_with_file_and_remedy(call, tmp_path):
    path = write(tmp_path, "binance_usdm", options='margin_tiers = "tiers.csv"\n', tail="")
    ended = call("validate", path)
    assert ended.code == 3
    assert 'tiers.csv: symbol: no contract "BTC"; expected one of BTCUSDT' in ended.err


@pytest.mark.slow
@pytest.mark.parametrize("preset", VENUES)
def test_an_exchange_runs_from_the_command_line(preset, call, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    ended = call("run", write(tmp_path, preset))
    assert ended.code == 0, ended.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary
    found = table(tmp_path / "out")
    assert found["conservation_error_frac"].max() < 1e-9
    assert found["liquidated_x_usd"].max() > 0
    assert found["liquidated_x_usd"].min() >= 0
    assert all(math.isfinite(x) for x in found["bad_debt_x_usd"])
