"""Work on the few columns of wide arrays that a test has chosen, forwards and backwards.

Where few columns are concerned in a step, and other ones in the next, evaluating all of them is
cheap forwards, where everything fuses; backwards each number is visited many times. Here columns
are gathered in chunks, as many chunks as there is need for, and what a chunk did is computed again
for its derivative: nothing is kept but which columns were chosen.

Columns beyond the last chosen one read as zeros and are not written, so work on a chunk must give
zero, with finite derivatives, for columns of zeros.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import CustomVJPPrimal, SymbolicZero
from jaxtyping import Array, Bool, Int, Shaped, UInt

from jaxrisk.numerics.pytree import pytree

_CHUNK = 320
Columns = tuple[Shaped[Array, "row column"], ...]


@pytree
class Chosen:
    """Some of `column` columns.

    Attributes:
        indices: indices of the chosen ones, in order; anything beyond `count`.
        count: how many were chosen.
    """

    indices: UInt[Array, " column"]
    count: UInt[Array, ""]

    @property
    def chunks(self) -> Int[Array, ""]:
        """How many chunks hold all that was chosen."""
        width = min(_CHUNK, self.indices.shape[0])
        return (self.count.astype(jnp.int32) + (width - 1)) // width

    def chunk(self, number: Int[Array, ""]) -> Int[Array, " chunk"]:
        """Return the indices in a chunk, padded with the number of columns."""
        columns = self.indices.shape[0]
        width = min(_CHUNK, columns)
        # The last chunk starts early where it would reach beyond the end.
        start = jnp.minimum(number * width, columns - width)
        place = start + jnp.arange(width, dtype=jnp.int32)
        own = lax.dynamic_slice(self.indices, (start,), (width,)).astype(jnp.int32)
        chosen = (place >= number * width) & (place < self.count.astype(jnp.int32))
        return jnp.where(chosen, own, columns)


def choose(mask: Bool[Array, " column"]) -> Chosen:
    """Return the columns where `mask` holds.

    A loop over columns: on a CPU that is several times faster than prefix sums.
    """
    columns = mask.shape[0]
    dtype = np.min_scalar_type(columns)

    def note(column: Int[Array, ""], carry: tuple) -> tuple:
        indices, count = carry
        return indices.at[count].set(column.astype(dtype)), count + mask[column].astype(jnp.int32)

    # One place more than columns: each column is noted, and stays where the count then moves on.
    empty = jnp.zeros(columns + 1, dtype), jnp.zeros((), jnp.int32)
    search = lambda: lax.fori_loop(0, columns, note, empty, unroll=4)
    indices, count = lax.cond(jnp.any(mask), search, lambda: empty)
    return Chosen(indices=indices[:columns], count=count.astype(dtype))


def total_over(
    work: Callable[[Any, Columns], Any], shared: Any, columns: Columns, chosen: Chosen
) -> tuple[Any, Columns]:
    """Return the sum over chunks of what `work(shared, columns of a chunk)` returns, and `columns`.

    Whoever reads the columns next should take them from here: then their cotangents are added to
    where they are, and not as arrays of zeros with a few numbers in them.

    Args:
        work: a pytree of sums over the columns of a chunk; closes over nothing that is traced.
        shared: what all columns share; derivatives flow through it.
        columns: arrays with the columns on their last axis; derivatives flow through them.
        chosen: which columns.
    """

    def run(shared: Any, columns: Columns, chosen: Chosen) -> tuple[Any, Columns]:
        part = lambda k: work(shared, _gathered(columns, chosen.chunk(k)))
        add = lambda k, total: jax.tree.map(jnp.add, total, part(k))
        like = jax.eval_shape(part, jnp.zeros((), jnp.int32))
        zero = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
        return lax.fori_loop(0, chosen.chunks, add, zero), columns

    def forward(*arguments: Any) -> tuple:
        (shared, columns, chosen), moving = _opened(*arguments)
        return run(shared, columns, chosen), (shared, columns, chosen, moving)

    def backward(kept: tuple, cotangents: tuple[Any, Columns]) -> tuple:
        shared, columns, chosen, moving = kept
        above, through = _filled(cotangents)

        def add(k: Int[Array, ""], total: "_Cotangents") -> "_Cotangents":
            here = chosen.chunk(k)
            return total.plus(_pulled(work, shared, columns, here, moving, above), here)

        start = _Cotangents.zero(shared, columns, moving)
        start = dataclasses.replace(start, columns=tuple(_those(through, moving.columns)))
        return (*lax.fori_loop(0, chosen.chunks, add, start).given(shared, moving), None)

    custom = jax.custom_vjp(run)
    custom.defvjp(forward, backward, symbolic_zeros=True)
    return custom(shared, columns, chosen)


def with_changed(
    work: Callable[[Any, Columns], Columns], shared: Any, columns: Columns, chosen: Chosen
) -> Columns:
    """Return the first arrays of `columns` with the chosen ones as `work` makes them.

    Args:
        work: `work(shared, columns of a chunk)` returns the new columns of the first arrays; closes
            over nothing that is traced.
        shared: what all columns share; derivatives flow through it.
        columns: arrays with the columns on their last axis; derivatives flow through them.
        chosen: which columns.
    """
    changed = len(jax.eval_shape(work, shared, columns))

    def run(shared: Any, columns: Columns, chosen: Chosen) -> Columns:
        def change(k: Int[Array, ""], own: Columns) -> Columns:
            here = chosen.chunk(k)
            after = work(shared, _gathered(own + columns[changed:], here))
            return tuple(
                o.at[..., here].set(a, mode="drop") for o, a in zip(own, after, strict=True)
            )

        return lax.fori_loop(0, chosen.chunks, change, columns[:changed])

    def forward(*arguments: Any) -> tuple:
        (shared, columns, chosen), moving = _opened(*arguments)
        moving = dataclasses.replace(moving, columns=(True,) * changed + moving.columns[changed:])
        return run(shared, columns, chosen), (shared, columns, chosen, moving)

    def backward(kept: tuple, cotangent: Any) -> tuple:
        shared, columns, chosen, moving = kept

        def add(k: Int[Array, ""], total: "_Cotangents") -> "_Cotangents":
            here = chosen.chunk(k)
            above = _gathered(total.columns[:changed], here)
            own = _pulled(work, shared, columns, here, moving, above)
            # What went into a chosen column ends in what it was made of.
            rest = dataclasses.replace(total, columns=total.columns[changed:])
            rest = rest.plus(dataclasses.replace(own, columns=own.columns[changed:]), here)
            moved = tuple(
                x.at[..., here].set(part, mode="drop")
                for x, part in zip(total.columns[:changed], own.columns, strict=False)
            )
            return dataclasses.replace(rest, columns=moved + rest.columns)

        start = _Cotangents.zero(shared, columns, moving)
        through = _filled(cotangent) + start.columns[changed:]
        start = dataclasses.replace(start, columns=through)
        return (*lax.fori_loop(0, chosen.chunks, add, start).given(shared, moving), None)

    custom = jax.custom_vjp(run)
    custom.defvjp(forward, backward, symbolic_zeros=True)
    return custom(shared, columns, chosen)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class _Moving:
    """Which leaves have derivatives at all: of what is shared, and the arrays of columns."""

    shared: tuple[bool, ...]
    columns: tuple[bool, ...]


@pytree
class _Cotangents:
    """Cotangents of the leaves that move."""

    shared: tuple[Array, ...]
    columns: Columns

    @staticmethod
    def zero(shared: Any, columns: Columns, moving: _Moving) -> "_Cotangents":
        zero = lambda leaves, which: tuple(jnp.zeros_like(x) for x in _those(leaves, which))
        return _Cotangents(
            shared=zero(jax.tree.leaves(shared), moving.shared),
            columns=zero(columns, moving.columns),
        )

    def plus(self, other: "_Cotangents", here: Int[Array, " chunk"]) -> "_Cotangents":
        """Return the sum with the cotangents of one chunk."""
        return _Cotangents(
            shared=tuple(a + b for a, b in zip(self.shared, other.shared, strict=True)),
            columns=tuple(
                a.at[..., here].add(b, mode="drop")
                for a, b in zip(self.columns, other.columns, strict=True)
            ),
        )

    def given(self, shared: Any, moving: _Moving) -> tuple[Any, tuple]:
        """Return cotangents in the structure of the arguments, `None` for what does not move."""
        structure = jax.tree.structure(shared)
        none = [None] * len(moving.shared)
        of_shared = jax.tree.unflatten(structure, _merged(none, moving.shared, self.shared))
        none = [None] * len(moving.columns)
        return of_shared, tuple(_merged(none, moving.columns, self.columns))


def _opened(shared: Any, columns: Any, chosen: Any) -> tuple[tuple, _Moving]:
    """Return the arguments as they are, and which of their leaves are differentiated."""
    is_primal = lambda x: isinstance(x, CustomVJPPrimal)
    values = lambda t: jax.tree.map(lambda x: x.value, t, is_leaf=is_primal)
    moves = lambda t: tuple(x.perturbed for x in jax.tree.leaves(t, is_leaf=is_primal))
    moving = _Moving(shared=moves(shared), columns=moves(columns))
    return (values(shared), values(columns), values(chosen)), moving


def _pulled(
    work: Callable[[Any, Columns], Any],
    shared: Any,
    columns: Columns,
    here: Int[Array, " chunk"],
    moving: _Moving,
    above: Any,
) -> _Cotangents:
    """Return the cotangents of one chunk's work."""
    leaves, structure = jax.tree.flatten(shared)
    gathered = _gathered(columns, here)

    def of(own: _Cotangents) -> Any:
        whole = jax.tree.unflatten(structure, _merged(leaves, moving.shared, own.shared))
        return work(whole, tuple(_merged(gathered, moving.columns, own.columns)))

    at = _Cotangents(
        shared=tuple(_those(leaves, moving.shared)),
        columns=tuple(_those(gathered, moving.columns)),
    )
    _, pull = jax.vjp(of, at)
    return pull(above)[0]


def _gathered(columns: Columns, here: Int[Array, " chunk"]) -> Columns:
    return tuple(x.at[..., here].get(mode="fill", fill_value=0) for x in columns)


def _those(leaves: Sequence[Any], which: Sequence[bool]) -> list[Any]:
    return [leaf for leaf, wanted in zip(leaves, which, strict=True) if wanted]


def _merged(leaves: Sequence[Any], which: Sequence[bool], own: Sequence[Any]) -> list[Any]:
    """Return the leaves with those that are wanted replaced by `own`, in order."""
    given = iter(own)
    return [next(given) if wanted else x for x, wanted in zip(leaves, which, strict=True)]


def _filled(cotangent: Any) -> Any:
    """Return a cotangent with zeros where it is known to be zero."""
    symbolic = lambda x: isinstance(x, SymbolicZero)
    zeros = lambda x: jnp.zeros(x.shape, x.dtype) if symbolic(x) else x
    return jax.tree.map(zeros, cotangent, is_leaf=symbolic)
