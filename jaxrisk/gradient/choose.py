"""Which estimators are valid for a system, a measure and a parameter; which is taken, and why."""

import dataclasses

from jaxrisk.gradient.law import volatile_assets
from jaxrisk.gradient.parameter import Parameter
from jaxrisk.gradient.tail import Functional
from jaxrisk.system.system import System

PATHWISE = "pathwise"
LIKELIHOOD = "likelihood ratio"
SMOOTHED = "smoothed gate"
BUMP = "bump"
ORDER = (PATHWISE, LIKELIHOOD, SMOOTHED, BUMP)
"""From what is exact and quiet to what always works."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What can be trusted, and what cannot.

    Attributes:
        estimator: the one taken; where likelihood ratios are, and turn out to be noisy, the
            next valid one.
        valid: all that are, best first.
        why: what makes the one taken right.
        refused: the others, each with what is wrong with it.
    """

    estimator: str
    valid: tuple[str, ...]
    why: str
    refused: dict[str, str]

    def __str__(self) -> str:
        """Return one line an estimator."""
        lines = [f"{self.estimator}: {self.why}"]
        also = [name for name in self.valid if name != self.estimator]
        lines += [f"also valid: {', '.join(also)}"] if also else []
        return "\n".join([*lines, *(f"not {n}: {reason}" for n, reason in self.refused.items())])


_WHY = {
    PATHWISE: "no trigger depends on the parameter, so each scenario's loss is continuous in it",
    LIKELIHOOD: "the parameter is in the law of prices alone: the simulation is played as it is "
    "and the probability of its draws is differentiated",
    SMOOTHED: "the parameter moves triggers; they are smoothed over the stated width, whose bias "
    "the bump is there to show",
    BUMP: "a central difference of the exact simulation is always right up to its step",
}


def choose(
    system: System, functional: Functional, parameter: Parameter, *, prefer: str | None = None
) -> Choice:
    """Return which estimator serves a derivative on a system.

    Args:
        system: with concrete numbers.
        functional: what is made of the losses: a mean, a shortfall, a probability, a quantile.
        parameter: by which is differentiated.
        prefer: an estimator to take if it is valid.

    Raises:
        ValueError: what is preferred is unknown or not valid; the message says why. Plain
            differentiation across a trigger is refused so.
    """
    refused: dict[str, str] = {}
    if not parameter.smooth:
        refused[PATHWISE] = (
            f"{parameter.name} decides which accounts are called; that is a jump, which "
            "differentiating the simulation as it stands does not see: the result would be wrong, "
            "not noisy"
        )
    elif not functional.continuous:
        refused[PATHWISE] = f"{functional.label} jumps where a loss crosses its level"
    if not parameter.law:
        refused[LIKELIHOOD] = f"{parameter.name} is not in the law of prices alone"
    elif not volatile_assets(system).size:
        refused[LIKELIHOOD] = "no asset has a move with a density: nothing diffuses, or it is tied"
    if parameter.smooth:
        refused[SMOOTHED] = "there is no trigger to smooth"
    elif not functional.continuous:
        refused[SMOOTHED] = f"{functional.label} jumps where a loss crosses its level"
    valid = tuple(name for name in ORDER if name not in refused)
    if prefer is None:
        return Choice(valid[0], valid, _WHY[valid[0]], refused)
    if prefer not in ORDER:
        raise ValueError(f"unknown estimator {prefer!r}; known: {', '.join(ORDER)}")
    if prefer in refused:
        raise ValueError(
            f"{prefer} is not valid for {parameter.name}: {refused[prefer]}; "
            f"take {' or '.join(valid)}"
        )
    return Choice(prefer, valid, _WHY[prefer], refused)
