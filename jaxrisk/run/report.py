"""The report of a run: one self-contained HTML file, made to be forwarded and printed.

Python decides what is said and how numbers read (`_context`); the template decides how it looks.
A table that is missing or empty costs its section, which then says so in a sentence.
"""

import importlib.resources
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from jaxrisk.run import charts
from jaxrisk.run import formatting as fmt
from jaxrisk.run.columns import TABLES
from jaxrisk.run.critical import critical_context
from jaxrisk.run.store import write_text
from jaxrisk.run.stress_text import side_by_side

Summary = Mapping[str, Any]
Tables = Mapping[str, Mapping[str, np.ndarray]]
Row = dict[str, Any]
T = TypeVar("T")

CONFIG_LIMIT = 100_000
"""Characters of the configuration that are reprinted."""
FALLS = (0.05, 0.10, 0.20, 0.30, 0.40, 0.50)
"""Joint price falls tabulated under the liquidation map."""


def write_report(
    directory: str | Path,
    summary: Summary,
    tables: Tables,
    config_text: str,
    *,
    top_accounts: int = 20,
) -> Path:
    """Return the path of `report.html`, written whole or not at all.

    Args:
        directory: the run directory, which exists.
        summary: content of `summary.json`.
        tables: table name to columns, as written to Parquet; missing ones lose their section.
        config_text: the configuration, reprinted at the end.
        top_accounts: rows in the table of accounts.
    """
    html = render_report(summary, tables, config_text, top_accounts=top_accounts)
    return write_text(Path(directory) / "report.html", html)


