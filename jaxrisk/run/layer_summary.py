"""Layers in a run's results: how leveraged each is, what reaches it, and the book with one less."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxrisk.measure.layers import layer_rows, layers_of
from jaxrisk.measure.tail import tail_summary
from jaxrisk.numerics.keys import root_key
from jaxrisk.run.build import Built
from jaxrisk.run.build_market import HOURS_A_YEAR
from jaxrisk.run.config import Config
from jaxrisk.run.summary import scenario_table
from jaxrisk.system.claim_scope import without_claim
from jaxrisk.system.simulate import Plan, cut_books, layouts, simulator, step_rules
from jaxrisk.system.trace import Trace

COMPARED = ("bad_debt_usd", "liquidated_usd", "borrower_loss_usd", "supplier_loss_usd")


def layer_summary(
    config: Config, built: Built, plan: Plan, trace: Trace, scenarios: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Return `layers`, `claims` and `one_layer_less` of the summary; nothing without claims.

    Args:
        config: the configuration.
        built: its system.
        plan: how its scenarios are played.
        trace: its first scenarios with all accounts.
        scenarios: the `scenarios` columns.
    """
    if not built.system.claims:
        return {}
    return {
        "layers": _layers(built, trace),
        "claims": _claims(built, scenarios, config.run.confidences),
        "one_layer_less": _one_layer_less(config, built, plan, len(trace.mid), scenarios),
    }


def _layers(built: Built, trace: Trace) -> list[dict[str, Any]]:
    """Return the snapshot of each layer, and what its accounts lose in the traced scenarios."""
    rows = layer_rows(built.system, built.volatile)
    for row, layer in zip(rows, layers_of(built.system), strict=True):
        paths, own = trace.accounts[layer.venue], list(layer.accounts)
        bad = np.asarray(paths.written_off)[:, own]
        taken = np.asarray(paths.seized)[:, own]
        lost = taken - np.asarray(paths.repaid)[:, own] + np.asarray(paths.converted)[:, own]
        called = ((taken > 0) | (bad > 0)).any(axis=1)
        row |= {
            "called_probability_frac": float(called.mean()),
            "expected_loss_usd": float(lost.sum(axis=1).mean()),
            "expected_bad_debt_usd": float(bad.sum(axis=1).mean()),
        }
    return rows


def _claims(
    built: Built, scenarios: Mapping[str, np.ndarray], levels: tuple[float, ...]
) -> dict[str, Any]:
    """Return what each claim's rate is at the end, and the loss against its opening."""
    found = {}
    for claim in built.system.claims:
        name = built.system.assets[claim.asset]
        opening = float(np.exp(np.asarray(built.system.market.log_ratio)[claim.asset]))
        rate = scenarios[f"claim_{name}_rate"]
        found[name] = {
            "opening_rate": opening,
            "mean_rate": float(rate.mean()),
            "lowest_rate": float(rate.min()),
            "loss_frac": tail_summary(1.0 - rate / opening, levels),
        }
    return found


def _one_layer_less(
    config: Config, built: Built, plan: Plan, count: int, scenarios: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Return mean losses as they are, and with each claim a plain asset whose rate does not move.

    All over the same first `count` scenarios.
    """
    venues = [venue.name for venue in built.system.venues]
    names = (*COMPARED, *(f"bad_debt_{venue}_usd" for venue in venues))
    mean = lambda table: {name: float(table[name][:count].mean()) for name in names}
    rows = [{"without": None, "scenarios": count, **mean(scenarios)}]
    rules = step_rules(built.system, plan, config.run.step_hours / HOURS_A_YEAR)
    for claim in built.system.claims:
        system = without_claim(built.system, claim.asset)
        books = cut_books(system, layouts(system, plan))
        outcome = simulator(plan)(system, books, rules, root_key(config.run.seed), np.arange(count))
        table = scenario_table(system, jax.device_get(outcome), 0)
        less = {"without": system.assets[claim.asset], "scenarios": count}
        rows.append({**less, **mean(table)})
    return rows
