"""Absorption of whole accounts: a worked figure, a scalar reference, balance, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.absorption import Absorption, backing_surplus, reserves_paid
from jaxrisk.venue.settlement import Refusal, first_reason
from tests.helpers import assert_close

ASSETS, ACCOUNTS = 2, 4

# One collateral of 10,000 USD, debt = LTV x 10,000, liquidation threshold 90 %, liquidation factor
# 95 %: (LTV, refusal, repaid, refund, bad debt). Worked out by hand from Comet `absorbInternal`.
WORKED_CASES = [
    (0.90, Refusal.HEALTHY, 0.0, 0.0, 0.0),
    (0.92, Refusal.NONE, 9_200.0, 300.0, 0.0),
    (0.95, Refusal.NONE, 9_500.0, 0.0, 0.0),
    (0.98, Refusal.NONE, 9_500.0, 0.0, 300.0),
    (1.05, Refusal.NONE, 9_500.0, 0.0, 1_000.0),
]
TOLERANCE = {
    np.float64: {"rtol": 1e-12, "atol": 1e-9},
    # Refund and bad debt are differences of numbers up to 2e5.
    np.float32: {"rtol": 1e-5, "atol": 0.1},
}


def rule(threshold, factor, dtype: type[np.floating] = np.float64):
    """Return the rule with one weight for each collateral."""
    column = lambda x: jnp.asarray(np.reshape(x, (-1, 1)), dtype)
    return Absorption(liquidation_threshold=column(threshold), liquidation_factor=column(factor))


def reference(held, owed, threshold, factor):
    """Return (absorbed, repaid, seized, fee, refund, bad debt) of one account, in plain Python."""
    backing = sum(c * w for c, w in zip(held, threshold, strict=True))
    if not backing < owed:
        return False, 0.0, 0.0, 0.0, 0.0, 0.0
    credit = sum(c * f for c, f in zip(held, factor, strict=True))
    balance = credit - owed
    total = sum(held)
    return True, owed - max(-balance, 0.0), total, total - credit, max(balance, 0), max(-balance, 0)


@jax.jit
def absorbed(absorption, held, owed):
    return absorption.absorb(held, owed)


def test_worked_cases():
    held = jnp.full((1, len(WORKED_CASES)), 1e4)
    owed = jnp.array([1e4 * row[0] for row in WORKED_CASES])
    result = rule([0.9], [0.95]).absorb(held, owed)
    for n, (_, refusal, *amounts) in enumerate(WORKED_CASES):
        assert result.refusal[n] == refusal
        assert_close(
            [result.repaid[n], result.refund[n], result.bad_debt[n]], amounts, rtol=0.0, atol=1e-9
        )
    assert_close(result.seized[1:], [1e4] * 4, rtol=0.0, atol=0.0)
    assert_close(result.fee[1:], [500.0] * 4, rtol=0.0, atol=1e-9)


VALUES = st.lists(st.floats(0.0, 1e5, width=32), min_size=ACCOUNTS, max_size=ACCOUNTS)
WEIGHTS = st.lists(st.floats(0.5, 0.9), min_size=ASSETS, max_size=ASSETS)


@given(collateral=VALUES, debt=VALUES, threshold=WEIGHTS, step=st.floats(0.0, 0.1))
def test_random_accounts_are_those_of_the_reference(collateral, debt, threshold, step):
    held = np.array([collateral, np.roll(collateral, 1)])
    owed = np.array(debt)
    factor = np.array(threshold) + step
    result = absorbed(rule(threshold, factor), jnp.asarray(held), jnp.asarray(owed))
    for n in range(ACCOUNTS):
        done, *amounts = reference(held[:, n], owed[n], threshold, factor)
        assert (result.refusal[n] == Refusal.NONE) == done
        actual = [result.repaid, result.seized, result.fee, result.refund, result.bad_debt]
        assert_close([x[n] for x in actual], amounts, **TOLERANCE[np.float64])


@given(collateral=VALUES, debt=VALUES, threshold=WEIGHTS, factor=st.floats(0.5, 1.0))
def test_what_leaves_one_side_arrives_on_the_other(collateral, debt, threshold, factor):
    held = np.array([collateral, np.roll(collateral, 1)])
    result = absorbed(rule(threshold, [factor] * ASSETS), jnp.asarray(held), jnp.asarray(debt))
    done = np.asarray(result.refusal) == Refusal.NONE
    tolerance = TOLERANCE[np.float64]
    assert_close(result.seized, result.repaid + result.refund + result.fee, **tolerance)
    assert_close(result.repaid + result.bad_debt, np.where(done, debt, 0.0), **tolerance)
    assert_close(result.seized, np.where(done, held.sum(axis=0), 0.0), **tolerance)
    amounts = [result.repaid, result.seized, result.fee, result.refund, result.bad_debt]
    assert all(float(x.min()) >= -1e-9 for x in amounts)
    # The borrower has either a refund or an unpaid debt, never both.
    assert float(jnp.max(jnp.minimum(result.refund, result.bad_debt))) == 0.0
    assert_close(reserves_paid(result) - result.refund, np.where(done, debt, 0.0), **tolerance)


@given(owed=st.floats(8e3, 2e4), more=st.floats(0.0, 1e4))
def test_more_debt_never_helps(owed, more):
    """In the order of debts, refusals end, refunds fall and losses grow."""
    result = rule([0.9], [0.95]).absorb(jnp.full((1, 2), 1e4), jnp.array([owed, owed + more]))
    assert result.refusal[1] <= result.refusal[0]
    assert result.bad_debt[1] >= result.bad_debt[0]
    if result.refusal[0] == Refusal.NONE:
        assert result.refund[1] <= result.refund[0]


def test_amounts_round_down_to_contract_units():
    """13.37 USD of collateral in cents, a debt token of which one unit is worth 25 cents."""
    result = rule([0.5], [0.9]).absorb(
        jnp.array([[13.379]]),
        jnp.array([10.0]),
        value_unit=jnp.array(0.01),
        debt_unit=jnp.array([0.25]),
    )
    # Seized 13.37; credited 12.033 -> 12.03 -> 12.00.
    actual = [result.seized[0], result.refund[0], result.fee[0]]
    assert_close(actual, [13.37, 2.0, 1.37], rtol=0.0, atol=1e-12)


def test_the_surplus_tells_who_may_borrow():
    held, owed = jnp.array([[100.0, 100.0]]), jnp.array([80.0, 81.0])
    surplus = backing_surplus(held, jnp.array([[0.8]]), owed)
    assert_close(surplus, [0.0, -1.0], rtol=0.0, atol=1e-12)


@pytest.mark.slow
def test_single_precision_agrees():
    held = np.linspace(1e3, 2e5, 2 * ACCOUNTS).reshape(ASSETS, ACCOUNTS)
    owed = held.sum(axis=0) * np.array([0.7, 0.86, 0.92, 1.1])
    results = {
        dtype: rule([0.8, 0.85], [0.9, 0.92], dtype).absorb(
            jnp.asarray(held, dtype), jnp.asarray(owed, dtype)
        )
        for dtype in (np.float32, np.float64)
    }
    single, double = results[np.float32], results[np.float64]
    assert single.repaid.dtype == np.float32
    assert single.refusal.tolist() == double.refusal.tolist()
    for name in ("repaid", "seized", "fee", "refund", "bad_debt"):
        assert_close(getattr(single, name), getattr(double, name), **TOLERANCE[np.float32])


@pytest.mark.slow
@pytest.mark.parametrize("owed", [0.0, 9_000.0, 9_500.0, 9_700.0])
def test_gradients_are_finite_at_the_kinks(owed):
    """No debt, debt equal to the backing, debt equal to the credit, and past it."""

    def loss(held, debt, factor):
        result = rule([0.9], [0.95]).absorb(held, debt)
        credit = Absorption(
            liquidation_threshold=jnp.array([[0.9]]), liquidation_factor=factor
        ).absorb(held, debt)
        return jnp.sum(result.refund + result.fee + credit.bad_debt + credit.repaid)

    gradients = jax.grad(loss, (0, 1, 2))(
        jnp.array([[1e4]]), jnp.array([owed]), jnp.array([[0.95]])
    )
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in gradients)
    past = jax.grad(lambda d: rule([0.9], [0.95]).absorb(jnp.array([[1e4]]), d).bad_debt.sum())
    assert past(jnp.array([9_700.0]))[0] == 1.0


def test_the_first_reason_is_the_one_given():
    yes, no = jnp.array([True, True, False]), jnp.array([True, False, False])
    refusal = first_reason((no, Refusal.HEALTHY), (yes, Refusal.EXCEEDS_POSITION))
    assert refusal.tolist() == [Refusal.HEALTHY, Refusal.EXCEEDS_POSITION, Refusal.NONE]


def test_reasons_share_the_numbers_of_refusals():
    assert {r.name: r.value for r in Refusal}.items() <= {r.name: r.value for r in Refusal}.items()
