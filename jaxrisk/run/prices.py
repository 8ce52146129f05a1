"""The price table: recorded prices of several assets on one time axis."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from jaxrisk.run.hints import closest
from jaxrisk.run.rows import Problems, Rows, read_rows

# Epoch numbers above this are milliseconds: as seconds they would lie after the year 5138.
_EPOCH_SECONDS_BELOW = 1e11

Times = Shaped[np.ndarray, " time"]
Series = tuple[Times, Float[np.ndarray, " time"]]


@dataclass(frozen=True, kw_only=True)
class PriceTable:
    """Prices on a common time axis.

    Attributes:
        times: `datetime64[us]`, UTC, strictly rising.
        prices: numeraire, positive.
        assets: column order of `prices`.
        source: where the table comes from, for reports.
        carried: entries filled with the last price before them, by asset.
    """

    times: Times
    prices: Float[np.ndarray, "time asset"]
    assets: tuple[str, ...]
    source: str
    carried: Mapping[str, int]


def read_prices(
    path: Path,
    assets: Sequence[str],
    *,
    time_column: str = "time",
    asset_column: str = "asset",
    price_column: str = "price",
    rename: Mapping[str, str] | None = None,
    step_hours: float | None = None,
    max_gap_hours: float = 24.0,
) -> PriceTable:
    """Return the recorded prices of `assets` from a CSV or Parquet file.

    The table is long where it has `asset_column`, else wide with a column an asset. Times are
    ISO 8601 text, timestamps, or epoch seconds or milliseconds; without a zone they are UTC.

    Args:
        path: the file.
        assets: assets wanted, in this order; others in the file are ignored.
        time_column: column of times.
        asset_column: column of asset names, long form.
        price_column: column of prices, long form: `close` in a table of candles.
        rename: name in the file to asset: `{"ETHUSDT": "WETH"}`, or in a wide table of one asset
            `{"close": "WETH"}`.
        step_hours: spacing of the result; each entry is the last price at or before its time.
            `None` keeps the times of the file, at which every asset must then have a price.
        max_gap_hours: oldest price that may be carried forward.

    Raises:
        DataError: with up to 20 problems, each naming file, line and column.
    """
    rows = read_rows(path)
    rows.require([time_column])
    names = {asset: asset for asset in assets} | {
        asset: name for name, asset in (rename or {}).items() if asset in assets
    }
    problems = Problems(path)
    series: dict[str, Series] = {}
    if asset_column in rows.names:
        rows.require([price_column])
        listed = rows.text(asset_column)
        for asset, name in names.items():
            own = rows.take(np.flatnonzero(listed == name))
            if len(own.lines):
                series[asset] = _series(own, time_column, price_column, problems)
            else:
                _add_missing(asset, name, np.unique(listed).tolist(), problems)
    else:
        for asset, name in names.items():
            if name in rows.names:
                series[asset] = _series(rows, time_column, name, problems)
            else:
                _add_missing(asset, name, rows.names, problems)
    problems.raise_if_any()
    if step_hours is None:
        times, prices = _common(series, problems)
        carried: dict[str, int] = {}
    else:
        times = _regular_times(series, step_hours, problems)
        prices, carried = _carry_forward(series, times, max_gap_hours, problems)
    problems.raise_if_any()
    return PriceTable(
        times=times, prices=prices, assets=tuple(assets), source=path.name, carried=carried
    )


def _add_missing(asset: str, name: str, there: Sequence[str], problems: Problems) -> None:
    near = closest(name, there)
    hint = f"did you mean {near}?" if near else f"the table has {', '.join(there[:8])}."
    problems.add(f'no history for asset "{asset}"; {hint} Map names with rename')


def _series(rows: Rows, time_column: str, price_column: str, problems: Problems) -> Series:
    """Return the times and prices of one asset; all of them finite, positive and in order."""
    times = _times(rows, time_column, problems)
    prices = rows.number(price_column, problems)
    for i in np.flatnonzero(prices <= 0):
        text = f"{prices[i]:g} is not a price; expected a number above 0"
        problems.add(text, line=int(rows.lines[i]), column=price_column)
    steps = np.diff(times)
    for i in np.flatnonzero(steps <= np.timedelta64(0, "us")):
        fault = "the same as" if times[i + 1] == times[i] else "earlier than"
        text = f"{times[i + 1]} is {fault} the row before; expected times that rise"
        problems.add(text, line=int(rows.lines[i + 1]), column=time_column)
    return times, prices


def _times(rows: Rows, name: str, problems: Problems) -> Times:
    values = rows.raw(name)
    if values.dtype.kind == "M":
        for i in np.flatnonzero(np.isnat(values)):
            problems.add("empty; expected a time", line=int(rows.lines[i]), column=name)
        return values.astype("datetime64[us]")
    times = np.full(len(values), np.datetime64("NaT"), "datetime64[us]")
    for i, value in enumerate(values.tolist()):
        try:
            times[i] = _time(value)
        except ValueError:
            text = f'"{value}" is not a time; expected 2025-10-10T00:00:00 (UTC) or epoch seconds'
            problems.add(text, line=int(rows.lines[i]), column=name)
    return times


def _time(value: str | float | None) -> np.datetime64:
    text = "" if value is None else str(value).strip()
    if re.fullmatch(r"\d{9,}(\.\d+)?", text):
        scale = 1e6 if float(text) < _EPOCH_SECONDS_BELOW else 1e3
        return np.datetime64(round(float(text) * scale), "us")
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    return np.datetime64(moment, "us")


def _common(
    series: Mapping[str, Series], problems: Problems
) -> tuple[Times, Float[np.ndarray, "time asset"]]:
    """Return all times and the prices there, noting assets that lack some."""
    times = np.unique(np.concatenate([own for own, _ in series.values()]))
    prices = np.full((len(times), len(series)), np.nan)
    for column, (asset, (own, price)) in enumerate(series.items()):
        prices[np.searchsorted(times, own), column] = price
        gaps = np.flatnonzero(np.isnan(prices[:, column]))
        if len(gaps):
            text = f'no price of asset "{asset}" at {times[gaps[0]]} (gaps: {len(gaps)})'
            problems.add(f"{text}; give a step to carry the last price forward")
    return times, prices


def _regular_times(series: Mapping[str, Series], step_hours: float, problems: Problems) -> Times:
    """Return times a step apart over the span that all assets cover."""
    first = max(own[0] for own, _ in series.values())
    last = min(own[-1] for own, _ in series.values())
    step = np.timedelta64(round(step_hours * 3.6e9), "us")
    if last - first < step:
        text = f"the histories share {first} to {last}, less than a step of {step_hours:g} h"
        problems.add(text)
    problems.raise_if_any()
    return np.arange(first, last + np.timedelta64(1, "us"), step)


def _carry_forward(
    series: Mapping[str, Series], times: Times, max_gap_hours: float, problems: Problems
) -> tuple[Float[np.ndarray, "time asset"], dict[str, int]]:
    """Return the last price at or before each time, and how many are older than a step."""
    prices = np.empty((len(times), len(series)))
    carried: dict[str, int] = {}
    step = times[1] - times[0]
    for column, (asset, (own, price)) in enumerate(series.items()):
        at = np.searchsorted(own, times, side="right") - 1
        prices[:, column] = price[at]
        age = times - own[at]
        carried[asset] = int(np.sum(age >= step))
        oldest = int(np.argmax(age))
        hours = age[oldest] / np.timedelta64(1, "h")
        if hours > max_gap_hours:
            text = f'asset "{asset}" has no price for {hours:.1f} h before {times[oldest]}'
            problems.add(f"{text}; expected gaps of at most {max_gap_hours:g} h")
    return prices, carried
