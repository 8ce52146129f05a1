"""Many scenarios at once: sharded over devices, mapped over chunks, side by side within one."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, PartitionSpec
from jaxtyping import Array, Int

from jaxrisk.numerics.pytree import as_rows, from_rows


def over_scenarios(
    bind: Callable[..., Callable[[Int[Array, ""]], Any]], side_by_side: int
) -> Callable[[tuple, np.ndarray], Any]:
    """Return a function of `(arguments, ids)` that plays every id, on all local devices.

    Args:
        bind: from arguments to a function of one scenario's id; what it prepares is shared by
            all scenarios.
        side_by_side: scenarios played at once on each device.
    """
    compiled = mapped(bind, side_by_side)

    def run(arguments: tuple, ids: np.ndarray) -> Any:
        count = len(ids)
        block = jax.local_device_count() * side_by_side
        padded = np.resize(np.asarray(ids, np.uint32), -(-count // block) * block)
        return jax.tree.map(lambda x: x[:count], compiled(arguments, jnp.asarray(padded)))

    return run


@functools.cache
def _mesh() -> jax.sharding.Mesh:
    # Auto axes: under the default Explicit ones `sort` and gather along an axis are refused.
    return jax.make_mesh((jax.local_device_count(),), ("scenario",), axis_types=(AxisType.Auto,))


def mapped(bind: Callable[..., Callable[[Int[Array, ""]], Any]], side_by_side: int) -> Any:
    """Return the jitted map over `(arguments, ids)`.

    The number of ids must divide by devices times `side_by_side`; see `over_scenarios`.
    """
    replicated, sharded = PartitionSpec(), PartitionSpec("scenario")

    def on_device(arguments: tuple, ids: Int[Array, " scenario"]) -> Any:
        one = bind(*arguments)
        like: list[Any] = []

        # A scenario's results are stored as one row, not one by one: less to compile.
        def row(scenario: Int[Array, ""]) -> dict[str, Array]:
            result = one(scenario)
            like[:] = [jax.eval_shape(lambda: result)]
            return as_rows(result)

        rows = lax.map(row, ids, batch_size=side_by_side if side_by_side > 1 else None)
        return jax.vmap(lambda own: from_rows(own, like[0]))(rows)

    return jax.jit(
        jax.shard_map(
            on_device,
            mesh=_mesh(),
            in_specs=(replicated, sharded),
            out_specs=sharded,
            check_vma=False,
        )
    )
