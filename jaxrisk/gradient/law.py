"""The law of a system's prices, as far as it is normal, and the score of its draws."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.market.correlation import correlation_factor, smallest_eigenvalue
from jaxrisk.market.paths import Gbm, JumpDiffusion, Pegged
from jaxrisk.market.shock import ParametrisedShock
from jaxrisk.system.system import System

# A correlation matrix nearer to singular than this has no density worth dividing by.
_FLATTEST = 1e-6


def gaussian_part(paths: Any) -> Gbm | None:
    """Return the diffusion in a path model, at the volatility it is played with; `None` if none."""
    if isinstance(paths, Gbm):
        return paths
    if isinstance(paths, JumpDiffusion):
        return paths.diffusion
    if isinstance(paths, ParametrisedShock):
        own = paths.diffusion
        return dataclasses.replace(own, volatility=own.volatility * paths.volatility_multiplier)
    return gaussian_part(paths.base) if isinstance(paths, Pegged) else None


def gaussian_draws(paths: Any, noise: Any) -> Float[Array, "*step asset"]:
    """Return the diffusion's normals among a path model's draws."""
    if isinstance(paths, Gbm):
        return noise
    own = noise[0]
    return gaussian_draws(paths.base, own) if isinstance(paths, Pegged) else own


def volatile_assets(system: System) -> np.ndarray:
    """Return the assets whose moves have a density of their own; needs concrete numbers.

    Pegged assets follow another one and assets without volatility stand still. None where the
    correlation of the others is singular, or nothing diffuses.
    """
    diffusion = gaussian_part(system.paths)
    if diffusion is None:
        return np.zeros(0, np.intp)
    moves = np.asarray(diffusion.volatility) > 0
    if isinstance(system.paths, Pegged):
        moves &= np.asarray(system.paths.underlying) < 0
    assets = np.flatnonzero(moves)
    factor = np.asarray(diffusion.factor, np.float64)
    correlation = (factor @ factor.T)[np.ix_(assets, assets)]
    if assets.size and smallest_eigenvalue(correlation) < _FLATTEST:
        return np.zeros(0, np.intp)
    return assets


def log_density(
    diffusion: Gbm,
    log_return: Float[Array, "step asset"],
    step_years: Float[Array, ""],
    assets: np.ndarray,
) -> Float[Array, ""]:
    """Return the log density of a path's diffusive moves, up to a constant.

    Args:
        diffusion: the law.
        log_return: moves of all assets, constants.
        step_years: length of a step.
        assets: those whose moves count, from `volatile_assets`.
    """
    deviation = (diffusion.volatility * jnp.sqrt(step_years))[assets]
    mean = ((diffusion.drift - 0.5 * diffusion.volatility**2) * step_years)[assets]
    correlation = jnp.matmul(diffusion.factor, diffusion.factor.T, precision="highest")
    factor = correlation_factor(correlation[np.ix_(assets, assets)])
    standard = (log_return[:, assets] - mean[None, :]) / deviation[None, :]
    z = jax.scipy.linalg.solve_triangular(factor, standard.T, lower=True)
    each = jnp.sum(jnp.log(deviation)) + jnp.sum(jnp.log(jnp.diagonal(factor)))
    return -0.5 * jnp.sum(z**2) - log_return.shape[0] * each


def moves_of(
    diffusion: Gbm, draws: Float[Array, "step asset"], step_years: Float[Array, ""]
) -> Float[Array, "step asset"]:
    """Return the diffusive log returns that normals make."""
    one = lambda draw: diffusion.advance((), draw, step_years)[1].log_return
    return jax.lax.stop_gradient(jax.vmap(one)(draws))
