"""Frozen dataclasses that JAX sees as pytrees."""

import dataclasses
from typing import Any, TypeVar, dataclass_transform

import jax

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
