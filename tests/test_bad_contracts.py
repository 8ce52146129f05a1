"""Bad books and terms of contracts: each refusal names file, key or contract, and what to do."""

import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.market.surface import GridSurface
from jaxrisk.run.margin_tiers import read_margin_tiers
from jaxrisk.venue.presets import deribit
from jaxrisk.venue.scenario_grid import Scenarios
from tests.command_line import write_project

CONFIG = """\
[run]
scenarios = 8
steps = 2
output = "out"

[book]
positions = "positions.csv"

[market]
model = "gbm"

[assets.WETH]
price = 3000.0
volatility = 0.8
depth_usd = 2.0e7

[assets.USDC]
price = 1.0
volatility = 0.02
depth_usd = 1.0e8

[venues.options]
preset = "options"

[venues.options.options]
settlement = "USDC"

[venues.options.assets.WETH.options]
volatility = 0.65
skew = -0.25
beta = -1.2
power = 0.4

[venues.perps]
preset = "perpetuals"

[venues.perps.options]
settlement = "USDC"

[venues.perps.assets.WETH.options]
maintenance_margin = 0.02
tier_2_from = 1.0e5
tier_2_maintenance_margin = 0.04
"""

BOOK = """\
account_id,venue,asset,side,amount
a,options,USDC,collateral,100000
a,options,WETH-30D-2700-P,short,10
a,options,WETH-30D-3000-C,short,10
a,options,WETH-30D-3300-C,long,10
b,perps,USDC,collateral,100000
b,perps,WETH-PERP,long,10
"""

OPTION = "WETH-30D-3000-C"

BAD_TERMS = {
    "negative volatility": (
        ("volatility = 0.65", "volatility = -0.65"),
        "venues.options.assets.WETH.options.volatility = -0.65: expected a positive number",
    ),
    "negative power": (
        ("power = 0.4", "power = -0.4"),
        "venues.options.assets.WETH.options.power = -0.4: expected at least 0: implied "
        "volatilities would fall as realised volatility rises",
    ),
    "a smile that rises too fast": (
        ("skew = -0.25", "skew = 4.0"),
        "venues.options.assets.WETH.options.skew: a vertical of the strikes 3000, 3300 at 30 days "
        "is worth less than nothing; bring the skew nearer to 0",
    ),
}

BAD_BOOKS = {
    "no strike": ("WETH-30D-C", "'WETH-30D-C' has no strike; expected a name like WETH-30D-3200-C"),
    "no expiry": (
        "WETH-3000-C",
        "'WETH-3000-C' has no expiry; expected a name like WETH-30D-3000-C",
    ),
    "expired": ("WETH-0D-3000-C", "'WETH-0D-3000-C' expires at the start"),
    "unknown kind": ("WETH-30D-3000-X", "'WETH-30D-3000-X' is no contract; expected a name like"),
    "unknown underlying": ("WTEH-30D-3000-C", '"WTEH" has a position but no price; did you mean'),
}


@pytest.mark.parametrize("case", BAD_TERMS)
def test_terms_that_no_venue_can_have_are_refused_with_their_line(call, tmp_path, case):
    (old, new), text = BAD_TERMS[case]
    assert CONFIG.count(old) == 1
    config = CONFIG.replace(old, new)
    line = next(i for i, at in enumerate(config.splitlines(), 1) if at == new)
    ended = call("validate", write_project(tmp_path, config=config, positions=BOOK))
    assert ended.code == 2, ended.err
    assert f"small.toml:{line}: {text}" in ended.err, ended.err


@pytest.mark.parametrize("case", BAD_BOOKS)
def test_contracts_that_do_not_exist_are_refused_by_name(call, tmp_path, case):
    name, text = BAD_BOOKS[case]
    book = BOOK.replace(OPTION, name)
    ended = call("validate", write_project(tmp_path, config=CONFIG, positions=book))
    assert ended.code == 3, ended.err
    assert "positions.csv" in ended.err
    assert text in ended.err, ended.err


def test_tiers_that_fall_are_refused(call, tmp_path):
    config = CONFIG.replace("tier_2_maintenance_margin = 0.04", "tier_2_maintenance_margin = 0.01")
    ended = call("validate", write_project(tmp_path, config=config, positions=BOOK))
    assert ended.code == 2, ended.err
    assert "small.toml" in ended.err
    assert "venues.perps: WETH-PERP, tier 2: rate 0.01: expected more than 0.02" in ended.err


