"""Configuration: what is accepted, and the text of every refusal."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jaxrisk.errors import ConfigError
from jaxrisk.run.config import Config, config_schema
from jaxrisk.run.load import load_config

PRESETS = ("pooled", "isolated")

GOOD = """\
[run]
scenarios = 2e4

[book]
positions = "positions.csv"

[market]
model = "gbm"
correlation = [
  [1.0, 0.6],
  [0.6, 1.0],
]

[assets.WETH]
price = 3119.0
volatility = 0.75
depth_usd = 4.0e7

[assets.USDC]
price = 1.0
volatility = 0.01
depth_usd = 1.0e9

[assets.wstETH]
peg = "WETH"
ratio = 1.21
basis_volatility = 0.02
depth_usd = 2.0e7

[venues.pool]
preset = "pooled"

[venues.pool.assets.WETH]
loan_to_value = 0.80
liquidation_threshold = 0.83
optimal_utilisation = 0.92
"""

SYNTHETIC = """\
[book.synthetic]
accounts = 5
venue = "pool"
collateral = { WETH = 1.0 }
debt = { USDC = 1.0 }
"""


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "my.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def problems(write):
    """Return the problems of GOOD after replacing one text by another."""

    def problems(old="", new="", *, overrides=()):
        assert old in GOOD
        path = write(GOOD.replace(old, new, 1) if old else GOOD + new)
        with pytest.raises(ConfigError) as caught:
            load_config(path, overrides, known_presets=PRESETS)
        assert caught.value.exit_code == 2
        return [p.replace(f"{path.parent}/", "") for p in caught.value.problems]

    return problems


def test_good_file_fills_defaults_and_resolves_inputs(write):
    path = write(GOOD)
    config = load_config(path, known_presets=PRESETS)
    assert config.name == "my"
    assert config.run.scenarios == 20_000
    assert config.run.output == Path("runs/my")
    assert config.book.positions == path.parent / "positions.csv"
    assert list(config.assets) == ["WETH", "USDC", "wstETH"]
    assert config.market.correlation == ((1.0, 0.6), (0.6, 1.0))
    assert config.venues["pool"].assets["WETH"].liquidation_threshold == 0.83


def test_overrides_parse_toml_values_and_short_forms_go_to_run(write):
    overrides = [
        "scenarios=7",
        "run.device=cpu",
        "assets.WETH.volatility=0.9",
        "run.confidences=[0.9]",
        "name=a = b",
    ]
    config = load_config(write(GOOD), overrides)
    assert config.run.scenarios == 7
    assert config.run.device == "cpu"
    assert config.assets["WETH"].volatility == 0.9
    assert config.run.confidences == (0.9,)
    assert config.name == "a = b"


def test_naive_start_is_utc(write):
    text = GOOD.replace('model = "gbm"', 'model = "replay"\nhistory = "p.csv"\nstart = 2025-10-10')
    start = load_config(write(text)).market.start
    assert start == datetime(2025, 10, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "[book]",
            '[impact]\nkind = "concentrated"\nrange_liquidity = [0.0]\n[book]',
            "my.toml:6: impact.range_liquidity[0] = 0.0: expected a number above 0",
        ),
        (
            "[book]",
            '[impact]\nkind = "concentrated"\n[book]',
            'my.toml:4: impact.range_ends: missing; needed by kind = "concentrated"',
        ),
        (
            "[book]",
            "[impact]\nrange_ends = [0.1]\n[book]",
            "my.toml:4: impact.range_liquidity: expected 2 numbers, one for each range",
        ),
        (
            "[book]",
            "[keeper]\ncapital_usd = 1e6\n[book]",
            "my.toml:4: keeper.capital_half_life_hours: goes with capital_usd, and only so: "
            "give both",
        ),
        (
            "[book]",
            "[keeper]\ncost_usd = 0.0\ncongestion = 0.1\n[book]",
            "my.toml:6: keeper.congestion = 0.1: raises a cost of 0; give cost_usd",
        ),
        (
            "[book]",
            "[keeper]\nlatency_steps = -1\n[book]",
            "my.toml:5: keeper.latency_steps = -1: expected a whole number not below 0",
        ),
        (
            "liquidation_threshold = 0.83",
            "liquidation_threshold = 83",
            "my.toml:35: venues.pool.assets.WETH.liquidation_threshold = 83: "
            "expected a fraction in (0, 1]; did you mean 0.83?",
        ),
        (
            "liquidation_threshold",
            "liq_treshold",
            "my.toml:35: venues.pool.assets.WETH.liq_treshold: "
            "unknown key. Did you mean liquidation_threshold?",
        ),
        (
            "scenarios = 2e4",
            "scenaros = 2e4",
            "my.toml:2: run.scenaros: unknown key. Did you mean scenarios?",
        ),
        ("[run]\n", "steps = 4\n[run]\n", "my.toml:1: steps: unknown key. Did you mean run.steps?"),
        (
            "scenarios = 2e4",
            "scenarios = 2.5",
            "my.toml:2: run.scenarios = 2.5: expected a whole number",
        ),
        (
            "scenarios = 2e4",
            "scenarios = 0",
            "my.toml:2: run.scenarios = 0: expected a whole number not below 1",
        ),
        (
            "scenarios = 2e4",
            "confidences = [0.95, 99]",
            "my.toml:2: run.confidences[1] = 99: expected a fraction in (0.5, 1); "
            "did you mean 0.99?",
        ),
        (
            "scenarios = 2e4",
            'device = "gpuu"',
            'my.toml:2: run.device = "gpuu": expected one of auto, cpu, gpu; did you mean gpu?',
        ),
        (
            "volatility = 0.75",
            "volatility = 75",
            "my.toml:16: assets.WETH.volatility = 75: "
            "expected a fraction per square-root year in [0, 5]; did you mean 0.75?",
        ),
        (
            "volatility = 0.75",
            "volatility = nan",
            "my.toml:16: assets.WETH.volatility = NaN: "
            "expected a fraction per square-root year in [0, 5]",
        ),
        (
            "volatility = 0.75\n",
            "",
            'my.toml:14: assets.WETH.volatility: missing; needed by model = "gbm" '
            "(0.75 for 75 % a year)",
        ),
        (
            "price = 3119.0",
            'price = "3,119.0"',
            'my.toml:15: assets.WETH.price = "3,119.0": "3,119.0" is not a number '
            "(thousands separator?). Use 3119.0.",
        ),
        (
            "price = 3119.0",
            "price = -1",
            "my.toml:15: assets.WETH.price = -1: expected a number above 0",
        ),
        (
            "price = 3119.0\n",
            "",
            "my.toml:14: assets.WETH.price: missing; give the price in USD, or peg and ratio",
        ),
        (
            "ratio = 1.21\n",
            "",
            "my.toml:24: assets.wstETH.ratio: a pegged asset needs price (USD) or ratio "
            "(in WETH), and not both",
        ),
        (
            'peg = "WETH"',
            'peg = "WEHT"',
            'my.toml:25: assets.wstETH.peg = "WEHT": expected one of WETH, USDC, wstETH; '
            "did you mean WETH?",
        ),
        (
            'peg = "WETH"',
            'peg = "wstETH"',
            'my.toml:25: assets.wstETH.peg = "wstETH": an asset cannot be pegged to itself',
        ),
        (
            'preset = "pooled"',
            'preset = "poled"',
            'my.toml:31: venues.pool.preset = "poled": expected one of isolated, pooled; '
            "did you mean pooled?",
        ),
        (
            'preset = "pooled"\n',
            "",
            "my.toml:30: venues.pool.preset: missing; rules to use",
        ),
        (
            "loan_to_value = 0.80",
            "loan_to_value = 0.9",
            "my.toml:35: venues.pool.assets.WETH.liquidation_threshold = 0.83: "
            "expected at least loan_to_value (0.9); are the two swapped?",
        ),
        (
            "optimal_utilisation = 0.92",
            "optimal_utilisation = 1.0",
            "my.toml:36: venues.pool.assets.WETH.optimal_utilisation = 1.0: "
            "expected a fraction in (0, 1)",
        ),
        (
            "optimal_utilisation = 0.92",
            "liquidation_bonus = 1.05",
            "my.toml:36: venues.pool.assets.WETH.liquidation_bonus = 1.05: "
            "expected a fraction in [0, 1); did you mean 0.05?",
        ),
        (
            "[venues.pool.assets.WETH]",
            "[venues.pool.assets.WTEH]",
            "my.toml:33: venues.pool.assets.WTEH: no such asset: "
            "expected one of WETH, USDC, wstETH; did you mean WETH?",
        ),
        (
            'preset = "pooled"',
            'preset = "isolated"\ncollateral = "WETH"',
            "my.toml:30: venues.pool.loan: missing; an isolated market names collateral and loan",
        ),
        (
            'preset = "pooled"',
            'preset = "pooled"\noracle = "delayed"',
            'my.toml:30: venues.pool.oracle_delay_hours: goes with oracle = "delayed", and only so',
        ),
        (
            'positions = "positions.csv"',
            "",
            "my.toml:4: book: expected exactly one of positions, synthetic, user_totals; "
            "found none",
        ),
        (
            "[0.6, 1.0],",
            "[0.5, 1.0],",
            "my.toml:9: market.correlation[1][0] = 0.5: expected 0.6, as in row 1 (symmetric)",
        ),
        (
            "[1.0, 0.6],",
            "[0.9, 0.6],",
            "my.toml:9: market.correlation[0][0] = 0.9: expected 1 on the diagonal",
        ),
        (
            "[0.6, 1.0],",
            "[0.6],",
            "my.toml:9: market.correlation: expected a square matrix; row 2 has 1 of 2 entries",
        ),
        (
            "  [1.0, 0.6],\n  [0.6, 1.0],",
            "  [1.0],",
            "my.toml:9: market.correlation: expected 3 rows, in order WETH, USDC, wstETH; "
            "or 2 without the pegged assets, WETH, USDC; found 1",
        ),
        (
            'model = "gbm"',
            'model = "gmb"',
            'my.toml:8: market.model = "gmb": expected one of gbm, jump_diffusion, bootstrap, '
            "replay, shock; did you mean gbm?",
        ),
        (
            'model = "gbm"',
            'model = "bootstrap"',
            'my.toml:7: market.history: missing; needed by model = "bootstrap"',
        ),
        (
            'model = "gbm"',
            'model = "shock"',
            'my.toml:7: market.shock: missing; needed by model = "shock"',
        ),
        (
            'model = "gbm"',
            'model = "shock"\nshock = { falls = { WETH = 30 }, hours = 6 }',
            "my.toml:9: market.shock.falls.WETH = 30: expected a fraction in [-100, 1); "
            "did you mean 0.3?",
        ),
        (
            "positions = ",
            "positions ",
            "my.toml:5: not valid TOML: expected '=' after a key in a key/value pair",
        ),
    ],
)
def test_problem_names_line_key_range_and_likely_meaning(problems, old, new, expected):
    assert expected in problems(old, new)


def test_all_problems_come_together_in_file_order(problems):
    found = problems(
        "[run]\nscenarios = 2e4",
        "[run]\nscenarios = -1\nseeed = 2",
        overrides=["assets.WETH.volatility=75"],
    )
    assert found == [
        "--set: assets.WETH.volatility = 75: expected a fraction per square-root year in [0, 5]; "
        "did you mean 0.75?",
        "my.toml:2: run.scenarios = -1: expected a whole number not below 1",
        "my.toml:3: run.seeed: unknown key. Did you mean seed?",
    ]


def test_peg_to_a_pegged_asset_points_to_the_root(problems):
    more = '[assets.weETH]\npeg = "wstETH"\nratio = 0.9\ndepth_usd = 1e6\n'
    assert problems(new=more) == [
        'my.toml:38: assets.weETH.peg = "wstETH": wstETH is itself pegged; '
        "peg to WETH and give the ratio in WETH"
    ]


def test_two_book_sources_are_refused(problems):
    assert problems(new=SYNTHETIC) == [
        "my.toml:4: book: expected exactly one of positions, synthetic, user_totals; "
        "found positions and synthetic"
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            'venue = "pool"',
            'venue = "poool"',
            'my.toml:6: book.synthetic.venue = "poool": no such venue: expected one of pool; '
            "did you mean pool?",
        ),
        (
            "accounts = 5",
            "accounts = 5\nmedian_health = 0.9",
            "my.toml:6: book.synthetic.median_health = 0.9: expected a health factor above 1 "
            "(1 is the liquidation point)",
        ),
        (
            "accounts = 5",
            "accounts = 5\nemode_share = 20",
            "my.toml:6: book.synthetic.emode_share = 20: expected a fraction in [0, 1]; "
            "did you mean 0.2?",
        ),
        (
            "accounts = 5",
            "accounts = 5\nemode_share = 0.2",
            "my.toml:6: book.synthetic.emode_share = 0.2: needs [book.synthetic.emode] to "
            "describe the loops",
        ),
        (
            "USDC = 1.0",
            "",
            "my.toml:8: book.synthetic.debt: empty; give at least one asset and its share",
        ),
        (
            "WETH = 1.0",
            "WTEH = 1.0",
            "my.toml:7: book.synthetic.collateral.WTEH = 1.0: no such asset: "
            "expected one of WETH, USDC, wstETH; did you mean WETH?",
        ),
    ],
)
def test_synthetic_book_problems(problems, old, new, expected):
    found = problems('[book]\npositions = "positions.csv"\n', SYNTHETIC.replace(old, new))
    assert found == [expected]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("steps", "--set steps: expected dotted.key=value"),
        ("book.positions.x=1", "--set book.positions.x=1: book.positions is a value, not a table"),
        ("steps=-3", "--set: run.steps = -3: expected a whole number not below 1"),
        ("stepz=3", "--set: run.stepz: unknown key. Did you mean steps?"),
    ],
)
def test_override_problems(problems, override, expected):
    assert problems(overrides=[override]) == [expected]


def test_missing_file_offers_the_nearest(write):
    path = write(GOOD)
    with pytest.raises(ConfigError) as caught:
        load_config(path.with_name("mi.toml"))
    assert str(caught.value) == f"{path.with_name('mi.toml')}: no such file; did you mean {path}?"


def test_file_that_is_not_text(tmp_path):
    path = tmp_path / "b.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8 text; expected a TOML file"):
        load_config(path)


def test_schema_describes_every_key_and_carries_ranges():
    schema = config_schema()
    for name, section in schema["$defs"].items():
        for key, value in section["properties"].items():
            assert value.get("description"), f"{name}.{key} has no description"
        assert section["additionalProperties"] is False
    threshold = schema["$defs"]["VenueAssetSection"]["properties"]["liquidation_threshold"]
    assert threshold["anyOf"][0] == {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
    json.dumps(schema)


def test_configuration_survives_a_round_trip(write):
    config = load_config(write(GOOD))
    assert Config.model_validate_json(config.model_dump_json()) == config
