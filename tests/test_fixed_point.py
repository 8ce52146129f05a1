"""Fixed points: closed forms, the greatest of several, the bound, derivatives of both modes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.numerics.fixed_point import fixed_point
from tests.helpers import assert_close

RNG = np.random.default_rng(3)
COUPLING = RNG.uniform(0.0, 0.3, (3, 3))
SOURCE = RNG.uniform(1.0, 2.0, 3)


def affine(coupling, source, limit=500):
    return fixed_point(lambda x: coupling @ x + source, jnp.full(3, 50.0), limit=limit)


def test_an_affine_map_ends_at_the_solution_of_its_linear_system():
    found = affine(jnp.asarray(COUPLING), jnp.asarray(SOURCE))
    assert bool(found.converged)
    assert_close(found.value, np.linalg.solve(np.eye(3) - COUPLING, SOURCE), rtol=1e-13, atol=0.0)


def test_derivatives_are_those_of_the_linear_system_in_both_modes():
    # x = (I - M)^-1 s: dx/ds = (I - M)^-1, and dx_i/dM_jk = (I - M)^-1_ij x_k.
    inverse = np.linalg.inv(np.eye(3) - COUPLING)
    value = inverse @ SOURCE
    for mode in (jax.jacfwd, jax.jacrev):
        by_coupling, by_source = mode(lambda m, s: affine(m, s).value, argnums=(0, 1))(
            jnp.asarray(COUPLING), jnp.asarray(SOURCE)
        )
        assert_close(by_source, inverse, rtol=1e-12, atol=1e-14)
        assert_close(by_coupling, inverse[:, :, None] * value, rtol=1e-12, atol=1e-14)


@given(a=st.floats(0.05, 0.9))
def test_kepler_s_equation_and_its_derivative(a):
    # x = 1 + a sin x: dx/da = sin x / (1 - a cos x).
    solve = jax.jit(
        lambda a: fixed_point(lambda x: 1.0 + a * jnp.sin(x), jnp.array(2.0), limit=999)
    )
    found = solve(jnp.asarray(a))
    x = float(found.value)
    assert bool(found.converged)
    assert_close(x, 1.0 + a * np.sin(x), rtol=1e-13, atol=0.0)
    slope = jax.grad(lambda a: solve(a).value)(jnp.asarray(a))
    assert_close(slope, np.sin(x) / (1.0 - a * np.cos(x)), rtol=1e-11, atol=0.0)
    h = 1e-6
    bump = (solve(jnp.asarray(a + h)).value - solve(jnp.asarray(a - h)).value) / (2 * h)
    assert_close(slope, bump, rtol=1e-6, atol=1e-9)


def test_from_above_a_monotone_map_ends_at_its_greatest_fixed_point():
    # x = x^2 (3 - 2 x) has the fixed points 0, 1/2 and 1; started at 0.49 it ends at 0.
    update = lambda x: x**2 * (3.0 - 2.0 * x)
    assert_close(fixed_point(update, jnp.array(1.0), limit=50).value, 1.0, rtol=0.0, atol=0.0)
    below = fixed_point(update, jnp.array(0.49), limit=50)
    assert_close(below.value, 0.0, rtol=0.0, atol=1e-12)


def test_the_bound_is_kept_and_said():
    short = affine(jnp.asarray(COUPLING), jnp.asarray(SOURCE), limit=3)
    assert (int(short.rounds), bool(short.converged)) == (3, False)
    assert float(short.residual) > 1e-3
    endless = fixed_point(lambda x: 2.0 * x, jnp.array(1.0), limit=20)
    assert not bool(endless.converged)
    lost = fixed_point(lambda x: x * jnp.nan, jnp.array(1.0), limit=20)
    assert not bool(lost.converged)


def test_what_stays_put_takes_one_round():
    still = fixed_point(lambda x: x, jnp.array([3.0, 0.0]), limit=9)
    assert (int(still.rounds), float(still.residual), bool(still.converged)) == (1, 0.0, True)


def test_trees_and_batches():
    def solve(a):
        update = lambda x: {"u": 0.5 * x["v"] + a, "v": 0.5 * x["u"]}
        return fixed_point(update, {"u": jnp.zeros(()), "v": jnp.ones(())}, limit=200)

    # u = v/2 + a, v = u/2: u = 4 a / 3. The fastest of a batch waits for the slowest unchanged,
    # and what falls to zero arrives there.
    a = jnp.array([0.0, 1.0, 7.0])
    found = jax.vmap(solve)(a)
    assert found.converged.all()
    assert_close(found.value["u"], 4.0 * a / 3.0, rtol=1e-13, atol=1e-14)
    slope = jax.vmap(jax.grad(lambda a: solve(a).value["v"]))(a)
    assert_close(slope, np.full(3, 2.0 / 3.0), rtol=1e-13, atol=0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_precision_is_that_of_the_start(dtype):
    found = fixed_point(lambda x: 0.9 * x + 1.0, jnp.asarray([20.0], dtype), limit=1000)
    assert found.value.dtype == dtype
    assert bool(found.converged)
    # A last move of eight roundings of the start, 20, leaves up to 160 / (1 - 0.9) of them.
    assert_close(found.value, [10.0], rtol=160 * float(np.finfo(dtype).eps), atol=0.0)
