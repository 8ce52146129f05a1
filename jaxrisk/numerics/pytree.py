"""Frozen dataclasses that JAX sees as pytrees."""

import dataclasses
import math
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
from jax import Array

T = TypeVar("T")


def static(**options: Any) -> Any:
    """Return a dataclass field that is part of the trace's structure, not of its data.

    Args:
        **options: passed to `dataclasses.field`.
    """
    return dataclasses.field(metadata={"static": True}, **options)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(static,))
def pytree(cls: type[T]) -> type[T]:
    """Return `cls` as a frozen, keyword-only dataclass registered as a JAX pytree.

    Fields are leaves (or subtrees) unless declared with `static()`. Nothing is validated here:
    the constructor runs again on tracers, so checks belong in `from_*` constructors.
    """
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True, kw_only=True)(cls))


def as_rows(tree: Any) -> dict[str, Array]:
    """Return the leaves of a tree laid end to end: one vector for each type of number."""
    rows: dict[str, list[Array]] = {}
    for leaf in jax.tree.leaves(tree):
        rows.setdefault(str(leaf.dtype), []).append(leaf.reshape(-1))
    return {dtype: jnp.concatenate(parts) for dtype, parts in rows.items()}


def from_rows(rows: dict[str, Array], like: Any) -> Any:
    """Return the tree that `as_rows` laid out, with the structure and shapes of `like`."""
    leaves, ends = [], dict.fromkeys(rows, 0)
    shapes, structure = jax.tree.flatten(like)
    for shape in shapes:
        dtype = str(shape.dtype)
        start, ends[dtype] = ends[dtype], ends[dtype] + math.prod(shape.shape)
        leaves.append(rows[dtype][start : ends[dtype]].reshape(shape.shape))
    return jax.tree.unflatten(structure, leaves)
