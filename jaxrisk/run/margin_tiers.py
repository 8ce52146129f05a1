"""Margin tables: brackets of contracts as a venue publishes them, one row a bracket."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxrisk.run.hints import expected_one_of
from jaxrisk.run.rows import Problems, Rows, read_rows
from jaxrisk.venue.margin_tiers import Bracket, MarginTiers

REQUIRED = (
    "symbol",
    "tier",
    "min_notional",
    "max_notional",
    "maintenance_margin_rate",
    "max_leverage",
)


def read_margin_tiers(
    path: Path | str, contracts: Sequence[str] | None = None
) -> dict[str, list[Bracket]]:
    """Return the brackets of contracts, checked, for `MarginTiers.from_brackets`.

    Args:
        path: CSV or Parquet with the columns `symbol, tier, min_notional, max_notional,
            maintenance_margin_rate, max_leverage` and maybe `cum`, the deduction.
        contracts: names wanted, in this order; all of them, in the order of the file, if left out.

    Raises:
        DataError: with up to 20 problems: an unknown contract, or what makes `from_brackets` refuse
            a table: tiers that do not rise, gaps, rates outside (0, 1), wrong deductions.
    """
    path = Path(path)
    rows = read_rows(path)
    rows.require(REQUIRED)
    problems = Problems(path)
    symbols = rows.text("symbol")
    there = list(dict.fromkeys(symbols.tolist()))
    for name in contracts or ():
        if name not in there:
            problems.add(f'no contract "{name}"; {expected_one_of(name, there)}', column="symbol")
    problems.raise_if_any()
    found = _brackets(rows, symbols, problems)
    problems.raise_if_any()
    wanted = {name: found[name] for name in (there if contracts is None else contracts)}
    try:
        MarginTiers.from_brackets(wanted)
    except ValueError as error:
        for text in str(error).splitlines():
            problems.add(text)
    problems.raise_if_any()
    return wanted


def _brackets(rows: Rows, symbols: np.ndarray, problems: Problems) -> dict[str, list[Bracket]]:
    """Return the brackets of every contract, in the order of their tiers."""
    number = {name: rows.number(name, problems).tolist() for name in REQUIRED[1:]}
    cum = rows.number("cum", problems).tolist() if "cum" in rows.names else [None] * len(symbols)
    found: dict[str, list[Bracket]] = {}
    for i in np.argsort(number["tier"], kind="stable").tolist():
        bracket = Bracket(
            floor=number["min_notional"][i],
            cap=number["max_notional"][i],
            rate=number["maintenance_margin_rate"][i],
            leverage=number["max_leverage"][i],
            deduction=cum[i],
        )
        found.setdefault(str(symbols[i]), []).append(bracket)
    return found
