"""Random keys and draws that depend on (seed, scenario, step) and on nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, Int, Key

_SEEDS = 2**32


def root_key(seed: int) -> Key[Array, ""]:
    """Return the typed key from which every draw of a run descends.

    The generator is pinned to threefry2x32. The rbg generator, usually advised for accelerators,
    gives a scenario other draws when the batch under `vmap` changes, so a scenario could not be
    replayed alone.

    Args:
        seed: integer in [0, 2**32).

    Raises:
        ValueError: the seed is outside that range; a wider one would be cut to 32 bits without
            notice wherever 64-bit types are off.
    """
    if not 0 <= seed < _SEEDS:
        raise ValueError(f"seed {seed}: expected an integer in [0, 2**32)")
    return jax.random.key(np.uint32(seed), impl="threefry2x32")


def scenario_key(key: Key[Array, ""], scenario: int | Int[Array, ""]) -> Key[Array, ""]:
    """Return the key of one scenario, the same in every chunk, device and process.

    Args:
        key: from `root_key`.
        scenario: global scenario id, from 0.
    """
    return jax.random.fold_in(key, scenario)


def step_key(scenario_key: Key[Array, ""], step: int | Int[Array, ""]) -> Key[Array, ""]:
    """Return the key of one step of one scenario.

    Args:
        scenario_key: from the function of that name.
        step: index of the step, from 0.
    """
    return jax.random.fold_in(scenario_key, step)


def standard_normal(
    key: Key[Array, ""], shape: tuple[int, ...], dtype: DTypeLike
) -> Float[Array, "..."]:
    """Return standard normal draws of the given dtype, equal in value for every dtype.

    Drawn in float32 and widened, so that a float32 and a float64 run see the same shocks and can
    be compared path by path. The price is a grid of 2**23 quantiles: no draw lies beyond 5.5.
    """
    return jax.random.normal(key, shape, jnp.float32).astype(dtype)


def uniform(key: Key[Array, ""], shape: tuple[int, ...], dtype: DTypeLike) -> Float[Array, "..."]:
    """Return uniform draws on (0, 1], equal for every dtype up to its rounding.

    Midpoints of 2**32 cells: never 0, and fine near 0, so that a rare event belongs to
    `uniform < probability`. `jax.random.uniform` in float32 has 2**23 cells and returns 0, at
    which every event, however rare, would happen at once.
    """
    cell = jax.random.bits(key, shape, jnp.uint32).astype(dtype)
    return (cell + jnp.asarray(0.5, dtype)) * jnp.asarray(2.0**-32, dtype)
