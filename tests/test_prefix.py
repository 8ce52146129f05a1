"""Sums over what comes first, against a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.numerics.prefix import amount_ahead, served
from tests.helpers import assert_close

AMOUNTS = st.lists(st.integers(0, 1000), min_size=6, max_size=6)
ORDERS = st.lists(st.sampled_from([-np.inf, 0.0, 1.0, 2.0, np.inf]), min_size=6, max_size=6)


@given(amount=AMOUNTS, order=ORDERS, supply=st.integers(0, 4000))
def test_first_come_first_served(amount, order, supply):
    ahead, got, left = np.zeros(6), np.zeros(6), float(supply)
    for n in sorted(range(6), key=lambda n: (order[n], n)):
        ahead[n] = supply - left if left else np.nan
        got[n] = min(left, amount[n])
        left -= got[n]
    values = jnp.array(amount, float), jnp.array(order)
    assert served(*values, jnp.array(float(supply))).tolist() == got.tolist()
    known = np.isfinite(ahead)
    assert amount_ahead(*values)[known].tolist() == ahead[known].tolist()


@pytest.mark.slow
def test_single_precision_keeps_its_type():
    got = served(jnp.ones(3, np.float32), jnp.arange(3, dtype=np.float32), jnp.float32(1.5))
    assert got.dtype == np.float32
    assert got.tolist() == [1.0, 0.5, 0.0]


def test_one_more_unit_of_supply_goes_to_the_one_at_the_margin():
    amount, order = jnp.array([3.0, 2.0, 4.0]), jnp.array([2.0, 0.0, 1.0])
    slope = jax.jacobian(lambda s: served(amount, order, s))(jnp.array(3.0))
    assert_close(slope, [0.0, 0.0, 1.0], rtol=0.0, atol=0.0)
    # At the end of an entry, and beyond all of them, derivatives are one-sided but finite.
    for supply in (2.0, 9.0, 10.0):
        slope = jax.jacobian(lambda s: served(amount, order, s))(jnp.array(supply))
        assert np.isfinite(slope).all()
