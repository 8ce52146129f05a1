"""Named stresses in words: side by side for terminal and report, and the library as a list."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxrisk.run import formatting as fmt
from jaxrisk.run.stress_config import StressSection

MEASURES = (
    "bad_debt_usd",
    "liquidated_usd",
    "borrower_loss_usd",
    "supplier_loss_usd",
    "shortfall_usd",
    "keeper_profit_usd",
)
"""What is told of the book under each stress."""


def side_by_side(rows: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the lines of a table with a column a stress: the measure, then its values."""
    lines = [[fmt.label(name), *(fmt.amount(row[name], "") for row in rows)] for name in MEASURES]
    for venue in rows[0]["venues"] if rows else ():
        values = (row["venues"][venue]["bad_debt_usd"] for row in rows)
        lines.append([f"Bad debt on {venue}", *(fmt.amount(value, "") for value in values)])
    return lines


def sourced_figures(stress: StressSection) -> Iterator[tuple[str, str, str]]:
    """Yield (key, value, source) of every number of a stress whose source is stated."""
    for key, source in stress.sources.items():
        table, _, entry = key.partition(".")
        value: Any = getattr(stress, table)
        value = value[entry] if entry else value
        shown = f"{value.change:+.0%}" if table == "prints" else f"{value:g}"
        yield key, shown, source
