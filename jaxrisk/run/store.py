"""The run directory: atomic writes, resumable parts, tables whose columns carry unit and meaning.

While a run works, the directory holds `progress.json` and `parts/`. Every file appears whole or
not at all (written beside its place, then renamed), so an interrupt at any moment leaves a
directory that `--resume` can finish. `finish` removes both once the result is in place.
"""

import itertools
import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jaxrisk.errors import ConfigError, DataError
from jaxrisk.run.columns import TABLES, check_columns

Columns = Mapping[str, np.ndarray | Sequence[Any]]

PROGRESS = "progress.json"
PARTS = "parts"
TEMPORARY = ".jaxrisk-"
RESULTS = ("run.json", "summary.json", "report.html", *(f"{table}.parquet" for table in TABLES))
"""Files a run writes: the only ones `--force` removes, with progress, parts and leftovers."""


@dataclass(frozen=True)
class RunDirectory:
    """One run's results on disk. Use `create`, which checks the folder, not the constructor."""

    path: Path

    @classmethod
    def create(
        cls, path: str | Path, *, force: bool, resume: bool, config_hash: str
    ) -> "RunDirectory":
        """Return a writable run directory, fresh or (with `resume`) with its finished parts.

        With `resume` and nothing there yet the run starts from the beginning, so a scheduler can
        restart one and the same command.

        Args:
            path: folder; made with its parents where absent.
            force: replace an earlier run there; other files in the folder are left alone.
            resume: go on with an interrupted run of the same configuration.
            config_hash: what tells one configuration (with its data) from another.

        Raises:
            ConfigError: the folder holds files and neither option is given, both are given, the
                folder cannot be written, or the interrupted run had another configuration.
        """
        directory = cls(Path(path))
        if force and resume:
            raise ConfigError("--force, --resume: one starts over, the other goes on; give one")
        occupied = directory._prepare()
        if resume and occupied:
            directory._check_resumable(config_hash)
        elif force:
            directory._clear()
        elif occupied:
            raise ConfigError(
                f"{directory.path}: the output directory is not empty; add --force to replace the "
                "run in it, --resume to go on with an interrupted one, or choose another with --out"
            )
        directory._probe()
        if not (directory.path / PROGRESS).exists():
            directory.write_json(PROGRESS, {"config_hash": config_hash})
        return directory

    def completed_parts(self) -> list[tuple[int, int]]:
        """Return (first scenario id, number of scenarios) of every finished part, in order.

        Raises:
            DataError: two parts hold the same scenario.
        """
        ranges = sorted(_part_range(part) for part in self._part_files())
        for (first, count), (following, _) in itertools.pairwise(ranges):
            if following < first + count:
                raise DataError(
                    f"{self.path / PARTS}: scenario {following} is in two parts; the folder was "
                    "written by two runs at once: start over with --force"
                )
        return ranges

    def write_part(self, first_id: int, table: Columns) -> Path:
        """Return the path of a finished part: scenarios `first_id` onwards, one row each.

        Args:
            first_id: id of the first row; the rows are consecutive ids.
            table: columns of the `scenarios` table.
        """
        (self.path / PARTS).mkdir(exist_ok=True)
        arrow = _arrow("scenarios", table)
        metadata = {"first_scenario": str(first_id), "scenario_count": str(arrow.num_rows)}
        arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), **metadata})
        target = self.path / PARTS / f"part-{first_id:010d}.parquet"
        _write_parquet(target, arrow)
        return target

    def read_parts(self) -> dict[str, np.ndarray]:
        """Return the `scenarios` columns of all finished parts, in order of scenario id."""
        self.completed_parts()
        tables = [pq.read_table(part) for part in self._part_files()]
        return _columns(pa.concat_tables(tables)) if tables else {}

    def write_table(self, name: str, columns: Columns) -> Path:
        """Return the path of `<name>.parquet` (zstd), unit and meaning in each field's metadata.

        Raises:
            ValueError: columns of unequal length, or a column the registry does not know.
        """
        target = self.path / f"{name}.parquet"
        _write_parquet(target, _arrow(name, columns))
        return target

    def read_table(self, name: str) -> dict[str, np.ndarray]:
        """Return the columns of `<name>.parquet`.

        Raises:
            DataError: the table is not there.
        """
        source = self.path / f"{name}.parquet"
        if not source.exists():
            raise DataError(
                f"{source}: no such table; the run did not finish or did not ask for it"
            )
        return _columns(pq.read_table(source))

    def write_json(self, name: str, value: Any) -> Path:
        """Return the path of a JSON file; NaN and infinities, which JSON lacks, become null."""
        text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
        return self.write_text(name, text + "\n")

    def write_text(self, name: str, text: str) -> Path:
        """Return the path of a UTF-8 text file in the run directory."""
        return write_text(self.path / name, text)

    def finish(self) -> None:
        """Remove `parts/` and `progress.json`: the run is complete.

        Raises:
            FileNotFoundError: `scenarios.parquet` is not there, so the parts are still needed.
        """
        if not (self.path / "scenarios.parquet").exists():
            raise FileNotFoundError(f"{self.path}: write scenarios.parquet before finishing")
        # progress first: parts without progress are leftovers, progress without parts would be
        # taken for a run that has to start over.
        (self.path / PROGRESS).unlink(missing_ok=True)
        self._clear_parts()

    def _prepare(self) -> bool:
        """Return whether the folder, made where absent, holds anything but leftovers."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            names = [entry.name for entry in self.path.iterdir()]
        except OSError as error:
            raise _unwritable(self.path, error) from error
        return any(not name.startswith(TEMPORARY) for name in names)

    def _probe(self) -> None:
        """Raise if no file can be written: better now than after the simulation."""
        try:
            with tempfile.NamedTemporaryFile(dir=self.path, prefix=TEMPORARY):
                pass
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _check_resumable(self, config_hash: str) -> None:
        """Raise unless the folder holds an interrupted run of this very configuration."""
        progress = self.path / PROGRESS
        if not progress.exists():
            raise ConfigError(
                f"{self.path}: --resume: no interrupted run here (no {PROGRESS}); a "
                "finished run is replaced with --force, a new one goes elsewhere with --out"
            )
        try:
            stored = json.loads(progress.read_text(encoding="utf-8"))["config_hash"]
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{progress}: --resume: not a progress file; start over with --force"
            ) from error
        if stored != config_hash:
            raise ConfigError(
                f"{self.path}: --resume: the interrupted run has configuration {stored}, this one "
                f"has {config_hash}; restore the configuration and data, or start over with --force"
            )

    def _part_files(self) -> list[Path]:
        """Return the finished part files; their padded names sort by scenario id."""
        return sorted((self.path / PARTS).glob("part-*.parquet"))

    def _clear(self) -> None:
        """Remove what an earlier run wrote, and nothing else."""
        try:
            for name in (*RESULTS, PROGRESS):
                (self.path / name).unlink(missing_ok=True)
            for leftover in self.path.glob(f"{TEMPORARY}*"):
                leftover.unlink(missing_ok=True)
            self._clear_parts()
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _clear_parts(self) -> None:
        """Remove part files and their folder, unless something foreign lies in it."""
        folder = self.path / PARTS
        if not folder.is_dir():
            return
        for pattern in ("part-*.parquet", f"{TEMPORARY}*"):
            for part in folder.glob(pattern):
                part.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def write_text(target: Path, text: str) -> Path:
    """Return `target`, written whole or not at all, as UTF-8."""
    with _atomic(target) as file:
        file.write(text.encode("utf-8"))
    return target


def plain(value: Any) -> Any:
    """Return `value` as JSON holds it: NumPy becomes Python, NaN and infinities become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value


