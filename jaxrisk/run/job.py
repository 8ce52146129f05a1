"""One run from configuration to results: interruptible parts, then measures and report."""

import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrisk.errors import DeviceError, InterruptedRunError
from jaxrisk.numerics.keys import root_key
from jaxrisk.run import printing
from jaxrisk.run.build import Built, input_files
from jaxrisk.run.build_market import HOURS_A_YEAR
from jaxrisk.run.config import Config
from jaxrisk.run.critical import critical_tables
from jaxrisk.run.layer_summary import layer_summary
from jaxrisk.run.report import write_report
from jaxrisk.run.store import RunDirectory
from jaxrisk.run.stress import stress_rows, stress_table
from jaxrisk.run.summary import (
    account_table,
    liquidation_map_table,
    owners_table,
    path_quantile_table,
    scenario_table,
    sensitivity_rows,
    sensitivity_table,
    summarise,
)
from jaxrisk.system.engine import Choice
from jaxrisk.system.simulate import (
    Outcome,
    Plan,
    lanes_for,
    player,
    step_rules,
)
from jaxrisk.system.system import System
from jaxrisk.system.trace import tracer

# Scenarios of a part: small enough that an interrupt loses little, large enough to be busy.
PART_SCENARIOS = 512

_DATA_PATHS = (("book", "positions"), ("market", "history"))

_COMPILE_EVENTS = "/jax/core/compile/"


class Clock:
    """Seconds spent compiling, whoever asked for it, and the rest: computing."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []
        self._started = time.perf_counter()
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event.startswith(_COMPILE_EVENTS):
            end = time.perf_counter()
            start = end - duration_secs
            # A function is heard of after the functions it calls: its span holds theirs.
            self._spans = [span for span in self._spans if span[0] < start]
            self._spans.append((start, end))

    @property
    def compile(self) -> float:
        """Seconds in which anything was traced, lowered or compiled."""
        return sum(end - start for start, end in self._spans)

    @property
    def total(self) -> float:
        """Seconds since the clock was started."""
        return time.perf_counter() - self._started


def configure_device(device: str, precision: str, cores: int) -> str:
    """Set JAX up for a run, before its first use, and return the device in words.

    Args:
        device: auto, cpu or gpu.
        precision: float32 or float64.
        cores: virtual CPU devices to make; without them one core does all the work.

    Raises:
        DeviceError: a GPU is asked for and JAX sees none.
    """
    jax.config.update("jax_enable_x64", precision == "float64")
    jax.config.update("jax_num_cpu_devices", cores)
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    platform_name = jax.default_backend()
    if device == "gpu" and platform_name != "gpu":
        raise DeviceError(
            f"--device gpu: jax sees {platform_name} only; install the CUDA plugin "
            '(pip install "jaxrisk[cuda13]") or use --device cpu'
        )
    devices = jax.local_devices()
    name = devices[0].device_kind
    return f"{platform_name} ({name}), {len(devices)} device{'s' if len(devices) > 1 else ''}"


def config_hash(config: Config) -> str:
    """Return what tells one run's inputs from another's: configuration, seed and data files."""
    content = config.model_dump(mode="json")
    content["run"].pop("output")
    content["run"].pop("device")
    # Data counts by what is in it, not by where it lies.
    for section, key in _DATA_PATHS:
        if content[section].get(key):
            content[section][key] = None
    if content["book"].get("user_totals"):
        content["book"]["user_totals"] |= {"users": None, "debts": None}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for path in input_files(config):
        digest.update(path.read_bytes() if path.exists() else b"")
    return digest.hexdigest()[:16]


def execute(
    config: Config,
    *,
    built: Built,
    device: str,
    command: str,
    config_text: str,
    force: bool,
    resume: bool,
    quiet: bool,
) -> tuple[dict[str, Any], Path]:
    """Return the summary and the report's path after running and writing everything.

    Raises:
        ConfigError: the output directory cannot be used.
        InterruptedRunError: stopped by the user; finished parts are kept.
        DeviceError: the device has too little memory.
    """
    assert config.run.output is not None
    digest = config_hash(config)
    directory = RunDirectory.create(
        config.run.output, force=force, resume=resume, config_hash=digest
    )
    clock = Clock()
    try:
        simulate_parts(config, built, directory, clock, device, quiet=quiet)
        tables, summary = _finish(config, built, directory, quiet=quiet)
        summary["run"] = _run_record(config, built.engines, clock, device, digest, command)
        for name, table in tables.items():
            directory.write_table(name, table)
        directory.write_json("summary.json", summary)
        record = {"config": config.model_dump(mode="json"), **summary["run"]}
        directory.write_json("run.json", record)
        report = write_report(
            directory.path, summary, tables, config_text, top_accounts=config.report.top_accounts
        )
        directory.finish()
    except KeyboardInterrupt:
        done = sum(count for _, count in directory.completed_parts())
        raise InterruptedRunError(
            f"interrupted after {done} of {config.run.scenarios} scenarios; the same command with "
            "--resume finishes the run with the same numbers"
        ) from None
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise DeviceError(
                "the device ran out of memory; use fewer accounts, --precision float32, or a "
                "device with more memory"
            ) from error
        raise
    return summary, report


def _run_record(
    config: Config,
    engines: tuple[Choice, ...],
    clock: Clock,
    device: str,
    digest: str,
    command: str,
) -> dict[str, Any]:
    """Return the `run` section of the summary: what a repetition needs, and what it cost."""
    run = config.run
    return {
        "versions": versions(),
        "device": device,
        "precision": run.precision,
        "engines": [dataclasses.asdict(choice) for choice in engines],
        "seed": run.seed,
        "scenarios": run.scenarios,
        "steps": run.steps,
        "step_hours": run.step_hours,
        "seconds": {
            "compile": clock.compile,
            "run": clock.total - clock.compile,
            "total": clock.total,
        },
        "config_hash": digest,
        "command": command,
    }


def simulate_parts(
    config: Config,
    built: Built,
    directory: RunDirectory,
    clock: Clock,
    device: str,
    *,
    quiet: bool,
) -> None:
    """Simulate the parts that are still missing, writing each as it is finished."""
    run, system = config.run, built.system
    size = min(PART_SCENARIOS, run.scenarios)
    done = {first for first, _ in directory.completed_parts()}
    firsts = [first for first in range(0, run.scenarios, size) if first not in done]
    printing.print_notice(
        printing.plan_line(
            accounts=sum(v.accounts.count for v in system.venues),
            assets=len(system.assets),
            venues=len(system.venues),
            scenarios=run.scenarios,
            steps=run.steps,
            step_hours=run.step_hours,
            device=device,
            precision=run.precision,
            completed=sum(count for _, count in directory.completed_parts()),
            synthetic=built.synthetic,
        ),
        quiet=quiet,
    )
    for choice in built.engines:
        text = f"engine of {choice.venue}: {choice.engine}, {choice.reason}"
        printing.print_notice(text, quiet=quiet)
    if not firsts:
        return
    play = part_player(config, built, size, quiet=quiet)
    finished = run.scenarios - sum(min(size, run.scenarios - f) for f in firsts)
    with printing.progress(run.scenarios, completed=finished, quiet=quiet) as advance:
        for first in firsts:
            count = min(size, run.scenarios - first)
            outcome = play(np.arange(first, first + count))
            if first == firsts[0]:
                printing.print_notice(f"compiled in {clock.compile:.1f} s", quiet=quiet)
            directory.write_part(first, scenario_table(system, outcome, first, built.vaults))
            advance(count)


def part_player(
    config: Config, built: Built, size: int, *, quiet: bool
) -> Callable[[np.ndarray], Outcome]:
    """Return the simulation of up to `size` scenario ids; all calls have one shape.

    The first call compiles.
    """
    plan, system = simulation_plan(config, built.system), built.system
    rules = step_rules(system, plan, config.run.step_hours / HOURS_A_YEAR)
    key = root_key(config.run.seed)
    run = player(system, plan, rules, key, built.engines)
    printing.print_notice("compiling (cached for the next run) ...", quiet=quiet)

    def play(wanted: np.ndarray) -> Outcome:
        outcome = run(np.resize(wanted, size))
        return jax.tree.map(lambda x: np.asarray(x)[: len(wanted)], outcome)

    return play


def simulation_plan(config: Config, system: System) -> Plan:
    """Return how a run's scenarios are played."""
    rounds = config.run.rounds
    return Plan(steps=config.run.steps, rounds=rounds, chunk=1024, lanes=lanes_for(system, rounds))


