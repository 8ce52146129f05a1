"""The look of the report's charts: colours, type, axis numbers, and figures as inline SVG.

Colours are distinct under the common colour deficiencies (after Okabe and Ito). Figures are drawn
without pyplot, and matplotlib is imported only when one is made.
"""

import functools
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec

from markupsafe import Markup, escape

from jaxrisk.run import formatting as fmt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

P = ParamSpec("P")

INK, MUTED, RULE = "#1c2733", "#5c6875", "#d5dbe1"
BLUE, VERMILION, TEAL, OCHRE, SKY, PLUM = (
    "#1f5f99",
    "#c4501f",
    "#1b8577",
    "#d39a1e",
    "#6fb3dd",
    "#9a5a8c",
)

_STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.5,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 2.5,
    "ytick.major.size": 0.0,
    "text.color": INK,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}


def styled(chart: Callable[P, Markup | None]) -> Callable[P, Markup | None]:
    """Return the chart function drawing in the report's style, matplotlib's settings untouched."""

    @functools.wraps(chart)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> Markup | None:
        import matplotlib as mpl

        with mpl.rc_context(_STYLE):
            return chart(*args, **kwargs)

    return drawn


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure, sizes in inches; drawn on without pyplot and its global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def money_axis(axes: "Axes", which: str) -> None:
    """Write one axis' numbers as 1 k, 2 M, 3 bn."""
    _format_axis(axes, which, lambda value: fmt.round_amount(value, ""))


def number_axis(axes: "Axes", which: str) -> None:
    """Write one axis' numbers plainly."""
    _format_axis(axes, which, fmt.significant)


def percent_axis(axes: "Axes", which: str) -> None:
    """Write one axis' fractions as percentages."""
    _format_axis(axes, which, lambda value: f"{value * 100:.4g} %".replace("-", fmt.MINUS))


def _format_axis(axes: "Axes", which: str, text: Any) -> None:
    """Set the tick format of the x or y axis; minor ticks of log axes stay unlabelled."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
    axis.set_minor_formatter(NullFormatter())


def svg(figure: "Figure", name: str, description: str) -> Markup:
    """Return the figure as an SVG element with a description for screen readers.

    Ids are stripped from groups and salted elsewhere: several charts share one page, and equal
    inputs must give equal bytes.
    """
    import matplotlib as mpl

    buffer = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(
            buffer,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = text.replace("<svg ", f'<svg role="img" aria-label="{escape(description)}" ', 1)
    return Markup(text)
