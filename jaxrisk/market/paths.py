"""Path models: how log prices move in one step, all assets at once.

A model is a frozen pytree whose parameters are leaves, in units per year. `noise` gives the
independent draws of one step, `advance` turns them into a move; the split lets all draws of a
scenario be made in one batch while the scan over steps keeps only what depends on its past.
No signature has a scenario or time axis.
"""

import math
from typing import Any, Protocol, Self

import jax.numpy as jnp
import numpy as np
from jax import lax, random
from jaxtyping import Array, Float, Int, Key

from jaxrisk.numerics.keys import random_words, standard_normal, uniform
from jaxrisk.numerics.pytree import pytree, static

# The chance of more in one step is 1e-16 for 5 expected jumps a step and 1e-8 for 10.
_MOST_JUMPS = 32


@pytree
class Move:
    """What one step does to log prices.

    `log_return` moves the market price. `log_reference_return` moves the price that an
    exchange-rate oracle sees; it differs only where a pegged asset leaves its reference.
    """

    log_return: Float[Array, " asset"]
    log_reference_return: Float[Array, " asset"]


class PathModel(Protocol):
    """What every path model offers."""

    def init(self) -> Any:
        """Return the model state before the first step."""
        ...

    def noise(self, key: Key[Array, ""], scenario: Int[Array, ""], step: Int[Array, ""]) -> Any:
        """Return the draws of one step; `key` is used for this (scenario, step) only."""
        ...

    def advance(self, state: Any, noise: Any, step_years: float | Array) -> tuple[Any, Move]:
        """Return the next model state and the move over `step_years`."""
        ...


@pytree
class Gbm:
    """Correlated geometric Brownian motion: Δx = (drift − volatility²/2) Δt + volatility √Δt L z.

    Attributes:
        drift: growth rate of the expected price, per year.
        volatility: standard deviation of the log return, per √year.
        factor: L with L Lᵀ the correlation, see `correlation_factor`.
    """

    drift: Float[Array, " asset"]
    volatility: Float[Array, " asset"]
    factor: Float[Array, "asset asset"]

    def init(self) -> tuple[()]:
        """Return no state: increments are independent."""
        return ()

    def noise(
        self, key: Key[Array, ""], scenario: Int[Array, ""], step: Int[Array, ""]
    ) -> Float[Array, " asset"]:
        """Return independent standard normals, one an asset."""
        words = random_words(key, self.volatility.size)
        return standard_normal(words, self.volatility.dtype)

    def advance(
        self, state: tuple[()], noise: Float[Array, " asset"], step_years: float | Array
    ) -> tuple[tuple[()], Move]:
        """Return the exact log-normal move over `step_years`."""
        years = jnp.asarray(step_years, self.volatility.dtype)
        # A sum over products, not a matmul: its rounding does not change with the batch.
        correlated = jnp.sum(self.factor * noise[None, :], axis=1)
        log_return = (self.drift - 0.5 * self.volatility**2) * years + (
            self.volatility * jnp.sqrt(years) * correlated
        )
        return state, Move(log_return=log_return, log_reference_return=log_return)


