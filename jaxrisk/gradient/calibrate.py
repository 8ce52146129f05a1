"""Parameters for which a loss is least, with their standard errors: calibration by gradients.

The loss is any function of a tree of parameters that JAX can differentiate: of recorded or snapshot
quantities, or of one scenario, averaged over a minibatch of new scenarios at each step. Bounds are
kept by moving in unbounded numbers (`jaxrisk/numerics/bounded.py`).

Where the loss is a negative log-likelihood, summed over what was observed, the covariance of the
unbounded numbers is the inverse of its second derivatives, and that of the parameters follows from
their slopes (delta method). Of any other loss the same figures say how sharp the minimum is, in the
loss's own unit, and nothing about sampling.
"""

import dataclasses
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from jaxrisk.gradient.estimate import total
from jaxrisk.gradient.fit_space import Bounds, FitSpace, fit_space
from jaxrisk.numerics.keys import scenario_key
from jaxrisk.numerics.pytree import pytree

# Curvature below this share of the largest is rounding.
_FLAT = 1e-12
_NONE = np.zeros(0)


class Stop(StrEnum):
    """Why a fit ended."""

    TOLERANCE = "no slope exceeds the tolerance"
    STEPS = "all steps are made"
    ASKED = "the caller asked to stop"


@pytree
class FitState:
    """Where a fit stands; a tree of arrays that can be saved, and given back as `resume`.

    Attributes:
        raw: `(parameter,)` the unbounded parameters.
        optimiser: the optimiser's own state.
        losses: `(step,)` the loss before each step made so far.
    """

    raw: Float[Array, " parameter"]
    optimiser: Any
    losses: Float[np.ndarray, " step"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fit:
    """What was found.

    Attributes:
        values: the parameters, in the tree they started in.
        parameters: names, in the order of the arrays; entries of an array are `name[0]`, ...
        point: the parameters as a vector.
        standard_error: of each; NaN where the loss does not determine them, or if not asked for.
        losses: `(step + 1,)` the loss before each step, and at the end.
        seconds: of this call, compiling included.
        why: it stopped.
        state: to go on from.
        notes: what a reader of the numbers should know.
    """

    values: Any
    parameters: tuple[str, ...]
    point: Float[np.ndarray, " parameter"]
    standard_error: Float[np.ndarray, " parameter"]
    losses: Float[np.ndarray, " step"]
    seconds: float
    why: Stop
    state: FitState
    notes: tuple[str, ...]

    def of(self, name: str) -> tuple[float, float]:
        """Return one parameter and its standard error.

        Raises:
            KeyError: there is no such parameter.
        """
        if name not in self.parameters:
            raise KeyError(f"no parameter {name!r}; there are {', '.join(self.parameters)}")
        at = self.parameters.index(name)
        return float(self.point[at]), float(self.standard_error[at])

    def __str__(self) -> str:
        """Return a table, one line a parameter, and how the fit went."""
        rows = zip(self.parameters, self.point, self.standard_error, strict=True)
        lines = [f"{'parameter':<24}{'value':>14}{'standard error':>16}"]
        lines += [f"{name:<24}{value:>14.6g}{error:>16.2g}" for name, value, error in rows]
        lines.append(
            f"loss {self.losses[0]:.6g} to {self.losses[-1]:.6g} in {len(self.losses) - 1} steps, "
            f"{self.seconds:.1f} s: {self.why}"
        )
        return "\n".join([*lines, *self.notes])


def calibrate(
    loss: Callable[..., Any],
    start: Any,
    *,
    bounds: Bounds | None = None,
    key: Key[Array, ""] | None = None,
    batch: int = 64,
    steps: int = 1_000,
    learning_rate: float | optax.Schedule = 0.05,
    optimiser: Any = None,
    tolerance: float = 1e-8,
    standard_errors: bool = True,
    progress: Callable[[FitState], bool | None] | None = None,
    resume: FitState | None = None,
) -> Fit:
    """Return the parameters for which a loss is least.

    Args:
        loss: `loss(parameters)`, a number; with a key `loss(parameters, key)`, that of one
            scenario: a number, or `Losses` with scores. Differentiated as it is: where it has
            triggers, bind `crossing=Stratified()`, or what they cause is not seen.
        start: tree of floating-point numbers or arrays, strictly within the bounds.
        bounds: from the path of a leaf to its lower and upper bound, `None` for an open end.
        key: from `root_key`, where scenarios are drawn. Step n plays scenarios `n * batch` on.
        batch: scenarios a step, all at once.
        steps: the most to make, those before `resume` included.
        learning_rate: of Adam, in unbounded numbers; or a schedule of optax.
        optimiser: of optax, in place of Adam at that rate; `optax.lbfgs()` for a smooth loss
            without a key.
        tolerance: it stops where no slope, by an unbounded number, is larger. The slopes of a
            minibatch are noisy: 0 makes all steps.
        standard_errors: whether to take second derivatives at the end, with a key those of one
            more minibatch: `batch` bounds how well they are known.
        progress: called after each step with the state; a true answer stops the fit.
        resume: the state of an earlier fit with the same other arguments (`steps` may be more). It
            goes on bit for bit as if it had not been stopped.

    Raises:
        ValueError: a parameter cannot be fitted or starts outside its bounds, the state is of
            another fit, or the loss or its slope is not finite (with parameters and scenarios).
    """
    begun, space = time.perf_counter(), fit_space(start, bounds or {})
    if steps < 0 or batch < 1:
        raise ValueError(f"{steps} steps of {batch} scenarios: expected 0 or more of 1 or more")
    problem = _Problem(loss, space, key, batch)
    optimiser = optax.with_extra_args_support(optimiser or optax.adam(learning_rate))
    # The optimisers' own counters are of mixed types.
    with jax.numpy_dtype_promotion("standard"):
        opening = FitState(raw=space.start, optimiser=optimiser.init(space.start), losses=_NONE)
    state = opening if resume is None else _resumed(resume, opening, steps)
    state, last, why = _descend(problem, optimiser, state, steps, tolerance, progress)
    error, notes = np.full(len(space.names), np.nan), ()
    if standard_errors:
        error, notes = _standard_errors(problem, state)
    return Fit(
        values=space.tree(state.raw),
        parameters=space.names,
        point=np.asarray(space.bounded(state.raw), np.float64),
        standard_error=error,
        losses=np.append(state.losses, last),
        seconds=time.perf_counter() - begun,
        why=why,
        state=state,
        notes=notes,
    )


@dataclasses.dataclass(frozen=True)
class _Problem:
    """A loss in unbounded numbers, and the scenarios of each step."""

    loss: Callable[..., Any]
    space: FitSpace
    key: Key[Array, ""] | None
    batch: int

    def ids(self, step: int) -> Int[np.ndarray, " scenario"]:
        """Return the scenarios of a step: one row without an id where nothing is drawn."""
        count = 1 if self.key is None else self.batch
        return np.arange(step * count, (step + 1) * count)

    def each(self, raw: Array, ids: Array) -> Float[Array, " scenario"]:
        """Return the loss of each scenario."""
        tree = self.space.tree(raw)
        key = self.key
        if key is None:
            return jnp.reshape(self.loss(tree), (1,))
        return jax.vmap(lambda i: total(self.loss(tree, scenario_key(key, i))))(ids)

    def mean(self, raw: Array, ids: Array) -> Float[Array, ""]:
        """Return the loss of a step."""
        return jnp.mean(self.each(raw, ids))

    def refuse(self, state: FitState) -> None:
        """Say where, and in which scenario, a loss or a slope is not finite.

        Raises:
            ValueError: always.
        """
        step = len(state.losses)
        ids = self.ids(step)
        one = lambda i: jax.value_and_grad(self.mean)(state.raw, i[None])
        values, slopes = (np.asarray(x) for x in jax.jit(jax.vmap(one))(jnp.asarray(ids)))
        where = f"step {step}, at {self.space.text(state.raw)}"
        of_batch = "" if self.key is None else f" in scenarios {ids[0]} to {ids[-1]}"
        bad = ~np.isfinite(values)
        what = f"the loss is {values[bad.argmax()]}"
        if not bad.any():
            row, column = np.nonzero(~np.isfinite(slopes))
            bad = np.isin(np.arange(len(ids)), row)
            names = [self.space.names[i] for i in np.unique(column)]
            what = f"the slope by {', '.join(names) or 'the mean'} is not finite"
        first = f", first in {ids[bad.argmax()]}" if of_batch and bad.any() else ""
        raise ValueError(f"{where}: {what}{of_batch}{first}")


def _descend(
    problem: _Problem,
    optimiser: Any,
    state: FitState,
    steps: int,
    tolerance: float,
    progress: Callable[[FitState], bool | None] | None,
) -> tuple[FitState, float, Stop]:
    """Return the last state, the loss there, and why it is the last."""

    @jax.jit
    def attempt(raw: Array, inner: Any, ids: Array) -> tuple[Array, Array, Any, Any]:
        of = lambda x: problem.mean(x, ids)
        value, slope = jax.value_and_grad(of)(raw)
        with jax.numpy_dtype_promotion("standard"):
            change, inner = optimiser.update(
                slope, inner, raw, value=value, grad=slope, value_fn=of
            )
        return value, slope, optax.apply_updates(raw, change), inner

    # States share one array and see as much of it as was written before them.
    losses = np.append(state.losses, np.zeros(steps - len(state.losses)))
    asked = False
    while True:
        made = len(state.losses)
        value, slope, raw, inner = attempt(state.raw, state.optimiser, problem.ids(made))
        last, steepest = float(value), float(jnp.max(jnp.abs(slope)))
        if not (np.isfinite(last) and np.isfinite(steepest)):
            problem.refuse(state)
        if steepest <= tolerance:
            return state, last, Stop.TOLERANCE
        if asked or made == steps:
            return state, last, Stop.ASKED if asked else Stop.STEPS
        losses[made] = last
        state = FitState(raw=raw, optimiser=inner, losses=losses[: made + 1])
        asked = progress is not None and bool(progress(state))


def _resumed(state: FitState, opening: FitState, steps: int) -> FitState:
    """Return a state given back, if it is of this fit."""
    shapes = lambda s: jax.tree.map(jnp.shape, (s.raw, s.optimiser))
    if shapes(state) != shapes(opening):
        raise ValueError("the state to resume is of other parameters or another optimiser")
    if len(state.losses) > steps:
        raise ValueError(f"the state to resume has made {len(state.losses)} steps of {steps}")
    return state


def _standard_errors(
    problem: _Problem, state: FitState
) -> tuple[Float[np.ndarray, " parameter"], tuple[str, ...]]:
    """Return the standard errors of the bounded parameters, and a note where there are none."""
    space, ids = problem.space, problem.ids(len(state.losses))
    bent = jax.jit(jax.jacfwd(jax.grad(problem.mean)))(state.raw, ids)
    curvature = np.asarray(bent, np.float64)
    none = np.full(len(space.names), np.nan)
    if not np.isfinite(curvature).all():
        return none, ("no standard errors: second derivatives are not finite",)
    lowest, direction = np.linalg.eigh((curvature + curvature.T) / 2)
    if lowest[0] <= _FLAT * abs(lowest[-1]):
        name = space.names[int(np.argmax(abs(direction[:, 0])))]
        return none, (f"no standard errors: the loss has no minimum here, mostly along {name!r}",)
    spread = np.sqrt(((direction / lowest) * direction).sum(axis=1))
    return np.asarray(space.slope(state.raw), np.float64) * spread, ()
