"""The command line end to end: what a run leaves, what it prints, and the other commands."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from tests.command_line import (
    DOCUMENTED_FILES,
    HEALTH,
    PATIENCE_SECONDS,
    Ended,
    assert_identical,
    elsewhere,
    environment,
    files,
    table,
    with_amount,
    write_project,
)
from tests.helpers import assert_close

pytestmark = pytest.mark.multiprocess

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
        assert row.keys() >= SENSITIVITY_KEYS
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


@pytest.mark.slow
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


def test_a_gpu_that_is_not_there_is_refused(project):
    ended = elsewhere(project, "run", "small.toml", "--device", "gpu", "--out", "on-gpu")
    assert ended.code == 4
    assert "--device gpu" in ended.err
    assert "jaxrisk[cuda13]" in ended.err
    assert "Traceback" not in ended.err
    assert not (project / "on-gpu").exists()


def test_validate_says_what_was_checked(call, project):
    before = set(project.iterdir())
    ended = call("validate", project / "small.toml")
    assert ended.code == 0
    assert "valid; 12 accounts on" in ended.out
    assert "data: book: positions.csv, 24 positions" in ended.out
    assert set(project.iterdir()) == before


@pytest.fixture
def worst(reference) -> tuple[Path, int]:
    """The run and the id of its worst scenario."""
    run, _ = reference
    return run, int(np.argmax(table(run)["bad_debt_usd"]))


def replayed(ended: Ended) -> list[dict[str, Any]]:
    """Return the liquidations of a replay printed as JSON."""
    assert ended.code == 0, ended.err
    events = json.loads(ended.out)["events"]
    prices = [event for event in events if event["event"] == "prices"]
    assert [event["step"] for event in prices] == [1, 2, 3, 4]
    return [event for event in events if event["event"] == "liquidation"]


@pytest.mark.parametrize("venue", ["pool", "blue"])
def test_replay_gives_the_recorded_totals(call, monkeypatch, project, reference, venue):
    """In the worst scenario of each venue; on the pool, debt in an asset that is being sold."""
    run, _ = reference
    scenarios = table(run)
    scenario = int(np.argmax(scenarios[f"bad_debt_{venue}_usd"]))
    monkeypatch.chdir(project)
    ended = call("replay", run, "--scenario", scenario, "--json")
    events = [event for event in replayed(ended) if event["venue"] == venue]
    for column, entry in (("liquidated", "seized_usd"), ("bad_debt", "bad_debt_usd")):
        recorded = float(scenarios[f"{column}_{venue}_usd"][scenario])
        assert recorded > 0.0
        assert_close(sum(event[entry] for event in events), recorded, rtol=1e-9, atol=1e-6)


def test_replay_ends_at_the_recorded_prices_and_prints_them(call, monkeypatch, project, worst):
    run, scenario = worst
    scenarios = table(run)
    monkeypatch.chdir(project)
    ended = call("replay", run, "--scenario", scenario, "--json")
    last = [event for event in json.loads(ended.out)["events"] if event["event"] == "prices"][-1]
    for asset, price in last["price_usd"].items():
        recorded = float(scenarios[f"final_price_{asset}_usd"][scenario])
        assert_close(price, recorded, rtol=1e-12, atol=0.0)
    ended = call("replay", run, "--scenario", scenario)
    assert ended.code == 0
    assert f"scenario {scenario}:" in ended.out
    assert "bad debt" in ended.out


def test_replay_works_from_any_folder(call, monkeypatch, tmp_path, worst):
    """A run is its directory: where it is read from is no part of it."""
    run, scenario = worst
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