@contextmanager
def _atomic(target: Path) -> Iterator[BinaryIO]:
    """Yield a temporary file in the target's folder that takes the target's place at the end.

    The same folder, because a rename is atomic only within one file system.
    """
    temporary = target.with_name(f"{TEMPORARY}{target.name}-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _arrow(table: str, columns: Columns) -> pa.Table:
    """Return an Arrow table with the registry's unit and meaning on every field."""
    entries = check_columns(table, columns)
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{table}: columns differ in length: {lengths}")
    arrays = {name: pa.array(values) for name, values in columns.items()}
    fields = [
        pa.field(
            name,
            array.type,
            metadata={"unit": entries[name].unit, "meaning": entries[name].meaning},
        )
        for name, array in arrays.items()
    ]
    schema = pa.schema(fields, metadata={"table": table, "meaning": TABLES[table]})
    return pa.Table.from_arrays(list(arrays.values()), schema=schema)


def _write_parquet(target: Path, table: pa.Table) -> None:
    """Write a Parquet file whole or not at all."""
    with _atomic(target) as file:
        pq.write_table(table, file, compression="zstd")


def _columns(table: pa.Table) -> dict[str, np.ndarray]:
    """Return the columns of an Arrow table as NumPy arrays."""
    return {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}


def _part_range(part: Path) -> tuple[int, int]:
    """Return (first scenario id, number of scenarios) of a part file."""
    try:
        metadata = pq.read_metadata(part).metadata or {}
        return int(metadata[b"first_scenario"]), int(metadata[b"scenario_count"])
    except (OSError, pa.ArrowException, KeyError, ValueError) as error:
        raise DataError(
            f"{part}: not a part of a run ({error}); remove it and --resume, or --force"
        ) from error


def _unwritable(path: Path, error: OSError) -> ConfigError:
    """Return the error of an output directory that cannot be used, with the remedy."""
    reason = error.strerror or str(error)
    return ConfigError(
        f"{path}: the output directory cannot be written ({reason}); choose another with --out "
        "or run.output, or mend its permissions"
    )
