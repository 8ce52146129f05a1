"""Early calls: the band, what a call moves, what is refused, and that loan-to-value falls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jaxrisk.venue.early_close import EarlyClose, early_call
from jaxrisk.venue.settlement import Refusal
from tests.helpers import assert_close

TOLERANCE = {np.float32: {"rtol": 2e-5, "atol": 1e-3}, np.float64: {"rtol": 1e-12, "atol": 1e-9}}
BAND = (0.80, 0.86, 0.1, 0.5, 1.01, 1.04)
DEBTS = st.floats(0.7, 0.95)
SHARES = st.floats(0.01, 1.3)


def band(values=BAND, dtype=np.float64):
    names = list(EarlyClose.__dataclass_fields__)
    return EarlyClose(**{n: jnp.asarray([v], dtype) for n, v in zip(names, values, strict=True)})


def reference(collateral, debt, repay, seize, values=BAND):
    """Return (refusal, repaid, seized) from the formula, in scalars."""
    lower, upper, share_low, share_high, credit_low, credit_high = values
    if debt > upper * collateral:
        return Refusal.ABOVE_BAND, 0.0, 0.0
    if debt <= lower * collateral:
        return Refusal.HEALTHY, 0.0, 0.0
    theta = (debt / collateral - lower) / (upper - lower)
    credit = credit_low + theta * (credit_high - credit_low)
    if seize > 0:
        repay = seize / credit
    else:
        seize = repay * credit
    if repay > (share_low + theta * (share_high - share_low)) * debt:
        return Refusal.EXCEEDS_ALLOWANCE, 0.0, 0.0
    if repay > debt or seize > collateral:
        return Refusal.EXCEEDS_POSITION, 0.0, 0.0
    return Refusal.NONE, repay, seize


_jitted = jax.jit(early_call)


def called(collateral, debt, repay=0.0, seize=0.0, values=BAND, dtype=np.float64):
    one = lambda x: jnp.asarray([x], dtype)
    return _jitted(band(values, dtype), one(collateral), one(debt), one(repay), one(seize))


@given(debt=DEBTS, share=SHARES, by_seizure=st.booleans(), high=st.floats(0.2, 1.2))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_call_is_that_of_the_reference(dtype, debt, share, by_seizure, high):
    values = (*BAND[:3], high, *BAND[4:])
    collateral, owed = 1e4, float(dtype(debt * 1e4))
    asked = {"seize" if by_seizure else "repay": float(dtype(share * owed))}
    refusal, repaid, seized = reference(
        collateral, owed, asked.get("repay", 0.0), asked.get("seize", 0.0), values
    )
    theta = (debt - 0.8) / 0.06
    factor = 0.1 + theta * (high - 0.1)
    edges = [debt - 0.8, debt - 0.86, share - 1.0, share - factor, share * debt - 1.0]
    edges += [share / (1.01 + 0.03 * theta) - factor, share * (1.01 + 0.03 * theta) * debt - 1.0]
    assume(min(abs(e) for e in edges) > 1e-4)
    call = called(collateral, owed, values=values, dtype=dtype, **asked)
    assert Refusal(int(call.refusal[0])) == refusal
    if refusal == Refusal.NONE:
        assert_close([call.repaid[0], call.seized[0]], [repaid, seized], **TOLERANCE[dtype])
    assert (call.fee[0], call.refund[0], call.bad_debt[0]) == (0.0, 0.0, 0.0)


def test_a_worked_example():
    """Half-way through the band: 30 % of the debt at a bonus of 2.5 %. By hand."""
    call = called(10_000.0, 8_300.0, repay=2_480.0)
    assert int(call.refusal[0]) == Refusal.NONE
    assert_close([call.repaid[0], call.seized[0]], [2_480.0, 2_542.0], rtol=1e-12, atol=0.0)
    refused = called(10_000.0, 8_300.0, repay=2_491.0)
    assert int(refused.refusal[0]) == Refusal.EXCEEDS_ALLOWANCE


def test_a_recorded_call_of_the_contract():
    """A pre-liquidation by repayment, in units of the loan asset, as the contract executed it."""
    price = 54335349206106711541518532515540762624e-36
    share_price = 1326413323321499075458 / 1326413323321499075458000000
    values = (
        0.608357923128175104, 0.625, 0.287772758899151488, 0.625040876845044224,
        1.004678685475357056, 1.036078614446606592,
    )  # fmt: skip
    call = called(
        2526228698864861696 * price,
        84128757167463251968000000 * share_price,
        repay=31953294594747483994193920 * share_price,
        values=values,
    )
    assert int(call.refusal[0]) == Refusal.NONE
    assert_close(float(call.seized[0]) / price, 595866365303982681.0, rtol=1e-12, atol=0.0)
    assert_close(float(call.repaid[0]), 31953294594747483995.0, rtol=1e-12, atol=0.0)


def test_the_ends_of_the_band():
    refusal = lambda debt: Refusal(int(called(1e4, debt, repay=1.0).refusal[0]))
    assert refusal(8_000.0) == Refusal.HEALTHY
    assert refusal(np.nextafter(8_000.0, 9e3)) == Refusal.NONE
    assert refusal(8_600.0) == Refusal.NONE
    assert refusal(np.nextafter(8_600.0, 9e3)) == Refusal.ABOVE_BAND


@given(first=DEBTS, second=DEBTS)
def test_weaker_accounts_are_closed_further_and_dearer(first, second):
    rule = band()
    weak = lambda debt: rule.progress(jnp.array([1.0]), jnp.array([debt]))
    low, high = (weak(debt) for debt in sorted((first, second)))
    assert rule.close_factor(high)[0] >= rule.close_factor(low)[0]
    assert rule.credit(high)[0] >= rule.credit(low)[0]


@given(debt=st.floats(0.801, 0.8599), share=st.floats(0.001, 0.999))
def test_a_call_takes_no_more_than_there_is_and_lowers_loan_to_value(debt, share):
    owed = debt * 1e4
    rule = band()
    theta = rule.progress(jnp.array([1e4]), jnp.array([owed]))
    call = called(1e4, owed, repay=share * float(rule.close_factor(theta)[0]) * owed)
    repaid, seized = float(call.repaid[0]), float(call.seized[0])
    assert int(call.refusal[0]) == Refusal.NONE
    assert 0 < repaid <= owed
    assert repaid < seized <= 1e4
    # A credit of at most 1 / upper: a call never makes the account weaker.
    assert (owed - repaid) / (1e4 - seized) <= debt


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("debt", [0.0, 0.8, 0.86, 1.0])
@pytest.mark.parametrize("collateral", [0.0, 1.0])
def test_derivatives_are_finite_at_the_kinks(dtype, debt, collateral):
    def moved(held, owed, asked):
        by_repay = early_call(band(dtype=dtype), held, owed, asked, jnp.zeros_like(asked))
        by_seize = early_call(band(dtype=dtype), held, owed, jnp.zeros_like(asked), asked)
        return (by_repay.repaid + by_repay.seized + by_seize.repaid + by_seize.seized)[0]

    one = lambda x: jnp.asarray([x], dtype)
    for asked in (0.0, 0.1):
        slopes = jax.grad(moved, argnums=(0, 1, 2))(one(collateral), one(debt), one(asked))
        assert np.isfinite(np.concatenate(slopes)).all()
