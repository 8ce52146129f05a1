"""The referee: a derivative beside its bumps, and a verdict that can be lost in two ways.

An estimate fails where it disagrees with the bump, and also where either error is wide: with errors
wide enough everything agrees with everything.
"""

import dataclasses
import math
from collections.abc import Callable
from enum import StrEnum

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxrisk.gradient.bump import bumps
from jaxrisk.gradient.estimate import Estimate, Loss, Parameters
from jaxrisk.gradient.regime import regime

WIDEST_RELATIVE_ERROR = 0.03
FARTHEST_IN_ERRORS = 4.0
_ROUNDING = 1e-9


class Verdict(StrEnum):
    """What the referee says."""

    AGREES = "agrees"
    DISAGREES = "disagrees"
    TOO_WIDE = "too wide"
    NO_DEPENDENCE = "no dependence"


@dataclasses.dataclass(frozen=True)
class GradientCheck:
    """An estimate, its bumps, and a verdict a parameter.

    Attributes:
        estimate: what is checked.
        coarse: central differences with the larger step.
        fine: with the smaller step.
        limit: both extrapolated to a step of nothing; the estimate is held against this.
        verdicts: one a parameter.
    """

    estimate: Estimate
    coarse: Estimate
    fine: Estimate
    limit: Estimate
    verdicts: tuple[Verdict, ...]

    @property
    def passed(self) -> bool:
        """Whether every derivative agrees; one that is 0 in every scenario has not been shown."""
        return all(verdict is Verdict.AGREES for verdict in self.verdicts)

    def __str__(self) -> str:
        """Return a table, one line a parameter."""
        head = f"{'parameter':<24}{self.estimate.estimator:>28}"
        head += "".join(f"{e.estimator[:27]:>28}" for e in (self.coarse, self.fine))
        lines = [f"{head}{'extrapolated':>28}  verdict"]
        for i, name in enumerate(self.estimate.parameters):
            cells = [
                f"{e.derivative[i]:.6g} ± {e.standard_error[i]:.2g}"
                for e in (self.estimate, self.coarse, self.fine, self.limit)
            ]
            row = "".join(f"{cell:>28}" for cell in cells)
            lines.append(f"{name:<24}{row}  {self.verdicts[i]}")
        return "\n".join([*lines, *self.estimate.notes])


def check_gradient(
    loss: Loss,
    parameters: Parameters,
    key: Key[Array, ""],
    *,
    scenarios: int,
    estimator: Callable[..., Estimate] = regime,
    steps: tuple[float, float] = (0.02, 0.01),
    bump_scenarios: int | None = None,
) -> GradientCheck:
    """Return an estimator's derivatives beside central bumps of two step sizes, with a verdict.

    Bumps are of the loss as it is played (`loss(parameters, key)`), in float64 and under the same
    keys, whatever the type in which the estimate was asked for.

    Args:
        loss: as the estimator takes it; its last argument must be optional.
        parameters: where to differentiate.
        key: from `root_key`.
        scenarios: of the estimate.
        estimator: `regime`, `pathwise`, `likelihood`, `survival`, or one with its options bound.
        steps: the two step sizes, as shares of a parameter, the larger first.
        bump_scenarios: of the bumps; as many as of the estimate where `None`.

    Raises:
        ValueError: whatever the estimator or the bumps refuse.
    """
    estimate = estimator(loss, parameters, key, scenarios=scenarios)
    return against_bumps(
        estimate, loss, parameters, key, scenarios=bump_scenarios or scenarios, steps=steps
    )


def against_bumps(
    estimate: Estimate,
    loss: Loss,
    parameters: Parameters,
    key: Key[Array, ""],
    *,
    scenarios: int,
    steps: tuple[float, float] = (0.02, 0.01),
) -> GradientCheck:
    """Return the check of an estimate that is there already, against bumps of a plain loss.

    Args:
        estimate: of the same parameters.
        loss: `loss(parameters, key)`, the simulation as it is played.
        parameters: where to differentiate.
        key: from `root_key`.
        scenarios: of the bumps.
        steps: the two step sizes.

    Raises:
        ValueError: whatever the bumps refuse.
    """
    with jax.enable_x64(True):
        exact = {name: jnp.asarray(value, jnp.float64) for name, value in parameters.items()}
        coarse, fine, limit = bumps(loss, exact, key, scenarios=scenarios, steps=steps)
    verdicts = tuple(verdict(estimate.of(name), limit.of(name)) for name in estimate.parameters)
    return GradientCheck(estimate, coarse, fine, limit, verdicts)


def verdict(
    estimate: tuple[float, float],
    referee: tuple[float, float],
    *,
    widest: float = WIDEST_RELATIVE_ERROR,
) -> Verdict:
    """Return what follows from a derivative and its bump, each given with its standard error.

    Args:
        estimate: derivative and its error.
        referee: bump and its error.
        widest: largest error of either, as a share of the bump.
    """
    (value, error), (bump, bump_error) = estimate, referee
    if value == bump == error == bump_error == 0.0:
        return Verdict.NO_DEPENDENCE
    if not (error <= widest * abs(bump) and bump_error <= widest * abs(bump)):
        return Verdict.TOO_WIDE
    # Without noise only rounding is left between two equal derivatives.
    farthest = FARTHEST_IN_ERRORS * math.hypot(error, bump_error) + _ROUNDING * abs(bump)
    return Verdict.AGREES if abs(value - bump) <= farthest else Verdict.DISAGREES
