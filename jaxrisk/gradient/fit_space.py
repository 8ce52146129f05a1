"""The parameters of a fit as one vector without bounds: names, checks, and the way back."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxrisk.numerics.bounded import from_unbounded, to_unbounded

Bounds = Mapping[str, tuple[float | None, float | None]]


@dataclasses.dataclass(frozen=True)
class FitSpace:
    """A tree of floating-point numbers, seen as a vector of unbounded ones.

    Attributes:
        names: of the entries: the path in the tree, and the index within an array.
        start: `(parameter,)` where the tree stands, unbounded.
        low: `(parameter,)` lower bounds, -inf where there is none.
        high: `(parameter,)` upper bounds, inf where there is none.
        unravel: from a vector to the tree.
    """

    names: tuple[str, ...]
    start: Float[Array, " parameter"]
    low: Float[Array, " parameter"]
    high: Float[Array, " parameter"]
    unravel: Callable[[Array], Any]

    def bounded(self, raw: Float[Array, " parameter"]) -> Float[Array, " parameter"]:
        """Return the parameters as a vector, within their bounds."""
        return from_unbounded(raw, self.low, self.high)

    def tree(self, raw: Float[Array, " parameter"]) -> Any:
        """Return the parameters as the tree they came in."""
        return self.unravel(self.bounded(raw))

    def slope(self, raw: Float[Array, " parameter"]) -> Float[Array, " parameter"]:
        """Return how fast each parameter moves with its unbounded number."""
        return jax.jvp(self.bounded, (raw,), (jnp.ones_like(raw),))[1]

    def text(self, raw: Float[Array, " parameter"]) -> str:
        """Return names and values for a message."""
        values = np.asarray(self.bounded(raw)).tolist()
        return ", ".join(f"{n} = {v:g}" for n, v in zip(self.names, values, strict=True))


def fit_space(start: Any, bounds: Bounds) -> FitSpace:
    """Return the space in which a tree is fitted.

    Args:
        start: tree of floating-point numbers or arrays of one type.
        bounds: from the path of a leaf, such as `depth` or `law.keenness`, to its lower and upper
            bound; `None` for an open end. A leaf that is not named has none; a single number that
            is no tree is called `parameter`.

    Raises:
        ValueError: a leaf is no floating-point number, a bound is of no leaf, or the start is not
            strictly within its bounds.
    """
    found, shape = jax.tree_util.tree_flatten_with_path(start)
    if not found:
        raise ValueError("no parameters: there is nothing to fit")
    arrays = {}
    for keys, leaf in found:
        path = jax.tree_util.keystr(keys, simple=True, separator=".") or "parameter"
        arrays[path] = _number(path, leaf)
    kinds = sorted({str(array.dtype) for array in arrays.values()})
    if len(kinds) > 1:
        raise ValueError(f"parameters are of {' and '.join(kinds)}: give them one type")
    unknown = [path for path in bounds if path not in arrays]
    if unknown:
        raise ValueError(f"bounds of {unknown[0]!r}: the parameters are {', '.join(arrays)}")
    names, ends = [], []
    for path, array in arrays.items():
        low, high = _ends(path, bounds.get(path, (None, None)))
        for index in np.ndindex(array.shape):
            name = f"{path}[{','.join(map(str, index))}]" if index else path
            value = float(array[index])
            if not (math.isfinite(value) and low < value < high):
                raise ValueError(
                    f"parameter {name!r} starts at {value:g}: expected a number strictly between "
                    f"its bounds {low:g} and {high:g}"
                )
            names.append(name)
            ends.append((low, high))
    values, unravel = ravel_pytree(jax.tree.unflatten(shape, list(arrays.values())))
    low, high = (jnp.asarray(end, values.dtype) for end in zip(*ends, strict=True))
    return FitSpace(tuple(names), to_unbounded(values, low, high), low, high, unravel)


def _number(path: str, leaf: Any) -> Array:
    kind = getattr(leaf, "dtype", None)
    if not isinstance(leaf, float) and (kind is None or not jnp.issubdtype(kind, jnp.floating)):
        what = f"of type {type(leaf).__name__}" if kind is None else f"an array of {kind}"
        raise ValueError(
            f"parameter {path!r}: {leaf!r} is {what}; a fit needs a floating-point number (write "
            "2.0 for 2, and keep names and counts in the loss)"
        )
    return jnp.asarray(leaf)


def _ends(path: str, ends: tuple[float | None, float | None]) -> tuple[float, float]:
    low, high = ends
    low, high = -math.inf if low is None else float(low), math.inf if high is None else float(high)
    if not low < high:
        raise ValueError(f"bounds of {path!r}: {low:g} is not below {high:g}")
    return low, high
