"""Real positions end to end: the thousand largest borrowers, on a few scenarios.

The tables are not part of the project, so all of this is skipped where they are absent.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import ROOT

CONFIG = ROOT / "configs" / "aave_v3_ethereum.toml"
USERS = "aave_v3_eth_top1000_users_2025_12.parquet"
DEBTS = "aave_v3_eth_top1000_debt_positions_2025_12.parquet"

# Several times what the run takes on two busy cores.
PATIENCE_SECONDS = 240

pytestmark = pytest.mark.multiprocess


@pytest.fixture(scope="module")
def tables(shared: Path) -> list[str]:
    """The options that lead to the recorded tables, wherever they are."""
    if not CONFIG.exists():
        pytest.skip(f"{CONFIG.name} is not in configs/")
    folder = shared / "data" / "lending"
    options = []
    for key, name in (("users", USERS), ("debts", DEBTS)):
        if not (folder / name).exists():
            pytest.skip(f"{folder / name} is not there")
        options += ["--set", f"book.user_totals.{key}={json.dumps(str(folder / name))}"]
    return options


def jaxrisk(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Return how a call of the command line ended, standing in an empty folder."""
    return subprocess.run(
        [sys.executable, "-c", "from jaxrisk.cli import main; main()", *map(str, arguments)],
        cwd=folder,
        env={
            **os.environ,
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(folder / "cache"),
            "MPLCONFIGDIR": str(folder / "matplotlib"),
            "JAX_PLATFORMS": "cpu",
            "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "jax"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def imputed_shares(lines: list[str]) -> list[int]:
    """Return the shares of imputed collateral that are stated, in percent."""
    found = [re.search(r"(\d+)% of collateral is imputed", line) for line in lines]
    return [int(match[1]) for match in found if match]


def test_the_configuration_and_its_tables_are_valid(tables, tmp_path):
    ended = jaxrisk(tmp_path, "validate", CONFIG, *tables)
    assert ended.returncode == 0, ended.stderr
    (accounts,) = re.findall(r"valid; ([\d,]+) accounts", ended.stdout)
    assert 950 <= int(accounts.replace(",", "")) <= 1000
    assert imputed_shares(ended.stdout.splitlines()) == [100]


@pytest.mark.slow
def test_a_short_run_finishes_and_says_how_much_is_imputed(tables, tmp_path):
    ended = jaxrisk(
        tmp_path, "run", CONFIG, *tables, "--json", "--out", "out", "--scenarios", 64,
        "--set", "steps=6", "--set", "sensitivities.parameters=[]",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert imputed_shares(summary["data_quality"]) == [100]
    assert any("e-mode loops" in line for line in summary["data_quality"])
    assert not summary["synthetic"]
    # Totals of the source: 14.8 billion USD of debt on 23.5 of collateral.
    whole = summary["solvency"]["system"]
    assert 14.0e9 < whole["debt_usd"] < 15.0e9
    assert 1.0 < whole["debt_to_equity"] < 2.5
    assert summary["measures"]["liquidated_usd"]["mean"] > 0.0
    scenarios = pq.read_table(tmp_path / "out" / "scenarios.parquet")
    assert scenarios.num_rows == 64
    assert max(scenarios.column("conservation_error_frac").to_pylist()) < 1e-9
    assert (tmp_path / "out" / "report.html").stat().st_size < 2_000_000
