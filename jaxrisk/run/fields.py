"""What sections of the configuration are made of: numbers with ranges, paths, problem lists."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationInfo,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from jaxrisk.run.hints import parse_number

Location = tuple[str | int, ...]
Problem = tuple[Location, str]
"""Where, relative to the section that reports it, and what is wrong."""


class Section(BaseModel):
    """A table of the configuration: unknown keys are refused and values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def raise_problems(problems: Sequence[Problem]) -> None:
    """Report all of a section's problems at once; nothing is raised where there are none."""
    if problems:
        raise PydanticCustomError("several", "several problems", {"problems": list(problems)})


@dataclass(frozen=True)
class Range:
    """An interval of finite numbers that explains itself when a value falls outside.

    Args:
        noun: what the number is, with its article: `a fraction`.
        slips: (divisor, offset) pairs; `value / divisor - offset` is offered as the likely
            meaning where it falls inside, so 83 for a fraction suggests 0.83.
    """

    noun: str
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False
    slips: tuple[tuple[float, float], ...] = ()

    def __contains__(self, value: float) -> bool:
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return above and below and math.isfinite(value)

    def __str__(self) -> str:
        if self.high < math.inf:
            opening, closing = "(["[not self.open_low], ")]"[not self.open_high]
            return f"{self.noun} in {opening}{self.low:g}, {self.high:g}{closing}"
        if self.low > -math.inf:
            return f"{self.noun} {'above' if self.open_low else 'not below'} {self.low:g}"
        return f"{self.noun} that is finite"

    def check(self, value: float) -> float:
        """Return `value` unchanged, or raise with the range and the likely meaning."""
        if value in self:
            return value
        # A slip makes the number too large: nobody writes 1 for 1 %.
        slips = self.slips if value > 1 else ()
        guesses = (value / divisor - offset for divisor, offset in slips)
        guess = next((f"; did you mean {g:.6g}?" for g in guesses if g in self), "")
        raise PydanticCustomError("range", "{text}", {"text": f"expected {self}{guess}"})

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        json_schema = dict(handler(schema))
        if self.low > -math.inf:
            json_schema["exclusiveMinimum" if self.open_low else "minimum"] = self.low
        if self.high < math.inf:
            json_schema["exclusiveMaximum" if self.open_high else "maximum"] = self.high
        return json_schema


def _number(value: Any) -> Any:
    """Refuse text, which pydantic would convert, and say what the number should look like."""
    if isinstance(value, str):
        try:
            parsed = parse_number(value)
        except ValueError as error:
            raise PydanticCustomError("number", "{text}", {"text": str(error)}) from None
        text = f"expected a number, found text; write {parsed:g} without quotes"
        raise PydanticCustomError("number", "{text}", {"text": text})
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError("number", "expected a number")
    return value


def _number_or_text(value: Any) -> Any:
    """Accept what an option may be; which of the two it is, its preset knows."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise PydanticCustomError("option", "expected a number, or text in quotes")
    return Range("a number").check(value)


def _whole(value: Any) -> Any:
    """Accept 2e5, which TOML reads as a float, where a whole number is wanted."""
    value = _number(value)
    if value != value or value % 1:
        raise PydanticCustomError("number", "expected a whole number")
    return int(value)


def _resolve(value: Path, info: ValidationInfo) -> Path:
    context: Mapping[str, Any] = info.context or {}
    return Path(context.get("folder", ".")) / value.expanduser()


def _utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


_PERCENT = ((100.0, 0.0), (10_000.0, 0.0))
# 1.05, 10500 and 105 are all written for a bonus of 5 %, besides 5 and 500.
_BONUS = ((1.0, 1.0), (100.0, 0.0), (10_000.0, 1.0), (100.0, 1.0), (10_000.0, 0.0))
_FLOAT = BeforeValidator(_number)
_INT = BeforeValidator(_whole)

Real = Annotated[float, _FLOAT, Range("a number")]
NumberOrText = Annotated[float | str, BeforeValidator(_number_or_text)]
Positive = Annotated[float, _FLOAT, Range("a number", low=0, open_low=True)]
NonNegative = Annotated[float, _FLOAT, Range("a number", low=0)]
Fraction = Annotated[
    float, _FLOAT, Range("a fraction", low=0, high=1, open_low=True, slips=_PERCENT)
]
FractionOrZero = Annotated[float, _FLOAT, Range("a fraction", low=0, high=1, slips=_PERCENT)]
FractionBelowOne = Annotated[
    float, _FLOAT, Range("a fraction", low=0, high=1, open_high=True, slips=_PERCENT)
]
FallOrRise = Annotated[
    float, _FLOAT, Range("a fraction", low=-100, high=1, open_high=True, slips=_PERCENT)
]
FractionInside = Annotated[
    float,
    _FLOAT,
    Range("a fraction", low=0, high=1, open_low=True, open_high=True, slips=_PERCENT),
]
Bonus = Annotated[float, _FLOAT, Range("a fraction", low=0, high=1, open_high=True, slips=_BONUS)]
Confidence = Annotated[
    float,
    _FLOAT,
    Range("a fraction", low=0.5, high=1, open_low=True, open_high=True, slips=_PERCENT),
]
Volatility = Annotated[
    float, _FLOAT, Range("a fraction per square-root year", low=0, high=5, slips=_PERCENT)
]
Rate = Annotated[float, _FLOAT, Range("a fraction per year", low=0, high=10, slips=_PERCENT)]
SignedFraction = Annotated[float, _FLOAT, Range("a fraction", low=-1, high=1, slips=_PERCENT)]
Count = Annotated[int, _INT, Range("a whole number", low=1)]
CountOrZero = Annotated[int, _INT, Range("a whole number", low=0)]
Seed = Annotated[int, _INT, Range("a whole number", low=0, high=2**32 - 1)]
InputPath = Annotated[
    Path, AfterValidator(_resolve), Field(description="path, relative to the folder of the TOML")
]
UtcTime = Annotated[datetime, AfterValidator(_utc)]
