"""Factor, test and repair of correlation matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.market.correlation import (
    correlation_factor,
    nearest_correlation,
    smallest_eigenvalue,
    uniform_correlation,
)
from tests.helpers import assert_close

# Higham 2002, section 4: the matrix that shows clipping is not nearest, and its repair.
HIGHAM = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
HIGHAM_NEAREST = np.array([[1.0, 0.7607, 0.1573], [0.7607, 1.0, 0.7607], [0.1573, 0.7607, 1.0]])


def random_correlation(rng, assets, factors):
    loadings = rng.normal(size=(assets, factors))
    loadings /= np.linalg.norm(loadings, axis=1, keepdims=True)
    return loadings @ loadings.T


def clipped(matrix):
    values, vectors = np.linalg.eigh(matrix)
    positive = (vectors * np.maximum(values, 0.0)) @ vectors.T
    scale = np.sqrt(np.diag(positive))
    return positive / np.outer(scale, scale)


def test_factor_is_cholesky_where_that_exists():
    matrix = random_correlation(np.random.default_rng(1), 5, 7)
    factor = jax.jit(correlation_factor)(jnp.asarray(matrix))
    assert_close(factor, np.linalg.cholesky(matrix), rtol=0.0, atol=1e-14)


@pytest.mark.parametrize(
    "matrix",
    [
        np.ones((3, 3)),
        np.array([[1.0, -1.0], [-1.0, 1.0]]),
        np.asarray(uniform_correlation(3, -0.5)),
        random_correlation(np.random.default_rng(2), 6, 2),
    ],
    ids=["all one", "minus one", "lower limit", "two factors"],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float64, 1e-12), (jnp.float32, 1e-5)])
def test_factor_of_a_singular_matrix(matrix, dtype, tolerance):
    factor = np.asarray(correlation_factor(jnp.asarray(matrix, dtype)), dtype=np.float64)
    np.testing.assert_array_equal(factor, np.tril(factor))
    assert_close(factor @ factor.T, matrix, rtol=0.0, atol=tolerance)


def test_factor_derivative_in_the_correlation_is_the_closed_form():
    rho = 0.6
    slope = jax.jacfwd(lambda r: correlation_factor(uniform_correlation(2, r)))(rho)
    expected = np.array([[0.0, 0.0], [1.0, -rho / np.sqrt(1 - rho**2)]])
    assert_close(slope, expected, rtol=0.0, atol=1e-14)


def test_factor_derivative_reverse_equals_forward_equals_differences():
    matrix = jnp.asarray(random_correlation(np.random.default_rng(3), 4, 6))
    weights = jnp.asarray(np.random.default_rng(4).normal(size=(4, 4)))
    direction = jnp.asarray(np.tril(np.random.default_rng(5).normal(size=(4, 4)), -1))

    def value(entries):
        return jnp.sum(weights * correlation_factor(entries))

    reverse = jnp.sum(jax.grad(value)(matrix) * direction)
    forward = jax.jvp(value, (matrix,), (direction,))[1]
    step = 1e-6
    difference = (value(matrix + step * direction) - value(matrix - step * direction)) / (2 * step)
    assert_close(reverse, forward, rtol=1e-12, atol=0.0)
    assert_close(forward, difference, rtol=1e-7, atol=0.0)


def test_factor_derivative_is_finite_at_full_correlation():
    slope = jax.jacrev(lambda r: correlation_factor(uniform_correlation(3, r)))(1.0)
    assert np.isfinite(slope).all()


def test_uniform_correlation_and_its_smallest_eigenvalue():
    matrix = uniform_correlation(4, 0.6)
    assert matrix.shape == (4, 4)
    assert_close(smallest_eigenvalue(matrix), 0.4, rtol=1e-12, atol=0.0)
    assert_close(smallest_eigenvalue(uniform_correlation(4, -0.5)), -0.5, rtol=1e-12, atol=0.0)
    assert_close(uniform_correlation(2, 1), np.ones((2, 2)), rtol=0.0, atol=0.0)


def test_repair_reproduces_the_published_example():
    repaired, change = nearest_correlation(HIGHAM)
    assert_close(repaired, HIGHAM_NEAREST, rtol=0.0, atol=5e-5)
    assert_close(np.linalg.norm(repaired - HIGHAM), 0.5278, rtol=0.0, atol=5e-5)
    assert_close(change, 1.0 - 0.7607, rtol=0.0, atol=5e-5)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("assets", [5, 8])
def test_repair_is_a_correlation_matrix_and_the_nearest(seed, assets):
    rng = np.random.default_rng(seed)
    noise = rng.uniform(-1.0, 1.0, size=(assets, assets))
    # Entries pushed towards ±1 without regard to each other: no set of returns has them.
    matrix = np.cbrt(0.5 * (noise + noise.T))
    np.fill_diagonal(matrix, 1.0)
    assert smallest_eigenvalue(matrix) < -1e-3

    repaired, change = nearest_correlation(matrix)
    assert smallest_eigenvalue(repaired) > -1e-14
    np.testing.assert_array_equal(np.diag(repaired), 1.0)
    np.testing.assert_array_equal(repaired, repaired.T)
    assert_close(change, np.abs(repaired - matrix).max(), rtol=0.0, atol=0.0)
    assert np.linalg.norm(repaired - matrix) < np.linalg.norm(clipped(matrix) - matrix)
    # A projection onto a convex set: no member lies at an acute angle beyond it.
    for factors in range(1, 50):
        member = random_correlation(rng, assets, factors)
        assert np.sum((matrix - repaired) * (member - repaired)) < 1e-7


def test_repair_leaves_a_correlation_matrix_alone():
    matrix = random_correlation(np.random.default_rng(6), 5, 3)
    repaired, change = nearest_correlation(matrix)
    assert_close(repaired, matrix, rtol=0.0, atol=1e-12)
    assert change < 1e-12
