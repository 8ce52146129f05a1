"""[stresses.NAME]: a market stress by a few numbers, and the library of those that happened."""

import functools
import importlib.resources
import tomllib
from collections.abc import Mapping, Sequence

from pydantic import Field

from jaxrisk.run.fields import (
    FallOrRise,
    Fraction,
    FractionBelowOne,
    FractionOrZero,
    NonNegative,
    Positive,
    Problem,
    Section,
)
from jaxrisk.run.hints import closest
from jaxrisk.run.oracle_config import PrintSection


class StressSection(Section):
    """[stresses.NAME]: one stress path; keys left out are those of the library's of that name."""

    title: str = ""
    """What it is, for reports."""
    hours: Positive = 24.0
    """Hours from the start to the trough."""
    falls: dict[str, FallOrRise] = Field(default_factory=dict)
    """Fall of each asset's price at the trough, fraction; negative for a rise."""
    others: FallOrRise = 0.0
    """Fall of free assets that are not named and are no dollars, fraction."""
    gap: FractionOrZero = 0.0
    """Share of every log fall that comes at once."""
    gap_hours: Positive | None = None
    """Hours from the start to that moment; default the trough."""
    recovery: FractionOrZero = 0.0
    """Share of every log fall won back."""
    recovery_hours: Positive = 24.0
    """Hours from the trough to the recovery."""
    basis: dict[str, FractionBelowOne] = Field(default_factory=dict)
    """Discount of a pegged asset at the trough, fraction."""
    basis_others: FractionBelowOne = 0.0
    """Discount of pegged assets that are not named, fraction."""
    depth: dict[str, Fraction] = Field(default_factory=dict)
    """Share of an asset's depth that is left, all along."""
    depth_others: Fraction = 1.0
    """Share of depth left of assets that are not named."""
    volatility_multiplier: NonNegative = 0.0
    """Factor on volatility around the path; 0 for the bare path, which is played once."""
    prints: dict[str, PrintSection] = Field(default_factory=dict)
    """False prices that the oracles of all venues see for a while."""
    sources: dict[str, str] = Field(default_factory=dict)
    """Where a number is from, by key."""

    @property
    def length_hours(self) -> float:
        """Hours until the path stands still, and every false price is over."""
        prints = [own.hour + own.hours for own in self.prints.values()]
        return max([self.hours + (self.recovery_hours if self.recovery > 0 else 0.0), *prints])


@functools.cache
def _library() -> tuple[dict[str, StressSection], dict[str, str]]:
    """Return the shipped stresses, and the family of each token in lower case."""
    text = (importlib.resources.files("jaxrisk.run") / "stresses.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    stresses = {n: StressSection.model_validate(own) for n, own in document["stresses"].items()}
    family = {t.lower(): name for name, tokens in document["families"].items() for t in tokens}
    return stresses, family


def shipped_stresses() -> Mapping[str, StressSection]:
    """Return the stresses of the library by name."""
    return _library()[0]


def family_of(asset: str) -> str:
    """Return the name under which stresses know an asset: that of its family, or its own."""
    return _library()[1].get(asset.lower(), asset)


def chosen_stresses(
    names: Sequence[str], own: Mapping[str, StressSection]
) -> dict[str, StressSection]:
    """Return the stresses of these names, those of the configuration over the library's.

    Raises:
        KeyError: a name that `unknown_stresses` finds.
    """
    library, chosen = shipped_stresses(), {}
    for name in names:
        base = library[name].model_dump(exclude_unset=True) if name in library else {}
        changed = own[name].model_dump(exclude_unset=True) if name in own else None
        if changed is None and name not in library:
            raise KeyError(name)
        chosen[name] = StressSection.model_validate(base | (changed or {}))
    return chosen


def stress_problems(names: Sequence[str], own: Mapping[str, StressSection]) -> list[Problem]:
    """Return names that no stress has, and changes that do not fit the library's other figures."""
    library = shipped_stresses()
    known = [*own, *(name for name in library if name not in own)]
    problems: list[Problem] = []
    for place, name in enumerate(names):
        if name not in known:
            near = closest(name, known)
            hint = f"; did you mean {near}?" if near else "."
            text = f"no such stress: {name}{hint} There are {', '.join(known)}"
            problems.append((("run", "stresses", place), text))
    for name in own:
        stress = chosen_stresses([name], {name: own[name]})[name]
        if stress.gap_hours is not None and stress.gap_hours > stress.hours:
            text = f"expected at most hours ({stress.hours:g})"
            problems.append((("stresses", name, "gap_hours"), text))
    return problems
