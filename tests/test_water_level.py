"""Liquidation by level: against bisection, conservation, absorption, refusals, derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.presets.fluid import vault_rule
from jaxrisk.venue.water_level import LevelBook, LevelRefusal, Ticks, WaterLevel
from tests.helpers import assert_close

COUNT = 5
TOLERANCE = {np.float32: {"rtol": 2e-4, "atol": 0.05}, np.float64: {"rtol": 1e-10, "atol": 1e-8}}
DEBTS = st.lists(st.one_of(st.just(0.0), st.floats(10.0, 1e3)), min_size=COUNT, max_size=COUNT)
RATIOS = st.lists(st.floats(0.7, 1.0), min_size=COUNT, max_size=COUNT)
OFFERS = st.one_of(st.just(1e9), st.floats(0.1, 3e3))


def rule(penalty=0.01, dtype=np.float64, *, ticks=False):
    one = lambda x: jnp.asarray(x, dtype)
    return WaterLevel(
        liquidation_threshold=one(0.8), absorption_threshold=one(0.9), penalty=one(penalty),
        ticks=Ticks(spacing=one(0.0015), origin=one(1.0)) if ticks else None,
        minimum_amount=one(1e-6), minimum_share=one(1e-9),
    )  # fmt: skip


def book(debt, ratio, pool=(0.0, 0.0), dtype=np.float64):
    """Return accounts by debt and debt per collateral."""
    held = np.asarray(debt) / np.asarray(ratio)
    return LevelBook(
        debt=jnp.asarray(debt, dtype), collateral=jnp.asarray(held, dtype),
        absorbed_debt=jnp.asarray(pool[0], dtype), absorbed_collateral=jnp.asarray(pool[1], dtype),
    )  # fmt: skip


@functools.cache
def compiled():
    return jax.jit(WaterLevel.call)


def called(vault, held, amount, *, price=1.0, take=False, dtype=np.float64):
    number = lambda x: jnp.asarray(x, dtype)
    return compiled()(vault, held, number(price), number(amount), jnp.asarray(take))


def reference(debt, ratio, amount, penalty, price=1.0):
    """Return (repaid an account, absorbed, level) by bisection on the level, in NumPy."""
    debt, ratio = np.asarray(debt, float), np.asarray(ratio, float)
    held = debt / ratio
    absorbed = (debt > 0) & (ratio > 0.9 * price)
    left, credit, floor = np.where(absorbed, 0.0, debt), (1 + penalty) / price, 0.8 * price
    repaid = lambda r: np.maximum(left - r * held, 0.0) / (1.0 - credit * r) * (left > 0)
    low, high = floor, 0.9 * price
    if repaid(floor).sum() > amount:
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if repaid(middle).sum() > amount else (low, middle)
    return repaid(low), absorbed, low


@given(debt=DEBTS, ratio=RATIOS, amount=OFFERS, penalty=st.floats(0.0, 0.1))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_call_is_that_of_bisection(dtype, debt, ratio, amount, penalty):
    held = book(debt, ratio, dtype=dtype)
    ratio = np.asarray(held.debt, float) / np.where(np.asarray(held.collateral), held.collateral, 1)
    edges = np.abs(ratio - 0.9) < 1e-4
    if edges.any():
        return
    repaid, absorbed, _ = reference(
        np.asarray(held.debt), np.where(ratio > 0, ratio, 1), amount, penalty
    )
    call = called(rule(penalty, dtype), held, amount, dtype=dtype)
    if LevelRefusal(int(call.refusal)) != LevelRefusal.NONE:
        assert repaid.sum() <= 1e-3
        assert call.account_repaid.tolist() == [0.0] * COUNT
        return
    assert call.absorbed.tolist() == absorbed.tolist()
    assert_close(call.account_repaid, repaid, **TOLERANCE[dtype])
    seized = (1 + penalty) * repaid
    assert_close(call.account_seized, seized, **TOLERANCE[dtype])


@given(
    debt=DEBTS,
    ratio=RATIOS,
    amount=OFFERS,
    pool=st.floats(0.0, 500.0),
    take=st.booleans(),
    ticks=st.booleans(),
)
def test_what_leaves_the_book_arrives(debt, ratio, amount, pool, take, ticks):
    held = book(debt, ratio, (pool, 1.1 * pool))
    call = called(rule(ticks=ticks), held, amount, take=take)
    owed = lambda b: float(b.debt.sum() + b.absorbed_debt)
    backed = lambda b: float(b.collateral.sum() + b.absorbed_collateral)
    total = owed(held) + 1.0
    assert_close(owed(call.book) + float(call.repaid), owed(held), rtol=1e-12, atol=1e-12 * total)
    assert_close(
        backed(call.book) + float(call.seized), backed(held), rtol=1e-12, atol=1e-12 * total
    )
    assert -1e-9 <= float(call.repaid) <= amount * (1 + 1e-12) + 1e-9
    for left in (call.book.debt, call.book.collateral):
        assert float(left.min()) >= -1e-9
    assert float(call.book.absorbed_debt) >= 0.0
    if int(call.refusal) != LevelRefusal.NONE:
        assert float(call.repaid) == float(call.seized) == 0.0


@given(debt=DEBTS, ratio=RATIOS, amount=OFFERS)
def test_whoever_is_drawn_down_ends_at_the_level_and_nobody_else_pays(debt, ratio, amount):
    call = called(rule(), book(debt, ratio), amount)
    if int(call.refusal) != LevelRefusal.NONE:
        return
    level = float(call.level)
    assert level >= 0.8
    for owed, backed, repaid in zip(
        *(np.asarray(x) for x in (call.book.debt, call.book.collateral, call.account_repaid)),
        strict=True,
    ):
        if repaid > 0:
            assert_close(owed / backed, level, rtol=1e-9, atol=0.0)
        elif owed > 0:
            assert owed / backed <= level * (1 + 1e-9)


@given(debt=DEBTS, ratio=RATIOS, low=OFFERS, high=OFFERS)
def test_a_larger_offer_draws_down_further(debt, ratio, low, high):
    low, high = sorted((low, high))
    less, more = (called(rule(), book(debt, ratio), x) for x in (low, high))
    if int(less.refusal) == int(more.refusal) == LevelRefusal.NONE:
        assert float(more.level) <= float(less.level) * (1 + 1e-12)
        assert (more.account_repaid >= less.account_repaid - 1e-9).all()


@given(debt=DEBTS, ratio=RATIOS, amount=OFFERS, seed=st.integers(0, 100))
def test_the_order_of_accounts_does_not_matter(debt, ratio, amount, seed):
    order = np.random.default_rng(seed).permutation(COUNT)
    plain = called(rule(), book(debt, ratio), amount)
    mixed = called(rule(), book(np.asarray(debt)[order], np.asarray(ratio)[order]), amount)
    assert_close(
        mixed.account_repaid, np.asarray(plain.account_repaid)[order], rtol=1e-9, atol=1e-9
    )


def test_a_worked_example():
    """Two accounts at 0.88 and 0.84 of 100 collateral; no penalty; the price is 1. By hand.

    To 0.84 the first repays (88 - 84) / 0.16 = 25. From there both are one of 147 on 175; an offer
    of 40 leaves 15 for them: 132 on 160, a level of 0.825. The floor of 0.8 takes 25 + 35.
    """
    held = book([88.0, 84.0], [0.88, 0.84])
    none = rule(penalty=0.0)
    first = called(none, held, 25.0)
    assert_close(first.account_repaid, [25.0, 0.0], rtol=1e-12, atol=1e-9)
    both = called(none, held, 40.0)
    assert_close(both.level, 0.825, rtol=1e-12, atol=0.0)
    assert_close(both.account_repaid, [(88 - 82.5) / 0.175, 1.5 / 0.175], rtol=1e-12, atol=0.0)
    floor = called(none, held, 1e3)
    assert_close(floor.repaid, 60.0, rtol=1e-12, atol=0.0)
    assert_close(floor.level, 0.8, rtol=1e-12, atol=0.0)


def test_accounts_above_the_limit_are_absorbed_and_sold_at_their_pooled_ratio():
    held = book([95.0, 120.0, 85.0, 50.0], [0.95, 1.2, 0.85, 0.5])
    only = called(rule(), held, 0.0)
    assert only.absorbed.tolist() == [True, True, False, False]
    assert [float(x) for x in (only.repaid, only.book.absorbed_debt)] == [0.0, 215.0]
    # 215 of debt on collateral worth 200.
    assert_close(only.bad_debt, 15.0, rtol=1e-12, atol=0.0)
    half = called(rule(), held, 107.5, take=True)
    assert_close([half.repaid, half.seized], [107.5, 100.0], rtol=1e-12, atol=0.0)
    assert half.account_repaid.tolist() == [0.0] * 4
    more = called(rule(penalty=0.0), held, 1e9, take=True)
    assert_close(more.repaid, 215.0 + (85.0 - 80.0) / 0.2, rtol=1e-12, atol=0.0)
    assert float(more.book.absorbed_collateral) == 0.0


def test_a_recorded_vault():
    """Five accounts of one tick drawn down to the threshold tick, in whole tokens.

    Price 1,807 debt tokens less decimals; ticks -13,634 and below; what the contract returned.
    """
    ticks = np.array([-13634.0] * 4 + [-13681.0, -13681.0, -13694.0, -13678.0])
    shown = [
        (224693664901, 22888023), (79741040, 8120), (13266672774, 1351384), (7173580251, 730722),
        (104768778961, 100204179), (2639168413, 2922656), (428144276933, 83330397),
        (20937695587, 13129829),
    ]  # fmt: skip
    more = [(217642794, 22168), (2174384544, 221488), (230207365, 23448)]
    ticks = np.concatenate([ticks, [-13634.0] * 3])
    debt = np.array([float(a + b) for a, b in shown + more])
    one = jnp.asarray
    vault = vault_rule(
        liquidation_threshold=one(0.71), absorption_threshold=one(0.79), penalty=one(0.02)
    )
    assert vault.ticks is not None
    held = LevelBook(
        debt=one(debt), collateral=one(debt / np.asarray(vault.ticks.ratio(one(ticks)))),
        absorbed_debt=one(0.0), absorbed_collateral=one(0.0),
    )  # fmt: skip
    call = called(vault, held, 229403628851.0, price=1806858712730482000e-27)
    assert_close(call.repaid, 34305970775.0, rtol=1e-9, atol=0.0)
    assert_close(call.seized, 19366256998379681750.0, rtol=1e-9, atol=0.0)
    assert_close(jnp.log(call.level) / np.log1p(0.0015), -13660.0, rtol=0.0, atol=1e-6)


def refusal(held, amount, *, take=False, ticks=True, price=1.0):
    call = called(rule(ticks=ticks), held, amount, take=take, price=price)
    return LevelRefusal(int(call.refusal))


def test_refusals():
    sound, weak = book([50.0, 60.0], [0.5, 0.6]), book([50.0, 85.0], [0.5, 0.85])
    lost = book([95.0, 99.0], [0.95, 0.99])
    assert refusal(sound, 10.0) == LevelRefusal.NOTHING
    assert refusal(weak, 10.0) == LevelRefusal.NONE
    assert refusal(weak, 0.0) == LevelRefusal.TOO_SMALL
    assert refusal(weak, 1e-7) == LevelRefusal.TOO_SMALL
    # Absorbing is all that an offer of nothing does.
    assert refusal(lost, 0.0) == LevelRefusal.NONE
    # Where no account is left, the rest of an offer finds a vault whose top reads as tick 0.
    assert refusal(lost, 10.0) == LevelRefusal.EMPTIED
    assert refusal(lost, 10.0, take=True) == LevelRefusal.NONE
    assert refusal(lost, 1e3, take=True) == LevelRefusal.EMPTIED
    assert refusal(lost, 10.0, ticks=False) == LevelRefusal.NOTHING
    assert refusal(book([95.0], [95.0]), 10.0, price=2.0) == LevelRefusal.NOTHING
    assert refusal(book([0.0, 0.0], [0.5, 0.5], (9.0, 9.0)), 1.0, take=True) == LevelRefusal.EMPTY


def test_a_second_call_finds_nothing_at_the_floor():
    weak = book([50.0, 85.0], [0.5, 0.85])
    for ticks in (False, True):
        first = called(rule(ticks=ticks), weak, 1e3)
        assert int(first.refusal) == LevelRefusal.NONE
        assert refusal(first.book, 1e3, ticks=ticks) == LevelRefusal.NOTHING


def test_a_refused_call_leaves_the_vault_as_it_was():
    lost = book([95.0, 99.0], [0.95, 0.99], (5.0, 6.0))
    call = called(rule(ticks=True), lost, 1e3)
    assert int(call.refusal) == LevelRefusal.EMPTIED
    for before, after in zip(jax.tree.leaves(lost), jax.tree.leaves(call.book), strict=True):
        assert before.tolist() == after.tolist()


@given(tick=st.integers(-20000, 20000))
def test_ticks_round_down(tick):
    grid = Ticks(spacing=jnp.array(0.0015), origin=jnp.array(100.0))
    exact = 100.0 * np.exp(tick * np.log1p(0.0015))
    assert_close(grid.ratio(jnp.array(float(tick))), exact, rtol=1e-13, atol=0.0)
    assert_close(grid.floor(jnp.array(exact * 1.0007)), exact, rtol=1e-12, atol=0.0)


@functools.cache
def slopes(dtype):
    number = lambda x: jnp.asarray(x, dtype)

    def total(debt, collateral, price, amount):
        held = LevelBook(
            debt=debt, collateral=collateral, absorbed_debt=number(0.0),
            absorbed_collateral=number(0.0),
        )  # fmt: skip
        call = rule(0.0, dtype).call(held, price, amount, jnp.asarray(True))
        return call.repaid + 2.0 * call.seized + call.bad_debt + (call.account_repaid**2).sum()

    return jax.jit(jax.grad(total, argnums=(0, 1, 2, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("amount", [0.0, 25.0, 60.0, np.inf])
@pytest.mark.parametrize(
    "debt", [[88.0, 84.0], [0.0, 84.0], [0.0, 0.0], [80.0, 90.0], [95.0, 99.0]]
)
def test_derivatives_are_finite_at_the_kinks(dtype, amount, debt):
    number = lambda x: jnp.asarray(x, dtype)
    arguments = (number(debt), number([100.0, 100.0]), number(1.0), number(amount))
    for slope in slopes(dtype)(*arguments):
        assert np.isfinite(slope).all()


@pytest.mark.slow
def test_the_derivative_is_that_of_a_difference():
    held = book([88.0, 84.0], [0.88, 0.84])
    repaid = lambda price: called(rule(), held, 30.0, price=price).account_repaid[0]
    slope = jax.grad(
        lambda p: rule().call(held, p, jnp.array(30.0), jnp.asarray(False)).account_repaid[0]
    )(jnp.array(1.0))
    bump = (float(repaid(1.0 + 1e-6)) - float(repaid(1.0 - 1e-6))) / 2e-6
    assert abs(bump) > 1.0
    assert_close(slope, bump, rtol=1e-5, atol=0.0)
