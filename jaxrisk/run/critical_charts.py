"""Charts of critical points: forced sales against what markets take, and survival of two shocks."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup

from jaxrisk.run import formatting as fmt
from jaxrisk.run.chart_style import (
    BLUE,
    INK,
    MUTED,
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

FEEDBACK_ASSETS = 3
"""Assets drawn at most, those of which most is sold."""
LEVELS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999, 1.0001)


@styled
def feedback(table: Table | None) -> Markup | None:
    """Return forced sales, how far they lower the price, and the gain, against an asset's fall.

    Args:
        table: `feedback`; `None` draws nothing.
    """
    if table is None:
        return None
    pairs = zip(table["asset"], table["sold_asset"], strict=True)
    sales = np.array([of_sales(asset, sold) for asset, sold in pairs], dtype=object)
    names = list(dict.fromkeys(sales))
    most = {name: float(table["forced_sales_usd"][sales == name].max()) for name in names}
    names = sorted((n for n in names if most[n] > 0), key=lambda n: -most[n])[:FEEDBACK_ASSETS]
    if not names:
        return None
    figure = new_figure(9.0, 2.5 * len(names))
    for row, name in enumerate(names):
        own = sales == name
        left, middle, right = (figure.add_subplot(len(names), 3, 3 * row + k) for k in (1, 2, 3))
        change = table["price_change_frac"][own]
        left.plot(change, table["forced_sales_usd"][own], color=BLUE, linewidth=1.6)
        left.set_title(f"{name}: forced sales, USD")
        money_axis(left, "y")
        middle.plot(change, table["own_drop_frac"][own], color=BLUE, linewidth=1.6)
        middle.plot(change, -change, color=INK, linewidth=1.0, linestyle="--")
        middle.annotate(
            "the fall itself",
            (float(change[-1]) * 0.62, -float(change[-1]) * 0.62),
            xytext=(6, -12),
            textcoords="offset points",
            color=MUTED,
            fontsize=8,
        )
        middle.set_title("further fall by these sales")
        percent_axis(middle, "y")
        _gain_panel(right, change, table["feedback_gain"][own])
        for axes in (left, middle, right):
            axes.invert_xaxis()
            axes.set_ylim(bottom=0)
            percent_axis(axes, "x")
            if row == len(names) - 1:
                axes.set_xlabel("price change")
    described = "; ".join(f"{name} up to {fmt.amount(most[name])}" for name in names)
    return svg(figure, "feedback", f"Forced sales against the fall of each asset: {described}.")


def of_sales(asset: str, sold: str) -> str:
    """Return the name of sales of an asset as it or its underlying falls."""
    return asset if asset == sold else f"{sold} with {asset}"


def _gain_panel(axes: "Axes", change: np.ndarray, gain: np.ndarray) -> None:
    """Draw the gain, filled where a fall feeds itself."""
    axes.plot(change, gain, color=VERMILION, linewidth=1.4)
    axes.fill_between(change, 1.0, gain, where=gain > 1.0, color=VERMILION, alpha=0.3, linewidth=0)
    axes.axhline(1.0, color=INK, linewidth=0.9, linestyle="--")
    axes.set_title("feedback gain")
    number_axis(axes, "y")


@styled
def survival(table: Table | None) -> Markup | None:
    """Return the share of debt that two shocks leave standing, and the bad debt they leave.

    Args:
        table: `survival`, a full grid of both changes; `None` draws nothing.
    """
    if table is None:
        return None
    first, second = (np.unique(table[f"{name}_change_frac"]) for name in ("first", "second"))
    # Grids are written from no change downwards, the first change outermost.
    grid = lambda name: table[name].reshape(len(first), len(second))[::-1, ::-1].T
    names = [str(table[f"{name}_asset"][0]) for name in ("first", "second")]
    figure = new_figure(9.0, 3.7)
    left, right = figure.add_subplot(1, 2, 1), figure.add_subplot(1, 2, 2)
    standing, bad = grid("standing_debt_frac"), grid("bad_debt_usd")
    filled = left.contourf(first, second, standing, levels=list(LEVELS), cmap="YlGnBu", vmin=0.3)
    bar = figure.colorbar(filled, ax=left, ticks=list(LEVELS[:-1]))
    bar.ax.set_yticklabels([fmt.percent(level) for level in LEVELS[:-1]])
    left.set_title("debt that stays healthy")
    if bad.max() > 0:
        filled = right.contourf(first, second, bad, levels=8, cmap="OrRd")
        money_axis(figure.colorbar(filled, ax=right).ax, "y")
        right.set_title("left as bad debt, USD")
    else:
        right.text(0.5, 0.5, "no bad debt", transform=right.transAxes, ha="center", color=MUTED)
        right.set(xlim=(first[0], first[-1]), ylim=(second[0], second[-1]))
    for axes in (left, right):
        axes.invert_xaxis()
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel(f"{names[0]} and what is pegged to it")
        axes.set_ylabel(f"{names[1]} on top")
        percent_axis(axes, "x")
        percent_axis(axes, "y")
    worst = fmt.percent(float(standing.min()))
    return svg(
        figure,
        "survival",
        f"Share of debt that stays healthy as {names[0]} and, on top, {names[1]} fall at once: "
        f"down to {worst} at the worst corner, with {fmt.amount(bad.max())} of bad debt.",
    )
