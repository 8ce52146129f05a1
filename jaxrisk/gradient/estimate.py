"""What every estimator returns, and the average over scenarios it is made of.

A loss is a function of parameters and a key, written for one scenario:

    loss(parameters, key)                       smooth, or played as it is
    loss(parameters, key, crossing=Hard())      with triggers: see `jaxrisk.numerics.crossing`

`parameters` is a mapping from name to a floating-point number or array; the key is the scenario's
own, from `scenario_key`. It returns a number, or `Losses` where there are scores.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int, Key

from jaxrisk.numerics.keys import scenario_key
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.simulate import over_scenarios

Parameters = Mapping[str, Any]
Loss = Callable[..., Any]

# Scenarios side by side on a device, and as many as are brought to the host at a time.
SIDE_BY_SIDE = 64
_BLOCK = 2**18


@pytree
class Losses:
    """What one scenario lost, step by step, and the scores of its draws.

    A score counts for the losses of its own step and of all later ones. A scenario without an order
    in time has one of each.

    Attributes:
        lost: `(step,)` losses.
        scores: `(step,)` scores, from `Crossing.normal`; always 0, with derivatives.
    """

    lost: Float[Array, " step"]
    scores: Float[Array, " step"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean loss and its derivatives, each with its Monte Carlo error.

    Attributes:
        estimator: how they were obtained, with its settings.
        assumes: what must hold for them to be right.
        parameters: names, in the order of the arrays; entries of an array are `name[0]`, ...
        point: where the derivatives are taken.
        value: mean loss.
        value_error: its standard error.
        derivative: by each parameter.
        standard_error: of each derivative.
        scenarios: how many were played; 0 where nothing is random.
        second: second derivatives, where the estimator has them and they were asked for.
        second_error: their standard errors.
        notes: what a reader of the numbers should know.
    """

    estimator: str
    assumes: str
    parameters: tuple[str, ...]
    point: Float[np.ndarray, " parameter"]
    value: float
    value_error: float
    derivative: Float[np.ndarray, " parameter"]
    standard_error: Float[np.ndarray, " parameter"]
    scenarios: int
    second: Float[np.ndarray, "parameter parameter"] | None = None
    second_error: Float[np.ndarray, "parameter parameter"] | None = None
    notes: tuple[str, ...] = ()

    def of(self, name: str) -> tuple[float, float]:
        """Return the derivative by one parameter and its standard error.

        Raises:
            KeyError: there is no such parameter.
        """
        if name not in self.parameters:
            raise KeyError(f"no parameter {name!r}; there are {', '.join(self.parameters)}")
        at = self.parameters.index(name)
        return float(self.derivative[at]), float(self.standard_error[at])


@dataclasses.dataclass(frozen=True)
class Point:
    """Parameters as one vector, and back.

    Attributes:
        names: of the entries.
        values: the vector.
        unravel: from a vector to the mapping.
    """

    names: tuple[str, ...]
    values: Float[Array, " parameter"]
    unravel: Callable[[Array], Any]


def point_of(parameters: Parameters) -> Point:
    """Return parameters as a vector.

    Raises:
        ValueError: there are none, or one of them is not a floating-point number or array.
    """
    if not parameters:
        raise ValueError("no parameters: there is nothing to differentiate by")
    names: list[str] = []
    # Mappings are laid out in the order of their keys.
    for name in sorted(parameters):
        value = parameters[name]
        kind = getattr(value, "dtype", None)
        if not isinstance(value, float) and (
            kind is None or not jnp.issubdtype(kind, jnp.floating)
        ):
            what = f"of type {type(value).__name__}" if kind is None else f"an array of {kind}"
            raise ValueError(
                f"parameter {name!r}: {value!r} is {what}; a derivative needs a floating-point "
                "number (write 2.0 for 2, and keep names and counts in the function)"
            )
        shape = np.shape(value)
        entries = [f"[{','.join(map(str, i))}]" for i in np.ndindex(shape)] if shape else [""]
        names += [f"{name}{entry}" for entry in entries]
    values, unravel = ravel_pytree({n: jnp.asarray(v) for n, v in parameters.items()})
    if not np.isfinite(np.asarray(values)).all():
        raise ValueError(
            f"parameters are not finite: {dict(zip(names, values.tolist(), strict=True))}"
        )
    return Point(tuple(names), values, unravel)


def total(losses: Any, baseline: Float[Array, " step"] | None = None) -> Float[Array, ""]:
    """Return the loss of a scenario with the derivatives of its scores in it.

    Args:
        losses: a number, or `Losses`.
        baseline: `(step,)` loss to be expected from each step on. It is taken off what a score is
            multiplied with; a score's mean derivative is 0, so that changes noise and no mean.
    """
    if not isinstance(losses, Losses):
        return losses
    weighted = jnp.sum(losses.lost * jnp.exp(jnp.cumsum(losses.scores)))
    if baseline is None:
        return weighted
    return weighted - jnp.sum(baseline * jnp.expm1(losses.scores))


def lost(losses: Any) -> Float[Array, ""]:
    """Return the loss of a scenario without scores."""
    return jnp.sum(losses.lost) if isinstance(losses, Losses) else losses


