"""Powers with finite derivatives at zero."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.numerics.smooth import safe_sqrt
from tests.helpers import assert_close

POINTS = np.array([-4.0, -1e-300, 0.0, 1e-300, 1e-12, 0.25, 1.0, 1e30])


def test_it_is_the_root_of_the_positive_part():
    actual = safe_sqrt(jnp.asarray(POINTS))
    assert_close(actual, np.sqrt(np.maximum(POINTS, 0.0)), rtol=1e-15, atol=0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_derivatives_are_finite_and_equal_in_both_modes(dtype):
    points = jnp.asarray(POINTS[1:-1], dtype)
    forward = jax.vmap(lambda x: jax.jvp(safe_sqrt, (x,), (jnp.ones_like(x),))[1])(points)
    reverse = jax.vmap(jax.grad(safe_sqrt))(points)
    assert forward.dtype == dtype
    np.testing.assert_array_equal(forward, reverse)
    expected = [0.5 / np.sqrt(x) if x > 0 else 0.0 for x in np.asarray(points)]
    assert_close(reverse, np.asarray(expected, dtype), rtol=1e-6, atol=0.0)


def test_zero_times_its_slope_is_zero_where_the_plain_root_is_not_a_number():
    assert float(jax.grad(lambda x: safe_sqrt(0.0 * x))(jnp.array(3.0))) == 0.0
    assert np.isnan(jax.grad(lambda x: jnp.sqrt(0.0 * x))(jnp.array(3.0)))


def test_second_derivatives_exist():
    curvature = jax.grad(jax.grad(safe_sqrt))
    assert_close(curvature(jnp.array(4.0)), -1.0 / 32.0, rtol=1e-14, atol=0.0)
    assert float(curvature(jnp.array(0.0))) == 0.0
