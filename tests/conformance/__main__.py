"""Command line: python -m tests.conformance DIR [--only a,b] [--json]."""

import argparse
import importlib
import json
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path

import jax

from tests import conformance
from tests.conformance.comparison import Replay

Adapter = Callable[[dict, list[dict]], Replay]


def _adapters() -> dict[str, Adapter]:
    """Return the adapter of every vector file, from each module of this package that has some."""
    found: dict[str, Adapter] = {}
    for module in pkgutil.iter_modules(conformance.__path__):
        if module.name != "__main__":
            loaded = importlib.import_module(f"{conformance.__name__}.{module.name}")
            found |= getattr(loaded, "ADAPTERS", {})
    return found


ADAPTERS = _adapters()
SHOWN_FAILURES = 5


def replay_file(path: Path) -> Replay:
    """Return the verdict of every case in one vector file."""
    content = json.loads(path.read_text())
    return ADAPTERS[path.stem](content["header"], content["cases"])


def main(arguments: list[str] | None = None) -> int:
    """Replay every vector file of a folder; return 1 on any failure or unknown file."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("directory", type=Path, help="folder of vector files")
    parser.add_argument("--only", default="", help="comma-separated file stems")
    parser.add_argument("--json", action="store_true", help="print one JSON object a file")
    options = parser.parse_args(arguments)
    only = [name for name in options.only.split(",") if name]
    paths = sorted(p for p in options.directory.glob("*.json") if not only or p.stem in only)
    missing = sorted(set(only) - {p.stem for p in paths})
    for name in missing:
        print(f"{name}: no such file in {options.directory}", file=sys.stderr)
    if not paths:
        print(f"no vector files in {options.directory}", file=sys.stderr)
        return 1
    jax.config.update("jax_enable_x64", True)
    results = [_replay_and_print(path, as_json=options.json) for path in paths]
    return 0 if all(results) and not missing else 1


def _replay_and_print(path: Path, *, as_json: bool) -> bool:
    if path.stem not in ADAPTERS:
        return _failed(path, "unknown file: no adapter", as_json=as_json)
    try:
        replay = replay_file(path)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        # A file that cannot be read as its header says must not hide the verdict of the others.
        return _failed(path, f"cannot be replayed: {error!r}", as_json=as_json)
    row = {
        "file": path.stem,
        "cases": replay.cases,
        "passed": replay.passed,
        "skipped": len(replay.skipped),
        "worst_relative_error": replay.worst_relative_error,
        "failures": [f"case {i}: {text}" for i, text in sorted(replay.failures.items())],
        "skip_reasons": sorted(set(replay.skipped.values())),
    }
    if as_json:
        print(json.dumps(row))
    else:
        print(
            f"{path.stem} {replay.cases} {replay.passed} {len(replay.skipped)} "
            f"{replay.worst_relative_error:.1e}"
        )
        for line in row["failures"][:SHOWN_FAILURES]:
            print(f"  {line}")
    return not replay.failures


def _failed(path: Path, text: str, *, as_json: bool) -> bool:
    row = {"file": path.stem, "error": text}
    print(json.dumps(row) if as_json else f"{path.stem} {text}")
    return False


if __name__ == "__main__":
    sys.exit(main())
