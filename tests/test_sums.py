"""Sums of what comes before."""

import jax.numpy as jnp

from jaxrisk.numerics.sums import sum_before
from tests.helpers import assert_close


def test_a_row_that_dwarfs_those_before_it_does_not_lose_them():
    values = jnp.array([[1.0, 2.0], [0.5, 1e30], [4.0, 3.0]])
    expected = [[0.0, 0.0], [1.0, 2.0], [1.5, 1e30]]
    assert_close(sum_before(values), expected, rtol=1e-15, atol=0.0)
    assert_close(sum_before(jnp.array([7.0])), [0.0], rtol=0.0, atol=0.0)
