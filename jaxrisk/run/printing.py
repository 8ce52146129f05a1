"""Terminal output: results on stdout, plan, notices and progress on stderr.

Bars and colours appear on a terminal only; piped output is plain text, and JSON goes to stdout
untouched by any of this.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from jaxrisk.run import formatting as fmt
from jaxrisk.run.stress_config import StressSection
from jaxrisk.run.stress_text import side_by_side, sourced_figures

PLAIN_WIDTH = 110
"""Width of output that no terminal bounds."""


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text as it is: nothing in a name is read as markup."""
    plain = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not plain.is_terminal:
        plain.width = PLAIN_WIDTH
    return plain


def plan_line(
    *,
    accounts: int,
    assets: int,
    venues: int,
    scenarios: int,
    steps: int,
    step_hours: float,
    device: str,
    precision: str,
    memory_bytes: float | None = None,
    completed: int = 0,
    synthetic: bool = False,
) -> str:
    """Return what is about to be computed, in one line.

    Args:
        accounts: accounts of all venues.
        assets: assets with a price.
        venues: venues of the system.
        scenarios: scenarios of the run.
        steps: steps of each scenario.
        step_hours: length of a step in hours.
        device: device in words, as in `cpu, 2 devices`.
        precision: float64 or float32.
        memory_bytes: estimated live memory, if known.
        completed: scenarios that a resumed run already holds.
        synthetic: the book is generated.
    """
    book = (
        f"{fmt.count(accounts)} {'synthetic ' if synthetic else ''}{_plural('account', accounts)}"
    )
    parts = [
        f"{book}, {assets} {_plural('asset', assets)}, {venues} {_plural('venue', venues)}",
        f"{fmt.count(scenarios)} scenarios, {fmt.count(steps)} steps of {step_hours:g} h",
        f"{device}, {precision}",
    ]
    if memory_bytes is not None:
        parts.append(f"about {max(memory_bytes / 1e9, 0.01):.2g} GB")
    if completed:
        parts.append(f"{fmt.count(completed)} scenarios already done")
    return f"plan: {'; '.join(parts)}"


def print_notice(text: str, *, quiet: bool = False) -> None:
    """Print one line of plan or progress on stderr, unless quiet."""
    if not quiet:
        console(stderr=True).print(text, soft_wrap=True)


def print_problems(problems: tuple[str, ...]) -> None:
    """Print every problem of an error on stderr, one a line."""
    output = console(stderr=True)
    for problem in problems:
        output.print(
            Text("error: ", style="bold red").append(problem, style="none"), soft_wrap=True
        )