def render_report(
    summary: Summary, tables: Tables, config_text: str, *, top_accounts: int = 20
) -> str:
    """Return the report as HTML text; arguments as in `write_report`."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = importlib.resources.files("jaxrisk.run") / "templates" / "report.html.j2"
    template = environment.from_string(source.read_text(encoding="utf-8"))
    filled = {
        name: {key: np.asarray(values) for key, values in table.items()}
        for name, table in tables.items()
        if table and all(len(values) > 0 for values in table.values())
    }
    return template.render(_context(summary, filled, config_text, top_accounts))


def _context(summary: Summary, tables: Tables, config_text: str, top_accounts: int) -> Row:
    """Return everything the template shows, numbers already formatted."""
    run = summary["run"]
    reprint = config_text[:CONFIG_LIMIT]
    if len(config_text) > CONFIG_LIMIT:
        reprint += f"\n… {len(config_text) - CONFIG_LIMIT:,} more characters"
    return {
        "title": summary.get("name") or "Risk report",
        "synthetic": bool(summary.get("synthetic")),
        "headline": summary.get("headline") or fmt.headline(summary),
        "span": fmt.horizon(fmt.as_float(run.get("steps")) * fmt.as_float(run.get("step_hours"))),
        "run": run,
        "scenarios": fmt.count(run.get("scenarios")),
        "tiles": _tiles(summary),
        "measures": _measures(summary),
        "distribution": _distribution(summary, tables),
        "fan": _fan(tables),
        "on_margin": fmt.join_names(_on_margin(tables)),
        "map": _map(tables),
        "critical": critical_context(summary, tables),
        "bearers": _bearers(summary),
        "accounts": _accounts(tables, top_accounts),
        "sensitivities": _sensitivities(summary, tables),
        "solvency": _solvency(summary),
        "vaults": _vaults(summary),
        "stresses": summary.get("stresses", ()),
        "stress_lines": side_by_side(summary.get("stresses", ())),
        "layers": fmt.layer_cells(summary),
        "less": fmt.less_cells(summary),
        "assumptions": list(summary.get("assumptions", ())),
        "data_quality": [*summary.get("data_quality", ()), *_numerical_checks(tables)],
        "seconds": {key: fmt.duration(value) for key, value in run.get("seconds", {}).items()},
        "files": {f"{name}.parquet": meaning for name, meaning in TABLES.items()},
        "config_text": reprint,
    }


def _on_margin(tables: Tables) -> list[str]:
    """Return the venues whose accounts hold contracts on margin and owe nothing."""
    table = tables.get("accounts", {})
    if "notional_usd" not in table:
        return []
    held = np.isfinite(np.asarray(table["notional_usd"], dtype=np.float64))
    return _ordered(str(name) for name in table["venue"][held])


def _tiles(summary: Summary) -> list[tuple[str, str, str]]:
    """Return (name, value, remark) of the chances and the snapshot at the start."""
    tiles: list[tuple[str, str, str]] = []
    for name, entry in summary.get("probabilities", {}).items():
        threshold = entry.get("threshold_usd")
        title = fmt.label(name)
        if threshold is not None:
            title = f"Bad debt above {fmt.round_amount(threshold)}"
        chance = fmt.percent(entry.get("mean"), entry.get("standard_error", math.nan))
        tiles.append((title, chance, "of scenarios"))
    book = summary.get("snapshot", {})
    debt = fmt.as_float(book.get("debt_usd"))
    near = fmt.as_float(book.get("debt_below_health_1_1_usd"))
    broken = fmt.count(book.get("insolvent_accounts"))
    remarks = f"{fmt.count(book.get('liquidatable_accounts'))} liquidatable, {broken} insolvent"
    median = ("Median health factor", fmt.ratio(book.get("median_health_factor")), "of accounts")
    tiles.append(("Accounts at the start", fmt.count(book.get("accounts")), remarks))
    if debt == 0:
        return [
            *tiles,
            ("Collateral", fmt.amount(book.get("collateral_usd")), "against no debt"),
            median,
        ]
    tiles += [
        ("Debt", fmt.amount(debt), f"on {fmt.amount(book.get('collateral_usd'))} of collateral"),
        median,
        (
            "Debt at health below 1.1",
            fmt.amount(near),
            f"{fmt.percent(near / debt) if debt > 0 else fmt.NOT_AVAILABLE} of debt",
        ),
        ("Toxic positions", fmt.percent(book.get("toxic_share_frac")), "liquidation worsens them"),
    ]
    return tiles


def _measures(summary: Summary) -> Row:
    """Return the key figures: one row a measure, each figure with its standard error."""
    measures = summary["measures"]
    levels = fmt.all_confidences(measures)
    keys = ["mean", *(f"{kind}_{level}" for level in levels for kind in ("var", "es"))]
    rows: list[Row] = []
    for name, measure in measures.items():
        figures = []
        for key in keys:
            error = "standard_error" if key == "mean" else f"{key}_standard_error"
            figures.append((_bare(name, measure.get(key)), f"± {_bare(name, measure.get(error))}"))
        rows.append({"name": fmt.label(name), "figures": figures})
    tails = [(fmt.level_name(level), fmt.tail_name(level)) for level in levels]
    return {"tails": tails, "rows": rows}


def _distribution(summary: Summary, tables: Tables) -> Row:
    """Return the loss chart, and a sentence on the mass at zero."""
    if "bad_debt_usd" not in tables.get("scenarios", {}):
        return {"chart": None, "sentence": "The scenarios table is not available."}
    loss = np.asarray(tables["scenarios"]["bad_debt_usd"], dtype=np.float64)
    measure = summary["measures"].get("bad_debt_usd", {})
    marks = [
        (f"{title} {fmt.level_name(level)}", fmt.as_float(measure.get(f"{key}_{level}")))
        for level in fmt.confidences(measure)
        for key, title in (("var", "VaR"), ("es", "ES"))
    ]
    zero = int(np.count_nonzero(loss <= charts.DUST_USD))
    share = fmt.percent(zero / loss.size)
    sentence = f"{fmt.count(zero)} of {fmt.count(loss.size)} scenarios ({share}) leave no bad debt."
    flat = [name for name, value in marks if value <= charts.DUST_USD]
    if flat and zero < loss.size:
        sentence += f" {fmt.join_names(flat)} {'is' if len(flat) == 1 else 'are'} zero."
    if zero == loss.size:
        sentence += " There is no positive loss to draw."
    return {"chart": charts.loss_distribution(loss, marks), "sentence": sentence}


def _fan(tables: Tables) -> Row:
    """Return the fan chart and a sentence on quantities beyond those it draws."""
    table = tables.get("path_quantiles")
    if table is None:
        return {"chart": None, "left_off": ""}
    names = {str(name) for name in table["quantity"]}
    prices = sum(name.startswith("price.") for name in names)
    drawn = min(prices, charts.FAN_PRICES) + min(len(names) - prices, charts.FAN_LOSSES)
    return {"chart": charts.fan(table), "left_off": _left_off(len(names) - drawn, "path_quantiles")}


def _map(tables: Tables) -> Row | None:
    """Return the liquidation map and its figures for joint falls, summed over venues."""
    table = tables.get("liquidation_map")
    if not table:
        return None
    joint = table["asset"] == "all"
    change = table["price_change_frac"]
    falls: list[Row] = []
    grid = np.unique(change[joint & (change < 0)])
    nearest = _ordered(grid[np.argmin(np.abs(grid + fall))] for fall in FALLS if grid.size)
    for move in nearest:
        rows = joint & (change == move)
        names = ("liquidatable_debt_usd", "liquidatable_collateral_usd", "bad_debt_usd")
        sums = [float(np.sum(table[name][rows])) for name in names]
        if "liquidatable_notional_usd" in table:
            sums[0] += float(np.sum(table["liquidatable_notional_usd"][rows]))
        falls.append(
            {
                "fall": f"{fmt.MINUS}{-move * 100:.3g} %",
                "figures": [fmt.amount(x, "") for x in sums],
            }
        )
    beyond = len(np.unique(table["venue"])) - charts.MAP_VENUES
    return {
        "chart": charts.liquidation_map(table),
        "falls": falls,
        "left_off": _left_off(beyond, "liquidation_map"),
    }


def _bearers(summary: Summary) -> Row:
    """Return who bears the loss: chart and table."""
    bearers = list(summary.get("bearers", ()))
    means = [fmt.as_float(row.get("mean_usd")) for row in bearers]
    total = float(np.nansum(means)) if means else 0.0
    rows = [
        {
            "venue": row["venue"],
            "bearer": row["bearer"],
            "mean": fmt.amount_with_error(mean, row.get("standard_error_usd"), ""),
            "share": fmt.percent(mean / total) if total > 0 else fmt.NOT_AVAILABLE,
            "shortfall": fmt.amount(row.get("es_usd"), ""),
        }
        for row, mean in zip(bearers, means, strict=True)
    ]
    return {"chart": charts.loss_bearers(bearers), "rows": rows}


def _accounts(tables: Tables, limit: int) -> Row | None:
    """Return the accounts with the largest expected bad debt; by debt where none leaves any."""
    table = tables.get("accounts")
    if table is None:
        return None
    expected = np.nan_to_num(np.asarray(table["expected_bad_debt_usd"], dtype=np.float64))
    by_debt = not np.any(expected > 0)
    order = np.lexsort((-np.nan_to_num(table["debt_usd"]), -expected))[:limit]
    rows = [_account(table, int(index)) for index in order]
    total = float(expected.sum())
    share = fmt.percent(float(expected[order].sum()) / total) if total > 0 else None
    return {"rows": rows, "by_debt": by_debt, "share": share, "total": fmt.count(expected.size)}


def _account(table: Mapping[str, np.ndarray], index: int) -> Row:
    """Return one account's row of the report."""
    names = {key: str(table[key][index]) for key in ("account_id", "venue")}
    category = table["category"][index] if "category" in table else None
    leverage = fmt.as_float(table["leverage"][index])
    missing = np.full(len(table["account_id"]), np.nan)
    notional = fmt.as_float(table.get("notional_usd", missing)[index])
    loan = math.isnan(notional)
    return {
        **names,
        "short": _shortened(names["account_id"]),
        "category": "" if category is None or category != category else str(category),
        "debt": fmt.amount(table["debt_usd"][index] if loan else notional, ""),
        "loan_to_value": fmt.percent(table["loan_to_value_frac"][index] if loan else None),
        "health": fmt.ratio(table["health_factor"][index]),
        "leverage": f"{fmt.ratio(leverage, 1)}\u00d7" if 0 < leverage < np.inf else "no equity",
        "distance": fmt.percent(table["distance_to_liquidation_frac"][index]),
        "toxic": bool(table["toxic"][index]),
        "probability": fmt.percent(table["liquidation_probability_frac"][index]),
        "expected": fmt.amount_with_error(
            table["expected_bad_debt_usd"][index],
            table.get("expected_bad_debt_standard_error_usd", missing)[index],
            "",
        ),
    }


