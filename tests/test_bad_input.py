"""Bad input: each refusal names file, key or row, says what is meant, and writes nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import (
    BOOK,
    CONFIG,
    HEADER,
    Call,
    files,
    table,
    with_amount,
    write_project,
)


def line_of(text: str, wanted: str) -> int:
    """Return the number of the first line that starts so."""
    return next(i for i, line in enumerate(text.splitlines(), 1) if line.startswith(wanted))


NOT_PSD = CONFIG.replace(
    "[[1.0, 0.8, 0.1], [0.8, 1.0, 0.1], [0.1, 0.1, 1.0]]",
    "[[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]]",
)

OTHER = CONFIG + '\n[venues.other]\npreset = "aave_v4"\noptions = {}\n'

COVERED = CONFIG + "\n[venues.pool.coverage.WBTC]\nstake = 1.0\n"

BAD_CONFIGS = {
    "text for a number": (
        CONFIG + '\n[venues.other]\npreset = "aave_v4"\noptions = { target_health = "high" }\n',
        (
            f"small.toml:{line_of(OTHER, 'options')}: "
            "venues.other.options.target_health: expected a number, got 'high'",
        ),
    ),
    "a number for text": (
        CONFIG + '\n[venues.other]\npreset = "sky"\n'
        "options = { stability_fee = 0.05, debt_auctions = 1 }\n",
        ("venues.other.options.debt_auctions: expected text, got 1",),
    ),
    **{
        f"{value}, neither number nor text": (
            OTHER.replace("options = {}", f"options = {{ target_health = {value} }}"),
            (
                f"small.toml:{line_of(OTHER, 'options')}: venues.other.options.target_health",
                f"expected a number{rest}",
            ),
        )
        for value, rest in (("true", ", or text"), ("[1.0]", ", or text"), ("inf", " that is fin"))
    },
    "an option that is missing": (
        CONFIG + '\n[venues.other]\npreset = "sky"\n',
        ("small.toml", "venues.other.options.stability_fee: missing; preset sky needs it"),
    ),
    "what only the preset knows to be wrong": (
        CONFIG.replace("liquidation_threshold = 0.83", "liquidation_bonus = 0.5"),
        (
            f"small.toml:{line_of(CONFIG, '[venues.pool]')}: venues.pool: WETH: ",
            "the bonus can be at most",
        ),
    ),
    "what the preset names by key": (
        COVERED,
        (
            f"small.toml:{line_of(COVERED, '[venues.pool.coverage')}: venues.pool.coverage.WBTC: ",
            "drop it",
        ),
    ),
    "unknown key": (
        CONFIG.replace("steps = 4", "stesp = 4"),
        (f"small.toml:{line_of(CONFIG, 'steps')}: run.stesp", "unknown key", "Did you mean steps?"),
    ),
    "threshold in percent": (
        CONFIG.replace("liquidation_threshold = 0.83", "liquidation_threshold = 83"),
        (
            f"small.toml:{line_of(CONFIG, 'liquidation_threshold')}: "
            "venues.pool.assets.WETH.liquidation_threshold = 83",
            "a fraction in (0, 1]",
            "did you mean 0.83?",
        ),
    ),
    "asset without price": (
        CONFIG.replace("price = 3000.0\n", ""),
        ("small.toml", "assets.WETH.price", "missing", "USD"),
    ),
    "price that is no number": (
        CONFIG.replace("price = 3000.0", "price = nan"),
        ("small.toml", "assets.WETH.price", "expected a number"),
    ),
    "thousands separators": (
        CONFIG.replace("price = 3000.0", 'price = "3,000.0"'),
        ("assets.WETH.price", "thousands separator?", "Use 3000.0"),
    ),
    "unknown preset": (
        CONFIG.replace('preset = "aave_v3"', 'preset = "aave_v5"'),
        ("venues.pool.preset", "aave_v5", "did you mean aave_v4?"),
    ),
    "unknown asset of a venue": (
        CONFIG.replace('collateral = "wstETH"', 'collateral = "wsteth"'),
        ("venues.blue.collateral", "did you mean wstETH?"),
    ),
    "correlation not positive semidefinite": (
        NOT_PSD,
        (
            "market.correlation",
            "not positive semidefinite",
            "repair_correlation = true",
            "changes entries by at most",
        ),
    ),
    "syntax": (
        CONFIG.replace("steps = 4", "steps = = 4"),
        (f"small.toml:{line_of(CONFIG, 'steps')}: not valid TOML",),
    ),
    "several problems at once": (
        CONFIG.replace("steps = 4", "stesp = 4").replace("price = 3000.0", "price = -1.0"),
        ("run.stesp", "assets.WETH.price", "above 0"),
    ),
}

BAD_BOOKS = {
    "held asset without price": (
        BOOK.replace("p0,pool,WETH,", "p0,pool,WTEH,"),
        ("positions.csv:2: asset", "WTEH", "no price", "did you mean WETH?"),
    ),
    "negative amount": (
        with_amount("p0", "-5.0"),
        ("positions.csv:2: amount", "-5 is negative", "0 or more"),
    ),
    "not a number": (
        with_amount("p0", "NaN"),
        ("positions.csv:2: amount", "NaN", "finite number"),
    ),
    "thousands separators": (
        with_amount("p0", '"1,000.5"'),
        ("positions.csv:2: amount", "thousands separator?", "Use 1000.5"),
    ),
    "thousands separators without quotes": (
        with_amount("p0", "1,000.5"),
        ("positions.csv:2", "expected 5 fields, found 6", "thousands separator"),
    ),
    "unknown venue": (
        BOOK.replace("p0,pool,WETH,", "p0,pol,WETH,"),
        ("positions.csv:2: venue", "pol", "did you mean pool?"),
    ),
    "unknown side": (
        BOOK.replace("WETH,collateral", "WETH,supply", 1),
        ("positions.csv:2: side", "supply", "did you mean collateral?"),
    ),
    "missing column": (
        BOOK.replace("amount", "amuont", 1),
        ("positions.csv", "missing column amount", "amuont"),
    ),
    "no rows": (f"{HEADER}\n", ("positions.csv", "no rows")),
    "only zeros": (
        f"{HEADER}\np0,pool,WETH,collateral,0\nb0,blue,wstETH,collateral,0\n",
        ("positions.csv", "the book is empty"),
    ),
    "a venue without debt": (
        "\n".join(row for row in BOOK.splitlines() if "USDC,debt" not in row or row[0] == "p")
        + "\n",
        ("positions.csv", "nobody on venue blue owes", "drop the venue"),
    ),
    "a venue without accounts": (
        "\n".join(line for line in BOOK.splitlines() if ",blue," not in line) + "\n",
        ("positions.csv", "venue blue"),
    ),
}


@pytest.mark.parametrize("verb", ["run", "validate"])
@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_bad_configuration_is_refused(call, monkeypatch, tmp_path, case, verb):
    config, words = BAD_CONFIGS[case]
    assert config != CONFIG
    refuse(call, monkeypatch, tmp_path, verb, 2, words, config=config)


@pytest.mark.parametrize("verb", ["run", "validate"])
@pytest.mark.parametrize("case", BAD_BOOKS)
def test_a_bad_book_is_refused(call, monkeypatch, tmp_path, case, verb):
    positions, words = BAD_BOOKS[case]
    assert positions != BOOK
    refuse(call, monkeypatch, tmp_path, verb, 3, words, positions=positions)


def refuse(
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    verb: str,
    code: int,
    words: tuple[str, ...],
    **project: Any,
) -> None:
    """Check that a project is refused for stated reasons and that nothing is written."""
    config = write_project(folder, **project)
    before = files(folder)
    monkeypatch.chdir(folder)
    ended = call(verb, config)
    assert ended.code == code, ended.err
    assert ended.out == ""
    lines = ended.err.splitlines()
    assert lines
    assert all(line.startswith("error: ") for line in lines), ended.err
    for word in words:
        assert word in ended.err, ended.err
    assert files(folder) == before
    assert not (folder / "out").exists()


def test_missing_files_are_named_with_their_likely_name(call, project, tmp_path):
    ended = call("run", project / "smal.toml")
    assert ended.code == 2
    assert "smal.toml: no such file; did you mean" in ended.err
    config = write_project(tmp_path, positions=None)
    (tmp_path / "position.csv").write_text(BOOK)
    ended = call("run", config, "--out", tmp_path / "out")
    assert ended.code == 3
    assert "positions.csv: no such file; did you mean" in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--set", "seed"), ("--set seed", "key=value")),
        (("--set", "run.seeds=4"), ("--set", "run.seeds", "Did you mean seed?")),
        (("--scenarios", "0"), ("run.scenarios", "1")),
        (("--precision", "float16"), ("run.precision", "float32", "float64")),
        (("--device", "tpu"), ("run.device", "auto, cpu, gpu")),
        (("--force", "--resume"), ("--force", "--resume")),
        (("--scenarios", "many"), ("--scenarios",)),
        (("--sceanrios", "5"), ("--sceanrios",)),
    ],
)
def test_bad_options_are_usage_errors(call, project, tmp_path, options, words):
    ended = call("run", project / "small.toml", "--out", tmp_path / "out", *options)
    assert ended.code == 2
    for word in words:
        assert word in ended.err, ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_repaired_correlation_runs_and_says_so(call, tmp_path):
    repaired = NOT_PSD.replace("[market]", "[market]\nrepair_correlation = true")
    config = write_project(tmp_path, config=repaired)
    ended = call("run", config, "--out", tmp_path / "out", "--json")
    assert ended.code == 0, ended.err
    lines = json.loads(ended.out)["data_quality"]
    assert any("correlation repaired: entries changed by at most" in line for line in lines)


@pytest.mark.slow
def test_accounts_under_water_at_the_start_are_reported(call, tmp_path):
    """b5 owes more than it holds, p5 is only below its threshold: both are said, none hidden."""
    rows = BOOK.splitlines()
    sunk = {"b5,blue,USDC,debt": 1.9e5, "p5,pool,USDC,debt": 1.8e5 * 0.9}
    for start, amount in sunk.items():
        (row,) = [line for line in rows if line.startswith(start)]
        rows[rows.index(row)] = f"{start},{amount!r}"
    config = write_project(tmp_path, positions="\n".join(rows) + "\n")
    ended = call("validate", config)
    assert ended.code == 0, ended.err
    ended_run = call("run", config, "--out", tmp_path / "out", "--json", "--quiet")
    assert ended_run.code == 0, ended_run.err
    told = "\n".join(json.loads(ended_run.out)["data_quality"])
    for text in (ended.out, told):
        lines = text.splitlines()
        (insolvent,) = [line for line in lines if "owe more than their collateral" in line]
        assert "venue blue: 1 accounts" in insolvent
        assert "first: b5" in insolvent
        below = [line for line in lines if "health factor < 1 at the start" in line]
        assert [line for line in below if "venue pool" in line and "first: p5" in line]
    # It is lost in every scenario, as it is lost today.
    scenarios = table(tmp_path / "out")
    assert (scenarios["bad_debt_blue_usd"] > 0).mean() > 0.5