@dataclasses.dataclass
class _Sums:
    """Mean and squared deviations of the scenarios so far (Chan, Golub and LeVeque 1979)."""

    count: int = 0
    mean: Any = 0.0
    squares: Any = 0.0

    def add(self, block: Float[np.ndarray, "scenario entry"]) -> None:
        count, mean = len(block), block.mean(axis=0)
        squares = ((block - mean) ** 2).sum(axis=0)
        gap, both = mean - self.mean, self.count + count
        self.squares = self.squares + squares + gap**2 * (self.count * count / both)
        self.mean = self.mean + gap * (count / both)
        self.count = both

    def error(self) -> Any:
        if self.count < 2:
            return np.full_like(self.mean, math.inf)
        return np.sqrt(self.squares / (self.count - 1) / self.count)


def averaged(
    terms: Callable[[Float[Array, " parameter"], Key[Array, ""]], Float[Array, " entry"]],
    values: Float[Array, " parameter"],
    key: Key[Array, ""],
    scenarios: int,
    *,
    side_by_side: int = SIDE_BY_SIDE,
) -> tuple[Float[np.ndarray, " entry"], Float[np.ndarray, " entry"]]:
    """Return the mean of a scenario's terms and its standard error, in float64 on the host.

    Args:
        terms: from parameters and a scenario's key to a vector.
        values: the parameters.
        key: from `root_key`; ids are counted from 0.
        scenarios: how many.
        side_by_side: scenarios played at once on each device.

    Raises:
        ValueError: fewer than two scenarios, or a term that is not finite.
    """
    if scenarios < 2:
        raise ValueError(f"{scenarios} scenarios: a standard error needs at least 2")

    def bind(values: Array, key: Array) -> Callable[[Int[Array, ""]], Array]:
        return lambda scenario: terms(values, scenario_key(key, scenario))

    run, sums = over_scenarios(bind, side_by_side), _Sums()
    for first in range(0, scenarios, _BLOCK):
        ids = np.arange(first, min(first + _BLOCK, scenarios))
        block = np.asarray(run((values, key), ids), np.float64)
        broken = ~np.isfinite(block).all(axis=1)
        if broken.any():
            where = int(ids[broken.argmax()])
            entries = np.flatnonzero(~np.isfinite(block[broken.argmax()]))
            raise ValueError(
                f"{int(broken.sum())} of {len(ids)} scenarios are not finite; the first is "
                f"{where}, in its {_called(int(entries[0]))}: look at the loss of that scenario's "
                "key, and for a square root or division at 0 where only the derivative is"
            )
        sums.add(block)
    return sums.mean, sums.error()


def _called(entry: int) -> str:
    """Return what an entry of a row is; every row begins with the loss."""
    return "loss" if entry == 0 else f"derivatives (entry {entry} of the row)"


def differentiated(
    surrogate: Callable[[Any, Key[Array, ""]], Float[Array, ""]],
    parameters: Parameters,
    key: Key[Array, ""],
    scenarios: int,
    *,
    estimator: str,
    assumes: str,
    second: bool = False,
    played: Callable[[Any, Key[Array, ""]], Float[Array, ""]] | None = None,
) -> Estimate:
    """Return the estimate whose scenarios are the derivatives of a function, one backward pass.

    Args:
        surrogate: from parameters and a scenario's key to a number whose value is the loss and
            whose derivatives have the right mean.
        parameters: where to differentiate.
        key: from `root_key`.
        scenarios: how many.
        estimator: its name.
        assumes: what must hold.
        second: also second derivatives, by one forward pass a parameter over the backward one.
        played: the plain loss, whose value is then published: compilers round a differentiated
            program a little differently.

    Raises:
        ValueError: from `point_of` and `averaged`.
    """
    at = point_of(parameters)
    size = len(at.names)

    def row(values: Array, own: Array) -> Array:
        of = lambda v: surrogate(at.unravel(v), own)
        loss, slope = jax.value_and_grad(of)(values)
        parts = [loss[None], slope]
        if second:
            parts.append(jax.jacfwd(jax.grad(of))(values).reshape(-1))
        return jnp.concatenate(parts)

    mean, error = averaged(row, at.values, key, scenarios)
    value, value_error = mean[:1], error[:1]
    if played is not None:
        plain = lambda values, own: played(at.unravel(values), own)[None]
        value, value_error = averaged(plain, at.values, key, scenarios)
    square = lambda x: x[1 + size :].reshape(size, size) if second else None
    return Estimate(
        estimator=estimator,
        assumes=assumes,
        parameters=at.names,
        point=np.asarray(at.values, np.float64),
        value=float(value[0]),
        value_error=float(value_error[0]),
        derivative=mean[1 : 1 + size],
        standard_error=error[1 : 1 + size],
        scenarios=scenarios,
        second=square(mean),
        second_error=square(error),
        notes=silent(at.names, mean[1 : 1 + size], error[1 : 1 + size]),
    )


def silent(names: tuple[str, ...], derivative: np.ndarray, error: np.ndarray) -> tuple[str, ...]:
    """Return a note for every derivative that is 0 in all scenarios."""
    return tuple(
        f"{name}: 0 in every scenario; the loss does not depend on it, or only where this "
        "estimator does not look"
        for name, d, e in zip(names, derivative, error, strict=True)
        if d == 0.0 and e == 0.0
    )
