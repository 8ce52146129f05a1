"""The command line end to end: what a run leaves, what it prints, and how it refuses.

Everything is played on one small system, so that simulations share a compilation. Runs whose
streams, precision or signals matter are other interpreters; the rest call the entry point here,
where JAX has been set up already.
"""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxrisk import cli
from tests.conftest import ROOT
from tests.helpers import assert_close

CONFIG = """\
name = "Small"

[run]
scenarios = 1024
steps = 4
seed = 3
confidences = [0.9, 0.99]
rounds = 2
output = "out"

[book]
positions = "positions.csv"

[market]
model = "jump_diffusion"
correlation = [[1.0, 0.8, 0.1], [0.8, 1.0, 0.1], [0.1, 0.1, 1.0]]
jump_intensity = 800.0
jump_mean = -0.12
jump_volatility = 0.06

[assets.WETH]
price = 3000.0
volatility = 2.0
depth_usd = 2.0e7

[assets.WBTC]
price = 90000.0
volatility = 1.5
depth_usd = 2.0e7

[assets.USDC]
price = 1.0
volatility = 0.02
depth_usd = 1.0e8
jump_loading = 0.0

[assets.wstETH]
peg = "WETH"
ratio = 1.2
basis_volatility = 0.3
depth_usd = 1.0e7

[venues.pool]
preset = "aave_v3"
insurance_usd = 5000.0

[venues.pool.assets.WETH]
liquidation_threshold = 0.83

[venues.blue]
preset = "morpho_blue"
collateral = "wstETH"
loan = "USDC"
liquidation_loan_to_value = 0.86

[sensitivities]
parameters = []

[report]
fan_scenarios = 32
bad_debt_threshold_usd = 1e5
"""

HEADER = "account_id,venue,asset,side,amount"
HEALTH = (1.02, 1.05, 1.10, 1.20, 1.40, 1.80)
# Collateral and debt of the accounts on the pool: (asset, price, threshold) and (asset, price).
POOL_PAIRS = (
    (("WETH", 3000.0, 0.83), ("USDC", 1.0)),
    (("wstETH", 3600.0, 0.81), ("WETH", 3000.0)),
    (("WBTC", 90000.0, 0.78), ("USDC", 1.0)),
)

DOCUMENTED_FILES = {
    "run.json",
    "summary.json",
    "report.html",
    "scenarios.parquet",
    "accounts.parquet",
    "liquidation_map.parquet",
    "path_quantiles.parquet",
}
MEASURES = ("bad_debt_usd", "liquidated_usd", "borrower_loss_usd", "supplier_loss_usd")
SENSITIVITY_KEYS = {
    "measure",
    "parameter",
    "value",
    "derivative",
    "standard_error",
    "estimator",
    "bump_derivative",
    "bump_standard_error",
    "agrees",
}

# Several times what these runs take on two busy cores.
PATIENCE_SECONDS = 240

pytestmark = pytest.mark.multiprocess


def book() -> str:
    """Return twelve accounts, six on each venue, from just healthy to safe."""
    rows = [HEADER]
    for i, health in enumerate(HEALTH):
        (held, price, threshold), (owed, owed_price) = POOL_PAIRS[i % 3]
        value = 3.0e4 * (i + 1)
        rows.append(f"p{i},pool,{held},collateral,{value / price!r}")
        rows.append(f"p{i},pool,{owed},debt,{value * threshold / health / owed_price!r}")
        rows.append(f"b{i},blue,wstETH,collateral,{value / 3600.0!r}")
        rows.append(f"b{i},blue,USDC,debt,{value * 0.86 / health!r}")
    return "\n".join(rows) + "\n"


BOOK = book()


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a call of the command line ended."""

    code: int
    out: str
    err: str


Call = Callable[..., Ended]


def write_project(folder: Path, *, config: str = CONFIG, positions: str | None = BOOK) -> Path:
    """Return the configuration of a project written into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    if positions is not None:
        (folder / "positions.csv").write_text(positions, encoding="utf-8")
    path = folder / "small.toml"
    path.write_text(config, encoding="utf-8")
    return path


def environment(home: Path) -> dict[str, str]:
    """Return the environment of another interpreter: nobody's home, the tests' compilations."""
    return {
        **os.environ,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }


def command(*arguments: object) -> list[str]:
    """Return the command line of another interpreter."""
    return [sys.executable, "-c", "from jaxrisk.cli import main; main()", *map(str, arguments)]


