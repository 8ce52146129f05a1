"""Whole accounts: who is paid in which order, conservation, limited liability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.settlement import Refusal
from jaxrisk.venue.whole_account import WholeAccount, WholeClose
from tests.helpers import assert_close

TOLERANCE = {np.float32: {"rtol": 1e-5, "atol": 0.05}, np.float64: {"rtol": 1e-12, "atol": 1e-9}}
VALUES = st.floats(0.0, 2e4)
DEBTS = st.floats(0.0, 1e4)
SMALL = st.floats(0.0, 500.0)
RATES = st.floats(0.0, 0.1)


def account(value, principal, interest=0.0, fees=0.0, backing=0.0, dtype=np.float64):
    one = lambda x: jnp.asarray([x], dtype)
    return WholeAccount(
        value=one(value), backing=one(backing), principal=one(principal),
        interest=one(interest), fees=one(fees),
    )  # fmt: skip


def rule(premium=0.04, fee=0.015, tax=0.0, dtype=np.float64, unit=None):
    one = lambda x: jnp.asarray([x], dtype)
    return WholeClose(
        premium=one(premium),
        fee=one(fee),
        transfer_tax=one(tax),
        unit=None if unit is None else one(unit),
    )


def reference(value, principal, interest, fees, premium, fee, tax):
    """Return (repaid, fee, refund, bad debt, tax) by paying one claim after the other."""
    cash = value * (1.0 - premium)
    arrives = cash * (1.0 - tax)
    repaid = min(arrives, principal + interest)
    protocol = min(arrives - repaid, fees + fee * value)
    taxed = (repaid + protocol) * tax / (1.0 - tax)
    refund = cash - repaid - protocol - taxed
    return repaid, protocol, refund, principal + interest - repaid, taxed


_call = jax.jit(WholeClose.call)


@given(
    value=VALUES, principal=DEBTS, interest=SMALL, fees=SMALL, premium=RATES, fee=RATES, tax=RATES
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_payments_are_those_of_the_reference(
    dtype, value, principal, interest, fees, premium, fee, tax
):
    amounts = [float(dtype(x)) for x in (value, principal, interest, fees)]
    rates = [float(dtype(x)) for x in (premium, fee, tax)]
    call = _call(rule(*rates, dtype=dtype), account(*amounts, dtype=dtype))
    actual = [call.repaid, call.fee, call.refund, call.bad_debt, call.transfer_tax]
    expected = reference(*amounts, *rates)
    assert_close([float(x[0]) for x in actual], expected, **TOLERANCE[dtype])


@given(
    value=VALUES, principal=DEBTS, interest=SMALL, fees=SMALL, premium=RATES, fee=RATES, tax=RATES
)
def test_what_is_paid_arrives(value, principal, interest, fees, premium, fee, tax):
    call = _call(rule(premium, fee, tax), account(value, principal, interest, fees))
    parts = [float(x[0]) for x in (call.repaid, call.fee, call.transfer_tax, call.refund)]
    assert min(parts) >= -1e-9
    assert_close(sum(parts), float(call.paid[0]), rtol=1e-12, atol=1e-9)
    assert float(call.paid[0]) <= float(call.seized[0]) == value
    owed = principal + interest
    assert_close(float(call.repaid[0] + call.bad_debt[0]), owed, rtol=1e-12, atol=1e-9)
    # The protocol is paid only once the pool is whole, the borrower only once both are.
    assert parts[1] == 0.0 or float(call.bad_debt[0]) == 0.0
    if parts[3] > 1e-6:
        assert_close(parts[1], fees + fee * value, rtol=1e-9, atol=1e-6)


@given(low=VALUES, high=VALUES, principal=DEBTS)
def test_a_richer_account_leaves_less_bad_debt(low, high, principal):
    low, high = sorted((low, high))
    poor, rich = (_call(rule(), account(v, principal, 10.0, 5.0)) for v in (low, high))
    assert rich.bad_debt[0] <= poor.bad_debt[0]
    assert rich.repaid[0] >= poor.repaid[0]


@pytest.mark.parametrize(
    ("value", "repaid", "fee", "refund", "bad_debt"),
    [
        (1_100.0, 1_010.0, 26.5, 19.5, 0.0),
        (1_060.0, 1_010.0, 7.6, 0.0, 0.0),
        (1_000.0, 960.0, 0.0, 0.0, 50.0),
        (0.0, 0.0, 0.0, 0.0, 1_010.0),
    ],
)
def test_a_worked_example(value, repaid, fee, refund, bad_debt):
    """Debt 1,000, interest 10, fees 10; premium 4 %, fee 1.5 % of value. By hand."""
    call = _call(rule(), account(value, 1_000.0, 10.0, 10.0))
    actual = [float(x[0]) for x in (call.repaid, call.fee, call.refund, call.bad_debt)]
    assert_close(actual, [repaid, fee, refund, bad_debt], rtol=1e-12, atol=1e-9)


def test_a_recorded_call_of_the_contract():
    """Raw units of a token that keeps 0.5 % of transfers, as `calcLiquidationPayments` returned."""
    call = _call(
        rule(premium=0.07, fee=0.02, tax=0.005, unit=1.0),
        account(5210690113.0, 3338621001.0, 458419985.0, 117948720.0),
    )
    to_pool = float((call.repaid + call.fee + call.transfer_tax)[0])
    actual = [to_pool, float(call.refund[0]), float(call.fee[0]), float(call.bad_debt[0])]
    assert_close(actual, [4039400510.0, 806541295.0, 222162522.0, 0.0], rtol=0.0, atol=1e-5)


def test_a_healthy_account_is_refused():
    refusal = lambda backing: int(
        _call(rule(), account(1_200.0, 1_000.0, 5.0, 5.0, backing)).refusal[0]
    )
    assert refusal(1_010.0) == Refusal.HEALTHY
    assert refusal(1_009.99) == Refusal.NONE


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 1_000.0, 1_050.0])
@pytest.mark.parametrize("principal", [0.0, 960.0, 1_000.0])
def test_derivatives_are_finite_at_the_kinks(dtype, value, principal):
    closing = rule(dtype=dtype)

    def total(value, principal):
        zero = jnp.zeros_like(value)
        held = WholeAccount(
            value=value, backing=zero, principal=principal, interest=zero, fees=zero
        )
        call = closing.call(held)
        return (call.repaid + 2.0 * call.fee + 3.0 * call.refund + 5.0 * call.bad_debt)[0]

    one = lambda x: jnp.asarray([x], dtype)
    slopes = jax.grad(total, argnums=(0, 1))(one(value), one(principal))
    assert np.isfinite(np.concatenate(slopes)).all()
