"""Rows of a CSV or Parquet file with exact line numbers, and the list of what is wrong in them."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int, Shaped

from jaxrisk.errors import DataError
from jaxrisk.run.hints import closest, parse_number

PROBLEMS_SHOWN = 20
COMMENT_KEY = b"jaxrisk.comment"
"""Parquet metadata that holds what the leading # lines hold in a CSV."""


@dataclass
class Problems:
    """Collects what is wrong with a file, so that all of it is reported together."""

    path: Path
    found: dict[str, int] = field(default_factory=dict)

    def add(self, text: str, *, line: int | None = None, column: str | None = None) -> None:
        """Note a problem at a line (Parquet: row, from 1) and column."""
        place = str(self.path) + (f":{line}" if line else "") + (f": {column}" if column else "")
        self.found[f"{place}: {text}"] = line or 0

    def raise_if_any(self) -> None:
        """Raise `DataError` with the first problems in file order and the count of the rest."""
        if not self.found:
            return
        ordered = sorted(self.found, key=self.found.__getitem__)
        hidden = len(ordered) - PROBLEMS_SHOWN
        rest = [f"{self.path}: and {hidden} more problems"] if hidden > 0 else []
        raise DataError(ordered[:PROBLEMS_SHOWN] + rest)


@dataclass(frozen=True)
class Rows:
    """A table as it stands in a file, columns not yet interpreted.

    Attributes:
        path: the file.
        names: its columns.
        lines: line of each row in a CSV, row number from 1 in Parquet.
        comments: its leading comment lines.
        raw: returns a column: strings from a CSV; numbers, times or strings from Parquet.
    """

    path: Path
    names: tuple[str, ...]
    lines: Int[np.ndarray, " row"]
    comments: tuple[str, ...]
    raw: Callable[[str], Shaped[np.ndarray, " row"]]

    def require(self, names: Iterable[str]) -> None:
        """Raise `DataError` naming each absent column, what there is, and the likely meaning."""
        problems = Problems(self.path)
        for name in names:
            if name not in self.names:
                near = closest(name, self.names)
                hint = f"; is it {near}?" if near else ""
                there = ", ".join(self.names)
                problems.add(f"missing column {name}; the columns are {there}{hint}")
        problems.raise_if_any()

    def text(self, name: str) -> Shaped[np.ndarray, " row"]:
        """Return a column as stripped strings, nothing as the empty string."""
        values = self.raw(name)
        return np.array(["" if value is None else str(value).strip() for value in values], str)

    def take(self, index: Int[np.ndarray, " taken"]) -> "Rows":
        """Return these rows alone, under their own line numbers."""
        return replace(self, lines=self.lines[index], raw=lambda name: self.raw(name)[index])

    def number(self, name: str, problems: Problems) -> Float[np.ndarray, " row"]:
        """Return a column as float64; entries that are no finite number are noted and NaN."""
        values = self.raw(name)
        if values.dtype.kind in "fiu":
            numbers = values.astype(np.float64)
            for i in np.flatnonzero(~np.isfinite(numbers)):
                text = f"{numbers[i]} is not a finite number; give the value or drop the row"
                problems.add(text, line=int(self.lines[i]), column=name)
            return np.where(np.isfinite(numbers), numbers, np.nan)
        numbers = np.full(len(values), np.nan)
        for i, value in enumerate(values):
            try:
                numbers[i] = parse_number("" if value is None else str(value))
            except ValueError as error:
                problems.add(str(error), line=int(self.lines[i]), column=name)
        return numbers


def read_rows(path: Path) -> Rows:
    """Return the rows of a CSV or Parquet file; in a CSV, lines that start with # are comments.

    Raises:
        DataError: the file is absent, unreadable, of another kind, ragged or without rows.
    """
    readers = {".csv": _read_csv, ".parquet": _read_parquet}
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: expected a .csv or .parquet file")
    if not path.is_file():
        siblings = [str(other) for other in path.parent.glob("*") if other.suffix in readers]
        near = closest(str(path), siblings)
        raise DataError(f"{path}: no such file" + (f"; did you mean {near}?" if near else ""))
    try:
        rows = readers[path.suffix.lower()](path)
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text; save the CSV as UTF-8") from None
    except (pa.ArrowException, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not len(rows.lines):
        raise DataError(f"{path}: no rows; expected a header and at least one row")
    return rows


def _read_csv(path: Path) -> Rows:
    comments: list[str] = []

    def without_comments(lines: Iterable[str]) -> Iterator[str]:
        # A comment becomes an empty line, so that the reader's line count stays that of the file.
        for line in lines:
            if line.startswith("#"):
                comments.append(line[1:].strip())
                yield "\n"
            else:
                yield line

    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(without_comments(file))
        header = next((row for row in reader if row), [])
        numbered = [(reader.line_num, row) for row in reader if row]
    names = tuple(name.strip() for name in header)
    problems = Problems(path)
    for line, row in numbered:
        if len(row) != len(names):
            text = f"expected {len(names)} fields, found {len(row)}"
            if len(row) > len(names):
                text += " (a thousands separator or decimal comma without quotes?)"
            problems.add(text, line=line)
    problems.raise_if_any()
    columns = dict(zip(names, zip(*(row for _, row in numbered), strict=True), strict=False))
    lines = np.array([line for line, _ in numbered], np.int64)
    return Rows(
        path, names, lines, tuple(comments), lambda name: np.array(columns[name], dtype=object)
    )


def _read_parquet(path: Path) -> Rows:
    table = pq.read_table(path)
    comment = (table.schema.metadata or {}).get(COMMENT_KEY, b"").decode()

    def column(name: str) -> Shaped[np.ndarray, " row"]:
        values = table.column(name)
        if pa.types.is_dictionary(values.type):
            values = values.cast(values.type.value_type)
        if pa.types.is_temporal(values.type):
            values = values.cast(pa.timestamp("us"), safe=False)
        return values.to_numpy(zero_copy_only=False)

    lines = np.arange(1, table.num_rows + 1)
    return Rows(path, tuple(table.column_names), lines, tuple(comment.splitlines()), column)


def write_rows(path: Path, columns: dict[str, np.ndarray], comments: Sequence[str]) -> None:
    """Write a CSV or Parquet file, in place only once it is whole.

    Raises:
        DataError: the suffix is neither .csv nor .parquet, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise DataError(f"{path}: expected a .csv or .parquet file")
    part = path.with_name(path.name + ".part")
    try:
        if suffix == ".parquet":
            table = pa.table(columns)
            pq.write_table(
                table.replace_schema_metadata({COMMENT_KEY: "\n".join(comments).encode()}), part
            )
        else:
            with part.open("w", encoding="utf-8", newline="") as file:
                file.writelines(f"# {comment}\n" for comment in comments)
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(columns)
                # tolist() turns NumPy scalars into Python ones, which print the shortest form
                # that reads back exactly.
                writer.writerows(zip(*(c.tolist() for c in columns.values()), strict=True))
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None
