"""The report's charts as inline SVG: text stays text, nothing is fetched, each has a description.

No meaning rests on colour alone: lines differ in dash, doubtful bars are hatched and named. Every
function returns None where its data hold nothing to draw; the report then says so in a sentence.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from jaxrisk.run import formatting as fmt
from jaxrisk.run.chart_style import (
    BLUE,
    INK,
    MUTED,
    OCHRE,
    PLUM,
    RULE,
    SKY,
    TEAL,
    VERMILION,
    money_axis,
    new_figure,
    number_axis,
    percent_axis,
    styled,
    svg,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Table = Mapping[str, np.ndarray]

SERIES = (BLUE, OCHRE, TEAL, PLUM, SKY, VERMILION)
DASHES = ("-", (0, (5, 2)), (0, (1, 1.4)), (0, (6, 2, 1, 2)), (0, (3, 1.5)), (0, (8, 3)))
FAN_PRICES, FAN_LOSSES, MAP_VENUES = 8, 3, 4
"""Panels at most in the fan and in the liquidation map: more would not be legible on a page."""
DUST_USD = 0.01
"""Bad debt up to one cent counts as none: it is rounding, not loss."""


@styled
def loss_distribution(loss: np.ndarray, marks: Sequence[tuple[str, float]]) -> Markup | None:
    """Return the distribution of bad debt: the mass at zero, then the positive losses.

    Zero has its own bar, because a logarithmic axis cannot show it and a linear one shows little
    else. Beside it the histogram of positive losses and, on the same axis, how often each loss
    is exceeded.

    Args:
        loss: bad debt of every scenario, USD.
        marks: names and values of the tail measures to draw.
    """
    loss = loss[np.isfinite(loss)]
    positive = np.sort(loss[loss > DUST_USD])
    if positive.size == 0:
        return None
    zero = 1 - positive.size / loss.size
    drawn = [(name, value) for name, value in marks if DUST_USD < value < np.inf]
    figure = new_figure(9.0, 4.3)
    grid = figure.add_gridspec(2, 2, width_ratios=(1, 9), height_ratios=(1.15, 1))
    _zero_bar(figure.add_subplot(grid[:, 0]), zero)
    histogram = figure.add_subplot(grid[0, 1])
    exceedance = figure.add_subplot(grid[1, 1], sharex=histogram)
    low, high = _log_limits(positive, [value for _, value in drawn])
    bins = np.geomspace(low, high, 49)
    histogram.hist(
        positive,
        bins=bins.tolist(),
        weights=np.full(positive.size, 1 / loss.size),
        color=BLUE,
        alpha=0.85,
        edgecolor="white",
        linewidth=0.3,
    )
    histogram.set_title("Scenarios with bad debt", pad=26)
    histogram.set_ylabel("share of all scenarios")
    percent_axis(histogram, "y")
    histogram.tick_params(labelbottom=False)
    # Rank k from the top is exceeded in k of n scenarios; some hundred points draw the curve.
    keep = np.unique(np.geomspace(1, positive.size, 300).astype(int))
    exceedance.step(positive[-keep], keep / loss.size, where="post", color=INK, linewidth=1.4)
    exceedance.set(xscale="log", yscale="log", xlim=(low, high))
    exceedance.set_xlabel("bad debt, USD")
    exceedance.set_ylabel("share above")
    percent_axis(exceedance, "y")
    money_axis(exceedance, "x")
    _draw_marks(histogram, exceedance, drawn)
    description = (
        f"Histogram of bad debt: {fmt.percent(zero)} of scenarios have none; the positive ones run "
        f"from {fmt.amount(positive[0])} to {fmt.amount(positive[-1])}. "
        + "; ".join(f"{name} {fmt.amount(value)}" for name, value in marks)
    )
    return svg(figure, "loss", description)


@styled
def fan(table: Table) -> Markup | None:
    """Return small multiples over time: quantiles of at most eight prices and three losses.

    Args:
        table: `path_quantiles`, rows of (quantity, time) with q05 to q95 and mean.
    """
    names = [str(name) for name in dict.fromkeys(table["quantity"])]
    prices = [name for name in names if name.startswith("price.")][:FAN_PRICES]
    others = [name for name in names if not name.startswith("price.")][:FAN_LOSSES]
    if not names:
        return None
    across = 4 if len(prices) in (4, 7, 8) else 3
    rows = math.ceil(len(prices) / across)
    figure = new_figure(9.0, 2.0 * (rows + bool(others)) + 0.35)
    grid = figure.add_gridspec(rows + bool(others), 12)
    for index, name in enumerate(prices):
        left = index % across * (12 // across)
        place = grid[index // across, left : left + 12 // across]
        _fan_panel(figure.add_subplot(place), name, table)
    for index, name in enumerate(others):
        wide = 12 // len(others)
        _fan_panel(figure.add_subplot(grid[rows, index * wide : (index + 1) * wide]), name, table)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4)
    described = fmt.join_names([name.removeprefix("price.") for name in prices + others], 11)
    return svg(figure, "fan", f"Quantiles over time (5, 25, 50, 75, 95 %) of {described}.")


@styled
def liquidation_map(table: Table) -> Markup | None:
    """Return debt liquidatable against an immediate price move, one panel a venue (at most four).

    Args:
        table: `liquidation_map`; the asset `all` is the joint move and drawn heaviest.
    """
    venues = [str(venue) for venue in dict.fromkeys(table["venue"])][:MAP_VENUES]
    if not venues:
        return None
    across = min(len(venues), 2)
    rows = math.ceil(len(venues) / across)
    figure = new_figure(9.0, 3.1 * rows)
    for index, venue in enumerate(venues):
        axes = figure.add_subplot(rows, across, index + 1)
        _map_panel(axes, venue, table)
        if index >= len(venues) - across:
            axes.set_xlabel("immediate price change")
    described = fmt.join_names(venues)
    return svg(
        figure,
        "map",
        f"What can be liquidated after an immediate price change on {described}; figures for the "
        "joint move are in the table below.",
    )


@styled
def loss_bearers(rows: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Return mean bad debt by bearer, stacked, one bar a venue.

    Args:
        rows: dicts with `venue`, `bearer`, `mean_usd`.
    """
    venues = list(dict.fromkeys(row["venue"] for row in rows))
    paid = [row["bearer"] for row in rows if fmt.as_float(row["mean_usd"]) > 0]
    bearers = list(dict.fromkeys(paid))
    mean = {(row["venue"], row["bearer"]): max(fmt.as_float(row["mean_usd"]), 0) for row in rows}
    if not bearers:
        return None
    figure = new_figure(9.0, 0.75 + 0.42 * len(venues))
    axes = figure.add_subplot()
    left = np.zeros(len(venues))
    for index, bearer in enumerate(bearers):
        width = np.nan_to_num([mean.get((venue, bearer), 0.0) for venue in venues])
        axes.barh(
            range(len(venues)),
            width,
            left=left,
            height=0.6,
            label=bearer,
            color=SERIES[index % len(SERIES)],
            edgecolor="white",
            hatch=("", "//", "xx", "--")[index % 4],
        )
        left += width
    axes.set_yticks(range(len(venues)), venues)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("mean bad debt, USD")
    money_axis(axes, "x")
    figure.legend(loc="outside upper left", ncols=4 if len(bearers) <= 4 else 3)
    parts = [
        f"{row['bearer']} on {row['venue']} {fmt.amount(row['mean_usd'])}" for row in rows[:12]
    ]
    return svg(figure, "bearers", f"Mean bad debt by bearer: {'; '.join(parts)}.")


