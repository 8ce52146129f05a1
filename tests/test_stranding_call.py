"""Calls of a venue that never writes debt off: figures, a scalar reference, what is stranded."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.position import Position
from jaxrisk.venue.presets.aave_v3_legacy import close_rule
from jaxrisk.venue.settlement import Refusal
from jaxrisk.venue.stranding_call import stranding_call
from tests.helpers import assert_close

FIELDS = ("repaid", "seized", "fee", "bad_debt", "stranded")


def position(collateral: Any, debt: Any, dtype: Any = float, **others: Any) -> Position:
    """Return positions; others are `other`, `other_debt`, `threshold`, `bonus`, `fee`."""
    array = lambda x: jnp.atleast_1d(jnp.asarray(x, dtype))
    held, owed = array(collateral), array(debt)
    of = lambda name, default: jnp.broadcast_to(array(others.get(name, default)), held.shape)
    return Position(
        collateral=held,
        debt=owed,
        total_collateral=held + of("other", 0.0),
        total_debt=owed + of("other_debt", 0.0),
        backing=of("threshold", 0.8) * (held + of("other", 0.0)),
        credit=1.0 + of("bonus", 0.05),
        fee_share=of("fee", 0.1),
    )


def reference_call(p, backs, repay, n):
    """Return the call on account `n` from the formulas, one number at a time."""
    get = lambda leaf: float(np.asarray(leaf)[n])
    nothing = dict.fromkeys(FIELDS, 0.0)
    held, owed, total, credit = (get(x) for x in (p.collateral, p.debt, p.total_debt, p.credit))
    health = get(p.backing) / total if total else np.inf
    if health >= 1:
        return Refusal.HEALTHY, nothing
    if not backs:
        return Refusal.NOT_COLLATERAL, nothing
    if owed == 0:
        return Refusal.NOTHING_OWED, nothing
    x = min(repay, owed if health <= 0.95 else owed / 2)
    s = x * credit
    if s > held:
        s, x = held, held / credit
    stranded = total - x if s >= get(p.total_collateral) else 0.0
    values = (x, s, get(p.fee_share) * (s - s / credit), 0.0, stranded)
    return Refusal.NONE, dict(zip(FIELDS, values, strict=True))


def test_a_recorded_call_that_strands_debt():
    """Restated from Aave v3.0.2: dollars of DAI taken for ether, 0.0155 ether left unpaid."""
    ether, dai = 5381.03906577, 0.43691564
    p = position(398.333569006192260079 * dai, 0.04648012597087378 * ether, bonus=0.045)
    offer = jnp.array([0.041890960887959264 * ether])
    call = stranding_call(close_rule(), p, jnp.array([True]), offer)
    assert_close(call.repaid / ether, [0.030950100475319454], rtol=1e-9, atol=0.0)
    assert_close((call.seized - call.fee) / dai, [396.618256986548369964], rtol=1e-9, atol=0.0)
    assert_close(call.fee / dai, [1.715312019643890115], rtol=1e-9, atol=0.0)
    assert_close(call.stranded / ether, [0.015530025495554326], rtol=1e-9, atol=0.0)
    assert call.bad_debt.tolist() == [0.0]
    assert call.exhausts.tolist() == [True]


@jax.jit
def _called(p, backs, repay):
    return stranding_call(close_rule(jnp.float64), p, backs, repay)


VALUES = st.lists(st.one_of(st.just(0.0), st.floats(1.0, 1e5)), min_size=3, max_size=3)


@given(
    collateral=st.lists(st.floats(1.0, 1e5), min_size=3, max_size=3),
    debt=VALUES,
    other=st.sampled_from([0.0, 10.0, 3e4]),
    backs=st.lists(st.booleans(), min_size=3, max_size=3),
    bonus=st.floats(0.001, 0.15),
    share=st.one_of(st.just(np.inf), st.floats(0.01, 1.5)),
)
def test_calls_are_those_of_the_reference(collateral, debt, other, backs, bonus, share):
    p = position(collateral, debt, other=other, other_debt=other + 1.0, bonus=bonus)
    with np.errstate(invalid="ignore"):
        repay = np.nan_to_num(share * np.array(debt), posinf=1e300)
    call = _called(p, jnp.asarray(backs), jnp.asarray(repay))
    for n in range(3):
        refusal, expected = reference_call(p, backs[n], repay[n], n)
        assert call.refusal[n] == refusal
        actual = [getattr(call, name)[n] for name in FIELDS]
        assert_close(actual, list(expected.values()), rtol=1e-10, atol=1e-9)


@given(
    collateral=st.lists(st.floats(1.0, 1e5), min_size=3, max_size=3),
    debt=VALUES,
    offers=VALUES,
)
def test_what_leaves_one_side_arrives_on_the_other(collateral, debt, offers):
    p, yes = position(collateral, debt), jnp.array([True] * 3)
    call = jax.tree.map(np.asarray, _called(p, yes, jnp.asarray(offers)))
    assert (call.repaid <= np.minimum(debt, offers) * (1 + 1e-12)).all()
    assert (call.seized <= np.array(collateral)).all()
    assert_close(call.seized, 1.05 * call.repaid, rtol=1e-12, atol=1e-12)
    assert ((call.fee >= 0.0) & (call.fee <= 0.1 * 0.05 * call.repaid + 1e-9)).all()
    # Nothing is forgiven: what is not repaid is still owed, by someone without collateral or with.
    assert (call.bad_debt == 0.0).all()
    owed = np.array(debt) - call.repaid
    assert_close(call.stranded, np.where(call.exhausts, owed, 0.0), rtol=1e-12, atol=1e-9)
    more = jax.tree.map(np.asarray, _called(p, yes, jnp.asarray(offers) + 100.0))
    assert (more.repaid >= call.repaid).all()


def test_refusals_in_the_order_of_the_contract():
    p = position([1e4] * 4, [8e3, 9e3, 9e3, 0.0], other_debt=[0.0, 0.0, 0.0, 9e3])
    backs = jnp.array([False, False, True, True])
    call = stranding_call(close_rule(), p, backs, jnp.full(4, jnp.inf))
    kinds = [Refusal(int(r)).name for r in call.refusal]
    assert kinds == ["HEALTHY", "NOT_COLLATERAL", "NONE", "NOTHING_OWED"]
    assert call.repaid.tolist() == [0.0, 0.0, 9e3, 0.0]


@pytest.mark.slow
def test_single_precision_and_derivatives():
    def case(dtype):
        p = position(
            [1e4, 0.0, 1e4, 1e4], [8e3, 9e3, 9.6e3, 8.1e3], dtype, other_debt=[0.0, 0.0, 0.0, 1.0]
        )
        return p, jnp.array([True] * 4), jnp.asarray([1e9, 9e3, np.inf, 1.0], dtype)

    exact = stranding_call(close_rule(), *case(float))
    rough = stranding_call(close_rule(jnp.float32), *case(jnp.float32))
    for name in FIELDS:
        assert getattr(rough, name).dtype == jnp.float32
        assert_close(getattr(rough, name), getattr(exact, name), rtol=1e-6, atol=1e-3)
    p, backs, repay = case(float)

    def total(p):
        call = stranding_call(close_rule(), p, backs, repay)
        return jnp.sum(call.repaid + call.seized + call.fee + call.stranded)

    slopes = jax.grad(total)(p)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(slopes))