def elsewhere(folder: Path, *arguments: object) -> Ended:
    """Return how a call in another interpreter, standing in `folder`, ended."""
    done = subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Call the entry point in this interpreter, whose devices are set up already."""
    monkeypatch.setattr("jaxrisk.run.job.configure_device", lambda *_: "cpu (of the tests)")
    on_termination = signal.getsignal(signal.SIGTERM)

    def here(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["jaxrisk", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        code = ended.value.code
        assert code is None or isinstance(code, int)
        return Ended(code or 0, captured.out, captured.err)

    yield here
    signal.signal(signal.SIGTERM, on_termination)


def files(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder with its content."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def table(run: Path, name: str = "scenarios") -> dict[str, np.ndarray]:
    """Return the columns of one of a run's tables."""
    read = pq.read_table(run / f"{name}.parquet")
    return {c: read.column(c).to_numpy(zero_copy_only=False) for c in read.column_names}


def assert_identical(actual: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Fail unless two tables hold the same bits."""
    assert list(actual) == list(expected)
    for name, values in expected.items():
        assert actual[name].dtype == values.dtype, name
        assert actual[name].tobytes() == values.tobytes(), name


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small system."""
    return write_project(tmp_path_factory.mktemp("project")).parent


@pytest.fixture(scope="module")
def reference(project: Path) -> tuple[Path, Ended]:
    """The run all others are compared with: its directory, and how the command ended."""
    ended = elsewhere(
        project, "run", "small.toml", "--out", "reference", "--json",
        "--set", 'sensitivities.parameters=["insurance"]',
        "--set", 'sensitivities.measures=["supplier_loss_usd"]',
    )  # fmt: skip
    assert ended.code == 0, ended.err
    return project / "reference", ended


# --- what a run leaves and prints -------------------------------------------------------------


def test_a_run_leaves_the_documented_files_and_nothing_else(reference):
    run, _ = reference
    assert set(files(run)) == DOCUMENTED_FILES | {"sensitivities.parquet"}


def test_json_is_alone_on_stdout_and_is_the_summary(reference):
    run, ended = reference
    assert json.loads(ended.out) == json.loads((run / "summary.json").read_text(encoding="utf-8"))
    for word in ("plan: 12 accounts, 4 assets, 2 venues", "1,024 scenarios", "compil"):
        assert word in ended.err
    assert "Traceback" not in ended.err


def test_summary_has_the_keys_others_script_against(reference):
    run, ended = reference
    summary = json.loads(ended.out)
    for name in MEASURES:
        keys = {"mean", "standard_error"}
        for level in ("0.9", "0.99"):
            for tail in (f"var_{level}", f"es_{level}"):
                keys |= {tail, f"{tail}_standard_error"}
        assert keys <= summary["measures"][name].keys(), name
        assert summary["measures"][name]["es_0.99"] >= summary["measures"][name]["var_0.99"]
    assert set(summary["solvency"]["venues"]) == {"pool", "blue"}
    for entry in (summary["solvency"]["system"], *summary["solvency"]["venues"].values()):
        assert {"debt_usd", "equity_usd", "debt_to_equity", "debt_to_equity_delta"} <= entry.keys()
    assert set(summary["solvency"]["system"]["debt_to_equity_delta"]) == {
        "WETH", "WBTC", "USDC", "wstETH"
    }  # fmt: skip
    assert len(summary["sensitivities"]) == 4
    for row in summary["sensitivities"]:
        assert SENSITIVITY_KEYS <= row.keys()
    assert any("positions.csv" in line for line in summary["data_quality"])
    made = summary["run"]
    assert {"versions", "device", "seed", "scenarios", "seconds"} <= made.keys()
    assert {"compile", "run"} <= made["seconds"].keys()
    assert {"jaxrisk", "jax", "numpy", "python"} <= made["versions"].keys()
    assert (made["seed"], made["scenarios"], made["precision"]) == (3, 1024, "float64")
    record = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert record["config"]["run"]["seed"] == 3
    assert record["command"].startswith("jaxrisk run small.toml --out reference --json --set")


def test_summary_restates_the_scenarios(reference):
    run, ended = reference
    summary, scenarios = json.loads(ended.out), table(run)
    assert_identical({"scenario": scenarios["scenario"]}, {"scenario": np.arange(1024)})
    for name in MEASURES:
        mean = summary["measures"][name]["mean"]
        assert_close(mean, scenarios[name].mean(), rtol=1e-12, atol=0.0)
        assert mean > 0.0, name
    assert scenarios["conservation_error_frac"].max() < 1e-9
    parts = sum(scenarios[f"bad_debt_{venue}_usd"] for venue in ("pool", "blue"))
    assert_close(parts, scenarios["bad_debt_usd"], rtol=1e-9, atol=1e-6)


def test_tables_and_report_stand_on_their_own(reference):
    run, _ = reference
    accounts, quantiles = table(run, "accounts"), table(run, "path_quantiles")
    assert sorted(accounts["account_id"]) == sorted(f"{v}{i}" for v in "bp" for i in range(6))
    on_pool = accounts["venue"] == "pool"
    assert_close(accounts["health_factor"][on_pool], HEALTH, rtol=1e-9, atol=0.0)
    assert_close(accounts["health_factor"][~on_pool], HEALTH, rtol=1e-9, atol=0.0)
    assert set(quantiles["step"]) == set(range(5))
    report = (run / "report.html").read_text(encoding="utf-8")
    assert len(report) < 2_000_000
    assert "scenarios = 1024" in report


def test_options_beat_the_file_and_the_same_numbers_come_back(call, project, reference, tmp_path):
    """Same seed in another interpreter: the same bits; twice the scenarios: the same first half."""
    config = project / "small.toml"
    ended = call("run", config, "--out", tmp_path / "longer", "--scenarios", 2048, "--quiet")
    assert (ended.code, ended.err) == (0, "")
    assert str(tmp_path / "longer" / "report.html") in ended.out
    assert set(files(tmp_path / "longer")) == DOCUMENTED_FILES
    longer, expected = table(tmp_path / "longer"), table(reference[0])
    assert len(longer["scenario"]) == 2048
    assert_identical({name: column[:1024] for name, column in longer.items()}, expected)

    ended = call("run", config, "--out", tmp_path / "seeded", "--seed", 4, "--quiet", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["run"]["seed"] == 4
    seeded = table(tmp_path / "seeded")
    assert not np.array_equal(seeded["liquidated_usd"], expected["liquidated_usd"])
    output = f'run.output="{tmp_path / "set"}"'
    assert call("run", config, "--set", "seed=4", "--set", output).code == 0
    assert_identical(table(tmp_path / "set"), seeded)


def test_float32_agrees_with_float64(project, reference):
    ended = elsewhere(project, "run", "small.toml", "--out", "single", "--precision", "float32")
    assert ended.code == 0, ended.err
    single, double = table(project / "single"), table(reference[0])
    record = json.loads((project / "single" / "run.json").read_text(encoding="utf-8"))
    assert record["precision"] == "float32"
    for name in MEASURES:
        # An account on the edge of its trigger may fall on the other side: a few scenarios differ.
        close = np.isclose(single[name], double[name], rtol=1e-3, atol=1.0)
        assert close.mean() > 0.99, name
        assert_close(single[name].mean(), double[name].mean(), rtol=5e-3, atol=1.0)
    assert single["conservation_error_frac"].max() < 1e-5


# --- directories ------------------------------------------------------------------------------


def test_an_existing_run_is_kept_unless_forced(call, project, tmp_path):
    out = tmp_path / "out"
    config = project / "small.toml"
    assert call("run", config, "--out", out, "--quiet").code == 0
    (out / "notes.txt").write_text("mine")
    before = files(out)
    ended = call("run", config, "--out", out, "--seed", 5)
    assert ended.code == 2
    assert "--force" in ended.err
    assert str(out) in ended.err
    assert ended.out == ""
    assert files(out) == before
    assert call("run", config, "--out", out, "--seed", 5, "--force", "--quiet").code == 0
    after = files(out)
    assert after.keys() == before.keys()
    assert after["notes.txt"] == b"mine"
    assert after["scenarios.parquet"] != before["scenarios.parquet"]


@pytest.mark.parametrize("place", ["taken", "taken/deeper"])
def test_an_output_directory_that_cannot_be_made_is_refused(call, project, tmp_path, place):
    (tmp_path / "taken").write_text("a file")
    ended = call("run", project / "small.toml", "--out", tmp_path / place)
    assert ended.code == 2
    assert "cannot be written" in ended.err
    assert "--out" in ended.err
    assert files(tmp_path) == {"taken": b"a file"}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_refused(call, project, tmp_path):
    tmp_path.chmod(0o500)
    try:
        ended = call("run", project / "small.toml", "--out", tmp_path / "out")
    finally:
        tmp_path.chmod(0o700)
    assert ended.code == 2
    assert "cannot be written" in ended.err


# --- interrupts -------------------------------------------------------------------------------

LONG = 32 * 1024


@pytest.fixture(scope="module")
def interrupted(project: Path, reference) -> tuple[Path, Ended]:
    """A long run stopped by Ctrl-C once its first part is written."""
    out = project / "interrupted"
    run = subprocess.Popen(
        command("run", "small.toml", "--out", "interrupted", "--scenarios", LONG),
        cwd=project,
        env=environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    patience = time.monotonic() + PATIENCE_SECONDS
    while not any((out / "parts").glob("part-*.parquet")):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < patience
        time.sleep(0.005)
    run.send_signal(signal.SIGINT)
    streams = run.communicate(timeout=PATIENCE_SECONDS)
    return out, Ended(run.returncode, *streams)


def test_ctrl_c_leaves_a_resumable_directory(interrupted):
    out, ended = interrupted
    assert ended.code == 75, ended.err
    assert "--resume" in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""
    names = set(files(out))
    parts = {name for name in names if name.startswith("parts/part-")}
    assert names - parts == {"progress.json"}
    assert 0 < completed(out) < LONG


def completed(out: Path) -> int:
    """Return how many scenarios the finished parts of a run hold."""
    return sum(pq.read_metadata(part).num_rows for part in (out / "parts").glob("*.parquet"))


def test_resume_refuses_another_configuration_and_changes_nothing(call, project, interrupted):
    out, _ = interrupted
    before = files(out)
    options = ("--out", out, "--scenarios", LONG)
    for change in (("--seed", 4), ("--set", "keeper.cost_usd=31.0")):
        ended = call("run", project / "small.toml", *options, *change, "--resume")
        assert ended.code == 2
        assert "--resume" in ended.err
        assert files(out) == before
    ended = call("run", project / "small.toml", *options)
    assert ended.code == 2
    assert "--resume" in ended.err
    assert files(out) == before


def test_resume_finishes_with_the_numbers_of_an_uninterrupted_run(
    call, monkeypatch, project, interrupted, reference
):
    out, _ = interrupted
    done = completed(out)
    monkeypatch.chdir(project)
    ended = call("run", "small.toml", "--out", out, "--scenarios", LONG, "--resume")
    assert ended.code == 0, ended.err
    assert f"{done:,} scenarios already done" in ended.err
    assert set(files(out)) == DOCUMENTED_FILES
    whole = ("run", "small.toml", "--out", "whole", "--scenarios", LONG, "--quiet")
    assert call(*whole).code == 0
    assert_identical(table(out), table(project / "whole"))
    assert_identical(
        {name: column[:1024] for name, column in table(out).items()}, table(reference[0])
    )
    ended = call("run", "small.toml", "--out", out, "--scenarios", LONG, "--resume")
    assert ended.code == 2
    assert "no interrupted run here" in ended.err


def test_resume_does_not_depend_on_how_the_path_of_the_configuration_is_written(
    call, monkeypatch, project, tmp_path
):
    """The same file by another path is the same run."""
    out = tmp_path / "out"
    stop_after_first_part(monkeypatch)
    monkeypatch.chdir(project)
    ended = call("run", "small.toml", "--out", out, "--scenarios", 2048, "--quiet")
    assert ended.code == 75, ended.err
    monkeypatch.undo()
    monkeypatch.setattr("jaxrisk.run.job.configure_device", lambda *_: "cpu (of the tests)")
    options = ("--out", out, "--scenarios", 2048, "--resume", "--quiet")
    ended = call("run", project / "small.toml", *options)
    assert ended.code == 0, ended.err


def stop_after_first_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a run end as by Ctrl-C once a part is written."""
    from jaxrisk.run.store import RunDirectory

    write_part = RunDirectory.write_part

    def once(*arguments: Any, **options: Any) -> Path:
        write_part(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunDirectory, "write_part", once)


@pytest.mark.parametrize("where", ["jaxrisk.run.build.build", "jaxrisk.run.job.write_report"])
def test_ctrl_c_before_and_after_the_simulation_exits_alike(
    call, monkeypatch, project, tmp_path, where
):
    """While the book is read, and while the report is written."""

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    options = ("--out", out, "--quiet")
    with monkeypatch.context() as patched:
        patched.setattr(where, stop)
        ended = call("run", project / "small.toml", *options)
    assert ended.code == 75, ended.err
    assert "Traceback" not in ended.err
    ended = call("run", project / "small.toml", *options, "--resume")
    assert ended.code == 0, ended.err
    assert set(files(out)) == DOCUMENTED_FILES


# --- bad input --------------------------------------------------------------------------------


def line_of(text: str, wanted: str) -> int:
    """Return the number of the first line that starts so."""
    return next(i for i, line in enumerate(text.splitlines(), 1) if line.startswith(wanted))


def with_amount(account: str, amount: str) -> str:
    """Return the book with another amount in the first row of an account."""
    row = next(line for line in BOOK.splitlines() if line.startswith(f"{account},"))
    return BOOK.replace(row, f"{row.rpartition(',')[0]},{amount}")


NOT_PSD = CONFIG.replace(
    "[[1.0, 0.8, 0.1], [0.8, 1.0, 0.1], [0.1, 0.1, 1.0]]",
    "[[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]]",
)

BAD_CONFIGS = {
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
        CONFIG.replace('preset = "aave_v3"', 'preset = "aave_v4"'),
        ("venues.pool.preset", "aave_v4", "did you mean aave_v3?"),
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


def test_a_repaired_correlation_runs_and_says_so(call, tmp_path):
    repaired = NOT_PSD.replace("[market]", "[market]\nrepair_correlation = true")
    config = write_project(tmp_path, config=repaired)
    ended = call("run", config, "--out", tmp_path / "out", "--json")
    assert ended.code == 0, ended.err
    lines = json.loads(ended.out)["data_quality"]
    assert any("correlation repaired: entries changed by at most" in line for line in lines)


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


def test_a_gpu_that_is_not_there_is_refused(project):
    ended = elsewhere(project, "run", "small.toml", "--device", "gpu", "--out", "on-gpu")
    assert ended.code == 4
    assert "--device gpu" in ended.err
    assert "jaxrisk[cuda13]" in ended.err
    assert "Traceback" not in ended.err
    assert not (project / "on-gpu").exists()


# --- the other commands -----------------------------------------------------------------------


def test_validate_says_what_was_checked(call, project):
    before = set(project.iterdir())
    ended = call("validate", project / "small.toml")
    assert ended.code == 0
    assert "valid; 12 accounts on" in ended.out
    assert "data: book: positions.csv, 24 positions" in ended.out
    assert set(project.iterdir()) == before


@pytest.fixture
def worst(reference) -> tuple[Path, int, dict[str, float]]:
    """The run, the id of its worst scenario, and that scenario's row."""
    run, _ = reference
    scenarios = table(run)
    worst = int(np.argmax(scenarios["bad_debt_usd"]))
    row = {name: float(column[worst]) for name, column in scenarios.items()}
    assert row["bad_debt_pool_usd"] > 0
    assert row["bad_debt_blue_usd"] > 0
    return run, worst, row


def replayed(ended: Ended) -> list[dict[str, Any]]:
    """Return the liquidations of a replay printed as JSON."""
    assert ended.code == 0, ended.err
    events = json.loads(ended.out)["events"]
    prices = [event for event in events if event["event"] == "prices"]
    assert [event["step"] for event in prices] == [1, 2, 3, 4]
    return [event for event in events if event["event"] == "liquidation"]


@pytest.mark.parametrize("venue", ["pool", "blue"])
def test_replay_gives_the_recorded_totals(call, monkeypatch, project, worst, venue):
    run, scenario, row = worst
    monkeypatch.chdir(project)
    ended = call("replay", run, "--scenario", scenario, "--json")
    events = [event for event in replayed(ended) if event["venue"] == venue]
    for column, entry in (("liquidated", "seized_usd"), ("bad_debt", "bad_debt_usd")):
        total = sum(event[entry] for event in events)
        assert_close(total, row[f"{column}_{venue}_usd"], rtol=1e-9, atol=1e-6)


def test_replay_ends_at_the_recorded_prices_and_prints_them(call, monkeypatch, project, worst):
    run, scenario, row = worst
    monkeypatch.chdir(project)
    ended = call("replay", run, "--scenario", scenario, "--json")
    last = [event for event in json.loads(ended.out)["events"] if event["event"] == "prices"][-1]
    for asset, price in last["price_usd"].items():
        assert_close(price, row[f"final_price_{asset}_usd"], rtol=1e-12, atol=0.0)
    ended = call("replay", run, "--scenario", scenario)
    assert ended.code == 0
    assert f"scenario {scenario}:" in ended.out
    assert "bad debt" in ended.out


def test_replay_works_from_any_folder(call, monkeypatch, tmp_path, worst):
    """A run is its directory: where it is read from is no part of it."""
    run, scenario, _ = worst
    monkeypatch.chdir(tmp_path)
    assert replayed(call("replay", run, "--scenario", scenario, "--json"))


@pytest.mark.parametrize("scenario", [-1, 1024])
def test_replay_of_an_unknown_scenario_is_refused(call, monkeypatch, project, worst, scenario):
    monkeypatch.chdir(project)
    ended = call("replay", worst[0], "--scenario", scenario)
    assert ended.code == 3
    assert "scenarios 0 to 1023" in ended.err


def test_replay_of_something_else_is_refused(call, tmp_path):
    ended = call("replay", tmp_path, "--scenario", 0)
    assert ended.code == 2
    assert "no finished run here" in ended.err


def test_replay_notices_that_the_book_has_changed(call, monkeypatch, tmp_path):
    config = write_project(tmp_path)
    assert call("run", config, "--out", tmp_path / "out", "--quiet").code == 0
    (tmp_path / "positions.csv").write_text(with_amount("p0", "11.0"), encoding="utf-8")
    ended = call("replay", tmp_path / "out", "--scenario", 0)
    assert ended.code == 2
    assert "have changed since" in ended.err


def test_schema_refuses_unknown_keys_everywhere(call):
    ended = call("schema")
    assert ended.code == 0
    schema = json.loads(ended.out)
    sections = [schema, *schema["$defs"].values()]
    assert len(sections) > 10
    for section in sections:
        assert section["type"] == "object", section["title"]
        assert section["additionalProperties"] is False, section["title"]
    assert {"run", "book", "market", "assets", "venues"} <= schema["properties"].keys()
    assert set(references(schema)) <= {f"#/$defs/{name}" for name in schema["$defs"]}
    threshold = schema["$defs"]["VenueAssetSection"]["properties"]["liquidation_threshold"]
    (number,) = [kind for kind in threshold["anyOf"] if kind["type"] == "number"]
    assert (number["exclusiveMinimum"], number["maximum"]) == (0, 1)


def references(node: Any) -> Iterator[str]:
    """Yield every reference of a JSON schema."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


def test_init_writes_an_example_that_is_valid(call, tmp_path):
    ended = call("init", tmp_path / "example")
    assert ended.code == 0
    assert "jaxrisk run" in ended.out
    ended = call("validate", tmp_path / "example" / "run.toml")
    assert ended.code == 0, ended.err
    assert "synthetic" in ended.out
    assert call("init", tmp_path / "example").code == 2


def test_doctor_finds_nothing_wrong(tmp_path):
    ended = elsewhere(tmp_path, "doctor")
    assert ended.code == 0, ended.out + ended.err
    lines = ended.out.splitlines()
    assert all(line.startswith("ok ") for line in lines)
    for word in (f"jax: {jax.__version__}", "device: cpu", "liquidation rule"):
        assert word in ended.out


def test_no_arguments_show_the_commands(call):
    ended = call()
    shown = ended.out + ended.err
    for word in ("Usage", "run", "validate", "init", "replay", "schema", "doctor"):
        assert word in shown


def test_help_does_not_wait_for_jax(tmp_path):
    """Nothing that takes time is imported to print help or to refuse an option."""
    script = (
        "import sys, jaxrisk.cli\n"
        "try:\n    jaxrisk.cli.main()\nexcept SystemExit as end:\n    code = end.code\n"
        "heavy = {'jax', 'pyarrow', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    for arguments in (["--help"], ["run", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "Usage" in done.stdout


def test_the_command_is_installed_under_its_name():
    (command,) = entry_points(group="console_scripts", name="jaxrisk")
    assert command.value == "jaxrisk.cli:main"
