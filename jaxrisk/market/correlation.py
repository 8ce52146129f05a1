"""Correlation matrices: factor, test, repair."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

_ITERATIONS = 10_000


def correlation_factor(
    correlation: Float[Array, "asset asset"],
) -> Float[Array, "asset asset"]:
    """Return the lower-triangular L with L Lᵀ = correlation.

    Cholesky, column by column. A pivot that is zero to rounding gets a zero column, which is exact
    for a positive semidefinite matrix: assets that are multiples of earlier ones (correlation 1)
    need no jitter and give no NaN. Only the lower triangle is read, so the derivative in entry
    (i, j), i > j, is that of moving the pair; where a pivot is zero it is taken as zero, for the
    true one is one-sided and infinite.

    Args:
        correlation: positive semidefinite; of another matrix (see `smallest_eigenvalue`) the
            result is not a factor.
    """
    assets = correlation.shape[0]
    tolerance = assets * jnp.finfo(correlation.dtype).eps
    rows = jnp.arange(assets)

    def add_column(column: Array, factor: Array) -> Array:
        # Columns from `column` on are still zero, so the full products are the partial ones.
        explained = jnp.matmul(factor, factor[column], precision=lax.Precision.HIGHEST)
        rest = correlation[:, column] - explained
        pivot = rest[column]
        positive = pivot > tolerance
        root = jnp.sqrt(jnp.where(positive, pivot, 1))
        entries = jnp.where((rows >= column) & positive, rest / root, 0)
        return factor.at[:, column].set(entries)

    return lax.fori_loop(0, assets, add_column, jnp.zeros_like(correlation))


def uniform_correlation(assets: int, correlation: float | Float[Array, ""]) -> Float[Array, "n n"]:
    """Return the matrix with one correlation between all pairs; differentiable in it.

    Positive semidefinite for correlations in [-1 / (assets - 1), 1].
    """
    off_diagonal = jnp.asarray(correlation)
    if not jnp.issubdtype(off_diagonal.dtype, jnp.floating):
        off_diagonal = off_diagonal.astype(jnp.result_type(float))
    one = jnp.ones_like(off_diagonal)
    return jnp.where(jnp.eye(assets, dtype=bool), one, off_diagonal)


def smallest_eigenvalue(matrix: Float[np.ndarray | Array, "n n"]) -> float:
    """Return the smallest eigenvalue of the symmetric part, in float64 on the host.

    Below about -1e-12 times the size of the matrix it says that no set of returns can have these
    correlations; `nearest_correlation` then offers some that can.
    """
    return float(np.linalg.eigvalsh(_symmetric(matrix))[0])


def nearest_correlation(
    matrix: Float[np.ndarray | Array, "n n"], *, tolerance: float = 1e-10
) -> tuple[Float[np.ndarray, "n n"], float]:
    """Return the correlation matrix nearest in Frobenius norm, and the largest entry change.

    Alternating projections onto the positive semidefinite and the unit-diagonal matrices with
    Dykstra's correction (Higham 2002, IMA J. Numer. Anal. 22, algorithm 3.3), until an iteration
    moves no entry by more than `tolerance`. A last scaling makes both properties hold to rounding.

    Args:
        matrix: square and finite; its symmetric part is used.
        tolerance: largest entry change of the last iteration.
    """
    start = _symmetric(matrix)
    current = start
    correction = np.zeros_like(start)
    for _ in range(_ITERATIONS):
        shifted = current - correction
        projected = _positive_part(shifted)
        correction = projected - shifted
        following = projected.copy()
        np.fill_diagonal(following, 1.0)
        moved = np.abs(following - current).max()
        current = following
        if moved <= tolerance:
            break
    scaled = _positive_part(current)
    scale = np.sqrt(np.diag(scaled))
    repaired = scaled / np.outer(scale, scale)
    np.fill_diagonal(repaired, 1.0)
    return repaired, float(np.abs(repaired - start).max())


def _symmetric(matrix: np.ndarray | jax.Array) -> np.ndarray:
    host = np.asarray(matrix, dtype=np.float64)
    return 0.5 * (host + host.T)


def _positive_part(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    clipped = (vectors * np.maximum(values, 0.0)) @ vectors.T
    return 0.5 * (clipped + clipped.T)
