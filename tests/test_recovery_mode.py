"""Liquidations in and out of recovery mode: recorded figures, the rule account by account."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.typing import DTypeLike

from jaxrisk.venue.recovery_mode import (
    Borrowers,
    RecoveryRules,
    recovery_call,
    recovery_mode,
    system_ratio,
)
from jaxrisk.venue.stability_pool import PoolRefusal
from tests.helpers import assert_close

PARTS = ("repaid", "seized", "fee", "refund", "redistributed_debt", "redistributed_collateral")


def rules(dtype: DTypeLike = np.float64):
    number = lambda x: jnp.asarray(x, dtype)
    return RecoveryRules(
        minimum_ratio=number(1.1), critical_ratio=number(1.5), fee_share=number(0.005)
    )


def called(collateral, debt, price, pool, dtype: DTypeLike = np.float64):
    array = lambda x: jnp.asarray(x, dtype)
    borrowers = Borrowers(collateral=array(collateral), debt=array(debt))
    return recovery_call(rules(dtype), borrowers, price=array(price), pool=array(pool))


def one(collateral, debt, n, price, pool):
    """Return the six amounts of account `n`, or why it stays."""
    value = collateral[n] * price
    system = sum(collateral) * price / sum(debt)
    if sum(d > 0 for d in debt) <= 1:
        return PoolRefusal.LAST_ACCOUNT
    recovering = system < 1.5
    ratio = value / debt[n]
    if ratio >= 1.1:
        if not (recovering and ratio < system and debt[n] <= pool):
            return PoolRefusal.HEALTHY
        taken = 1.1 * debt[n] / price
        fee = 0.005 * taken
        return debt[n], taken - fee, fee, collateral[n] - taken, 0.0, 0.0
    fee = 0.005 * collateral[n]
    paid = 0.0 if recovering and ratio <= 1 else min(debt[n], pool)
    given_up = (collateral[n] - fee) * paid / debt[n]
    return paid, given_up, fee, 0.0, debt[n] - paid, collateral[n] - fee - given_up


def test_a_recorded_liquidation_capped_at_110_percent():
    """Liquity v1 TroveManager.liquidate (14de1c1b), a system of three at 139 % of its debt."""
    price, debt, ratio = 2054.853786098648219648, 52846.741284813401331306, 1.276653307511582738
    collateral = [ratio * debt / price, 100.0, 100.0]
    others = (sum(collateral) * price / 1.394871505628994809 - debt) / 2
    call = called(collateral, [debt, others, others], price, 108317.254416933050634610)
    actual = [float(getattr(call, part)[0]) for part in PARTS]
    recorded = [debt, 28.148357186057948765, 0.141449031085718335, 4.543170761018332204, 0.0, 0.0]
    assert_close(actual, recorded, rtol=1e-12, atol=1e-12)


def test_a_recorded_liquidation_shared_by_the_pool_and_the_others():
    """Liquity v1 TroveManager.liquidate (14de1c1b), normal mode."""
    debt, paid = 7851.725515221366446489, 1657.305165937788479080
    collateral = 3.369000905496113731 + 0.016929652791437757
    call = called([collateral, 100.0], [debt, 1e4], 2486.222321154155610112, paid)
    actual = [call.repaid[0], call.seized[0], call.fee[0], call.redistributed_debt[0]]
    recorded = [paid, 0.711112811305449703, 0.016929652791437757, 6194.420349283577967409]
    assert_close(actual, recorded, rtol=1e-12, atol=0.0)


RATIOS = st.lists(st.floats(0.5, 2.5), min_size=4, max_size=4)
DEBTS = st.lists(st.floats(1e3, 1e5), min_size=4, max_size=4)


@given(
    ratio=RATIOS,
    debt=DEBTS,
    price=st.floats(1.0, 1e4),
    pool=st.one_of(st.just(0.0), st.floats(1e-6, 2e5)),
)
def test_calls_are_those_of_the_rule_and_conserve(ratio, debt, price, pool):
    held = (np.array(ratio) * np.array(debt) / price).tolist()
    call = called(held, debt, price, pool)
    for n in range(4):
        expected = one(held, debt, n, price, pool)
        if isinstance(expected, PoolRefusal):
            assert call.refusal[n] == expected
            expected = (0.0,) * 6
        else:
            assert call.refusal[n] == PoolRefusal.NONE
            owed = call.repaid[n] + call.redistributed_debt[n]
            assert_close(owed, debt[n], rtol=1e-12, atol=0.0)
            parts = [getattr(call, p)[n] for p in PARTS if "debt" not in p and p != "repaid"]
            assert_close(sum(parts), held[n], rtol=1e-12, atol=0.0)
        actual = [getattr(call, part)[n] for part in PARTS]
        assert_close(actual, expected, rtol=1e-11, atol=1e-11)
        assert min(float(x) for x in actual) >= -1e-12 * held[n]
        assert float(call.repaid[n]) <= pool


def test_recovery_mode_begins_below_the_critical_ratio_of_the_whole():
    at = lambda collateral: Borrowers(
        collateral=jnp.array([collateral, 0.0]), debt=jnp.array([50.0, 50.0])
    )
    price = jnp.array(1.0)
    assert float(system_ratio(at(150.0), price)) == 1.5
    assert not recovery_mode(rules(), at(150.0), price)
    assert recovery_mode(rules(), at(149.9), price)


def test_the_last_account_stays_and_a_closed_one_is_healthy():
    call = called([1.0, 0.0], [100.0, 0.0], 50.0, 1e3)
    assert call.refusal.tolist() == [PoolRefusal.LAST_ACCOUNT, PoolRefusal.HEALTHY]
    assert float(call.repaid.sum()) == 0.0


@pytest.mark.slow
def test_single_precision_agrees():
    rng = np.random.default_rng(3)
    debt = rng.uniform(1e3, 1e5, 64)
    held = rng.uniform(0.6, 1.9, 64) * debt / 2e3
    double, single = (called(held, debt, 2e3, 3e4, t) for t in (np.float64, np.float32))
    assert single.seized.dtype == np.float32
    assert (single.refusal == double.refusal).all()
    for part in PARTS:
        assert_close(getattr(single, part), getattr(double, part), rtol=1e-5, atol=1e-2)


@pytest.mark.slow
def test_gradients_are_finite_without_debt_at_the_thresholds_and_without_a_pool():
    def total(collateral, debt, price, pool, r):
        borrowers = Borrowers(collateral=collateral, debt=debt)
        call = recovery_call(r, borrowers, price=price, pool=pool)
        return sum(jnp.sum(getattr(call, part)) for part in PARTS)

    held, owed = jnp.array([0.0, 1.0, 1.1, 1.5]), jnp.array([0.0, 1.0, 1.0, 1.0])
    for pool in (0.0, 1.0, 5.0):
        gradients = jax.grad(total, argnums=(0, 1, 2, 3, 4))(
            held, owed, jnp.array(1.0), jnp.array(pool), rules()
        )
        for leaf in jax.tree.leaves(gradients):
            assert np.isfinite(leaf).all()
