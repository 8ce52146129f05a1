"""The normal distribution against a power series in decimals, in both precisions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.numerics.normal import mills_ratio, normal_cdf, normal_density, normal_quantile
from tests import reference_normal as reference
from tests.helpers import assert_close

DTYPES = (np.float64, np.float32)
LOWEST = {np.float64: -37.4, np.float32: -12.8}
SMALLEST = {np.float64: 1e-300, np.float32: 1e-36}
# Worst found over some thousand points: 1.8, 3.1 and 2.0 units in the last place.
UNITS = {"density": 3.0, "cdf": 5.0, "quantile": 4.0}
EDGES = (-np.inf, -1e30, -64.5, -38.0, -13.0, -1e-30, 0.0, 1e-30, 13.0, 38.0, 64.5, 1e30, np.inf)


def points(dtype):
    """Return abscissae over the whole range where the tail is a normal number."""
    low = LOWEST[dtype]
    close = (-1e-3, -1e-12, 1e-12, 1e-3, 0.5, 1.0, 3.0, 5.0, 8.0)
    return np.concatenate([np.linspace(low, -low, 41), close]).astype(dtype)


def probabilities(dtype):
    tiny = np.geomspace(SMALLEST[dtype], 0.2, 12)
    middle = (0.0749, 0.0751, 0.3, 0.4999, 0.5001, 0.7, 0.9249, 0.9251)
    return np.concatenate([tiny, middle, 1 - np.geomspace(1e-6, 0.2, 6)]).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("function", "exact", "name"),
    [
        (normal_density, reference.density, "density"),
        (normal_cdf, reference.cdf, "cdf"),
        (normal_quantile, reference.quantile, "quantile"),
    ],
    ids=list(UNITS),
)
def test_values_are_good_to_the_last_places(function, exact, name, dtype):
    x = probabilities(dtype) if name == "quantile" else points(dtype)
    expected = np.array([float(exact(float(value))) for value in x])
    actual = np.asarray(jax.jit(function)(x), np.float64)
    assert_close(actual, expected, rtol=UNITS[name] * np.finfo(dtype).eps, atol=0.0)


def test_the_reference_is_what_the_standard_library_has():
    from math import erfc, sqrt

    for x in (-37.0, -5.0, -0.3, 0.0, 2.0):
        assert_close(float(reference.cdf(x)), 0.5 * erfc(-x / sqrt(2)), rtol=1e-12, atol=0.0)
    assert_close(reference.quantile(0.975), 1.959963984540054, rtol=1e-15, atol=0.0)


def test_the_whole_line_agrees_with_scipy():
    special = pytest.importorskip("scipy.special")
    x = np.linspace(-37.4, 37.4, 200_001)
    # SciPy rounds x / sqrt(2) first, which costs it x^2 / 2 units in the tail.
    assert_close(normal_cdf(x), special.ndtr(x), rtol=1e-12, atol=0.0)
    p = np.linspace(0, 1, 100_002)[1:-1]
    assert_close(normal_quantile(p), special.ndtri(p), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_tails_are_symmetric_and_the_mills_ratio_falls_like_the_inverse(dtype):
    x = points(dtype)
    eps = np.finfo(dtype).eps
    assert_close(normal_cdf(x) + normal_cdf(-x), np.ones_like(x), rtol=eps, atol=0.0)
    far = np.array([1e3, 1e6, 1e20], dtype)
    assert_close(far[:2] * mills_ratio(jnp.asarray(far))[:2], [1, 1], rtol=2e-5, atol=0.0)
    assert np.isfinite(mills_ratio(jnp.asarray(far))).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_edges_have_values_and_finite_derivatives_of_two_orders(dtype):
    x = np.array(EDGES, dtype)
    assert_close(normal_cdf(x)[jnp.array([0, 1, 6, -2, -1])], [0, 0, 0.5, 1, 1], rtol=0, atol=0)
    for function in (normal_density, normal_cdf):
        slope = jax.grad(function)
        assert np.isfinite(jax.jit(jax.vmap(slope))(x)).all()
        assert np.isfinite(jax.jit(jax.vmap(jax.grad(slope)))(x)).all()
    p = np.array([0.0, SMALLEST[dtype], 0.5, 1.0], dtype)
    assert normal_quantile(p)[jnp.array([0, 2, 3])].tolist() == [-np.inf, 0.0, np.inf]
    slopes = jax.vmap(jax.grad(normal_quantile))(p)
    assert np.isfinite(slopes).all()
    assert_close(slopes[jnp.array([0, 3])], [0, 0], rtol=0, atol=0)
    outside = np.array([-1e-9, 1.0000001, np.nan], dtype)
    assert np.isnan(normal_quantile(outside)).all()
    assert np.isnan(normal_cdf(np.array([np.nan], dtype))).all()


def test_derivatives_of_three_orders_are_those_of_the_functions():
    x = jnp.linspace(-6.0, 6.0, 25)
    density = np.asarray(normal_density(x))
    first, second = jax.grad(normal_cdf), jax.grad(jax.grad(normal_cdf))
    assert_close(jax.vmap(first)(x), density, rtol=1e-14, atol=0.0)
    assert_close(jax.vmap(second)(x), -x * density, rtol=1e-14, atol=0.0)
    third = jax.vmap(jax.grad(second))(x)
    assert_close(third, (x**2 - 1) * density, rtol=1e-13, atol=1e-17)
    p = normal_cdf(x[:13])
    slope, bend = jax.grad(normal_quantile), jax.grad(jax.grad(normal_quantile))
    assert_close(jax.vmap(slope)(p), 1 / density[:13], rtol=1e-13, atol=0.0)
    assert_close(jax.vmap(bend)(p), x[:13] / density[:13] ** 2, rtol=1e-12, atol=1e-12)