TIERS = """\
symbol,tier,min_notional,max_notional,maintenance_margin_rate,max_leverage
BTCUSDT,1,0,50000,0.005,100
BTCUSDT,2,50000,100000,0.004,50
"""


def test_a_table_of_tiers_that_fall_is_refused_with_its_contract(tmp_path: Path):
    (tmp_path / "tiers.csv").write_text(TIERS)
    with pytest.raises(Exception, match=r"tiers.csv: BTCUSDT, tier 2: rate 0\.004: expected"):
        read_margin_tiers(tmp_path / "tiers.csv")


def test_a_contract_without_a_standard_margin_is_refused_by_name():
    with pytest.raises(ValueError, match="contract DOGE: expected one of BTC, ETH, SOL_USDC"):
        deribit.futures_margin("DOGE", jnp.float64)


YEARS = jnp.asarray([0.1, 0.2])
STRIKES = jnp.log(jnp.asarray([0.8, 0.9, 1.0, 1.1]))


def surface(volatility, **changes):
    given = {"years": YEARS, "log_moneyness": STRIKES, **changes}
    return GridSurface.checked(volatility=jnp.asarray(volatility), **given)


def test_a_surface_without_arbitrage_is_taken():
    flat = surface(np.full((2, 4), 0.6))
    assert float(flat.volatility(0.0, 0.15)) == pytest.approx(0.6, rel=1e-12)


def test_surfaces_with_arbitrage_are_refused_with_strikes_and_expiry():
    dear = np.full((2, 4), 0.6)
    dear[0, 2] = 0.7
    with pytest.raises(ValueError, match="butterfly") as refused:
        surface(dear)
    assert str(refused.value).count("\n") == 0
    assert "strikes 0.9, 1, 1.1 of the forward at 0.1 years" in str(refused.value)
    assert "lower the volatility of 1 " in str(refused.value)


def test_a_call_that_costs_more_at_a_higher_strike_is_refused():
    with pytest.raises(ValueError, match=re.escape("strikes 1, 1.1 of the forward at 0.2")):
        surface([[0.6] * 4, [0.6, 0.6, 0.6, 1.2]])


def test_a_calendar_is_refused_with_both_expiries():
    falling = np.array([[0.9] * 4, [0.6] * 4])
    with pytest.raises(ValueError, match="calendar") as refused:
        surface(falling)
    lines = str(refused.value).splitlines()
    assert len(lines) == 4
    assert any("strike 0.9 of the forward from 0.1 to 0.2 years" in line for line in lines)


@pytest.mark.parametrize(
    ("volatility", "changes", "text"),
    [
        ([[0.6, 0.6, -0.1, 0.6], [0.6] * 4], {}, "volatility -0.1 at 0.1 years, strike 1 "),
        ([[0.6] * 4, [0.6, np.nan, 0.6, 0.6]], {}, "volatility nan at 0.2 years, strike 0.9 "),
        (np.full((2, 4), 0.6), {"years": jnp.asarray([0.2, 0.1])}, "years .*: expected positive"),
        (np.full((2, 4), 0.6), {"log_moneyness": STRIKES[::-1]}, "log_moneyness .*: expected"),
        (np.full((2, 3), 0.6), {}, r"volatility: shape \(2, 3\), expected \(2, 4\)"),
    ],
)
def test_surfaces_of_numbers_that_mean_nothing_are_refused(volatility, changes, text):
    with pytest.raises(ValueError, match=text):
        surface(volatility, **changes)


MOVES: dict[str, Any] = {"move": [-0.1, 0.0, 0.1], "volatility": [1.0, 0.0, 1.0]}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"move": [-0.1, 0.05, 0.1]}, "no scenario in which nothing moves: .* add one"),
        ({"volatility": [1.0, -1.0, 1.0]}, "no scenario in which nothing moves"),
        ({"move": [-1.0, 0.0, 0.1]}, "scenario 1: move -1: expected above -1"),
        ({"volatility": [1.0, 0.0, 0.5]}, "scenario 3: volatility 0.5: expected -1, 0 or 1"),
        ({"weight": [1.0, 1.0, 1.5]}, re.escape("scenario 3: weight 1.5: expected in [0, 1]")),
        ({"move": [0.0, 0.1]}, r"move: 2 numbers, volatility: 3; expected as many"),
    ],
)
def test_grids_that_are_none_are_refused(changes, text):
    Scenarios.checked(**MOVES)
    with pytest.raises(ValueError, match=text):
        Scenarios.checked(**{**MOVES, **changes})
