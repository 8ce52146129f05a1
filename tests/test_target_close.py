"""Closing to a target loan to value: worked figures, a scalar reference, refusals, gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.position import Position
from jaxrisk.venue.settlement import Refusal
from jaxrisk.venue.target_close import TargetClose, loan_to_value_after, segregated_first
from tests.helpers import assert_close

ACCOUNTS = 4
EXACT = {"rtol": 1e-11, "atol": 1e-7}
CENT = {"rtol": 0.0, "atol": 0.005}

# One collateral of 10,000 USD, liquidation threshold 85 %, target 76.5 %, fee 5 %, the largest
# call: (LTV, repaid, seized, whole). Worked out by hand from PartialLiquidationLib.
WORKED_CASES = [
    (0.84, 0.00, 0.00, False),  # solvent
    (0.86, 4_828.46, 5_069.89, False),
    (0.90, 6_861.50, 7_204.57, False),
    (0.95, 9_500.00, 9_975.00, True),  # 9,402 would reach the target: 99 % of the debt
    (0.98, 9_800.00, 10_000.00, True),
    (1.05, 10_500.00, 10_000.00, True),
]


def rule(target=0.765, whole_above=0.9, dtype: type = np.float64):
    """Return the rule with one target for all accounts."""
    return TargetClose(
        target=jnp.asarray(target, dtype), whole_above=jnp.asarray(whole_above, dtype)
    )


def position(held, owed, threshold=0.85, fee=0.05, dtype: type = np.float64, **units: Any):
    """Return accounts of one collateral and one debt."""
    held, owed = (jnp.atleast_1d(jnp.asarray(x, dtype)) for x in (held, owed))
    return Position(
        collateral=held,
        debt=owed,
        total_collateral=held,
        total_debt=owed,
        backing=threshold * held,
        credit=jnp.full_like(held, 1.0 + fee),
        fee_share=jnp.zeros_like(held),
        **units,
    )


def reference(held, owed, threshold, fee, target, request):
    """Return (reason, repaid, seized) of a call on one account, in plain Python."""
    if owed == 0 or request == 0:
        return Refusal.NOTHING_ASKED, 0.0, 0.0
    if held == 0:
        return Refusal.NO_COLLATERAL, 0.0, 0.0
    if owed <= threshold * held:
        return Refusal.HEALTHY, 0.0, 0.0
    if owed >= held:
        repaid = min(request, owed)
    else:
        most = owed
        if target > 0 and target * (1 + fee) < 1:
            most = max((owed - target * held) / (1 - target * (1 + fee)), 0.0)
            most = owed if most > 0.9 * owed else most
        if most == owed and request < owed:
            return Refusal.WHOLE_REQUIRED, 0.0, 0.0
        repaid = min(request, most)
        if repaid == 0:
            return Refusal.NOTHING_REPAID, 0.0, 0.0
    return Refusal.NONE, repaid, min(held, repaid * (1 + fee))


@jax.jit
def called(close, p, request):
    return close.call(p, request), close.limit(p)


@pytest.mark.parametrize(("ltv", "repaid", "seized", "whole"), WORKED_CASES)
def test_worked_cases(ltv, repaid, seized, whole):
    p = position(1e4, ltv * 1e4)
    call = rule().call(p, jnp.array([np.inf]))
    assert call.refusal[0] == (Refusal.NONE if ltv > 0.85 else Refusal.HEALTHY)
    assert_close([call.repaid[0], call.seized[0]], [repaid, seized], **CENT)
    if ltv > 0.85:
        assert bool(rule().limit(p).whole[0]) == whole
        after = loan_to_value_after(p, call)
        assert_close(after, [0.0 if whole else 0.765], rtol=1e-12, atol=0.0)


VALUES = st.lists(st.floats(100.0, 1e5), min_size=ACCOUNTS, max_size=ACCOUNTS)


@given(
    collateral=VALUES,
    ltv=st.lists(st.floats(0.5, 1.2), min_size=ACCOUNTS, max_size=ACCOUNTS),
    threshold=st.floats(0.5, 0.98),
    target=st.one_of(st.just(0.0), st.floats(0.4, 1.0)),
    fee=st.floats(0.0, 0.1),
    share=st.one_of(st.just(np.inf), st.floats(0.01, 1.1)),
)
def test_random_accounts_are_those_of_the_reference(collateral, ltv, threshold, target, fee, share):
    held, owed = np.array(collateral), np.array(collateral) * np.array(ltv)
    target = min(target, threshold)
    p = position(held, owed, threshold, fee)
    request = np.full(ACCOUNTS, np.inf) if share == np.inf else share * owed
    call, limit = called(rule(target), p, jnp.asarray(request))
    for n in range(ACCOUNTS):
        reason, *amounts = reference(held[n], owed[n], threshold, fee, target, request[n])
        assert call.refusal[n] == reason
        assert_close([call.repaid[n], call.seized[n]], amounts, **EXACT)
    assert bool(jnp.all(call.seized <= p.collateral))
    assert bool(jnp.all((call.repaid <= p.debt) & (call.repaid <= request)))
    assert bool(jnp.all((limit.repaid >= 0) & (limit.repaid <= p.debt)))
    assert bool(jnp.all((limit.seized >= 0) & (limit.seized <= p.collateral)))
    assert float(jnp.max(call.bad_debt)) == float(jnp.max(call.fee)) == 0.0


@given(low=st.floats(0.86, 1.2), more=st.floats(0.0, 0.2))
def test_weaker_accounts_are_closed_further(low, more):
    limit = rule().limit(position([1e4, 1e4], [low * 1e4, (low + more) * 1e4]))
    assert float(limit.repaid[1]) >= float(limit.repaid[0]) - 1e-9
    assert float(limit.seized[1]) >= float(limit.seized[0]) - 1e-9


def test_what_a_preview_says_and_a_call_refuses():
    p = position([1e4, 0.0], [9.6e3, 500.0])
    request = jnp.array([1e3, 200.0])
    preview, call = rule().preview(p, request), rule().call(p, request)
    assert preview.refusal.tolist() == [Refusal.NONE] * 2
    # All of the first debt, whatever was asked; some of the second, and nothing taken.
    assert_close(preview.repaid, [9.6e3, 200.0], rtol=0.0, atol=0.0)
    assert_close(preview.seized, [1e4, 0.0], rtol=0.0, atol=0.0)
    assert call.refusal.tolist() == [Refusal.WHOLE_REQUIRED, Refusal.NO_COLLATERAL]
    assert_close(call.repaid, [0.0, 0.0], rtol=0.0, atol=0.0)


def test_other_refusals():
    p = position([1e4, 1e4, 1e4], [9e3, 0.0, 8e3])
    call = rule().call(p, jnp.array([0.0, 10.0, 10.0]))
    expected = [Refusal.NOTHING_ASKED, Refusal.NOTHING_ASKED, Refusal.HEALTHY]
    assert call.refusal.tolist() == expected


def test_amounts_round_down_to_contract_units():
    units: dict[str, Any] = {"collateral_unit": jnp.array([30.0]), "debt_unit": jnp.array([100.0])}
    p = position(1e4, 9e3, **units)
    # 6,861.5 in hundreds is 6,800; 7,140 of collateral in thirties is 7,140; of 250 it is 200.
    most = rule().call(p, jnp.array([np.inf]), value_unit=jnp.array(1.0))
    assert_close([most.repaid[0], most.seized[0]], [6_800.0, 7_140.0], rtol=0.0, atol=1e-9)
    some = rule().call(p, jnp.array([250.0]), value_unit=jnp.array(1.0))
    assert_close([some.repaid[0], some.seized[0]], [200.0, 210.0], rtol=0.0, atol=1e-9)
    none = rule().call(p, jnp.array([99.0]))
    assert none.refusal[0] == Refusal.NOTHING_REPAID


def test_segregated_collateral_goes_first():
    apart, lent = segregated_first(jnp.array([5.0, 5.0]), jnp.array([3.0, 8.0]))
    assert_close(apart, [3.0, 5.0], rtol=0.0, atol=0.0)
    assert_close(lent, [2.0, 0.0], rtol=0.0, atol=0.0)


@pytest.mark.slow
def test_single_precision_agrees():
    owed = np.array([8.4e3, 8.7e3, 9.6e3, 1.1e4])
    results = {
        dtype: rule(dtype=dtype).call(
            position([1e4] * 4, owed, dtype=dtype), jnp.full(4, np.inf, dtype)
        )
        for dtype in (np.float32, np.float64)
    }
    single, double = results[np.float32], results[np.float64]
    assert single.repaid.dtype == np.float32
    assert single.refusal.tolist() == double.refusal.tolist()
    for name in ("repaid", "seized"):
        assert_close(getattr(single, name), getattr(double, name), rtol=1e-5, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("owed", [0.0, 7_650.0, 8_500.0, 9_000.0, 1e4, 1.2e4])
@pytest.mark.parametrize("target", [0.0, 0.765, 1.0 / 1.05, 0.98])
def test_gradients_are_finite_at_the_kinks(owed, target):
    """No debt, debt at the target, at the threshold and at the collateral; room exactly zero."""

    def total(held, debt, aim):
        close, p = rule(aim), position(held, debt)
        limit, call = close.limit(p), close.call(p, jnp.array([np.inf]))
        after = loan_to_value_after(p, call)
        return jnp.sum(limit.repaid + limit.seized + call.repaid + 2.0 * call.seized + after)

    gradients = jax.grad(total, (0, 1, 2))(jnp.array([1e4]), jnp.array([owed]), jnp.array(target))
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in gradients)


@pytest.mark.slow
def test_a_gradient_in_closed_form():
    """d x / d D = 1 / (1 - t credit) while the call is partial."""
    repaid = lambda d: jnp.sum(rule().call(position(1e4, d), jnp.array([np.inf])).repaid)
    slope = jax.grad(repaid)(jnp.array([9e3]))
    assert_close(slope, [1.0 / (1.0 - 0.765 * 1.05)], rtol=1e-12, atol=0.0)