@styled
def tornado(rows: Sequence[Mapping[str, Any]], measure: str) -> Markup | None:
    """Return the change of a measure for +1 % of each parameter, largest first, with error bars.

    Derivatives in different parameters have different units; times 1 % of the parameter's value
    they compare. Whiskers are two standard errors, diamonds the bump that checks the estimator.
    What fails the check is hatched grey and named.

    Args:
        rows: sensitivities of one measure; those with value 0 have no relative change, not drawn.
        measure: name of the measure, for labels.
    """
    drawn = [
        row for row in rows if math.isfinite(fmt.effect(row)) and fmt.as_float(row["value"]) != 0
    ]
    drawn = sorted(drawn, key=lambda row: -abs(fmt.effect(row)))[:15]
    if not drawn:
        return None
    figure = new_figure(9.0, 1.05 + 0.31 * len(drawn))
    axes = figure.add_subplot()
    for place, row in enumerate(drawn):
        _tornado_bar(axes, place, row)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(drawn)), [str(row["parameter"]) for row in drawn])
    axes.set_ylim(len(drawn) - 0.4, -0.6)
    axes.margins(x=0.05)
    if any(doubtful(row) or row.get("agrees") is None for row in drawn):
        left, right = axes.get_xlim()
        axes.set_xlim(left, right + 0.17 * (right - left))  # room for the words behind the bars
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(f"change of mean {fmt.label(measure).lower()} for +1 % of the parameter")
    (money_axis if measure.endswith("_usd") else number_axis)(axes, "x")
    parts = [
        f"{row['parameter']} {fmt.quantity(measure, fmt.effect(row))}"
        + (" (fails its bump check)" if doubtful(row) else "")
        for row in drawn
    ]
    return svg(
        figure,
        f"tornado-{measure}",
        f"Change of {fmt.label(measure).lower()} for +1 % of each parameter: {'; '.join(parts)}.",
    )


