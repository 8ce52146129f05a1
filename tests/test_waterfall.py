"""The waterfall: who pays for bad debt, in which order, and what is left."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxrisk.venue.waterfall import Capacity, Loss, pay_in_order
from tests import reference
from tests.helpers import assert_close

MONEY = st.one_of(st.just(0.0), st.floats(1e-3, 1e12))
CAPACITIES = st.lists(MONEY, min_size=3, max_size=3)


def ordered_payment(loss, capacity):
    """Return what each of some capacities pays, and what is left unpaid."""
    one = jnp.ones(1, loss.dtype)
    settled = pay_in_order(
        (Capacity(),) * capacity.shape[0],
        Loss.opening(loss * one, loss, one),
        capacity,
        jnp.zeros_like(capacity),
        one,
    )
    return settled.paid, settled.loss.left


@given(loss=MONEY, capacities=CAPACITIES)
def test_payments_are_those_of_the_reference(loss, capacities):
    paid, left = ordered_payment(jnp.array(loss), jnp.array(capacities))
    expected, residual = reference.waterfall(loss, capacities)
    scale = 1e-15 * (loss + sum(capacities))
    assert_close(paid, expected, rtol=1e-12, atol=scale)
    assert_close(left, residual, rtol=1e-12, atol=scale)


@pytest.mark.parametrize(("dtype", "rounding"), [(np.float32, 1e-6), (np.float64, 1e-14)])
@given(loss=MONEY, capacities=CAPACITIES)
@example(loss=6e4, capacities=[54_001.7, 5e8, 0.0])
def test_everything_is_paid_once_in_order_and_within_capacity(dtype, rounding, loss, capacities):
    loss, capacities = dtype(loss), np.array(capacities, dtype)
    paid, left = (
        np.asarray(x) for x in ordered_payment(jnp.asarray(loss), jnp.asarray(capacities))
    )
    # To rounding of the loss: a large fund behind must not blur what a small one in front pays.
    slack = rounding * float(loss)
    assert (paid >= 0).all()
    assert (paid <= capacities).all()
    assert left >= -slack
    assert abs(float(paid.sum(dtype=np.float64)) + float(left) - float(loss)) <= slack
    for k in range(2):
        if paid[k + 1] > slack:
            assert paid[k] >= capacities[k] - slack
    if left > slack:
        assert (paid >= capacities - slack).all()


@given(loss=st.floats(0.0, 1e9), capacities=CAPACITIES, more=st.floats(0.0, 1e9))
def test_more_capacity_never_leaves_more(loss, capacities, more):
    _, left = ordered_payment(jnp.array(loss), jnp.array(capacities))
    for k in range(3):
        larger = [c + more * (k == j) for j, c in enumerate(capacities)]
        _, after = ordered_payment(jnp.array(loss), jnp.array(larger))
        assert float(after) <= float(left) + 1e-12 * (sum(larger) + loss)


def test_a_fund_without_limit_pays_what_is_left():
    paid, left = ordered_payment(jnp.array(5.0), jnp.array([1.0, jnp.inf]))
    assert paid.tolist() == [1.0, 4.0]
    assert float(left) == 0.0


def test_derivatives_say_who_pays_the_next_unit():
    capacity = jnp.array([10.0, 5.0])
    payers = [jax.jacrev(ordered_payment)(jnp.array(x), capacity) for x in (3.0, 12.0, 40.0)]
    assert [paid.tolist() for paid, _ in payers] == [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    assert [float(left) for _, left in payers] == [0.0, 0.0, 1.0]
