"""Calls that restore a target health: published figures, a scalar reference, dust, conservation."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.health_bonus import HealthLinearBonus
from jaxrisk.venue.position import Position
from jaxrisk.venue.presets.aave_v4 import close_rule
from jaxrisk.venue.settlement import Refusal
from jaxrisk.venue.target_health import TargetPosition, debt_to_target, target_call
from tests.helpers import assert_close

# One collateral of 10,000 USD with collateral factor 0.8, debt = LTV x 10,000, target 1.1, maximum
# bonus 8 % at health 0.9 and a quarter of it at health 1; one maximal call: (LTV, repaid, seized,
# bad debt). Worked out by hand from Aave v4 LiquidationLogic. At 0.90 the target would leave less
# than 1,000 USD of debt, so all of it is repaid; from 0.95 on the collateral is too little.
FIGURES = [
    (0.85, 5_278.29, 5_570.15, 0.00),
    (0.90, 9_000.00, 9_720.00, 0.00),
    (0.95, 9_259.26, 10_000.00, 240.74),
    (0.98, 9_259.26, 10_000.00, 540.74),
    (1.05, 9_259.26, 10_000.00, 1_240.74),
]
FIELDS = ("repaid", "premium_repaid", "seized", "fee", "bad_debt")


def position(
    collateral: Any,
    debt: Any,
    *,
    premium: Any = 0.0,
    weight: Any = 0.8,
    credit: Any = 1.05,
    fee: Any = 0.1,
    **others: Any,
) -> TargetPosition:
    """Return positions; other collateral and debt of the account are given by value and weight."""
    array = lambda x: jnp.atleast_1d(jnp.asarray(x, float))
    held, owed = array(collateral), array(debt)
    full = lambda x: jnp.broadcast_to(array(x), held.shape)
    other, other_debt = full(others.get("other", 0.0)), full(others.get("other_debt", 0.0))
    pair = Position(
        collateral=held,
        debt=owed,
        total_collateral=held + other,
        total_debt=owed + other_debt,
        backing=full(weight) * held + full(others.get("other_weight", 0.0)) * other,
        credit=full(credit),
        fee_share=full(fee),
    )
    return TargetPosition(pair=pair, collateral_weight=full(weight), premium=full(premium))


def reference_call(p, target, repay, n=0, leftover=1000.0):
    """Return the call on account `n` from the formulas, one number at a time."""
    pair = p.pair
    get = lambda leaf: float(np.asarray(leaf)[n])
    held, owed, total = get(pair.collateral), get(pair.debt), get(pair.total_debt)
    credit, weight, premium = get(pair.credit), get(p.collateral_weight), get(p.premium)
    if get(pair.backing) >= total:
        return Refusal.HEALTHY, dict.fromkeys(FIELDS, 0.0)
    x = (target * total - get(pair.backing)) / (target - credit * weight)
    x = min(x, repay, owed)
    if x < owed and owed - x < leftover:
        x = owed
    s = x * credit
    if s > held or (s < held and held - s < leftover and x < owed):
        s, x = held, held / credit
    if x - repay > 8 * np.finfo(float).eps * x:
        return Refusal.DUST, dict.fromkeys(FIELDS, 0.0)
    lost = total - x if s >= get(pair.total_collateral) else 0.0
    fee = get(pair.fee_share) * s * (credit - 1) / credit
    return Refusal.NONE, dict(zip(FIELDS, (x, min(x, premium), s, fee, lost), strict=True))


@pytest.mark.parametrize(("ltv", "repaid", "seized", "bad_debt"), FIGURES)
def test_published_figures(ltv, repaid, seized, bad_debt):
    bonus = HealthLinearBonus(
        maximum_bonus=jnp.array([0.08]),
        minimum_share=jnp.array([0.25]),
        health_for_maximum=jnp.array([0.9]),
    )
    credit = 1.0 + bonus.bonus(jnp.array([0.8 / ltv]))
    p = position(1e4, ltv * 1e4, credit=credit)
    call = target_call(close_rule(jnp.array([1.1])), p, jnp.array([jnp.inf]))
    actual = [call.repaid[0], call.seized[0], call.bad_debt[0]]
    assert_close(actual, [repaid, seized, bad_debt], rtol=0.0, atol=0.005)
    assert bool(call.exhausts[0]) == (seized == 1e4)


def test_a_recorded_call():
    """Restated from a call on Aave v4 contracts (public copy, 2026-06): bitcoin owed, ether taken.

    Amounts there are whole shares: 1e-8 of a bitcoin is 0.05 cents.
    """
    bitcoin, ether = 48523.21315698, 2187.96808602
    owed, held = 160_918.394741701, 57.599722832268410481 * ether
    p = position(held, owed, weight=0.7, credit=1.0098, fee=0.1, other=9e4)
    pair = dataclasses.replace(p.pair, backing=jnp.array([0.950539064160925725 * owed]))
    p = dataclasses.replace(p, pair=pair)
    offer = jnp.array([3.31631779 * bitcoin])
    call = target_call(close_rule(jnp.array([1.1])), p, offer)
    assert call.refusal.tolist() == [Refusal.NONE]
    repaid, seized = 1.25764945 * 1.002482964427117 * bitcoin, 28.234528615672074 * ether
    assert_close(call.repaid[0], repaid, rtol=0.0, atol=0.0005)
    assert_close(call.seized[0], seized, rtol=0.0, atol=0.0005)
    kept = seized * (28.115105624715765 - 28.087820218187520) / 28.115105624715765
    assert_close(call.fee[0], kept, rtol=1e-8, atol=0.0)


VALUES = st.lists(st.floats(10.0, 1e5), min_size=4, max_size=4)


@jax.jit
def _called(target, p, repay):
    return target_call(close_rule(target, repay.dtype), p, repay)


@given(
    collateral=VALUES,
    debt=VALUES,
    other=st.sampled_from([0.0, 50.0, 3e4]),
    weight=st.floats(0.3, 0.85),
    credit=st.floats(1.0, 1.15),
    premium=st.one_of(st.just(0.0), st.floats(1e-6, 1.0)),
    target=st.floats(1.0, 1.3),
    share=st.one_of(st.just(np.inf), st.floats(0.01, 1.5)),
)
def test_calls_are_those_of_the_reference(
    collateral, debt, other, weight, credit, premium, target, share
):
    owed = np.array(debt)
    p = position(
        collateral, debt, premium=premium * owed, weight=weight, credit=credit,
        other=other, other_weight=0.5, other_debt=other / 3,
    )  # fmt: skip
    repay = share * owed
    call = _called(jnp.array(target), p, jnp.asarray(repay))
    for n in range(4):
        refusal, expected = reference_call(p, target, repay[n], n)
        assert call.refusal[n] == refusal
        actual = [getattr(call, name)[n] for name in FIELDS]
        assert_close(actual, list(expected.values()), rtol=1e-10, atol=1e-9)


@given(
    collateral=VALUES,
    debt=VALUES,
    weight=st.floats(0.3, 0.85),
    credit=st.floats(1.0, 1.15),
    share=st.one_of(st.just(np.inf), st.floats(0.01, 1.5)),
)
def test_nothing_is_made_or_lost_and_nobody_is_taken_for_more_than_there_is(
    collateral, debt, weight, credit, share
):
    owed, held = np.array(debt), np.array(collateral)
    p = position(held, owed, premium=0.1 * owed, weight=weight, credit=credit)
    offer = share * owed
    call = jax.tree.map(np.asarray, _called(jnp.array(1.05), p, jnp.asarray(offer)))
    assert (call.repaid <= np.minimum(owed, offer) * (1.0 + 1e-12)).all()
    assert (call.seized <= held).all()
    assert ((call.premium_repaid >= 0.0) & (call.premium_repaid <= call.repaid)).all()
    # The liquidator's part, the fee, and what the borrower keeps are the collateral.
    assert ((call.fee >= 0.0) & (call.fee <= call.seized - call.seized / credit + 1e-9)).all()
    assert (call.refund == 0.0).all()
    # Debt is repaid, given up, or still owed by an account that still has collateral.
    left = owed - call.repaid - call.bad_debt
    assert (left >= -1e-9).all()
    assert (left[call.exhausts] == 0.0).all()
    assert (call.bad_debt[~call.exhausts] == 0.0).all()
    # A rational exchange: no more collateral per debt than the bonus grants.
    assert_close(call.seized, call.repaid * credit, rtol=1e-10, atol=1e-9)
    refused = call.refusal != Refusal.NONE
    assert (call.repaid[refused] == 0.0).all()
    assert (call.repaid[~refused] > 0.0).all()


@given(
    debt=st.floats(8e4, 9.5e4),
    premium=st.one_of(st.just(0.0), st.floats(1e-6, 0.5)),
    target=st.floats(1.0, 1.2),
    credit=st.floats(1.0, 1.1),
)
def test_a_call_without_dust_ends_at_the_target(debt, premium, target, credit):
    p = position(1e5, debt, premium=premium * debt, weight=0.8, credit=credit, other=1e6)
    call = _called(jnp.array(target), p, jnp.array([np.inf]))
    left = debt - float(call.repaid[0])
    if call.refusal[0] == Refusal.NONE and left > 0.0 and call.seized[0] < 1e5:
        health = 0.8 * (1e5 - float(call.seized[0])) / left
        assert_close(health, target, rtol=1e-9, atol=0.0)
        asked = float(debt_to_target(close_rule(jnp.array(target)), p)[0])
        assert_close(float(call.repaid[0]), asked, rtol=1e-12, atol=0.0)
    else:
        assert call.refusal[0] == Refusal.HEALTHY or left < 1000.0 or call.seized[0] == 1e5


@given(offers=st.lists(st.floats(100.0, 9e4), min_size=2, max_size=2))
def test_a_larger_offer_repays_no_less(offers):
    small, large = sorted(offers)
    p = position([1e5, 1e5], [8.5e4, 8.5e4])
    call = _called(jnp.array(1.05), p, jnp.array([small, large]))
    assert call.repaid[0] <= call.repaid[1]
    assert call.seized[0] <= call.seized[1]


def test_dust_rules_override_the_target():
    array = lambda x: jnp.array([x, x])
    rule = close_rule(jnp.array(1.1))
    # 500 more offered than the debt less 1,000: what is left is dust, so all of it or nothing.
    p = position([1e4, 1e4], [9e3, 9e3], credit=1.08)
    call = target_call(rule, p, jnp.array([8.5e3, 9e3]))
    assert call.refusal.tolist() == [Refusal.DUST, Refusal.NONE]
    assert call.repaid.tolist() == [0.0, 9e3]
    # 200 of collateral would stay against a debt that stays: all of it is taken.
    p = position([6e3, 6e3], [9e3, 9e3], credit=1.08, other=3e3, other_weight=0.8)
    call = target_call(rule, p, jnp.array([5.4e3, 6e3]))
    assert call.refusal.tolist() == [Refusal.DUST, Refusal.NONE]
    assert_close(call.repaid, [0.0, 6e3 / 1.08], rtol=1e-14, atol=0.0)
    assert call.seized.tolist() == [0.0, 6e3]
    # Other collateral is left, so nothing is written off.
    assert not call.exhausts.any()
    assert_close(call.bad_debt, array(0.0), rtol=0.0, atol=0.0)


def test_health_exactly_one_is_healthy_and_an_unreachable_target_takes_all():
    p = position([1e4, 1e4], [8e3, 8e3 * (1.0 + 1e-12)])
    call = target_call(close_rule(jnp.array(1.05)), p, jnp.array([np.inf, np.inf]))
    assert call.refusal.tolist() == [Refusal.HEALTHY, Refusal.NONE]
    # credit x weight above the target: each repayment lowers health.
    p = position([1e5, 1e5], [9e4, 9.3e4], weight=0.95, credit=1.12, other_debt=1e4)
    assert debt_to_target(close_rule(jnp.array(1.05)), p).tolist() == [np.inf, np.inf]
    call = target_call(close_rule(jnp.array(1.05)), p, jnp.array([np.inf, np.inf]))
    assert_close(call.seized, [1e5, 1e5], rtol=0.0, atol=0.0)
    assert_close(call.bad_debt, [1e5 - 1e5 / 1.12, 1.03e5 - 1e5 / 1.12], rtol=1e-12, atol=0.0)


def test_the_premium_is_repaid_first():
    p = position([1e5, 1e5], [9e4, 9e4], premium=2e4)
    call = target_call(close_rule(jnp.array(1.05)), p, jnp.array([1.5e4, 3e4]))
    assert call.repaid.tolist() == [1.5e4, 3e4]
    assert call.premium_repaid.tolist() == [1.5e4, 2e4]


def test_whole_shares_are_moved():
    p = position([1e4], [9.4e3], premium=300.3, weight=0.93, credit=1.03, fee=0.2)
    unit = lambda x: jnp.array([x])
    pair = dataclasses.replace(p.pair, collateral_unit=unit(1.0), debt_unit=unit(1.0))
    p = dataclasses.replace(p, pair=pair, collateral_share=unit(1.25), debt_share=unit(1.5))
    call = target_call(close_rule(jnp.array(1.03)), p, jnp.array([2000.0]))
    # 301 of the offer go to the premium, 1,699 are 1,132 shares; 1,998.3 x 1.03 is 2,058 in whole
    # units, which are 1,646 shares; a fifth of the bonus is 9.6 shares, charged as 10.
    drawn, seized = 1132 * 1.5, 1646 * 1.25
    assert_close(call.repaid, [drawn + 300.3], rtol=1e-14, atol=0.0)
    assert_close(call.seized, [seized], rtol=1e-14, atol=0.0)
    assert_close(call.fee, [10 * 1.25], rtol=1e-14, atol=0.0)


@pytest.mark.slow
def test_single_precision_agrees():
    p = position([1e4, 8e4, 3e3, 5e4], [9e3, 7e4, 9e3, 3.5e4], premium=[90.0, 700.0, 0.0, 0.0])
    repay = jnp.array([9e3, 2e4, jnp.inf, jnp.inf])
    single = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float32), tree)
    exact = target_call(close_rule(jnp.array(1.1)), p, repay)
    rough = target_call(close_rule(jnp.float32(1.1), jnp.float32), single(p), single(repay))
    assert exact.refusal.tolist() == rough.refusal.tolist() == [0, 0, 0, Refusal.HEALTHY]
    for name in FIELDS:
        value = getattr(rough, name)
        assert value.dtype == jnp.float32
        assert_close(value, getattr(exact, name), rtol=1e-6, atol=1e-3)


@pytest.mark.slow
def test_derivatives_at_the_kinks_are_finite():
    """Health 1, nothing owed, nothing held, no limit, dust at its limit, target out of reach."""
    p = position(
        [1e4, 1e4, 0.0, 1e5, 1e5, 1e4],
        [8e3, 0.0, 9e3, 9e4, 9e4, 1.1e4],
        premium=[0.0, 0.0, 0.0, 1e3, 1e3, 0.0],
        weight=[0.8, 0.8, 0.8, 0.8, 0.8, 1.0],
    )
    repay = jnp.array([8e3, 1.0, 9e3, np.inf, 8.9e4, 1e4])

    def total(p, target):
        call = target_call(close_rule(target), p, repay)
        return jnp.sum(call.repaid + call.seized + call.fee + call.bad_debt)

    slopes = jax.grad(total, argnums=(0, 1))(p, jnp.array(1.05))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(slopes))
    # To the target: dx / dT = (D - x) / (T - c k).
    one = position(1e5, 9e4)
    x = lambda target: debt_to_target(close_rule(target), one)[0]
    slope, value = jax.grad(x)(jnp.array(1.05)), float(x(jnp.array(1.05)))
    assert_close(slope, (9e4 - value) / (1.05 - 1.05 * 0.8), rtol=1e-12, atol=0.0)
