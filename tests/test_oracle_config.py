"""Oracles of a configuration: what each key builds, what a run says of it, what is refused."""

import numpy as np
import pytest

from jaxrisk import root_key, simulate
from jaxrisk.errors import ConfigError
from jaxrisk.market.oracle import AverageOracle, DeviationOracle, SpotOracle, opening_prices
from jaxrisk.market.oracle_overlay import (
    CappedOracle,
    FaceValueOracle,
    GrowthCapOracle,
    PrintOracle,
)
from jaxrisk.run.build import build
from jaxrisk.run.load import load_config, located
from tests.helpers import assert_close

CONFIG = """
name = "oracles"
[run]
scenarios = 4
steps = 24
step_hours = 0.5
[book]
positions = "positions.csv"
[market]
model = "shock"
[market.shock]
falls = { WETH = 0.3 }
hours = 6.0
[assets.WETH]
price = 2000.0
depth_usd = 1e7
[assets.wstETH]
peg = "WETH"
ratio = 1.2
depth_usd = 1e7
[assets.USDC]
price = 1.0
depth_usd = 1e8
[venues.one]
preset = "morpho_blue"
collateral = "wstETH"
loan = "USDC"
liquidation_loan_to_value = 0.86
"""
POSITIONS = """account_id,venue,asset,side,amount
a,one,wstETH,collateral,10
a,one,USDC,debt,18000
b,one,wstETH,collateral,10
b,one,USDC,debt,9000
"""


def built(tmp_path, keys, change=lambda text: text):
    """Return the venue's oracle and what the run says of oracles."""
    (tmp_path / "positions.csv").write_text(POSITIONS, encoding="utf-8")
    path = tmp_path / "run.toml"
    path.write_text(change(CONFIG + keys + "\n"), encoding="utf-8")
    config = load_config(path)
    try:
        made = build(config)
    except ConfigError as error:
        raise ConfigError(located(path, [], error.problems)) from error
    (said,) = (line for line in made.assumptions if line.startswith("oracles: "))
    return made.system.venues[0].oracle, made.system.market, said


def test_every_key_of_an_oracle_is_built_and_said(tmp_path):
    oracle, market, said = built(
        tmp_path,
        'oracle = "deviation"\noracle_deviation = 0.005\noracle_heartbeat_hours = 24.0\n'
        "oracle_rate_delay_hours = 6.0\n"
        "oracle_growth_cap = 0.0968\noracle_ceilings = { USDC = 1.04 }\n"
        "oracle_prices = { wstETH = 2500.0 }\n"
        "oracle_prints = { WETH = { change = 0.3, hour = 2.0, hours = 1.0 } }",
    )
    assert_close(opening_prices(oracle, market), [2000.0, 2500.0, 1.0], rtol=1e-14, atol=0.0)
    outer = oracle
    while not isinstance(outer, PrintOracle):
        assert isinstance(outer, FaceValueOracle | CappedOracle | GrowthCapOracle)
        outer = outer.others
    oracle = outer
    # Steps of half an hour: hours 2 to 3 are steps 5 and 6.
    assert oracle.first.tolist() == [5.0, np.inf, np.inf]
    assert oracle.last.tolist() == [6.0, 0.0, 0.0]
    for text in (
        "publishes on moves of 0.50% and after 24 h at the latest", "grow by at most 9.7% a year",
        "ratios 6 h late",
        "USDC at most 1.04 USD", "wstETH hard-coded at 2500 USD", "WETH +30% for 1 h from hour 2",
    ):  # fmt: skip
        assert text in said


def test_a_false_price_of_an_underlying_is_seen_of_what_is_seen_through_it(tmp_path):
    keys = "oracle_prints = { WETH = { change = 0.5 } }"
    oracle, *_ = built(tmp_path, f'oracle = "exchange_rate"\n{keys}')
    assert isinstance(oracle, PrintOracle)
    assert oracle.factor.tolist() == [1.5, 1.5, 1.0]
    oracle, *_ = built(tmp_path, keys)
    assert isinstance(oracle, PrintOracle)
    assert oracle.factor.tolist() == [1.5, 1.0, 1.0]


