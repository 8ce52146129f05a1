"""Path models that draw on recorded returns, and what those returns say about the market."""

from typing import Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, DTypeLike, Float, Int, Key

from jaxrisk.market.paths import Move
from jaxrisk.numerics.keys import random_words, uniform
from jaxrisk.numerics.pytree import pytree


@pytree
class Bootstrap:
    """Stationary block bootstrap: blocks of geometric length, started anywhere, wrapping around.

    One time index serves all assets, so each step keeps the cross-section of a real moment. The
    rows must be one simulation step apart: `step_years` is not read. Politis and Romano 1994,
    JASA 89.

    Attributes:
        log_return: recorded log returns.
        mean_block_steps: mean block length, at least 1; at 1 all steps are independent.
    """

    log_return: Float[Array, "time asset"]
    mean_block_steps: Float[Array, ""]

    @classmethod
    def from_history(
        cls,
        log_return: Float[np.ndarray, "time asset"],
        *,
        mean_block_steps: float,
        dtype: DTypeLike | None = None,
    ) -> Self:
        """Return the model after checking the table.

        Args:
            log_return: recorded log returns, one simulation step apart, oldest first.
            mean_block_steps: mean block length in steps, at least 1.
            dtype: of the returns simulated; JAX's default float if not given.

        Raises:
            ValueError: the table is empty, of another rank or not finite, or the block length is
                below 1.
        """
        if not mean_block_steps >= 1:
            raise ValueError(f"mean_block_steps {mean_block_steps}: expected at least 1")
        dtype = jnp.result_type(float) if dtype is None else dtype
        return cls(
            log_return=jnp.asarray(_checked(log_return), dtype),
            mean_block_steps=jnp.asarray(mean_block_steps, dtype),
        )

    def init(self) -> Int[Array, ""]:
        """Return the time index before the first step: none yet."""
        return jnp.full((), -1, jnp.int32)

    def noise(
        self, key: Key[Array, ""], scenario: Int[Array, ""], step: Int[Array, ""]
    ) -> tuple[Bool[Array, ""], Int[Array, ""]]:
        """Return whether a new block starts, and where it would."""
        words = random_words(key, 2)
        renewal = uniform(words[0], self.mean_block_steps.dtype) < 1 / self.mean_block_steps
        # Remainders favour early rows by at most rows / 2**32.
        start = (words[1] % jnp.uint32(self.log_return.shape[0])).astype(jnp.int32)
        # A mean length of 1 renews always, also where the uniform draw rounds to 1.
        return renewal | (self.mean_block_steps <= 1), start

    def advance(
        self,
        state: Int[Array, ""],
        noise: tuple[Bool[Array, ""], Int[Array, ""]],
        step_years: float | Array,
    ) -> tuple[Int[Array, ""], Move]:
        """Return the time index drawn and the recorded move at that index."""
        renewal, start = noise
        following = (state + 1) % self.log_return.shape[0]
        index = jnp.where(renewal | (state < 0), start, following)
        row = self.log_return[index]
        return index, Move(log_return=row, log_reference_return=row)


@pytree
class Replay:
    """The recorded path itself, from one start; the same in every scenario.

    The rows must be one simulation step apart: `step_years` is not read. Past the end of the
    record the move is NaN: build with `from_history`, which refuses a record that is too short.

    Attributes:
        log_return: recorded log returns.
        start: row of the first step.
    """

    log_return: Float[Array, "time asset"]
    start: Int[Array, ""]

    @classmethod
    def from_history(
        cls,
        log_return: Float[np.ndarray, "time asset"],
        *,
        start: int,
        steps: int,
        dtype: DTypeLike | None = None,
    ) -> Self:
        """Return the model after checking that the record covers the run.

        Args:
            log_return: recorded log returns, one simulation step apart, oldest first.
            start: row of the first step.
            steps: number of steps that will be asked for.
            dtype: of the returns simulated; JAX's default float if not given.

        Raises:
            ValueError: the table is empty, of another rank or not finite, or too short.
        """
        table = _checked(log_return)
        if start < 0 or start + steps > table.shape[0]:
            raise ValueError(
                f"start {start}: {steps} steps from there do not fit in {table.shape[0]} rows"
            )
        dtype = jnp.result_type(float) if dtype is None else dtype
        return cls(log_return=jnp.asarray(table, dtype), start=jnp.asarray(start, jnp.int32))

    def init(self) -> tuple[()]:
        """Return no state: the step index says which row is next."""
        return ()

    def noise(
        self, key: Key[Array, ""], scenario: Int[Array, ""], step: Int[Array, ""]
    ) -> Float[Array, " asset"]:
        """Return the recorded returns of this step."""
        row = self.start + jnp.asarray(step, jnp.int32)
        return self.log_return.at[row].get(mode="fill", fill_value=jnp.nan)

    def advance(
        self, state: tuple[()], noise: Float[Array, " asset"], step_years: float | Array
    ) -> tuple[tuple[()], Move]:
        """Return the recorded returns as a move."""
        return state, Move(log_return=noise, log_reference_return=noise)


def log_returns(prices: Float[np.ndarray, "time asset"]) -> Float[np.ndarray, "step asset"]:
    """Return the log returns between successive rows of positive prices, one row fewer."""
    return np.diff(np.log(np.asarray(prices, dtype=np.float64)), axis=0)


def realised_volatility(
    log_return: Float[np.ndarray, "time asset"], step_years: float
) -> Float[np.ndarray, " asset"]:
    """Return the realised volatility per √year: √(mean squared return / step).

    The mean return is not subtracted: over short steps it is far below its own error.
    """
    table = np.asarray(log_return, dtype=np.float64)
    return np.sqrt(np.mean(table**2, axis=0) / step_years)


def _checked(log_return: Float[np.ndarray, "time asset"]) -> np.ndarray:
    table = np.asarray(log_return)
    if table.ndim != 2 or table.shape[0] == 0:
        raise ValueError(f"log_return: expected (time, asset) with rows, got {table.shape}")
    if not np.isfinite(table).all():
        row, asset = np.argwhere(~np.isfinite(table))[0]
        raise ValueError(f"log_return: row {row}, asset {asset}: expected a finite number")
    return table
