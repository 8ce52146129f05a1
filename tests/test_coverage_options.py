"""Staked coverage as a configuration names it: funds and their order, refusals, what a run says."""

import json

import pytest

from jaxrisk.errors import ConfigError
from jaxrisk.run.build import build
from jaxrisk.run.columns import column
from jaxrisk.run.load import load_config
from jaxrisk.venue.presets import PRESETS
from jaxrisk.venue.staked_coverage import StakedCoverage
from jaxrisk.venue.waterfall import Capacity
from tests.command_line import CONFIG, table, write_project
from tests.helpers import assert_close

COVERED = CONFIG.replace(
    "[venues.pool.assets.WETH]",
    """[venues.pool.coverage.USDC]
stake = 1500.0
offset = 50.0
fee = 0.1
slashable = 0.8

[venues.pool.coverage.WETH]
stake = 4.0
asset = "wstETH"

[venues.pool.assets.WETH]""",
)
DOLLARS, ETHER = "staker coverage (USDC)", "staker coverage (WETH)"


@pytest.fixture
def written(tmp_path):
    """Write a configuration into a folder of its own."""
    return lambda config: write_project(tmp_path / "project", config=config)


def test_stakes_stand_between_reserve_and_insurance(written):
    system = build(load_config(written(COVERED), [], known_presets=PRESETS)).system
    venue = system.venues[0]
    assert venue.fund_names == ("reserve", DOLLARS, ETHER, "insurance")
    assert venue.funds.tolist() == [0.0, 1500.0, 4.0, 5000.0]
    first, dollars, ether, last = venue.waterfall
    assert isinstance(first, Capacity)
    assert isinstance(last, Capacity)
    assert isinstance(dollars, StakedCoverage)
    assert isinstance(ether, StakedCoverage)
    name = system.assets.index
    for rule, covered, staked in ((dollars, "USDC", "USDC"), (ether, "WETH", "wstETH")):
        assert (rule.covered, rule.staked) == (name(covered), name(staked))
        assert venue.accounts.debt_assets[rule.row] == name(covered)
    # A stake of no other asset is deposits of the pool itself.
    assert (dollars.pool_share, ether.pool_share) == (True, False)
    terms = [float(x) for x in (dollars.offset, dollars.fee, dollars.kept)]
    assert_close(terms, [50.0, 0.1, 300.0], rtol=1e-12, atol=0.0)
    assert [float(x) for x in (ether.offset, ether.fee, ether.kept)] == [0.0, 0.0, 0.0]


REFUSED = {
    "an asset nobody owes": (
        COVERED.replace("coverage.WETH]", "coverage.WBTC]"),
        r"venues.pool.coverage.WBTC: the book owes none of it, .* drop it",
    ),
    "more than is supplied": (
        COVERED.replace("stake = 1500.0", "stake = 1e13"),
        r"coverage.USDC.stake = 1e\+13 is more than the .* supplied .* raise available_liquidity",
    ),
    "an unknown asset": (
        COVERED.replace('asset = "wstETH"\n\n', 'asset = "wstEHT"\n\n'),
        r"venues.pool.coverage.WETH.asset.*did you mean wstETH\?",
    ),
    "an unknown covered asset": (
        COVERED.replace("coverage.USDC]", "coverage.USCD]"),
        r"venues.pool.coverage.USCD.*did you mean USDC\?",
    ),
    "a fee in percent": (
        COVERED.replace("fee = 0.1", "fee = 10"),
        r"venues.pool.coverage.USDC.fee = 10: expected a fraction .* did you mean 0.1\?",
    ),
    "a preset without": (
        CONFIG + "\n[venues.blue.coverage.USDC]\nstake = 1.0\n",
        r"venues.blue.coverage: preset morpho_blue has no staked coverage; drop it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_says_why(written, case):
    config, message = REFUSED[case]
    assert config not in (CONFIG, COVERED)
    with pytest.raises(ConfigError, match=message):
        build(load_config(written(config), [], known_presets=PRESETS))


@pytest.mark.slow
def test_a_run_names_the_stakers_and_what_they_lost(call, written):
    path = written(COVERED)
    run = path.parent / "run"
    ended = call("run", path, "--out", run, "--json")
    assert ended.code == 0, ended.err
    summary, scenarios = json.loads(ended.out), table(run, "scenarios")
    bearers = {r["bearer"]: r for r in summary["bearers"] if r["venue"] == "pool"}
    names = ["reserve", DOLLARS, ETHER, "insurance", "suppliers (deficit carried)"]
    assert list(bearers) == names
    assert bearers[DOLLARS]["mean_usd"] > 0.0
    assert DOLLARS in (run / "report.html").read_text(encoding="utf-8")
    borne = sum(row["mean_usd"] for row in bearers.values())
    paid, fee = (f"{x}_pool_usd" for x in ("staker_coverage_usdc", "slash_fee"))
    assert_close(borne, scenarios["bad_debt_pool_usd"].mean(), rtol=1e-9, atol=0.0)
    # A stake of 1,500 of which four fifths go, with the fee; dollars trade near one.
    assert (scenarios[paid] <= 1.02 * 1200.0 / 1.1).all()
    assert_close(scenarios[fee], 0.1 * scenarios[paid], rtol=1e-2, atol=1e-6)
    assert "usdc" in column("scenarios", paid).meaning
    assert any("stakers stay" in text for text in summary["assumptions"])
