"""Sensitivities of losses across liquidations, each with its referee.

Liquidation is a jump, so differentiating the exact simulation is wrong for whatever moves a
trigger. Two estimators are used, each where it is valid, and both stand beside a central bump with
common random numbers, which is the referee:

* `pathwise`: the exact simulation differentiated; only for parameters no trigger depends on;
* `smoothed gate`: the simulation with smooth triggers of a stated width, differentiated; biased
  by the width, so it is only as good as its agreement with the bump.

Plain autodiff through a hard trigger is never returned.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from jaxrisk.gradient.parameter import KINDS, Parameter, parameters, with_values
from jaxrisk.system.book import Layout
from jaxrisk.system.simulate import (
    Outcome,
    Plan,
    cut_books,
    layouts,
    over_scenarios,
    playing,
    simulator,
    step_rules,
)
from jaxrisk.system.system import StepRules, System

MEASURES: dict[str, Callable[[Outcome], Float[Array, ""]]] = {
    "bad_debt_usd": lambda o: jnp.sum(o.bad_debt),
    "liquidated_usd": lambda o: jnp.sum(o.liquidated),
    "borrower_loss_usd": lambda o: jnp.sum(o.borrower_loss),
    "keeper_profit_usd": lambda o: jnp.sum(o.keeper_profit),
    "supplier_loss_usd": lambda o: jnp.sum(o.supplier_loss),
}

# A verdict needs errors this narrow, and an estimate this many combined errors from the bump.
WIDEST_RELATIVE_ERROR = 0.10
FARTHEST_IN_ERRORS = 4.0
_ROUNDING = 1e-9


@dataclasses.dataclass(frozen=True)
class Sensitivity:
    """One derivative and its check.

    Attributes:
        measure: what is differentiated: a mean, or `<measure>.es_<confidence>`.
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
    confidence: float | None = None,
    rounds: int = 3,
    width: float = 0.02,
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
        measures: names in `MEASURES`.
        kinds: kinds of parameters, see `parameters`.
        confidence: also the expected shortfall of every measure at this level.
        rounds: largest number of cascade rounds in a step.
        width: of the smoothed gate, in health.
        bump: size of the bump, as a share of the parameter's value.
        on_progress: called with what is being computed.

    Raises:
        ValueError: an unknown measure or kind.
    """
    unknown = [m for m in measures if m not in MEASURES]
    if unknown:
        raise ValueError(f"unknown measure {unknown[0]!r}; known: {', '.join(MEASURES)}")
    chosen = parameters(system, kinds)
    if not chosen or not measures:
        return []
    plan = Plan(steps=steps, rounds=rounds)
    study = _Study(
        system, key, chosen, tuple(measures), np.arange(scenarios), step_years,
        plan, layouts(system, plan),
    )  # fmt: skip
    on_progress("bumps")
    base = study.losses(system)
    bumps = [study.bumped(parameter, bump) for parameter in chosen]
    on_progress("gradients")
    slopes = study.slopes(width)
    rows = []
    for m, measure in enumerate(measures):
        tails: list[tuple[str, float | None]] = [(measure, None)]
        if confidence is not None:
            tails.append((f"{measure}.es_{confidence:g}", confidence))
        for name, level in tails:
            for p, parameter in enumerate(chosen):
                estimate = _mean(_weighted(slopes[:, m, p], base[:, m], level))
                low, high, size = bumps[p]
                referee = _mean(_difference(low[:, m], high[:, m], base[:, m], level) / size)
                rows.append(_row(name, parameter, estimate, referee, width))
    return rows


def agrees(estimate: tuple[float, float], referee: tuple[float, float]) -> bool:
    """Return whether an estimate passes against its bump, each given with its standard error.

    It fails when they disagree by more than four combined errors, and also when either error is
    wider than a tenth of the bump: a check that cannot fail is none.
    """
    (value, error), (bump, bump_error) = estimate, referee
    widest = WIDEST_RELATIVE_ERROR * abs(bump)
    narrow = error <= widest and bump_error <= widest
    # Without noise only rounding is left between two equal derivatives.
    farthest = FARTHEST_IN_ERRORS * math.hypot(error, bump_error) + _ROUNDING * abs(bump)
    return bool(narrow and abs(value - bump) <= farthest)


@dataclasses.dataclass(frozen=True)
class _Study:
    """What all estimators share: the system, the draws and the parameters."""

    system: System
    key: Key[Array, ""]
    parameters: list[Parameter]
    measures: tuple[str, ...]
    ids: np.ndarray
    step_years: float
    plan: Plan
    layout: tuple[Layout, ...]

    def losses(self, system: System) -> Float[np.ndarray, "scenario measure"]:
        """Return exact losses of a system of this shape; all calls share one simulation."""
        rules = step_rules(system, self.plan, self.step_years)
        books = cut_books(system, self.layout)
        ended = simulator(self.plan)(system, books, rules, self.key, self.ids)
        columns = [jax.vmap(MEASURES[m])(ended) for m in self.measures]
        return np.stack([np.asarray(c, np.float64) for c in columns], axis=1)

    def bumped(self, parameter: Parameter, share: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Return losses below and above the parameter's value, and the distance between."""
        size = share * abs(parameter.value) if parameter.step is None else parameter.step
        dtype = self.system.market.price.dtype
        # A capacity of nothing has no other side: there the difference is one-sided.
        ends = (max(parameter.value - size, parameter.lowest), parameter.value + size)
        low, high = (
            self.losses(parameter.apply(self.system, jnp.asarray(end, dtype))) for end in ends
        )
        return low, high, ends[1] - ends[0]

    def slopes(self, width: float) -> Float[np.ndarray, "scenario measure parameter"]:
        """Return the derivatives of every scenario, each by its valid estimator."""
        differentiate = self._differentiated()
        result = differentiate(width)
        smooth = np.array([p.smooth for p in self.parameters])
        if smooth.any():
            result[:, :, smooth] = differentiate(0.0)[:, :, smooth]
        return result

    def _differentiated(self) -> Callable[[float], np.ndarray]:
        """Return the function from a gate's width to all derivatives; width 0 is the exact rule.

        Forwards: few parameters, no memory growth, and loops may end early.
        """

        def bind(
            values: Array, system: System, layout: tuple[Layout, ...], rules: StepRules, key: Array
        ) -> Callable[[Int[Array, ""]], Array]:
            def loss(values: Float[Array, " parameter"], scenario: Int[Array, ""]) -> Array:
                changed = with_values(system, self.parameters, values)
                books = cut_books(changed, layout)
                ended = playing(self.plan, changed, books, rules, key)(scenario)
                return jnp.stack([MEASURES[m](ended) for m in self.measures])

            return lambda scenario: jax.jacfwd(loss)(values, scenario)

        run = over_scenarios(bind, self.plan.side_by_side)
        opening = np.array([p.value for p in self.parameters])
        values = jnp.asarray(opening, self.system.market.price.dtype)

        def slopes(width: float) -> np.ndarray:
            rules = step_rules(self.system, self.plan, self.step_years, width)
            return np.array(
                run((values, self.system, self.layout, rules, self.key), self.ids), np.float64
            )

        return slopes


