"""The trigger: exact, or smooth with a stated width and no tails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.numerics.gate import gate, positive_or_one, smaller
from tests.helpers import assert_close

WIDTH = jnp.array(0.02)


def test_the_exact_gate_opens_strictly_above_zero():
    excess = jnp.array([-1.0, -1e-300, 0.0, 1e-300, 1.0, jnp.inf])
    assert gate(excess, jnp.ones(6), None).tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]


def test_the_smooth_gate_rises_from_minus_to_plus_its_width():
    scale = 1e4
    excess = scale * np.array([-1.0, -0.02, -0.01, 0.0, 0.01, 0.02, 1.0])
    # 3 t^2 - 2 t^3 at quarters: 0.15625 and 0.84375.
    expected = [0.0, 0.0, 0.15625, 0.5, 0.84375, 1.0, 1.0]
    actual = gate(jnp.asarray(excess), jnp.full(7, scale), WIDTH)
    assert_close(actual, expected, rtol=1e-12, atol=0.0)


def test_it_is_symmetric_monotone_and_has_no_slope_at_its_ends():
    excess = jnp.linspace(-0.05, 0.05, 401)
    ones = jnp.ones_like(excess)
    rise = gate(excess, ones, WIDTH)
    assert (np.diff(rise) >= 0).all()
    assert_close(rise + rise[::-1], np.ones(401), rtol=1e-12, atol=0.0)
    slope = jax.vmap(jax.grad(lambda x: gate(x, jnp.ones(()), WIDTH)))
    ends = slope(jnp.array([-0.03, -0.02, 0.02, 0.03]))
    assert_close(ends, np.zeros(4), rtol=0.0, atol=1e-10)
    # The rise is 1 in all: its slope integrates to that.
    assert_close(np.trapezoid(slope(excess), excess), 1.0, rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("excess", [-0.5, -0.021, 0.021, 0.5])
def test_beyond_its_width_it_is_the_exact_gate(excess):
    x, one = jnp.array(excess), jnp.ones(())
    assert float(gate(x, one, WIDTH)) == float(gate(x, one, None))


@pytest.mark.parametrize("excess", [-1.0, 0.0, 1.0])
def test_without_scale_it_is_shut_and_flat(excess):
    value, slope = jax.value_and_grad(lambda x: gate(x, jnp.zeros(()), WIDTH))(jnp.array(excess))
    assert (float(value), float(slope)) == (0.0, 0.0)


def test_denominators_and_minima():
    assert positive_or_one(jnp.array([2.0, 0.0, -3.0])).tolist() == [2.0, 1.0, 1.0]
    assert smaller(jnp.array([1.0, 5.0]), jnp.array([2.0, 4.0])).tolist() == [1.0, 4.0]
