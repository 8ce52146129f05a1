"""Liquidation calls: published figures, the scalar reference, dust, refusals, toxic positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jaxrisk.venue.call import call_refusal, exact_call, repay_call
from jaxrisk.venue.close import FractionClose, FullClose
from jaxrisk.venue.incentive import incentive_factor
from jaxrisk.venue.position import Position
from jaxrisk.venue.presets.aave_v3 import close_rule
from jaxrisk.venue.presets.morpho_blue import CURSOR, MAXIMUM_FACTOR
from jaxrisk.venue.recognition import AtZeroCollateral, NeverRecognised
from jaxrisk.venue.settlement import Refusal
from tests import reference
from tests.helpers import assert_close

CENT = {"rtol": 0.0, "atol": 0.005}

# One collateral of 10,000 USD, debt = LTV x 10,000, one maximal call by a keeper who never pays
# more than the collateral is worth to them: (LTV, repaid, seized, bad debt). Worked out by hand
# from Aave v3.3 LiquidationLogic (threshold 83 %, bonus 5 %) and Morpho Blue `liquidate` (86 %).
CLOSE_FACTOR_CASES = [
    (0.85, 4_250.00, 4_462.50, 0.00),
    (0.90, 9_000.00, 9_450.00, 0.00),
    (0.95, 9_500.00, 9_975.00, 0.00),
    (0.98, 9_523.81, 10_000.00, 276.19),
    (1.05, 9_523.81, 10_000.00, 976.19),
]
FULL_CLOSE_CASES = [
    (0.90, 9_000.00, 9_394.57, 0.00),
    (0.95, 9_500.00, 9_916.49, 0.00),
    (0.98, 9_580.00, 10_000.00, 220.00),
    (1.05, 9_580.00, 10_000.00, 920.00),
]


def position(collateral, debt, threshold=0.83, bonus=0.05, fee=0.0, **totals):
    """Return a position; single-pair accounts unless totals are given."""
    array = lambda x: jnp.atleast_1d(jnp.asarray(x, float))
    held = array(collateral)
    return Position(
        collateral=held,
        debt=array(debt),
        total_collateral=array(totals.get("total_collateral", collateral)),
        total_debt=array(totals.get("total_debt", debt)),
        backing=array(totals.get("backing", threshold * np.asarray(collateral))),
        credit=jnp.full_like(held, 1.0 + bonus),
        fee_share=jnp.full_like(held, fee),
    )


def most(p, rule):
    """Return the call of a keeper who takes all that is allowed, and what is then written off."""
    call = repay_call(rule, p, jnp.full_like(p.debt, jnp.inf))
    bad = AtZeroCollateral().write_off(call.exhausts, p.debt - call.repaid)
    return call, bad


@pytest.mark.parametrize(("ltv", "repaid", "seized", "bad_debt"), CLOSE_FACTOR_CASES)
def test_published_figures_with_a_close_factor(ltv, repaid, seized, bad_debt):
    call, bad = most(position(1e4, ltv * 1e4), close_rule())
    assert call.weight[0] == 1.0
    actual = [call.repaid[0], call.seized[0], bad[0]]
    assert_close(actual, [repaid, seized, bad_debt], **CENT)


@pytest.mark.parametrize(("ltv", "repaid", "seized", "bad_debt"), FULL_CLOSE_CASES)
def test_published_figures_of_a_full_close(ltv, repaid, seized, bad_debt):
    factor = float(incentive_factor(jnp.array(0.86), cursor=CURSOR, maximum=MAXIMUM_FACTOR))
    call, bad = most(position(1e4, ltv * 1e4, 0.86, factor - 1.0), FullClose())
    assert call.weight[0] == 1.0
    actual = [call.repaid[0], call.seized[0], bad[0]]
    assert_close(actual, [repaid, seized, bad_debt], **CENT)


@pytest.mark.parametrize("ltv", [0.1, 0.385, 0.5, 0.62, 0.77, 0.86, 0.945, 0.98, 1.0])
def test_the_incentive_factor(ltv):
    actual = incentive_factor(jnp.array(ltv), cursor=CURSOR, maximum=MAXIMUM_FACTOR)
    assert_close(actual, reference.liquidation_incentive_factor(ltv), rtol=1e-15, atol=0.0)


@jax.jit
def _called(p, request):
    rule = close_rule(jnp.float64)
    call = repay_call(rule, p, request)
    return call, call_refusal(rule, p, call)


VALUES = st.lists(st.floats(10.0, 1e5), min_size=4, max_size=4)


@given(
    collateral=VALUES,
    debt=VALUES,
    threshold=st.lists(st.floats(0.5, 0.95), min_size=2, max_size=2),
    bonus=st.floats(0.001, 0.15),
    fee=st.floats(0.0, 1.0),
    share=st.one_of(st.just(np.inf), st.floats(0.01, 1.5)),
)
def test_calls_on_random_positions_are_those_of_the_reference(
    collateral, debt, threshold, bonus, fee, share
):
    """Four accounts of two values each: (account, account + 1) as two assets of one account."""
    held = np.array([collateral, np.roll(collateral, 1)])
    owed = np.array([debt, np.roll(debt, 1)])
    lines = np.array(threshold)
    request = np.minimum(share * owed[1], 1e300)
    p = position(
        held[0],
        owed[1],
        bonus=bonus,
        fee=fee,
        total_collateral=held.sum(axis=0),
        total_debt=owed.sum(axis=0),
        backing=held.T @ lines,
    )
    call, refusal = _called(p, jnp.asarray(request))
    for n in range(4):
        try:
            expected = reference.aave_v3_liquidation(
                held[:, n].tolist(),
                owed[:, n].tolist(),
                lines.tolist(),
                pair=(0, 1),
                bonus=bonus,
                protocol_fee=fee,
                requested=request[n],
            )
        except reference.RefusedError as refused:
            kind = Refusal.DUST if "1,000" in str(refused) else Refusal.HEALTHY
            assert (call.weight[n], refusal[n]) == (0.0, kind)
            continue
        assert (call.weight[n], refusal[n]) == (1.0, Refusal.NONE)
        actual = [call.repaid[n], call.seized[n], call.fee[n]]
        amounts = [expected.repaid, expected.seized, expected.protocol_fee]
        assert_close(actual, amounts, rtol=1e-12, atol=1e-10)
        assert bool(call.exhausts[n]) == (sum(expected.collateral) == 0.0)


@given(
    collateral=VALUES,
    debt=VALUES,
    ltv=st.floats(0.3, 0.98),
    share=st.floats(0.0, 1.1),
    by_seizure=st.booleans(),
)
def test_named_amounts_are_those_of_the_reference(collateral, debt, ltv, share, by_seizure):
    assume(share > 0)
    held, owed = np.array(collateral), np.array(debt)
    factor = reference.liquidation_incentive_factor(ltv)
    p = position(held, owed, ltv, factor - 1.0)
    asked = share * (held if by_seizure else owed)
    zero = np.zeros(4)
    call, refusal = exact_call(
        p, jnp.asarray(zero if by_seizure else asked), jnp.asarray(asked if by_seizure else zero)
    )
    named = "seized" if by_seizure else "repaid"
    for n in range(4):
        try:
            expected = reference.morpho_blue_liquidation(
                held[n], owed[n], ltv, **{named: float(asked[n])}
            )
        except reference.RefusedError as refused:
            too_much = "more than" in str(refused)
            assert refusal[n] == (Refusal.EXCEEDS_POSITION if too_much else Refusal.HEALTHY)
            assert call.weight[n] == 0.0
            continue
        assert refusal[n] == Refusal.NONE
        actual = [call.repaid[n], call.seized[n], call.fee[n]]
        assert_close(actual, [expected.repaid, expected.seized, 0.0], rtol=1e-12, atol=1e-10)


def test_half_above_the_health_limit_and_everything_below_it_or_when_small():
    rule = close_rule()
    allowance = lambda p: float(rule.allowance(p, None)[0])
    assert allowance(position(9e3, 7.8e3)) == 3.9e3
    assert allowance(position(9e3, 7.9e3)) == 7.9e3
    assert allowance(position(2.4e3, 2e3)) == 1e3
    assert allowance(position(2.398e3, 1_999.99)) == 1_999.99
    # The half is of the account's whole debt.
    several = position(1.2e4, 6e3, total_debt=1e4, backing=9.9e3)
    assert allowance(several) == 5e3


def test_health_of_exactly_one_is_refused():
    call, refusal = _called(position(1e4, 8e3, threshold=0.8), jnp.array([1e3]))
    assert (call.weight[0], refusal[0]) == (0.0, Refusal.HEALTHY)
    call, refusal = _called(position(1e4, 8e3 + 1e-6, threshold=0.8), jnp.array([1e3]))
    assert (call.weight[0], refusal[0]) == (1.0, Refusal.NONE)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_request_lowered_for_dust_is_never_refused_for_it(dtype):
    rng = np.random.default_rng(1)
    count = 20_000
    array = lambda x: jnp.asarray(x, dtype)
    total = rng.uniform(4e3, 9e3, count)
    p = Position(
        collateral=array(rng.uniform(1e3, 4e3, count)),
        debt=array(rng.uniform(1e3, 4e3, count)),
        total_collateral=array(1.1 * total),
        total_debt=array(total),
        backing=array(0.97 * total),
        credit=array(1.0 + rng.uniform(0.01, 0.12, count)),
        fee_share=array(np.zeros(count)),
    )
    rule = close_rule(dtype)
    allowed = rule.allowance(p, None)
    request = rule.without_dust(p, allowed)
    refused = np.asarray(call_refusal(rule, p, repay_call(rule, p, request)) == Refusal.DUST)
    lowered = np.asarray((request < allowed) & (request > 0))
    assert lowered.sum() > 1000
    assert (request <= allowed).all()
    assert not (refused & np.asarray(request > 0)).any(), f"{(refused & lowered).sum()} refused"


def test_where_no_partial_call_leaves_enough_the_request_is_zero():
    p = position(1.04e3, 3e3, total_debt=9e3, total_collateral=9.5e3, backing=8.7e3)
    rule = close_rule()
    lowered = rule.without_dust(p, jnp.array([500.0]))
    assert_close(lowered, [40.0 / 1.05], rtol=1e-12, atol=0.0)
    p = position(0.9e3, 3e3, total_debt=9e3, total_collateral=9.5e3, backing=8.7e3)
    assert rule.without_dust(p, jnp.array([500.0])).tolist() == [0.0]
    # What takes a whole side stays as it is.
    assert rule.without_dust(p, jnp.array([900.0])).tolist() == [900.0]


def test_without_the_rules_there_is_no_dust():
    rule = FractionClose(
        fraction=jnp.array(0.5),
        full_below_health=jnp.array(0.95),
        small_position=None,
        minimum_leftover=None,
    )
    p = position(1_200.0, 1_000.0, threshold=0.83)
    assert rule.allowance(p, None).tolist() == [500.0]
    assert rule.refuses(p, jnp.array([500.0]), jnp.array([525.0])) is None
    call, _ = most(p, rule)
    assert (call.weight[0], call.repaid[0]) == (1.0, 500.0)


@given(ltv=st.floats(0.5, 1.2), bonus=st.floats(0.005, 0.15), share=st.floats(0.01, 0.4))
def test_a_partial_close_lowers_health_exactly_in_toxic_positions(ltv, bonus, share):
    frontier = 1.0 / (1.0 + bonus)
    assume(abs(ltv - frontier) > 1e-6)
    threshold = 0.5 * ltv
    p = position(1e6, ltv * 1e6, threshold, bonus)
    call = repay_call(FullClose(), p, share * p.debt)
    assert call.weight[0] == 1.0
    before = threshold * p.collateral / p.debt
    after = threshold * (p.collateral - call.seized) / (p.debt - call.repaid)
    assert (float(after[0]) < float(before[0])) == (ltv > frontier)


def test_bad_debt_is_recognised_at_zero_collateral_or_never():
    exhausted, left = jnp.array([True, False]), jnp.array([5.0, 7.0])
    assert AtZeroCollateral().write_off(exhausted, left).tolist() == [5.0, 0.0]
    assert NeverRecognised().write_off(exhausted, left).tolist() == [0.0, 0.0]