def _weighted(slopes: np.ndarray, losses: np.ndarray, confidence: float | None) -> np.ndarray:
    """Return per-scenario terms whose mean is the derivative of the mean or of the shortfall.

    Source: Rockafellar and Uryasev: the derivative of ES is the mean of the loss's derivative over
    the tail, the quantile held.
    """
    if confidence is None:
        return slopes
    quantile = np.quantile(losses, confidence, method="higher")
    return slopes * (losses >= quantile) / (1.0 - confidence)


def _difference(
    low: np.ndarray, high: np.ndarray, losses: np.ndarray, confidence: float | None
) -> np.ndarray:
    """Return per-scenario differences whose mean is the bump of the mean or of the shortfall."""
    if confidence is None:
        return high - low
    quantile = np.quantile(losses, confidence, method="higher")
    above = lambda x: np.maximum(x - quantile, 0.0)
    return (above(high) - above(low)) / (1.0 - confidence)


def _mean(terms: np.ndarray) -> tuple[float, float]:
    error = float(np.std(terms, ddof=1) / math.sqrt(len(terms))) if len(terms) > 1 else math.inf
    return float(np.mean(terms)), error


def _row(
    measure: str,
    parameter: Parameter,
    estimate: tuple[float, float],
    referee: tuple[float, float],
    width: float,
) -> Sensitivity:
    return Sensitivity(
        measure=measure,
        parameter=parameter.name,
        value=parameter.value,
        derivative=estimate[0],
        standard_error=estimate[1],
        estimator="pathwise" if parameter.smooth else f"smoothed gate, width {width:g}",
        bump_derivative=referee[0],
        bump_standard_error=referee[1],
        agrees=agrees(estimate, referee),
    )
