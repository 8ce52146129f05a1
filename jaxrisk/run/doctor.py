"""A short look at the machine: versions, devices, cache, and whether the numbers are right."""

import importlib.metadata
import platform
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.run.cache import use_compilation_cache
from jaxrisk.run.job import configure_device
from jaxrisk.venue.call import repay_call
from jaxrisk.venue.close import FractionClose
from jaxrisk.venue.position import Position

Finding = tuple[str, str, bool]

# A size at which a known-bad release of the array library returns a wrong last row.
_CANARY_ROWS = 16_385


def examine(cores: int) -> Iterator[Finding]:
    """Yield (what, finding, whether it is good), cheapest first."""
    yield "jaxrisk", importlib.metadata.version("jaxrisk"), True
    yield "python", platform.python_version(), True
    device = configure_device("auto", "float64", cores)
    yield "jax", f"{jax.__version__}, numpy {np.__version__}", True
    yield "device", device, True
    folder = use_compilation_cache()
    yield "compilation cache", str(folder or "no folder can be written; every run compiles"), True
    yield "arithmetic", *_canary()
    yield "liquidation rule", *_golden()


def _canary() -> tuple[str, bool]:
    matrix = np.arange(9.0).reshape(3, 3) + 1.0
    rows = np.random.default_rng(0).normal(size=(_CANARY_ROWS, 3))
    got = jax.jit(jax.vmap(lambda row: jnp.sum((jnp.asarray(matrix) @ row) ** 2)))(rows)
    error = float(np.max(np.abs(np.asarray(got) - ((rows @ matrix.T) ** 2).sum(axis=1))))
    return f"largest error {error:.1e} on {_CANARY_ROWS} rows", error < 1e-9


def _golden() -> tuple[str, bool]:
    """A close of 9,000 debt on 10,000 collateral, threshold 0.83, bonus 5 %: all of it."""
    one = lambda x: jnp.asarray([x])
    position = Position(
        collateral=one(10_000.0),
        debt=one(9_000.0),
        total_collateral=one(10_000.0),
        total_debt=one(9_000.0),
        backing=one(8_300.0),
        credit=one(1.05),
        fee_share=one(0.0),
    )
    rule = FractionClose(
        fraction=jnp.asarray(0.5),
        full_below_health=jnp.asarray(0.95),
        small_position=None,
        minimum_leftover=None,
    )
    call = repay_call(rule, position, one(np.inf))
    repaid, seized = float(call.repaid[0]), float(call.seized[0])
    return f"repaid {repaid:.2f}, seized {seized:.2f}", (repaid, seized) == (9_000.0, 9_450.0)
