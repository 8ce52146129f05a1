"""Liquidation at a penalty: a recorded call, lists one by one, what the owner keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.typing import DTypeLike

from jaxrisk.venue.penalty_liquidation import Branch, PenaltyRules, penalty_calls
from jaxrisk.venue.stability_pool import PoolRefusal
from tests.helpers import assert_close

PARTS = ("repaid", "seized", "fee", "refund", "redistributed_debt", "redistributed_collateral")


def rules(dtype: DTypeLike = np.float64, **changes):
    values = {
        "minimum_ratio": 1.2,
        "pool_penalty": 0.05,
        "peer_penalty": 0.1,
        "fee_share": 0.005,
        "fee_cap": 2.0,
    }
    return PenaltyRules(**{k: jnp.asarray(v, dtype) for k, v in {**values, **changes}.items()})


def called(
    collateral, debt, order, price, pool, dtype: DTypeLike = np.float64, is_open=None, **changes
):
    array = lambda x: jnp.asarray(x, dtype)
    branch = Branch(
        collateral=array(collateral),
        debt=array(debt),
        is_open=jnp.asarray(np.array(debt) > 0 if is_open is None else is_open),
    )
    return penalty_calls(
        rules(dtype, **changes), branch, order=array(order), price=array(price), pool=array(pool)
    )


def one_by_one(collateral, debt, order, price, pool):
    """Return the six amounts of each account, closing them in order."""
    out = np.zeros((len(debt), 6))
    for n in sorted(range(len(debt)), key=lambda n: order[n]):
        if np.isinf(order[n]) or collateral[n] * price / debt[n] >= 1.2:
            continue
        paid = min(pool, debt[n])
        pool -= paid
        part = collateral[n] * paid / debt[n]
        fee = min(0.005 * part, 2.0)
        to_pool = min(part - fee, 1.05 * paid / price)
        surplus = part - fee - to_pool
        to_peers = 0.0
        if debt[n] > paid:
            available = collateral[n] - part + surplus
            to_peers = min(available, 1.1 * (debt[n] - paid) / price)
            surplus = available - to_peers
        out[n] = paid, to_pool, fee, surplus, debt[n] - paid, to_peers
    return out


def test_a_recorded_liquidation_shared_by_the_pool_and_the_others():
    """Liquity v2 TroveManager.batchLiquidateTroves (405f9122): one of four, at 95.9 %."""
    call = called(
        [59.0, 4.194278433680976384], [2.4e4, 5970.629658556085046939], [np.inf, 0.0],
        1365.607776224401424384, 4655.049586934973398204, pool_penalty=0.07, minimum_ratio=1.1,
    )  # fmt: skip
    actual = [float(getattr(call, part)[1]) for part in PARTS]
    recorded = [4655.049586934973398204, 3.253752506974960116, 0.016350515110426935, 0.0,
                1315.580071621111648735, 0.924175411595589333]  # fmt: skip
    assert_close(actual, recorded, rtol=1e-12, atol=1e-15)


RATIOS = st.lists(st.floats(0.5, 1.5), min_size=4, max_size=4)
DEBTS = st.lists(st.floats(2e3, 1e6), min_size=4, max_size=4)


@given(
    ratio=RATIOS,
    debt=DEBTS,
    order=st.permutations([0.0, 1.0, 2.0, np.inf]),
    price=st.floats(10.0, 1e4),
    pool=st.one_of(st.just(0.0), st.floats(1e-6, 2e6)),
)
def test_lists_are_closed_one_by_one_and_conserve(ratio, debt, order, price, pool):
    held = np.array(ratio) * np.array(debt) / price
    call = called(held, debt, order, price, pool)
    expected = one_by_one(held.tolist(), debt, order, price, pool)
    for k, part in enumerate(PARTS):
        assert_close(getattr(call, part), expected[:, k], rtol=1e-11, atol=1e-9)
    closed = np.asarray(call.refusal) == PoolRefusal.NONE
    debts = np.asarray(call.repaid + call.redistributed_debt)
    assert_close(debts[closed], np.array(debt)[closed], rtol=1e-12, atol=0.0)
    parts = (call.seized, call.fee, call.refund, call.redistributed_collateral)
    assert_close(np.sum(parts, axis=0)[closed], held[closed], rtol=1e-12, atol=0.0)
    assert float(call.repaid.sum()) <= pool * (1 + 1e-12)
    # Nobody takes more than debt and penalty, and the owner gets nothing back below that.
    value = (np.asarray(call.seized) + np.asarray(call.redistributed_collateral)) * price
    assert (value <= 1.1 * np.array(debt) * (1 + 1e-12)).all()


def test_refusals():
    inf = np.inf
    call = called([1.0, 3.0, 1.0], [1.0, 1.0, 1.0], [0.0, 1.0, inf], 1.0, 9.0)
    assert call.refusal.tolist() == [
        PoolRefusal.NONE,
        PoolRefusal.HEALTHY,
        PoolRefusal.NOT_CALLED,
    ]
    # Exactly at the ratio an account is healthy.
    assert called([1.25, 9.0], [1.0, 1.0], [0.0, inf], 1.0, 9.0, minimum_ratio=1.25).refusal[0] == (
        PoolRefusal.HEALTHY
    )
    everyone = called([1.0, 1.0], [1.0, 1.0], [0.0, 1.0], 1.0, 9.0)
    assert everyone.refusal.tolist() == [PoolRefusal.LAST_ACCOUNT] * 2
    assert float(everyone.repaid.sum() + everyone.redistributed_debt.sum()) == 0.0
    # An open account without debt is somebody to hand debt to.
    call = called([1.0, 1.0], [1.0, 0.0], [0.0, inf], 1.0, 9.0, is_open=[True, True])
    assert call.refusal[0] == PoolRefusal.NONE


@pytest.mark.parametrize(("collateral", "fee"), [(100.0, 0.5), (1e3, 2.0)])
def test_the_callers_fee_is_a_share_up_to_a_cap_and_only_of_the_pools_part(collateral, fee):
    lists = ([collateral, 1e4], [1e4, 1e4], [0.0, np.inf])
    assert float(called(*lists, 1e4 / collateral, 1e9).fee[0]) == fee
    assert float(called(*lists, 1e4 / collateral, 0.0).fee[0]) == 0.0


def test_the_peers_penalty_eats_what_the_pools_leaves():
    """Ratio 1.08 and half of it pooled: 1.5 % is left of that half, and the others take it."""
    call = called([1.08, 9.0], [1.0, 1.0], [0.0, np.inf], 1.0, 0.5, fee_share=0.0)
    actual = [call.seized[0], call.redistributed_collateral[0], call.refund[0]]
    assert_close(actual, [0.525, 0.55, 0.005], rtol=1e-12, atol=1e-15)
    call = called([1.06, 9.0], [1.0, 1.0], [0.0, np.inf], 1.0, 0.5, fee_share=0.0)
    actual = [call.seized[0], call.redistributed_collateral[0], call.refund[0]]
    assert_close(actual, [0.525, 0.535, 0.0], rtol=1e-12, atol=1e-15)


@pytest.mark.slow
def test_single_precision_agrees():
    rng = np.random.default_rng(5)
    debt = rng.uniform(2e3, 1e5, 32)
    held = rng.uniform(0.7, 1.6, 32) * debt / 2e3
    order = rng.permutation(32).astype(float)
    double, single = (called(held, debt, order, 2e3, 5e5, t) for t in (np.float64, np.float32))
    assert single.seized.dtype == np.float32
    assert (single.refusal == double.refusal).all()
    for part in PARTS:
        assert_close(getattr(single, part), getattr(double, part), rtol=1e-5, atol=0.2)


@pytest.mark.slow
def test_gradients_are_finite_at_the_kinks():
    def total(collateral, debt, price, pool, r):
        branch = Branch(collateral=collateral, debt=debt, is_open=jnp.ones(4, bool))
        order = jnp.array([0.0, 1.0, 2.0, jnp.inf])
        call = penalty_calls(r, branch, order=order, price=price, pool=pool)
        return sum(jnp.sum(getattr(call, part)) for part in PARTS)

    held, owed = jnp.array([0.0, 1.05, 1.2, 9.0]), jnp.array([0.0, 1.0, 1.0, 1.0])
    for pool in (0.0, 1.0, 2.0):
        gradients = jax.grad(total, argnums=(0, 1, 2, 3, 4))(
            held, owed, jnp.array(1.0), jnp.array(pool), rules()
        )
        for leaf in jax.tree.leaves(gradients):
            assert np.isfinite(leaf).all()