@pytree
class JumpDiffusion:
    """Merton jump diffusion with jumps common to all assets, each taking its own share.

    Over Δt come N ~ Poisson(jump_intensity Δt) jumps with log sizes J ~ N(jump_mean,
    jump_volatility²); asset a moves by jump_loading_a J. The drift is compensated by
    −λ (E exp(loading J) − 1), so that expected prices grow at the drift of the diffusion.
    Exact in law for any step expecting up to about 10 jumps. The number of jumps is a step
    function of the intensity, so the pathwise derivative in `jump_intensity` holds only the
    compensator: use bumps for it. Merton 1976, J. Financial Economics 3.

    Attributes:
        diffusion: drift and continuous part.
        jump_intensity: expected jumps per year.
        jump_mean: mean log size of a jump.
        jump_volatility: standard deviation of the log size.
        jump_loading: share of the jump each asset takes.
    """

    diffusion: Gbm
    jump_intensity: Float[Array, ""]
    jump_mean: Float[Array, ""]
    jump_volatility: Float[Array, ""]
    jump_loading: Float[Array, " asset"]

    def init(self) -> tuple[()]:
        """Return no state: increments are independent."""
        return ()

    def noise(
        self, key: Key[Array, ""], scenario: Int[Array, ""], step: Int[Array, ""]
    ) -> tuple[Float[Array, " asset"], Float[Array, ""], Float[Array, ""]]:
        """Return the diffusion's normals, one normal for the jump sizes, one uniform for N."""
        dtype = self.jump_loading.dtype
        words = random_words(key, self.jump_loading.size + 2)
        normals = standard_normal(words[:-1], dtype)
        return normals[:-1], normals[-1], uniform(words[-1], dtype)

    def advance(
        self,
        state: tuple[()],
        noise: tuple[Float[Array, " asset"], Float[Array, ""], Float[Array, ""]],
        step_years: float | Array,
    ) -> tuple[tuple[()], Move]:
        """Return the move over `step_years`, exact in law."""
        normal, size, arrival = noise
        years = jnp.asarray(step_years, self.jump_loading.dtype)
        state, move = self.diffusion.advance(state, normal, years)
        count = _poisson_quantile(arrival, self.jump_intensity * years)
        # The sum of N normal sizes is normal: one draw serves any number of jumps.
        jump = count * self.jump_mean + jnp.sqrt(count) * self.jump_volatility * size
        growth = jnp.expm1(
            self.jump_loading * self.jump_mean
            + 0.5 * (self.jump_loading * self.jump_volatility) ** 2
        )
        compensator = self.jump_intensity * years * growth
        log_return = move.log_return + self.jump_loading * jump - compensator
        return state, Move(log_return=log_return, log_reference_return=log_return)


@pytree
class Pegged:
    """A model in which some assets follow another one, by a growing ratio and a noisy basis.

    For a pegged asset with underlying u
        reference return = reference return of u + ratio_growth Δt
        market return    = return of u + ratio_growth Δt + Δbasis
    where the basis, the log of market over reference price, is an Ornstein-Uhlenbeck process
    from 0 (exact discretisation). A basis move that the base model itself gives the pegged asset,
    as `ParametrisedShock` can, is added; its other moves of that asset are dropped.

    Attributes:
        base: path model over all assets, pegged ones included.
        underlying: static, one entry an asset: position of the asset it follows, −1 for a free
            asset. An underlying must itself be free.
        ratio_growth: growth rate of the exchange rate, per year.
        basis_volatility: volatility that drives the basis, per √year; its stationary standard
            deviation is basis_volatility √(half-life / (2 ln 2)).
        basis_half_life_years: positive for pegged assets. What free assets have in these three
            fields is not used, but must be finite.
    """

    base: Any
    underlying: tuple[int, ...] = static()
    ratio_growth: Float[Array, " asset"]
    basis_volatility: Float[Array, " asset"]
    basis_half_life_years: Float[Array, " asset"]

    def init(self) -> tuple[Any, Float[Array, " asset"]]:
        """Return the base model's state and a closed basis, in standard deviations of a step."""
        return self.base.init(), jnp.zeros_like(self.basis_volatility)

    def noise(
        self, key: Key[Array, ""], scenario: Int[Array, ""], step: Int[Array, ""]
    ) -> tuple[Any, Float[Array, " asset"]]:
        """Return the base model's draws and one normal an asset for the basis."""
        base_key, basis_key = random.split(key)
        words = random_words(basis_key, self.basis_volatility.size)
        normals = standard_normal(words, self.basis_volatility.dtype)
        return self.base.noise(base_key, scenario, step), normals

    def advance(
        self,
        state: tuple[Any, Float[Array, " asset"]],
        noise: tuple[Any, Float[Array, " asset"]],
        step_years: float | Array,
    ) -> tuple[tuple[Any, Float[Array, " asset"]], Move]:
        """Return the state with the new basis, and the move of free and pegged assets.

        All steps of a path must be equally long.
        """
        base_state, basis = state
        base_noise, normal = noise
        years = jnp.asarray(step_years, self.ratio_growth.dtype)
        base_state, free = self.base.advance(base_state, base_noise, years)

        pegged = np.asarray(self.underlying) >= 0
        followed = np.where(pegged, np.asarray(self.underlying), np.arange(pegged.size))
        half_life = jnp.where(pegged, self.basis_half_life_years, 1)
        reversion = math.log(2.0) / half_life
        deviation = self.basis_volatility * jnp.sqrt(
            -jnp.expm1(-2 * reversion * years) / (2 * reversion)
        )
        # One product in each sum: of two, the compiler fuses the one it likes, by batch size.
        next_basis = basis * jnp.exp(-reversion * years) + normal
        basis_change = deviation * (next_basis - basis)

        growth = self.ratio_growth * years
        own_basis = free.log_return - free.log_reference_return
        reference = free.log_reference_return[followed] + growth
        market = free.log_return[followed] + growth + own_basis + basis_change
        move = Move(
            log_return=jnp.where(pegged, market, free.log_return),
            log_reference_return=jnp.where(pegged, reference, free.log_reference_return),
        )
        return (base_state, next_basis), move


