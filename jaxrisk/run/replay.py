"""One scenario of a finished run again, event by event."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrisk.errors import ConfigError, DataError
from jaxrisk.numerics.keys import root_key
from jaxrisk.run.build import Built
from jaxrisk.run.build_market import HOURS_A_YEAR
from jaxrisk.run.config import Config
from jaxrisk.run.job import config_hash, simulation_plan
from jaxrisk.system.simulate import step_rules
from jaxrisk.system.trace import tracer


def recorded_config(run: Path) -> tuple[Config, dict[str, Any]]:
    """Return the configuration of a finished run and its record.

    Raises:
        ConfigError: the folder holds no finished run, or its inputs have changed since.
    """
    record_path = run / "run.json"
    if not record_path.exists():
        raise ConfigError(f"{run}: no finished run here (no run.json)")
    record = json.loads(record_path.read_text(encoding="utf-8"))
    config = Config.model_validate(record["config"])
    if config_hash(config) != record["config_hash"]:
        raise ConfigError(
            f"{run}: the data files of the run have changed since; a replay would be another run"
        )
    return config, record


def replay(config: Config, built: Built, scenario: int) -> list[dict[str, Any]]:
    """Return the events of one scenario: what every step did to prices and accounts.

    Raises:
        DataError: the run has no such scenario.
    """
    if not 0 <= scenario < config.run.scenarios:
        raise DataError(
            f"--scenario {scenario}: the run has scenarios 0 to {config.run.scenarios - 1}"
        )
    system = built.system
    plan = simulation_plan(config, system)
    rules = step_rules(system, plan, config.run.step_hours / HOURS_A_YEAR)
    trace = tracer(plan, keep_steps=True)(
        system, rules, root_key(config.run.seed), np.array([scenario])
    )
    trace = jax.tree.map(lambda x: np.asarray(x, np.float64)[0], trace)
    events: list[dict[str, Any]] = []
    for step in range(config.run.steps):
        time = {"step": step + 1, "time_hours": (step + 1) * config.run.step_hours}
        prices = dict(zip(system.assets, trace.mid[step].tolist(), strict=True))
        events.append({**time, "event": "prices", "price_usd": prices})
        for venue, book, paths in zip(system.venues, built.books, trace.accounts, strict=True):
            now = [np.asarray(p)[step] for p in (paths.seized, paths.repaid, paths.written_off)]
            if step:
                before = (paths.seized, paths.repaid, paths.written_off)
                now = [n - np.asarray(p)[step - 1] for n, p in zip(now, before, strict=True)]
            seized, repaid, written_off = now
            events += [
                {
                    **time,
                    "event": "liquidation",
                    "venue": venue.name,
                    "account_id": book.account_id[account],
                    "seized_usd": float(seized[account]),
                    "repaid_usd": float(repaid[account]),
                    "bad_debt_usd": float(written_off[account]),
                }
                for account in np.flatnonzero((seized > 0) | (repaid > 0) | (written_off > 0))
            ]
    return events