def _finish(
    config: Config, built: Built, directory: RunDirectory, *, quiet: bool
) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Return all tables and the summary of a simulated run."""
    scenarios = directory.read_parts()
    plan, step_years = simulation_plan(config, built.system), config.run.step_hours / HOURS_A_YEAR
    rules = step_rules(built.system, plan, step_years)
    key = root_key(config.run.seed)
    ids = np.arange(min(config.report.fan_scenarios, config.run.scenarios))
    printing.print_notice(f"paths and account losses of {len(ids)} scenarios ...", quiet=quiet)
    trace = tracer(plan, keep_steps=False)(built.system, rules, key, ids)
    trace = jax.tree.map(lambda x: np.asarray(x, np.float64), trace)
    notice = lambda text: printing.print_notice(f"sensitivities: {text} ...", quiet=quiet)
    rows = sensitivity_rows(config, built.system, key, notice)
    tables: dict[str, dict[str, Any]] = {
        "scenarios": scenarios,
        "accounts": account_table(built, trace),
        "liquidation_map": liquidation_map_table(built),
        "path_quantiles": path_quantile_table(built.system, trace, config.run.step_hours),
    }
    if (owners := owners_table(built)) is not None:
        tables["owners"] = owners
    if rows:
        tables["sensitivities"] = sensitivity_table(rows)
    summary = summarise(config, built, scenarios, rows, traced=len(ids))
    player = functools.partial(part_player, quiet=True)
    if stresses := stress_rows(config, player=player, quiet=quiet):
        tables["stresses"] = stress_table(stresses)
        summary["stresses"] = stresses
    critical, summary["critical"] = critical_tables(config, built)
    return tables | critical, summary | layer_summary(config, built, plan, trace, scenarios)


def versions() -> dict[str, str]:
    """Return the versions that a reproduction needs."""
    return {
        "jaxrisk": importlib.metadata.version("jaxrisk"),
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
