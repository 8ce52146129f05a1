"""Debts by index: what is owed survives re-basing, repayments go in order and add up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.indexed_debt import IndexedDebt
from tests.helpers import assert_close

TOLERANCE = {np.float32: {"rtol": 1e-5, "atol": 0.02}, np.float64: {"rtol": 1e-11, "atol": 1e-8}}
PRINCIPALS = st.one_of(st.just(0.0), st.floats(1.0, 1e4))
INDICES = st.floats(1.0, 1.5)
GROWTH = st.floats(1.0, 1.5)
QUOTAS = st.one_of(st.just(0.0), st.floats(0.01, 500.0))
SHARES = st.floats(0.0, 0.5)


def debt(principal, index=1.0, quota_interest=0.0, quota_fees=0.0, dtype=np.float64):
    one = lambda x: jnp.asarray([x], dtype)
    return IndexedDebt(
        principal=one(principal), index=one(index), quota_interest=one(quota_interest),
        quota_fees=one(quota_fees),
    )  # fmt: skip


def reference(principal, growth, quota_interest, quota_fees, amount, share):
    """Return (principal, interest owed, quota interest, quota fees, fee) after paying in order."""
    fee = min(amount, quota_fees)
    quota_fees, amount = quota_fees - fee, amount - fee
    left = []
    for owed in (quota_interest, principal * (growth - 1.0)):
        # Interest and the protocol's cut on top of it are paid in one proportion.
        part = min(amount, owed * (1.0 + share))
        left.append(owed - part / (1.0 + share))
        fee += part - part / (1.0 + share)
        amount -= part
    return principal - amount, left[1], left[0], quota_fees, fee


_repay, _draw = jax.jit(IndexedDebt.repay), jax.jit(IndexedDebt.draw)


@given(
    principal=st.floats(1.0, 1e4),
    index=INDICES,
    growth=GROWTH,
    quota=QUOTAS,
    fees=QUOTAS,
    share=SHARES,
    part=st.floats(0.0, 1.0),
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_repayment_is_that_of_the_reference(
    dtype, principal, index, growth, quota, fees, share, part
):
    now = index * growth
    owed = principal + (1.0 + share) * (principal * (growth - 1.0) + quota) + fees
    amount = part * owed
    one = lambda x: jnp.asarray([x], dtype)
    done = _repay(debt(principal, index, quota, fees, dtype), one(amount), one(now), one(share))
    expected = reference(principal, growth, quota, fees, amount, share)
    actual = [
        done.debt.principal, done.debt.interest(one(now)), done.debt.quota_interest,
        done.debt.quota_fees, done.fee,
    ]  # fmt: skip
    assert_close([float(x[0]) for x in actual], expected, **TOLERANCE[dtype])
    paid = [float(x[0]) for x in (done.principal, done.interest, done.fee)]
    assert_close(sum(paid), amount, **TOLERANCE[dtype])


@given(principal=PRINCIPALS, index=INDICES, growth=GROWTH, amount=st.floats(0.01, 1e4))
def test_drawing_adds_principal_and_leaves_the_interest(principal, index, growth, amount):
    one = lambda x: jnp.asarray([x])
    now = one(index * growth)
    before = debt(principal, index)
    after = _draw(before, one(amount), now)
    assert_close(float(after.principal[0]), principal + amount, rtol=1e-12, atol=0.0)
    assert_close(after.interest(now), before.interest(now), rtol=1e-9, atol=1e-8)


@given(
    quota=QUOTAS, fees=QUOTAS, share=SHARES, low=st.floats(0.0, 900.0), high=st.floats(0.0, 900.0)
)
def test_paying_more_leaves_no_part_larger(quota, fees, share, low, high):
    one = lambda x: jnp.asarray([x])
    low, high = sorted((low, high))
    less, more = (
        _repay(debt(1e3, 1.0, quota, fees), one(x), one(1.2), one(share)) for x in (low, high)
    )
    for name in ("principal", "quota_interest", "quota_fees"):
        assert getattr(more.debt, name)[0] <= getattr(less.debt, name)[0] + 1e-9
    assert more.debt.index[0] >= less.debt.index[0] * (1 - 1e-12)


def test_a_worked_example():
    """1,000 at index 1, now 1.1; quota interest 20, fees 5; a share of 10 %. By hand: 5 + 22 + 110.

    Of 87 paid the protocol takes 5 + 2 + 60 / 11; 600 / 11 of the interest of 100 is paid.
    """
    one = lambda x: jnp.asarray([x])
    start = debt(1e3, 1.0, 20.0, 5.0)
    done = _repay(start, one(87.0), one(1.1), one(0.1))
    assert done.debt.principal.tolist() == [1e3]
    assert_close(done.fee, [7.0 + 60.0 / 11.0], rtol=1e-12, atol=0.0)
    assert_close(done.debt.interest(one(1.1)), [100.0 - 600.0 / 11.0], rtol=1e-12, atol=0.0)
    assert_close(start.accrued(one(1.1), one(0.1)), ([120.0], [17.0]), rtol=1e-12, atol=0.0)
    full = _repay(start, one(1_137.0), one(1.1), one(0.1))
    assert_close(full.debt.principal, [0.0], rtol=0.0, atol=1e-9)
    assert full.debt.index.tolist() == [1.1]


def test_a_recorded_call_of_the_contract():
    """`calcDecrease` with quota interest, in units of 1e-18, index in units of 1e-27."""
    start = debt(7047.366451224377, 1.159237786939528309, 311.946300279212539904)
    one = lambda x: jnp.asarray([x])
    done = _repay(start, one(1908.206928910408214), one(1.439773101157664099), one(0.1))
    assert_close(done.debt.principal, [7047.366451224377], rtol=1e-14, atol=0.0)
    assert_close(done.debt.index, [1.384250019346816849], rtol=1e-12, atol=0.0)
    assert_close(done.fee, [173.473357173673474], rtol=1e-12, atol=0.0)
    assert done.debt.quota_interest.tolist() == [0.0]


def test_paying_more_than_is_owed_is_told():
    one = lambda x: jnp.asarray([x])
    exceeds = lambda amount: bool(_repay(debt(100.0), one(amount), one(1.1), one(0.0)).exceeds[0])
    assert not exceeds(110.0)
    assert exceeds(110.01)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("principal", [0.0, 100.0])
@pytest.mark.parametrize("amount", [0.0, 5.0, 15.0, 25.0])
@pytest.mark.parametrize("now", [1.0, 1.1])
def test_derivatives_are_finite_at_the_kinks(dtype, principal, amount, now):
    one = lambda x: jnp.asarray([x], dtype)

    def total(principal, amount, now):
        start = IndexedDebt(
            principal=principal, index=one(1.0), quota_interest=one(10.0), quota_fees=one(5.0)
        )
        done = start.repay(amount, now, one(0.0))
        drawn = start.draw(amount, now)
        return (done.debt.principal + done.debt.index + done.fee + drawn.index)[0]

    slopes = jax.grad(total, argnums=(0, 1, 2))(one(principal), one(amount), one(now))
    assert np.isfinite(np.concatenate(slopes)).all()
