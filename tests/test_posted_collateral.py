"""Collateral in other assets: what it counts for, and how much of it is sold."""

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.haircut import Slice, TieredHaircut
from jaxrisk.venue.posted_collateral import PostedCollateral
from tests.helpers import assert_close

SLICES = {"a": [Slice(0.0, 0.9), Slice(50.0, 0.4)], "b": [Slice(0.0, 0.8)]}
PRICE = np.array([2.0, 5.0])
sold = jax.jit(PostedCollateral.sold)
amounts = st.floats(0.0, 1e3)


def rule(allowance=0.0, buffer=0.0):
    number = lambda x: jnp.asarray(x, float)
    return PostedCollateral(
        haircut=TieredHaircut.from_slices(SLICES),
        allowance=number(allowance),
        buffer=number(buffer),
    )


def test_holdings_count_by_slices():
    units = jnp.asarray([[10.0, 40.0], [1.0, 3.0]])
    counted = rule().counted(units, jnp.asarray(PRICE))
    assert_close(counted, [18.0 + 4.0, 45.0 + 12.0 + 12.0], rtol=1e-12, atol=0.0)


@given(
    balance=st.floats(-1e4, 1e4),
    first=amounts,
    second=amounts,
    allowance=st.floats(0.0, 100.0),
    buffer=st.floats(0.0, 0.5),
)
def test_so_much_is_sold_that_nothing_is_owed(balance, first, second, allowance, buffer):
    units = np.array([[first], [second]])
    share = float(sold(rule(allowance, buffer), jnp.asarray([balance]), units, PRICE)[0])
    worth = float(PRICE @ units[:, 0])
    if -balance <= allowance or worth == 0:
        assert share == 0
        return
    assert 0 < share <= 1
    after = balance + share * worth
    if share < 1:
        assert_close(after, -balance * buffer, rtol=1e-9, atol=1e-9 * abs(balance))
    else:
        assert after <= -balance * buffer + 1e-9 * abs(balance)