def _sensitivities(summary: Summary, tables: Tables) -> Row:
    """Return a tornado and a table for each measure, and how many rows fail their check."""
    rows = list(summary.get("sensitivities", ()))
    if not rows and "sensitivities" in tables:
        table = tables["sensitivities"]
        keys = list(table)
        rows = [
            dict(zip(keys, values, strict=True))
            for values in zip(*(table[key].tolist() for key in keys), strict=True)
        ]
    measures = _ordered(str(row["measure"]) for row in rows)
    groups: list[Row] = []
    for measure in measures:
        group = [row for row in rows if row["measure"] == measure]
        groups.append(
            {
                "name": fmt.label(measure),
                "unit": "USD" if measure.endswith("_usd") else "",
                "chart": charts.tornado(group, measure),
                "rows": [_sensitivity(row) for row in group],
            }
        )
    failed = sum(charts.doubtful(row) for row in rows)
    return {"groups": groups, "failed": failed, "total": len(rows)}


def _sensitivity(row: Mapping[str, Any]) -> Row:
    """Return one row of the sensitivity table."""
    measure = str(row["measure"])
    agrees = row.get("agrees")
    moved = fmt.effect(row)
    return {
        "parameter": row["parameter"],
        "value": fmt.significant(row.get("value")),
        "derivative": fmt.amount_with_error(row.get("derivative"), row.get("standard_error"), ""),
        "effect": _bare(measure, moved) if moved else fmt.NOT_AVAILABLE,
        "estimator": row.get("estimator", fmt.NOT_AVAILABLE),
        "bump": fmt.amount_with_error(
            row.get("bump_derivative"), row.get("bump_standard_error"), ""
        ),
        "agrees": None if agrees is None else bool(agrees),
    }


