"""The report renders a realistic run, says what is missing, and leaks nothing to the network."""

import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from jaxrisk.run import formatting as fmt
from jaxrisk.run.report import render_report, write_report


ASSETS = ("WETH", "wstETH", "WBTC", "USDC")
VENUES = ("pool", "blue")
LEVELS = (0.95, 0.99)


def _tail(loss, scale=1.0):
    """A measure's summary as the run writes it, errors from simple large-sample formulas."""
    loss = loss * scale
    entry = {"mean": loss.mean(), "standard_error": loss.std() / math.sqrt(loss.size)}
    for level in LEVELS:
        quantile = np.quantile(loss, level)
        beyond = loss[loss >= quantile]
        entry[f"var_{level}"] = quantile
        entry[f"var_{level}_standard_error"] = 0.03 * quantile
        entry[f"es_{level}"] = beyond.mean()
        entry[f"es_{level}_standard_error"] = beyond.std() / math.sqrt(beyond.size)
    return {key: float(value) for key, value in entry.items()}


def _scenarios(rng, count):
    loss = np.where(rng.random(count) < 0.12, np.exp(rng.normal(11.3, 1.6, count)), 0.0)
    liquidated = loss * 6 + np.where(rng.random(count) < 0.6, np.exp(rng.normal(14, 1.2, count)), 0)
    return {
        "scenario": np.arange(count),
        "bad_debt_usd": loss,
        "liquidated_usd": liquidated,
        "borrower_loss_usd": liquidated * 0.06,
        "supplier_loss_usd": loss * 0.8,
        "keeper_profit_usd": liquidated * 0.021,
        "protocol_fee_usd": liquidated * 0.005,
        "conservation_error_frac": rng.random(count) * 1e-15,
        "rounds": rng.integers(0, 4, count),
        "converged": rng.random(count) > 0.002,
        **{f"minimum_price_{asset}_usd": rng.random(count) * 3000 for asset in ASSETS},
        "bad_debt_pool_usd": loss * 0.7,
        "bad_debt_blue_usd": loss * 0.3,
        "reserve_pool_usd": loss * 0.2,
        "suppliers_written_down_blue_usd": loss * 0.3,
    }


def _accounts(rng, count):
    debt = np.exp(rng.normal(10, 1.8, count))
    health = np.exp(rng.normal(0.4, 0.3, count))
    expected = debt * np.clip(1.25 - health, 0, None) ** 2 * 0.05
    value = 0.82 / health
    return {
        "account_id": np.array(
            [f"0x{int(a):040x}" for a in rng.integers(2**40, 2**60, count)], dtype=object
        ),
        "venue": np.where(rng.random(count) < 0.8, *VENUES),
        "category": np.where(rng.random(count) < 0.2, "eth correlated", "").astype(object),
        "owner": np.full(count, ""),
        "collateral_usd": debt / value,
        "debt_usd": debt,
        "loan_to_value_frac": value,
        "health_factor": health,
        "leverage": np.where(value < 1, 1 / (1 - value), np.inf),
        "debt_to_equity": np.where(value < 1, value / (1 - value), np.inf),
        "distance_to_liquidation_frac": 1 - 1 / health,
        "liquidation_price_WETH_usd": 3100 / health,
        "toxic": value > 1 / 1.05,
        "expected_bad_debt_usd": expected,
        "expected_bad_debt_standard_error_usd": expected * 0.08,
        "liquidation_probability_frac": np.clip(1.4 - health, 0, 1),
        "expected_loss_usd": expected * 2,
    }


def _liquidation_map():
    rows = []
    for venue, size in zip(VENUES, (2.4e7, 9e6), strict=True):
        for asset, share in (("WETH", 0.6), ("wstETH", 0.25), ("WBTC", 0.15), ("all", 1.1)):
            for move in np.round(np.arange(0.0, -0.61, -0.02), 2):
                debt = size * share / (1 + math.exp(18 * (move + 0.27)))
                bad = 0.3 * debt * max(0.0, -move - 0.3) if asset == "all" else 0.0
                rows.append((venue, asset, move, debt, 1.1 * debt, bad))
    names = ("venue", "asset", "price_change_frac", "liquidatable_debt_usd")
    names += ("liquidatable_collateral_usd", "bad_debt_usd")
    return {
        name: np.array(values) for name, values in zip(names, zip(*rows, strict=True), strict=True)
    }


def _path_quantiles(steps=48):
    levels = (-1.645, -0.674, 0.0, 0.674, 1.645)
    columns = {"quantity": [], "step": [], "time_hours": []}
    columns |= {name: [] for name in ("q05", "q25", "q50", "q75", "q95", "mean")}
    start = {"WETH": 3119.0, "wstETH": 3774.0, "WBTC": 91000.0, "USDC": 1.0}
    quantities = [f"price.{asset}" for asset in ASSETS] + ["bad_debt_usd", "liquidated_usd"]
    for quantity in quantities:
        for step in range(steps + 1):
            spread = 0.009 * math.sqrt(step) * (0.02 if quantity == "price.USDC" else 1)
            if quantity.startswith("price."):
                spot = start[quantity.removeprefix("price.")]
                values = [spot * math.exp(level * spread) for level in levels] + [spot]
            elif quantity == "bad_debt_usd":
                values = [0, 0, 0, 0, 3e4 * (step / steps) ** 2, 6e4 * step / steps]
            else:
                values = [x * 1e6 * step / steps for x in (0, 0.2, 0.8, 2.0, 6.0, 1.7)]
            columns["quantity"].append(quantity)
            columns["step"].append(step)
            columns["time_hours"].append(float(step))
            for name, value in zip(
                ("q05", "q25", "q50", "q75", "q95", "mean"), values, strict=True
            ):
                columns[name].append(value)
    return {name: np.array(values) for name, values in columns.items()}