@pytree
class GivenMoves:
    """Moves read from a table by scenario id and step; nothing is random.

    Outside the table the move is NaN, never a repeated or clamped row: build with `from_table`,
    which refuses a table that is too small.

    Attributes:
        log_return: log return of each step; also the reference return.
    """

    log_return: Float[Array, "scenario step asset"]

    @classmethod
    def from_table(
        cls, log_return: Float[Array, "scenario step asset"], *, scenarios: int, steps: int
    ) -> Self:
        """Return the model after checking that the table covers the run.

        Args:
            log_return: the table.
            scenarios: number of scenario ids, from 0, that will be asked for.
            steps: number of steps, from 0, that will be asked for.

        Raises:
            ValueError: the table has another rank, or fewer scenarios or steps.
        """
        if log_return.ndim != 3:
            raise ValueError(
                f"log_return: expected (scenario, step, asset), got {log_return.shape}"
            )
        if log_return.shape[0] < scenarios or log_return.shape[1] < steps:
            raise ValueError(
                f"log_return: {log_return.shape[0]} scenarios of {log_return.shape[1]} steps do "
                f"not cover {scenarios} scenarios of {steps} steps"
            )
        return cls(log_return=log_return)

    def init(self) -> tuple[()]:
        """Return no state: the step index says which row is next."""
        return ()

    def noise(
        self, key: Key[Array, ""], scenario: Int[Array, ""], step: Int[Array, ""]
    ) -> Float[Array, " asset"]:
        """Return the row of this scenario and step."""
        return self.log_return.at[scenario, step].get(mode="fill", fill_value=jnp.nan)

    def advance(
        self, state: tuple[()], noise: Float[Array, " asset"], step_years: float | Array
    ) -> tuple[tuple[()], Move]:
        """Return the row as a move; the table is taken to be one step apart."""
        return state, Move(log_return=noise, log_reference_return=noise)


def _poisson_quantile(arrival: Float[Array, ""], mean: Float[Array, ""]) -> Float[Array, ""]:
    """Return the Poisson count whose upper tail holds `arrival`, by inversion.

    Counts k with P(N > k) > arrival. Tail sums are added from the small end, so that two jumps in
    an hour keep their probability in float32.
    """
    mean = lax.stop_gradient(mean)
    counts = jnp.arange(1, _MOST_JUMPS + 1, dtype=mean.dtype)
    probability = jnp.exp(-mean) * jnp.cumprod(mean / counts)
    more = lax.cumsum(probability, reverse=True)
    return jnp.sum((arrival < more).astype(mean.dtype))
