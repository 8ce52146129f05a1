"""Random keys and draws that depend on (seed, scenario, step) and on nothing else."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, DTypeLike, Float, Int, Key, UInt32

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


def random_words(key: Key[Array, ""], count: int) -> UInt32[Array, " count"]:
    """Return `count` independent 32-bit words.

    One call serves all draws of a step (slice it): every further call of the generator adds a
    tenth of a second to the compile time.
    """
    return jax.random.bits(key, (count,), jnp.uint32)


def standard_normal(words: UInt32[Array, "*shape"], dtype: DTypeLike) -> Float[Array, "*shape"]:
    """Return a standard normal draw for each word, the same number for every dtype.

    Computed in float32 and widened, so that a float32 and a float64 run see the same shocks and
    can be compared path by path. The draws are the normal quantiles at the midpoints of 2**24
    equal cells: symmetric, finite, none beyond 5.5.
    """
    # Odd numerators below 2**24 are exact in float32, so ±1 is never reached.
    numerator = 2 * (words >> 8).astype(jnp.int32) + (1 - 2**24)
    position = numerator.astype(jnp.float32) * jnp.float32(2.0**-24)
    return (jnp.float32(math.sqrt(2.0)) * lax.erf_inv(position)).astype(dtype)


def uniform(words: UInt32[Array, "*shape"], dtype: DTypeLike) -> Float[Array, "*shape"]:
    """Return a uniform draw on (0, 1] for each word, equal for every dtype up to its rounding.

    Midpoints of 2**32 cells: never 0, and fine near 0, so that a rare event belongs to
    `uniform < probability`. `jax.random.uniform` in float32 has 2**23 cells and returns 0, at
    which every event, however rare, would happen at once.
    """
    return (words.astype(dtype) + jnp.asarray(0.5, dtype)) * jnp.asarray(2.0**-32, dtype)
