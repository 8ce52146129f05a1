"""A small project for the command line, and two ways to call it: here and in another interpreter.

One system for all of it, so that simulations share a compilation.
"""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxrisk import cli
from tests.conftest import ROOT

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
    "critical_points.parquet",
    "feedback.parquet",
    "survival.parquet",
}
# Several times what these runs take on two busy cores.
PATIENCE_SECONDS = 240


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


def calls_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Call]:
    """Yield a function that calls the entry point in this interpreter, its devices set up."""
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


def with_amount(account: str, amount: str) -> str:
    """Return the book with another amount in the first row of an account."""
    row = next(line for line in BOOK.splitlines() if line.startswith(f"{account},"))
    return BOOK.replace(row, f"{row.rpartition(',')[0]},{amount}")