def doubtful(row: Mapping[str, Any]) -> bool:
    """Return whether a sensitivity was checked against its bump and failed."""
    return row.get("agrees") is not None and not row["agrees"]


def _zero_bar(axes: "Axes", zero: float) -> None:
    """Draw the share of scenarios without bad debt as one bar of a whole."""
    axes.bar([0], [1], width=0.9, color="white", edgecolor=MUTED, linewidth=0.6)
    axes.bar([0], [zero], width=0.9, color=RULE, edgecolor=MUTED, linewidth=0.6)
    axes.text(
        0,
        min(max(zero, 0.06), 0.96) - 0.03,
        fmt.percent(zero),
        ha="center",
        va="top",
        weight="bold",
        fontsize=9,
    )
    axes.set(ylim=(0, 1), xlim=(-0.6, 0.6))
    axes.set_xticks([0], ["none"])
    axes.set_title("No bad debt", pad=26)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    percent_axis(axes, "y")


def _draw_marks(top: "Axes", bottom: "Axes", marks: Sequence[tuple[str, float]]) -> None:
    """Draw tail measures through both panels: VaR dashed, ES solid, names above.

    A name goes to the lowest row in which it stays clear of its left neighbour.
    """
    low, high = np.log(top.get_xlim())
    ends: list[float] = []
    for name, value in sorted(marks, key=lambda mark: mark[1]):
        color, dash = (VERMILION, "-") if name.startswith("ES") else (INK, "--")
        for axes in (top, bottom):
            axes.axvline(value, color=color, linewidth=1.1, linestyle=dash)
        position = (math.log(value) - low) / (high - low)
        free = [row for row, end in enumerate(ends) if position - 0.045 > end]
        row = free[0] if free else len(ends)
        ends[row : row + 1] = [position + 0.045]
        height = 1.03 + 0.1 * row
        place = top.get_xaxis_transform()
        top.text(value, height, name, transform=place, color=color, ha="center", fontsize=8.5)


def _fan_panel(axes: "Axes", name: str, table: Table) -> None:
    """Draw one quantity's bands, median and mean against time."""
    rows = table["quantity"] == name
    time, unit = table["time_hours"][rows], "hours"
    if np.max(time, initial=0.0) >= 240:
        time, unit = time / 24, "days"
    price = name.startswith("price.")
    color = BLUE if price else VERMILION
    low, high = table["q05"][rows], table["q95"][rows]
    axes.fill_between(time, low, high, color=color, alpha=0.16, linewidth=0, label="5 to 95 %")
    inner = table["q25"][rows], table["q75"][rows]
    axes.fill_between(time, *inner, color=color, alpha=0.32, linewidth=0, label="25 to 75 %")
    axes.plot(time, table["q50"][rows], color=color, linewidth=1.5, label="median")
    axes.plot(time, table["mean"][rows], color=INK, linewidth=1.0, linestyle="--", label="mean")
    title = name.removeprefix("price.") if price else fmt.label(name)
    axes.set_title(f"{title}, {'USD' if price or name.endswith('_usd') else ''}".rstrip(", "))
    axes.set_xlabel(unit)
    axes.set_xlim(float(np.min(time)), float(np.max(time)))
    if not price and max(np.max(np.abs(table[q][rows])) for q in ("q95", "mean")) <= DUST_USD:
        axes.set_ylim(0.0, 1.0)
        axes.set_yticks([0.0])
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center", color=MUTED)
    money_axis(axes, "y")


