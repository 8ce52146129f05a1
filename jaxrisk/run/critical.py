"""Critical points of a run's book: tables, the summary's entry, what the report shows of them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrisk.measure.fragility import (
    Falls,
    falls,
    feedback_columns,
    gain_matrix,
    points_of,
    survival_columns,
)
from jaxrisk.run import critical_charts
from jaxrisk.run import formatting as fmt
from jaxrisk.run.build import Built
from jaxrisk.run.build_market import HOURS_A_YEAR
from jaxrisk.run.config import Config
from jaxrisk.system.system import System

# The fall over which gains are taken, log price: most accounts are less than that apart.
WIDTH = 0.02
CHANGES = np.round(np.linspace(0.0, -0.8, 81), 4)
FIRST_CHANGES = np.round(np.linspace(0.0, -0.6, 25), 4)
SECOND_CHANGES = np.round(np.linspace(0.0, -0.3, 25), 4)
# The fall over which assets are said to feed each other, log price.
REACH = 0.10
# Points of an asset that are kept, those that sell most, and rows of the report's table.
MOST_POINTS, SHOWN_POINTS = 100, 10

Table = dict[str, np.ndarray]
Tables = Mapping[str, Mapping[str, np.ndarray]]


def critical_tables(config: Config, built: Built) -> tuple[dict[str, Table], dict[str, Any]]:
    """Return the tables of critical points, feedback and survival, and the summary's entry.

    A table without a row is left out: there is nothing to close, or no second asset.
    """
    system = built.system
    years = config.run.steps * config.run.step_hours / HOURS_A_YEAR
    # What is pegged falls with its underlying.
    free = _free(system)
    every = [falls(system, int(i)) for i in np.flatnonzero(built.volatile & free)]
    every = [own for own in every if own.sold.sum() > 0]
    sales = [(own, of) for own in every for of in _sold(system, own)]
    points = _joined([_points(system, own, of, years) for own, of in sales])
    feedback = _joined([_feedback(system, own, of) for own, of in sales])
    pair = survival_pair(config, built, every)
    gain, radius = gain_matrix(system, every, REACH)
    summary: dict[str, Any] = {
        "fall_log": REACH,
        "spectral_radius": radius,
        "feedback_gain": {
            name: {_name(system, own): gain[a, own.asset] for own in every}
            for a, name in enumerate(system.assets)
            if gain[a].any()
        },
        "nearest": _nearest(points),
        "survival_assets": [system.assets[i] for i in pair or ()],
    }
    tables = {"critical_points": points, "feedback": feedback}
    if pair is not None:
        changes = np.stack([FIRST_CHANGES, SECOND_CHANGES])
        table = survival_columns(system, pair, changes)
        names = {
            key: np.full(len(table["first_change_frac"]), system.assets[i], dtype=object)
            for key, i in zip(("first_asset", "second_asset"), pair, strict=True)
        }
        tables["survival"] = names | table
    return {name: table for name, table in tables.items() if table}, summary


def survival_pair(config: Config, built: Built, every: Sequence[Falls]) -> tuple[int, int] | None:
    """Return the assets of the survival map: those configured, or the two that matter most.

    Without a setting the first is the asset whose fall sells most, the second what is pegged to it
    and sold most, or else the asset that sells most after it. `None` where there is no second.
    """
    system = built.system
    if config.report.survival_assets is not None:
        first, second = (system.assets.index(name) for name in config.report.survival_assets)
        return first, second
    if not every:
        return None
    sold = {own.asset: float(own.sold.sum()) for own in every}
    first = max(sold, key=lambda asset: sold[asset])
    own = next(one for one in every if one.asset == first)
    pegged = ~_free(system) & (_underlying(system) == first)
    amounts = np.where(pegged, own.sold.sum(axis=1), 0.0)
    if amounts.any():
        return first, int(amounts.argmax())
    others = [asset for asset in sold if asset != first]
    return (first, max(others, key=lambda asset: sold[asset])) if others else None


def critical_context(summary: Mapping[str, Any], tables: Tables) -> dict[str, Any]:
    """Return what the report's section shows: charts, a table, sentences."""
    points, entry = tables.get("critical_points"), summary.get("critical") or {}
    radius = fmt.as_float(entry.get("spectral_radius"))
    sentence = ""
    if math.isfinite(radius):
        verdict = "such falls feed each other" if radius >= 1.0 else "such falls die out"
        sentence = (
            f"Spectral radius of the feedback between assets over a log fall of {REACH:g}: "
            f"{radius:.2g}; {verdict}."
        )
    return {
        "rows": [] if points is None else _rows(points),
        "sentence": sentence,
        "feedback": critical_charts.feedback(tables.get("feedback")),
        "survival": critical_charts.survival(tables.get("survival")),
    }


