"""A table of sensitivities: what is made of losses, by each parameter, each with its referee.

Liquidation is a jump, so differentiating the exact simulation is wrong for whatever moves a
trigger. `choose` says which estimator is valid for which row; beside each stands a central bump
with common random numbers, which is the referee:

* `pathwise`: the exact simulation differentiated; only for parameters no trigger depends on;
* `likelihood ratio`: the exact simulation, and the score of its draws; for volatility and
  correlation, where it is narrow enough;
* `smoothed gate`: the simulation with smooth triggers of a stated width, differentiated; biased
  by the width, so where half the width says something else beyond its noise, the two are
  extrapolated to no width;
* `bump`: the exact simulation at half the referee's step; for what no other is valid for, or
  where all others are noisy or far from the referee.

Plain autodiff through a hard trigger is never returned.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Array, Key

from jaxrisk.gradient.check import FARTHEST_IN_ERRORS, Verdict, verdict
from jaxrisk.gradient.choose import BUMP, LIKELIHOOD, PATHWISE, SMOOTHED, Choice, choose
from jaxrisk.gradient.parameter import KINDS, Parameter, parameters
from jaxrisk.gradient.study import Study, measure_of
from jaxrisk.gradient.tail import Functional, mean_and_error
from jaxrisk.system.simulate import Plan, layouts
from jaxrisk.system.system import System

# In a table of a run errors may be this wide; `check_gradient` asks for more.
WIDEST_RELATIVE_ERROR = 0.10
# An estimate narrower than this is taken even where a later one would be narrower still.
_NARROW_ENOUGH = 0.03
# A bias of so many of its standard errors is taken away, at the price of more noise.
_SEEN = 2.0


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """One derivative and its check.

    Attributes:
        measure: what is differentiated: a mean, or `<measure>.es_<confidence>`,
            `<measure>.var_<confidence>`, `<measure>.above_<level>`.
        parameter: with respect to what.
        value: the parameter's value.
        derivative: measure per unit of the parameter.
        standard_error: Monte Carlo error of the derivative.
        estimator: how it was obtained, with the width of the gate.
        bump_derivative: central difference with common random numbers.
        bump_standard_error: its Monte Carlo error.
        agrees: whether the two agree within their errors, and the errors are narrow.
    """

    measure: str
    parameter: str
    value: float
    derivative: float
    standard_error: float
    estimator: str
    bump_derivative: float
    bump_standard_error: float
    agrees: bool


def sensitivities(
    system: System,
    key: Key[Array, ""],
    *,
    scenarios: int,
    steps: int,
    step_years: float,
    measures: Sequence[str] = ("bad_debt_usd",),
    kinds: Sequence[str] = KINDS,
    leaves: Sequence[Parameter] = (),
    confidence: float | None = None,
    functionals: Sequence[Functional] = (),
    rounds: int = 3,
    width: float = 0.02,
    extrapolate: bool = True,
    bump: float = 0.02,
    on_progress: Callable[[str], None] = lambda _: None,
) -> list[Sensitivity]:
    """Return the sensitivity of every measure to every parameter, with the bump beside it.

    Args:
        system: what scenarios start from.
        key: from `root_key`; the same draws serve the estimator and both bumps.
        scenarios: how many scenarios, ids from 0.
        steps: number of steps.
        step_years: length of a step, in years.
        measures: names in `MEASURES`; `<name>.<venue>` is that of one venue.
        kinds: kinds of parameters, see `parameters`.
        leaves: further parameters, from `leaf_parameter`.
        confidence: also the expected shortfall of every measure at this level.
        functionals: what else is made of every measure's losses.
        rounds: largest number of cascade rounds in a step.
        width: of the smoothed gate, in health.
        extrapolate: also differentiate at half the width, which takes twice the time, and
            extrapolate where the bias of the width is seen.
        bump: size of the bump, as a share of the parameter's value.
        on_progress: called with what is being computed.

    Raises:
        ValueError: an unknown measure or kind, a loss that is not finite, or a value at risk
            without a derivative.
    """
    wanted = tuple(measure_of(system, name) for name in measures)
    chosen = [*parameters(system, kinds), *leaves]
    if not chosen or not measures:
        return []
    made = [Functional(), *functionals]
    if confidence is not None:
        made.insert(1, Functional("es", confidence))
    plan = Plan(steps=steps, rounds=rounds)
    study = Study(
        system, key, chosen, wanted, np.arange(scenarios), step_years, plan, layouts(system, plan)
    )
    widths = (width, 0.5 * width) if extrapolate else (width,)
    runs = _Runs(study, widths, bump, on_progress)
    return [
        runs.row(f"{measure}{functional.suffix}", m, p, functional)
        for m, measure in enumerate(measures)
        for functional in made
        for p in range(len(chosen))
    ]


def agrees(estimate: tuple[float, float], referee: tuple[float, float]) -> bool:
    """Return whether an estimate passes against its bump, each given with its standard error.

    It fails when they disagree by more than four combined errors, and also when either error is
    wider than a tenth of the bump: a check that cannot fail is none. Where both are 0 in every
    scenario there is nothing to disagree on.
    """
    said = verdict(estimate, referee, widest=WIDEST_RELATIVE_ERROR)
    return said in (Verdict.AGREES, Verdict.NO_DEPENDENCE)


class _Runs:
    """The simulations of a table, each made once."""

    def __init__(
        self,
        study: Study,
        widths: tuple[float, ...],
        bump: float,
        on_progress: Callable[[str], None],
    ) -> None:
        self.study, self.widths, self.bump = study, widths, bump
        on_progress("bumps")
        self.base = study.losses(study.system)
        self.ends = [study.bumped(parameter, bump) for parameter in study.parameters]
        on_progress("gradients")
        self.slopes = study.slopes(widths)
        self.scores = study.scores()
        self.nearer: dict[int, tuple[np.ndarray, np.ndarray, float]] = {}

    def row(self, name: str, m: int, p: int, functional: Functional) -> Sensitivity:
        """Return one row of the table."""
        parameter = self.study.parameters[p]
        choice = choose(self.study.system, functional, parameter)
        referee = self._difference(self.ends[p], m, functional)
        label, estimate = self._best(choice, m, p, functional, referee)
        return Sensitivity(
            measure=name,
            parameter=parameter.name,
            value=parameter.value,
            derivative=estimate[0],
            standard_error=estimate[1],
            estimator=label,
            bump_derivative=referee[0],
            bump_standard_error=referee[1],
            agrees=agrees(estimate, referee),
        )

    def _best(
        self, choice: Choice, m: int, p: int, functional: Functional, referee: tuple[float, float]
    ) -> tuple[str, tuple[float, float]]:
        """Return the first valid estimate that is narrow and near the bump, else the narrowest.

        In a cascade in which accounts set each other off within a gate's width, derivatives
        through the gate explode, and scores are noisy over many steps: then the bump is what there
        is. What is far from the bump in units of both errors is not taken at all.
        """
        tried = []
        for estimator in choice.valid:
            label, estimate = self._estimate(estimator, m, p, functional)
            apart = abs(estimate[0] - referee[0])
            far = not apart <= FARTHEST_IN_ERRORS * math.hypot(estimate[1], referee[1])
            narrow = estimate[1] <= _NARROW_ENOUGH * abs(estimate[0])
            if estimator == PATHWISE or (narrow and not far):
                return label, estimate
            if estimator == BUMP or not far:
                tried.append((label, estimate))
        return min(tried, key=lambda one: one[1][1])

    def _estimate(
        self, estimator: str, m: int, p: int, functional: Functional
    ) -> tuple[str, tuple[float, float]]:
        losses = self.base[:, m]
        if estimator == PATHWISE:
            terms = functional.of_slopes(self.slopes[0][:, m, p], losses)
            return estimator, mean_and_error(terms)
        if estimator == SMOOTHED:
            ways = [functional.of_slopes(slopes[:, m, p], losses) for slopes in self.slopes]
            return _smoothed(self.widths, ways)
        if estimator == LIKELIHOOD:
            return estimator, mean_and_error(functional.of_scores(self.scores[:, p], losses))
        if p not in self.nearer:
            self.nearer[p] = self.study.bumped(self.study.parameters[p], self.bump, 0.5)
        return f"{BUMP}, half the step", self._difference(self.nearer[p], m, functional)

    def _difference(
        self, ends: tuple[np.ndarray, np.ndarray, float], m: int, functional: Functional
    ) -> tuple[float, float]:
        low, high, size = ends
        return mean_and_error(functional.of_ends(low[:, m], high[:, m], self.base[:, m]) / size)


def _smoothed(widths: tuple[float, ...], ways: list[np.ndarray]) -> tuple[str, tuple[float, float]]:
    """Return the widest gate's derivative, or the extrapolated one where its bias is seen."""
    label = f"{SMOOTHED}, width {widths[0]:g}"
    if len(ways) == 1:
        return label, mean_and_error(ways[0])
    limit = (4.0 * ways[1] - ways[0]) / 3.0
    bias, noise = mean_and_error(ways[0] - limit)
    if abs(bias) <= _SEEN * noise:
        return label, mean_and_error(ways[0])
    return f"{label} and {widths[1]:g}, extrapolated", mean_and_error(limit)