@contextmanager
def progress(
    total: int, *, completed: int = 0, quiet: bool = False
) -> Iterator[Callable[[int], None]]:
    """Yield a function that advances the bar by a number of scenarios.

    Without a terminal, or quiet, there is no bar and the function does nothing.
    """
    output = console(stderr=True)
    if quiet or not output.is_terminal:
        yield lambda scenarios: None
        return
    columns = (
        TextColumn("scenarios"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=output, transient=True) as bar:
        task = bar.add_task("scenarios", total=total, completed=completed)
        yield lambda scenarios: bar.advance(task, scenarios)


def print_summary(
    summary: Mapping[str, Any], *, report: Path | None = None, output: Console | None = None
) -> None:
    """Print the result of a run on stdout: headline, key figures, chances, sensitivities, path.

    Args:
        summary: content of `summary.json`.
        report: path of the report, named in the last line.
        output: where to print; stdout by default.
    """
    output = console() if output is None else output
    if summary.get("synthetic"):
        output.print(
            Text("SYNTHETIC BOOK: generated accounts, not a real book", style="bold yellow")
        )
    output.print(summary.get("headline") or fmt.headline(summary))
    output.print()
    output.print(measures_table(summary["measures"], narrow=output.width < 100))
    output.print(_chances(summary.get("probabilities", {})))
    for table in layer_tables(summary):
        output.print()
        output.print(table)
    rows = summary.get("sensitivities") or ()
    if rows:
        output.print()
        output.print(sensitivities_table(rows))
    if stresses := summary.get("stresses"):
        output.print()
        output.print(stresses_table(stresses))
        for row in stresses:
            output.print(f"{row['stress']}: {'; '.join(row['moves'])}", soft_wrap=True)
    for line in summary.get("data_quality") or ():
        output.print(f"data: {line}")
    run = summary["run"]
    seconds = run.get("seconds") or {}
    spent = ", ".join(f"{name} {fmt.duration(value)}" for name, value in seconds.items())
    output.print()
    output.print(f"{spent}; {run.get('device')}, {run.get('precision')}, seed {run.get('seed')}")
    if report is not None:
        output.print(f"report: {report}", soft_wrap=True)


def measures_table(measures: Mapping[str, Mapping[str, Any]], *, narrow: bool = False) -> Table:
    """Return the key figures ± standard errors; `narrow` puts the error on a second line."""
    table = Table(title="USD, ± standard error", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    table.add_column("mean", justify="right")
    levels = fmt.all_confidences(measures)
    keys = [f"{kind}_{level}" for level in levels for kind in ("var", "es")]
    for level in levels:
        table.add_column(f"VaR {fmt.level_name(level)}", justify="right")
        table.add_column(f"ES {fmt.level_name(level)}", justify="right")
    for name, measure in measures.items():
        pairs = [("mean", "standard_error"), *((key, f"{key}_standard_error") for key in keys)]
        cells = [_cell(name, measure.get(key), measure.get(error)) for key, error in pairs]
        if narrow:
            cells = [cell.replace(" ± ", "\n± ") for cell in cells]
        table.add_row(fmt.label(name), *cells)
    return table


def layer_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Return the layers that stand on each other, and mean losses with one of them less."""
    tables = []
    for title, (heads, rows) in (
        ("layers through claims", fmt.layer_cells(summary)),
        ("one layer less: means, USD", fmt.less_cells(summary)),
    ):
        if rows:
            table = Table(title=title, title_justify="left", box=None, pad_edge=False)
            for i, head in enumerate(heads):
                table.add_column(head, justify="right" if i else "left")
            for row in rows:
                table.add_row(*row)
            tables.append(table)
    return tables


def sensitivities_table(rows: Any, limit: int = 5) -> Table:
    """Return the largest sensitivities by the effect of +1 % of the parameter, checks included."""
    table = Table(title="largest sensitivities", title_justify="left", box=None, pad_edge=False)
    table.add_column("measure")
    table.add_column("parameter")
    for name in ("value", "derivative", "for +1 %"):
        table.add_column(name, justify="right")
    table.add_column("bump check")
    ranked = sorted(rows, key=lambda row: -np.nan_to_num(abs(fmt.effect(row))))
    for row in ranked[:limit]:
        agrees = row.get("agrees")
        check = "not checked" if agrees is None else "agrees" if agrees else "FAILS"
        derivative = fmt.amount_with_error(row.get("derivative"), row.get("standard_error"), "")
        table.add_row(
            fmt.label(row["measure"]),
            str(row["parameter"]),
            fmt.significant(row.get("value")),
            derivative,
            fmt.quantity(row["measure"], fmt.effect(row)),
            Text(check, style="" if agrees else "yellow"),
        )
    return table


def stresses_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return what named stresses do to the book, side by side."""
    table = Table(title="named stresses, USD", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for row in rows:
        table.add_column(str(row["stress"]), justify="right")
    for line in side_by_side(rows):
        table.add_row(*line)
    return table


def print_stresses(stresses: Mapping[str, StressSection]) -> None:
    """Print a library of stresses on stdout: name, title, figures and their sources."""
    output = console()
    for name, stress in stresses.items():
        output.print(Text(name, style="bold").append(f"  {stress.title}", style="none"))
        for key, value, source in sourced_figures(stress):
            output.print(f"    {key} = {value}: {source}", soft_wrap=True)


def _chances(probabilities: Mapping[str, Mapping[str, Any]]) -> Text:
    """Return the probabilities, one a line."""
    lines = []
    for name, entry in probabilities.items():
        title = fmt.label(name)
        if entry.get("threshold_usd") is not None:
            title = f"Bad debt above {fmt.round_amount(entry['threshold_usd'])}"
        chance = fmt.percent(entry.get("mean"), fmt.as_float(entry.get("standard_error")))
        lines.append(f"{title}: {chance} of scenarios")
    return Text("\n".join(lines))


def _cell(name: str, value: Any, error: Any) -> str:
    """Return value ± error, without the USD that the table's title names."""
    if name.endswith("_usd"):
        return fmt.amount_with_error(value, error, "")
    return fmt.quantity(name, value, fmt.as_float(error))


def _plural(word: str, number: int) -> str:
    """Return the word, with an s unless the number is one."""
    return word if number == 1 else f"{word}s"


def print_events(events: Sequence[Mapping[str, Any]], scenario: int) -> None:
    """Print the events of a replayed scenario on stdout: prices, then what they set off."""
    output = console()
    calls = [event for event in events if event["event"] == "liquidation"]
    bad_debt = sum(event["bad_debt_usd"] for event in calls)
    for event in events:
        hours = f"{event['time_hours']:8.2f} h"
        if event["event"] == "prices":
            text = ", ".join(f"{a} {p:.6g}" for a, p in event["price_usd"].items())
            output.print(f"{hours}  {text}", soft_wrap=True)
        else:
            left = f", bad debt {fmt.amount(event['bad_debt_usd'])}" * (event["bad_debt_usd"] > 0)
            output.print(
                f"{hours}    {event['venue']} {event['account_id']}: "
                f"seized {fmt.amount(event['seized_usd'])}, "
                f"repaid {fmt.amount(event['repaid_usd'])}{left}",
                soft_wrap=True,
            )
    output.print(
        f"scenario {scenario}: {len(calls)} account-steps liquidated, bad debt "
        f"{fmt.amount(bad_debt)}"
    )