def _solvency(summary: Summary) -> Row | None:
    """Return balance-sheet figures of the system and every venue, with deltas by asset."""
    solvency = summary.get("solvency")
    if not solvency:
        return None
    entries = {**solvency.get("venues", {}), "System": solvency.get("system", {})}
    deltas = {name: entry.get("debt_to_equity_delta") or {} for name, entry in entries.items()}
    assets = _ordered(asset for delta in deltas.values() for asset in delta)
    # Where many assets are listed only the ones that matter most fit on a page.
    weight = {
        asset: max(abs(np.nan_to_num(fmt.as_float(delta.get(asset)))) for delta in deltas.values())
        for asset in assets
    }
    kept = set(sorted(assets, key=lambda asset: -weight[asset])[:8])
    assets = [asset for asset in assets if asset in kept]
    rows = [
        {
            "name": name,
            "system": name == "System",
            "figures": _balance(entry),
            "ratio": fmt.ratio(entry.get("debt_to_equity")),
            "deltas": [
                fmt.significant(deltas[name].get(asset)) if asset in deltas[name] else ""
                for asset in assets
            ],
        }
        for name, entry in entries.items()
    ]
    return {"assets": assets, "rows": rows, "left_off": len(weight) - len(assets)}


def _vaults(summary: Summary) -> list[list[str]]:
    """Return name, bearer, stated, marked and lowest share price, and loss tail of each vault."""
    rows = []
    for name, entry in summary.get("vaults", {}).items():
        tails = entry["loss_frac"]
        worst = max(key for key in tails if key.startswith("es_") and "error" not in key)
        prices = ("stated_share_price", "marked_share_price", "lowest_marked_share_price")
        figures = [f"{entry[price]:.4f}" for price in prices]
        rows.append([name, entry["loss"], *figures, fmt.percent(tails[worst], math.nan)])
    return rows


def _balance(entry: Mapping[str, Any]) -> list[str]:
    """Return assets, debt and equity; assets are debt plus equity where not given as a value."""
    debt, equity = fmt.as_float(entry.get("debt_usd")), fmt.as_float(entry.get("equity_usd"))
    assets = fmt.as_float(entry.get("assets_usd"))
    assets = debt + equity if math.isnan(assets) else assets
    return [fmt.amount(value, "") for value in (assets, debt, equity)]


def _numerical_checks(tables: Tables) -> list[str]:
    """Return what the run itself can say about its numbers."""
    checks = []
    scenarios = tables.get("scenarios", {})
    if "conservation_error_frac" in scenarios:
        worst = float(np.nanmax(np.abs(scenarios["conservation_error_frac"])))
        checks.append(f"Largest conservation error over all scenarios: {worst:.1e} of gross flow.")
    if "converged" in scenarios:
        open_ended = int(np.count_nonzero(~np.asarray(scenarios["converged"], dtype=bool)))
        total = len(scenarios["converged"])
        share = fmt.percent(open_ended / total)
        checks.append(
            f"The cascade reached its bound of rounds before it settled in "
            f"{fmt.count(open_ended)} of {fmt.count(total)} scenarios ({share})."
        )
    return checks


def _left_off(number: int, table: str) -> str:
    """Return a sentence on panels that a chart has no room for, or nothing."""
    return f" {number} more in {table}.parquet." if number > 0 else ""


def _bare(name: str, value: Any) -> str:
    """Return a quantity without USD, for tables that name the unit in their heading."""
    return fmt.amount(value, "") if name.endswith("_usd") else fmt.quantity(name, value)


def _shortened(name: str) -> str:
    """Return a long identifier with its middle left out: 0x9600…2745."""
    return name if len(name) <= 16 else f"{name[:6]}…{name[-4:]}"


def _ordered(values: Iterable[T]) -> list[T]:
    """Return distinct values in order of first appearance."""
    return list(dict.fromkeys(values))