def _rows(points: Mapping[str, np.ndarray]) -> list[list[str]]:
    """Return the points that sell most, nearest first, as text."""
    most = np.argsort(-points["sold_usd"], kind="stable")[:SHOWN_POINTS]
    order = most[np.argsort(-points["price_change_frac"][most], kind="stable")]
    return [
        [
            critical_charts.of_sales(str(points["asset"][i]), str(points["sold_asset"][i])),
            fmt.amount(points["price_usd"][i], ""),
            fmt.percent(points["price_change_frac"][i]),
            fmt.ratio(points["distance_deviations"][i], 1),
            fmt.count(points["accounts"][i]),
            fmt.amount(points["sold_usd"][i], ""),
            fmt.percent(points["own_drop_frac"][i]),
        ]
        for i in order
    ]


def _sold(system: System, own: Falls) -> list[int]:
    """Return the assets that are sold as one falls, of it and those pegged to it."""
    along = _underlying(system) == own.asset
    return [int(i) for i in np.flatnonzero(along) if own.sold[i].any()]


def _points(system: System, own: Falls, of: int, years: float) -> Table:
    found = points_of(system, own, of, years)
    kept = np.sort(np.argsort(-found.sold, kind="stable")[:MOST_POINTS])
    kept = kept[found.sold[kept] > 0]
    change = np.expm1(found.log_price[kept])
    price = float(np.asarray(system.market.mid)[own.asset])
    return {
        **_names(system, own, of, len(kept)),
        "price_usd": price * (1.0 + change),
        "price_change_frac": change,
        "distance_deviations": found.distance[kept],
        "accounts": found.accounts[kept],
        "sold_usd": found.sold[kept],
        "own_drop_frac": -np.expm1(-found.log_drop[kept]),
    }


def _feedback(system: System, own: Falls, of: int) -> Table:
    columns = feedback_columns(system, own, of, CHANGES, WIDTH)
    return _names(system, own, of, len(CHANGES)) | columns


def _names(system: System, own: Falls, of: int, count: int) -> Table:
    full = lambda name: np.full(count, name, dtype=object)
    return {"asset": full(_name(system, own)), "sold_asset": full(system.assets[of])}


def _nearest(points: Table) -> list[dict[str, Any]]:
    """Return the first point of each asset below the present price, as plain numbers."""
    if not points:
        return []
    rows = []
    for asset in dict.fromkeys(points["asset"]):
        below = np.flatnonzero((points["asset"] == asset) & (points["price_change_frac"] < 0.0))
        if below.size:
            first = below[np.argmax(points["price_change_frac"][below])]
            rows.append({name: values[first] for name, values in points.items()})
    return rows


def _joined(parts: Sequence[Table]) -> Table:
    if sum(len(part["asset"]) for part in parts) == 0:
        return {}
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _underlying(system: System) -> np.ndarray:
    return np.asarray(system.market.underlying or tuple(range(len(system.assets))))


def _free(system: System) -> np.ndarray:
    return _underlying(system) == np.arange(len(system.assets))


def _name(system: System, own: Falls) -> str:
    return system.assets[own.asset]
