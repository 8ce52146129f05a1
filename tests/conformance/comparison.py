"""Comparing replayed results with recorded ones, and what one file's replay reports."""

import dataclasses
from collections.abc import Mapping, Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike

RELATIVE = 1e-9
RAW_UNITS = 2.0


@dataclasses.dataclass
class Replay:
    """Collects the verdict of every case of one vector file."""

    cases: int
    failures: dict[int, str] = dataclasses.field(default_factory=dict)
    skipped: dict[int, str] = dataclasses.field(default_factory=dict)
    worst_relative_error: float = 0.0
    checks: int = 0

    @property
    def passed(self) -> int:
        return self.cases - len(self.failures) - len(self.skipped)

    def compare(
        self,
        what: str,
        indices: Sequence[int] | np.ndarray,
        actual: ArrayLike,
        expected: ArrayLike,
        *,
        relative: float = RELATIVE,
        raw_units: float | np.ndarray = RAW_UNITS,
    ) -> None:
        """Fail every case whose `actual` is farther from `expected` than the tolerance."""
        indices, actual = np.asarray(indices), np.asarray(actual, np.float64)
        expected = np.asarray(expected, np.float64)
        error = np.abs(actual - expected)
        allowed = relative * np.abs(expected) + raw_units
        self.checks += len(error)
        # Errors inside the raw-unit allowance are rounding of the contract, not of the engine.
        excess = np.maximum(error - raw_units, 0.0) / np.maximum(np.abs(expected), 1.0)
        if len(excess):
            self.worst_relative_error = max(self.worst_relative_error, float(np.max(excess)))
        for k in np.flatnonzero(~(error <= allowed)):
            self.failures.setdefault(
                int(indices[k]), f"{what}: got {actual[k]!r}, recorded {expected[k]!r}"
            )

    def compare_labels(
        self,
        what: str,
        indices: Sequence[int] | np.ndarray,
        actual: Sequence[object],
        expected: Sequence[object],
    ) -> None:
        """Fail every case whose label differs."""
        self.checks += len(actual)
        for i, a, e in zip(indices, actual, expected, strict=True):
            if a != e:
                self.failures.setdefault(int(i), f"{what}: got {a}, recorded {e}")


@dataclasses.dataclass(frozen=True)
class Unlisted:
    """A recorded reason that an adapter does not know: its case fails, and says so."""

    name: str


def reason(known: Mapping[str, IntEnum], text: str) -> IntEnum | Unlisted:
    """Return the refusal that a recorded revert reason stands for."""
    return known[text] if text in known else Unlisted(f"an unlisted reason, {text!r}")


def ordered_value(amount: int, ceiling: int, unit: float) -> float:
    """Return `amount * unit` as a float that stays below `ceiling * unit` where it is below it.

    Integers beyond 2^53 share floats; "all but one unit" must not become "all".
    """
    value, top = float(amount) * unit, float(ceiling) * unit
    return float(np.nextafter(top, 0.0)) if amount < ceiling and value >= top else value