def test_times_are_taken_in_whole_steps(tmp_path):
    oracle, *_ = built(tmp_path, 'oracle = "average"\noracle_window_hours = 1.2')
    assert isinstance(oracle, AverageOracle)
    assert oracle.steps == 3
    keys = 'oracle = "deviation"\noracle_deviation = 0.01\noracle_heartbeat_hours = 6.0'
    oracle, *_ = built(tmp_path, keys)
    assert isinstance(oracle, DeviationOracle)
    assert oracle.heartbeat is not None
    assert float(oracle.heartbeat) == 12.0


def test_a_discount_opens_below_the_peg(tmp_path):
    keys = "oracle_discounts = { wstETH = { rate = 0.1, maturity_days = 73.0 } }"
    oracle, market, said = built(tmp_path, keys)
    assert_close(opening_prices(oracle, market), [2000.0, 2000.0 * 0.98, 1.0], rtol=1e-12, atol=0.0)
    assert "wstETH 10.0% a year below its peg until maturity" in said


@pytest.mark.slow
def test_a_venue_plays_with_every_key_at_once(tmp_path):
    (tmp_path / "positions.csv").write_text(POSITIONS, encoding="utf-8")
    path = tmp_path / "run.toml"
    keys = (
        'oracle = "average"\noracle_window_hours = 2.0\noracle_growth_cap = 0.05\n'
        "oracle_ceilings = { USDC = 1.0 }\noracle_prints = { WETH = { change = -0.4 } }\n"
    )
    path.write_text(CONFIG + keys, encoding="utf-8")
    system = build(load_config(path)).system
    end = simulate(system, root_key(0), scenarios=2, steps=24, step_years=0.5 / 8760.0)
    # Loan to value 0.75 of 0.86: 40 % off is a call at once.
    assert (np.asarray(end.liquidated) > 0).all()
    assert float(end.conservation_error.max()) < 1e-9


def test_without_keys_the_venue_sees_the_market(tmp_path):
    oracle, _, said = built(tmp_path, "")
    assert isinstance(oracle, SpotOracle)
    assert said == "oracles: one spot"


UNPEGGED = ('peg = "WETH"\nratio = 1.2', "price = 2400.0")


@pytest.mark.parametrize(
    ("keys", "peg", "text"),
    [
        ('oracle = "exchange_rate"', False, "venues.one.oracle: oracle without a source"),
        (
            "oracle_rate_delay_hours = 1.0",
            False,
            "one.oracle_rate_delay_hours: oracle without",
        ),
        ("oracle_growth_cap = 0.1", False, "venues.one.oracle_growth_cap: oracle without a source"),
        (
            "oracle_discounts = { USDC = { rate = 0.1, maturity_days = 73.0 } }",
            True,
            "venues.one.oracle_discounts.USDC: oracle without a source: USDC has no peg",
        ),
        (
            "oracle_prints = { WETH = { change = 0.3, hour = 12.0 } }",
            True,
            r"venues.one.oracle_prints.WETH.hour: 12 is not before the end of the run \(12 hours\)",
        ),
        ("oracle_prints = { WETH = { change = -1.0 } }", True, "oracle_prints.WETH.change"),
        ("oracle_prices = { WSTETH = 1.0 }", True, "no such asset.*did you mean wstETH"),
        ("oracle_ceilings = { USDC = 0.0 }", True, "oracle_ceilings.USDC"),
        ('oracle = "average"', True, 'oracle_window_hours: goes with oracle = "average"'),
        ("oracle_window_hours = 2.0", True, 'goes with oracle = "average", and only so'),
        ("oracle_heartbeat_hours = 2.0", True, 'goes with oracle = "deviation", and only so'),
        ('oracle = "twap"', True, "venues.one.oracle"),
        (
            "oracle_prices = { wstETH = 1.0 }\n"
            "oracle_discounts = { wstETH = { rate = 0.1, maturity_days = 73.0 } }",
            True,
            "wstETH has a discount too; keep one of the two",
        ),
    ],
)
def test_what_cannot_be_seen_is_refused_by_file_and_key(tmp_path, keys, peg, text):
    change = (lambda t: t) if peg else (lambda t: t.replace(*UNPEGGED))
    with pytest.raises(ConfigError, match=text) as caught:
        built(tmp_path, keys, change)
    assert all("run.toml" in problem for problem in caught.value.problems)