def _map_panel(axes: "Axes", venue: str, table: Table) -> None:
    """Draw one venue's liquidatable debt: the joint move, then at most six single assets.

    Contracts count by notional, and rises are drawn too: they are called on either side.
    """
    here = table["venue"] == venue
    notional = table.get("liquidatable_notional_usd", np.zeros(len(here)))
    on_margin = bool(np.any(notional[here] > 0))
    exposed = table["liquidatable_debt_usd"] + notional
    assets = [str(asset) for asset in dict.fromkeys(table["asset"][here])]
    curves: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
    for asset in assets:
        rows = np.flatnonzero(here & (table["asset"] == asset))
        rows = rows[np.argsort(table["price_change_frac"][rows])]
        if not on_margin:
            rows = rows[table["price_change_frac"][rows] <= 0]
        if rows.size:
            curves[asset] = (
                table["price_change_frac"][rows],
                exposed[rows],
                table["bad_debt_usd"][rows],
            )
    single = sorted((a for a in curves if a != "all"), key=lambda a: -float(np.max(curves[a][1])))
    for index, asset in enumerate(name for name in single[:6] if np.max(curves[name][1]) > 0):
        move, debt, _ = curves[asset]
        axes.plot(
            move, debt, color=SERIES[index], linestyle=DASHES[index], linewidth=1.4, label=asset
        )
    if "all" in curves:
        move, debt, bad = curves["all"]
        axes.plot(move, debt, color=INK, linewidth=2.0, label="all volatile assets")
        axes.fill_between(
            move, bad, color=VERMILION, alpha=0.35, linewidth=0, label="left as bad debt (all)"
        )
    axes.set_title(f"{venue}: {'contracts called' if on_margin else 'debt liquidatable'}, USD")
    axes.invert_xaxis()
    axes.set_ylim(bottom=0)
    percent_axis(axes, "x")
    money_axis(axes, "y")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left")


def _tornado_bar(axes: "Axes", place: int, row: Mapping[str, Any]) -> None:
    """Draw one parameter: bar, two-standard-error whisker, bump diamond, a word if in doubt."""
    width = fmt.effect(row)
    fails = doubtful(row)
    color = "#e3e6ea" if fails else (VERMILION if width > 0 else BLUE)
    axes.barh(
        place,
        width,
        height=0.62,
        color=color,
        alpha=0.9,
        hatch="////" if fails else None,
        edgecolor=MUTED if fails else color,
        linewidth=0.6,
    )
    spread = np.nan_to_num(abs(fmt.effect(row, "standard_error"))) * 2
    axes.errorbar(width, place, xerr=spread, color=INK, linewidth=1.0, capsize=2.5)
    bump, bump_spread = (
        fmt.effect(row, "bump_derivative"),
        abs(fmt.effect(row, "bump_standard_error")) * 2,
    )
    if math.isfinite(bump):
        axes.errorbar(
            bump,
            place + 0.2,
            xerr=np.nan_to_num(bump_spread),
            marker="D",
            markersize=4,
            markerfacecolor="white",
            markeredgecolor=INK,
            markeredgewidth=0.8,
            color=MUTED,
            linewidth=0.7,
        )
    if fails or row.get("agrees") is None:
        ends = [width + spread, bump + np.nan_to_num(bump_spread), 0.0]
        axes.annotate(
            "✕ fails bump check" if fails else "not checked",
            (float(np.nanmax(ends)), place),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=VERMILION if fails else MUTED,
        )


def _log_limits(positive: np.ndarray, marks: Sequence[float]) -> tuple[float, float]:
    """Return limits of a logarithmic axis round the bulk of sorted positive values and the marks.

    The lowest half per cent may be dust many decades below the rest; it is left off.
    """
    high = max(float(positive[-1]), *marks, 0.0)
    low = max(min(float(np.quantile(positive, 0.005)), high / 10), high * 1e-8)
    return min(low, *marks, high) / 1.1, high * 1.1