def _sensitivities():
    rows = [
        (
            "liquidation_threshold.WETH",
            0.83,
            -1.9e6,
            9e4,
            "smoothed gate 0.02",
            -1.8e6,
            1.2e5,
            True,
        ),
        ("liquidation_bonus.WETH", 0.05, 2.1e6, 2e5, "smoothed gate 0.02", 2.3e6, 3e5, True),
        ("volatility.WETH", 0.75, 4.1e5, 1.5e4, "pathwise", 4.0e5, 2.5e4, True),
        ("volatility.WBTC", 0.55, 8.0e4, 6e3, "pathwise", 8.2e4, 9e3, True),
        ("correlation", 0.6, 1.2e5, 9e4, "bump", 1.2e5, 9e4, False),
        ("depth.WETH", 4.0e7, -3.1e-3, 2e-4, "smoothed gate 0.02", -1.1e-3, 3e-4, False),
        ("insurance.pool", 0.0, -0.11, 0.004, "pathwise", -0.11, 0.005, True),
        ("depth.wstETH", 1.2e7, -2.0e-3, math.nan, "bump", math.nan, math.nan, None),
    ]
    keys = ("parameter", "value", "derivative", "standard_error", "estimator")
    keys += ("bump_derivative", "bump_standard_error", "agrees")
    return [{"measure": "bad_debt_usd", **dict(zip(keys, row, strict=True))} for row in rows]


def _solvency():
    delta = {"WETH": -1.31, "wstETH": -0.62, "WBTC": -0.28, "USDC": 0.94}
    pool = {"debt_usd": 1.9e7, "equity_usd": 1.6e7, "debt_to_equity": 1.19, "assets": ["WETH"]}
    blue = {"debt_usd": 6.1e6, "equity_usd": 3.0e6, "debt_to_equity": 2.03, "assets": ["wstETH"]}
    system = {"debt_usd": 2.51e7, "equity_usd": 1.9e7, "debt_to_equity": 1.32}
    return {
        "system": {**system, "debt_to_equity_delta": delta},
        "venues": {
            "pool": {**pool, "debt_to_equity_delta": delta},
            "blue": {**blue, "debt_to_equity_delta": {"wstETH": -4.1, "USDC": 4.2}},
        },
    }


@pytest.fixture(scope="module")
def tables():
    rng = np.random.default_rng(5)
    return {
        "scenarios": _scenarios(rng, 20000),
        "accounts": _accounts(rng, 500),
        "liquidation_map": _liquidation_map(),
        "path_quantiles": _path_quantiles(),
    }


@pytest.fixture(scope="module")
def summary(tables):
    scenarios = tables["scenarios"]
    loss = scenarios["bad_debt_usd"]
    measures = {
        name: _tail(scenarios[name])
        for name in scenarios
        if name.endswith("_usd") and not any(part in name for part in (*VENUES, "minimum"))
    }
    chance = float((loss > 0).mean())
    return {
        "name": "Quickstart",
        "synthetic": True,
        "measures": measures,
        "probabilities": {
            "any_bad_debt": {"mean": chance, "standard_error": 0.0023},
            "bad_debt_above_threshold": {
                "threshold_usd": 1e6,
                "mean": float((loss > 1e6).mean()),
                "standard_error": 0.0006,
            },
            "unconverged": {"mean": 0.002, "standard_error": 0.0003},
        },
        "bearers": [
            _bearer("pool", "reserve", loss * 0.2),
            _bearer("pool", "insurance", loss * 0.1),
            _bearer("pool", "suppliers (deficit carried)", loss * 0.4),
            _bearer("blue", "suppliers (written down)", loss * 0.3),
        ],
        "solvency": _solvency(),
        "snapshot": {
            "accounts": 500,
            "debt_usd": 2.51e7,
            "collateral_usd": 4.41e7,
            "median_health_factor": 1.49,
            "debt_below_health_1_1_usd": 2.1e6,
            "insolvent_accounts": 2,
            "liquidatable_accounts": 31,
            "toxic_share_frac": 0.012,
        },
        "sensitivities": _sensitivities(),
        "data_quality": [
            "2 accounts (0.4 % of debt) owe more than they own at the start: 0x9600…2745, 0x12ab…00ff.",
            "Collateral mix imputed for 0 % of debt.",
        ],
        "assumptions": [
            "Prices follow a correlated jump diffusion with the volatilities of the configuration.",
            "Forced sales move prices by a square-root law; 30 % of the move is permanent.",
            "Owners do not repay or add collateral within the horizon.",
        ],
        "run": {
            "versions": {"jaxrisk": "0.1.0", "jax": "0.10.1", "numpy": "2.4.6", "python": "3.11.9"},
            "device": "cpu × 2",
            "precision": "float64",
            "seed": 1,
            "scenarios": 20000,
            "steps": 48,
            "step_hours": 1.0,
            "seconds": {"compile": 6.1, "run": 4.4, "total": 13.0},
            "config_hash": "sha256:3f1c9a0b7d",
            "command": "jaxrisk run configs/quickstart.toml --seed 1",
        },
    }


def _bearer(venue, bearer, loss):
    entry = _tail(loss)
    return {
        "venue": venue,
        "bearer": bearer,
        "mean_usd": entry["mean"],
        "standard_error_usd": entry["standard_error"],
        "es_usd": entry["es_0.99"],
    }


CONFIG = 'name = "Quickstart"\n\n[run]\nscenarios = 20000\nsteps = 48\nstep_hours = 1.0\nseed = 1\n'
