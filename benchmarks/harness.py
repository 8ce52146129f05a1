"""Benchmark harness: compile ahead of time, run interleaved, report medians as JSON lines.

Wall time on a shared machine swings by a factor of two, so implementations take turns and the
claim is the ratio of medians within one run; rates per CPU second stand beside as a steadier
second opinion. A record has exactly the fields of `Record`.
"""

import argparse
import datetime as dt
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax

# Else the threads of one peer's pool spin for a while after their work, on the next one's time.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


@dataclass(frozen=True)
class Prepared:
    """A compiled implementation with its inputs bound.

    Attributes:
        call: runs once and returns the raw result.
        compile_seconds: trace, lowering and compilation; 0 where nothing is compiled.
        temp_bytes: scratch memory of the compiled program on each device, where it is known.
        live_scenarios: scenarios held in that memory at a time, where there is such a number.
    """

    call: Callable[[], Any]
    compile_seconds: float = 0.0
    temp_bytes: int | None = None
    live_scenarios: int | None = None


def call_once(prepared: Prepared) -> Any:
    """Return the raw result of one run, finished rather than merely dispatched."""
    return jax.block_until_ready(prepared.call())


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """One way to compute the workload.

    Attributes:
        name: as it stands in the results.
        prepare: moves inputs into place and compiles; not timed as a run.
        outputs: turns the raw result into host arrays for the accuracy check; None where the
            result is not comparable (a gradient).
        work: units of work in one run.
        run: runs the prepared implementation once and returns the raw result.
        relative_to: name of an implementation whose time for the same work is the yardstick.
    """

    name: str
    prepare: Callable[[], Prepared]
    outputs: Callable[[Any], Any]
    work: float
    run: Callable[[Prepared], Any] = call_once
    relative_to: str | None = None


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Medians over the repeats of one implementation, and its last result as host arrays."""

    implementation: Implementation
    prepared: Prepared
    outputs: Any
    seconds_wall: float
    seconds_cpu: float


@dataclass(frozen=True, kw_only=True)
class Record:
    """One JSON line. Ratios above 1 are faster than the peer; `accuracy` 0 is exact."""

    implementation: str
    metric: str = ""
    value: float | None = None
    ratio_to_numpy: float | None = None
    ratio_to_numba: float | None = None
    accuracy: float | None
    seconds_wall: float
    seconds_cpu: float
    compile_seconds: float
    temp_bytes: int | None
    benchmark: str
    device: str
    date: str
    note: str = ""


def parse_options(description: str, arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options every benchmark has: `quick` and `json`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="small size, a smoke test")
    parser.add_argument("--json", action="store_true", help="JSON lines on stdout, table on stderr")
    return parser.parse_args(arguments)


def configure_jax() -> None:
    """Give JAX one CPU device a core and no compilation cache, before its first use."""
    jax.config.update("jax_num_cpu_devices", cores())
    # A warm cache on disk would turn the compile column into a reading of the last run.
    jax.config.update("jax_enable_compilation_cache", False)


def cores() -> int:
    """Return the number of CPU cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def machine() -> str:
    """Return one line about processor, devices and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    devices = jax.devices()
    versions = []
    for package in ("jax", "numpy", "numba"):
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {package}")
    processor = models[0] if models else platform.processor() or platform.machine()
    return (
        f"{processor}, {cores()} cores, {len(devices)} x {devices[0].device_kind}, "
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


def compile_ahead(
    function: Callable[..., Any], *arguments: Any, live_scenarios: int | None = None
) -> Prepared:
    """Return `function`, jitted and compiled for `arguments`, with compile time and memory.

    Args:
        function: a plain or an already jitted function.
        *arguments: its inputs, bound to the prepared call and placed on the devices that read them.
        live_scenarios: scenarios one device holds at a time.
    """
    jitted: Any = function if hasattr(function, "lower") else jax.jit(function)
    start = time.perf_counter()
    compiled = jitted.lower(*arguments).compile()
    seconds = time.perf_counter() - start
    analysis = compiled.memory_analysis()
    temp_bytes = None if analysis is None else int(analysis.temp_size_in_bytes)
    placed = jax.device_put(arguments, compiled.input_shardings[0])
    return Prepared(lambda: compiled(*placed), seconds, temp_bytes, live_scenarios)


def measure(implementations: Sequence[Implementation], *, repeats: int) -> list[Measurement]:
    """Return one measurement an implementation: prepare all, warm up all, then take turns."""
    pairs = [(implementation, implementation.prepare()) for implementation in implementations]
    results = [implementation.run(ready) for implementation, ready in pairs]
    wall: list[list[float]] = [[] for _ in pairs]
    cpu: list[list[float]] = [[] for _ in pairs]
    for _ in range(repeats):
        for position, (implementation, ready) in enumerate(pairs):
            start, start_cpu = time.perf_counter(), time.process_time()
            implementation.run(ready)
            wall[position].append(time.perf_counter() - start)
            cpu[position].append(time.process_time() - start_cpu)
    return [
        Measurement(
            implementation=implementation,
            prepared=ready,
            outputs=implementation.outputs(result),
            seconds_wall=statistics.median(walls),
            seconds_cpu=statistics.median(cpus),
        )
        for (implementation, ready), result, walls, cpus in zip(
            pairs, results, wall, cpu, strict=True
        )
    ]


def records(
    benchmark: str,
    measurements: Sequence[Measurement],
    *,
    unit: str,
    numpy_peer: str,
    numba_peer: str,
    accuracy: Mapping[str, float],
    shares: Mapping[str, Mapping[str, float]],
) -> list[Record]:
    """Return the records of a benchmark.

    Each implementation gives `<unit>_per_second` and `<unit>_per_cpu_second` with their ratios to
    both peers, then whatever else is known of it: `temp_bytes_per_scenario`, `time_ratio` to the
    implementation it is relative to, and its entries in `shares`.

    Args:
        benchmark: name of the benchmark.
        measurements: from `measure`.
        unit: what is counted, plural.
        numpy_peer: name of the NumPy implementation as an ordinary user writes it.
        numba_peer: name of the Numba implementation as an ordinary user writes it.
        accuracy: worst relative error by implementation name.
        shares: further metrics, by metric and then implementation name.
    """
    peers = {m.implementation.name: m for m in measurements}
    device, date = machine(), dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    result: list[Record] = []
    for m in measurements:
        name = m.implementation.name
        base = Record(
            implementation=name,
            accuracy=accuracy.get(name),
            seconds_wall=m.seconds_wall,
            seconds_cpu=m.seconds_cpu,
            compile_seconds=m.prepared.compile_seconds,
            temp_bytes=m.prepared.temp_bytes,
            benchmark=benchmark,
            device=device,
            date=date,
        )
        for clock in ("wall", "cpu"):
            value = _rate(m, clock)
            result.append(
                replace(
                    base,
                    metric=f"{unit}_per_{'' if clock == 'wall' else 'cpu_'}second",
                    value=value,
                    ratio_to_numpy=value / _rate(peers[numpy_peer], clock),
                    ratio_to_numba=value / _rate(peers[numba_peer], clock),
                )
            )
        if m.prepared.temp_bytes is not None and m.prepared.live_scenarios:
            per_scenario = m.prepared.temp_bytes / m.prepared.live_scenarios
            result.append(replace(base, metric="temp_bytes_per_scenario", value=per_scenario))
        if (yardstick := m.implementation.relative_to) is not None:
            slower = _rate(peers[yardstick], "wall") / _rate(m, "wall")
            note = f"time for the same work, relative to {yardstick}"
            result.append(replace(base, metric="time_ratio", value=slower, note=note))
        for metric, values in shares.items():
            if name in values:
                result.append(replace(base, metric=metric, value=values[name]))
    return result


def _rate(m: Measurement, clock: str) -> float:
    seconds = m.seconds_wall if clock == "wall" else m.seconds_cpu
    # A run shorter than the clock's resolution reads as zero.
    return m.implementation.work / max(seconds, 1e-9)


def table(rows: Sequence[Record]) -> str:
    """Return the records as a table, one line an implementation, after a line on the machine."""
    grouped: dict[str, dict[str, Record]] = {}
    for row in rows:
        grouped.setdefault(row.implementation, {})[row.metric] = row
    metrics = list(dict.fromkeys(metric for group in grouped.values() for metric in group))
    header = ["implementation", *metrics, "x numpy", "x numba", "accuracy", "wall s", "cpu s"]
    lines = [[*header, "compile s", "temp MB"]]
    for name, group in grouped.items():
        first = next(iter(group.values()))
        cells = [group[metric].value if metric in group else None for metric in metrics]
        cells += [first.ratio_to_numpy, first.ratio_to_numba, first.accuracy]
        cells += [first.seconds_wall, first.seconds_cpu, first.compile_seconds]
        cells.append(None if first.temp_bytes is None else first.temp_bytes / 1e6)
        lines.append([name, *("-" if cell is None else f"{cell:.3g}" for cell in cells)])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    about = f"{rows[0].benchmark}: {rows[0].device}, {rows[0].date}"
    return "\n".join([about, *text])


def publish(rows: Sequence[Record], *, as_json: bool) -> None:
    """Print the table, and the records as JSON lines on stdout where they are asked for."""
    print(table(rows), file=sys.stderr if as_json else sys.stdout)
    if as_json:
        for row in rows:
            print(json.dumps(asdict(row), allow_nan=False))
