"""Takeover of positions: recorded figures, a scalar reference, conservation, refusals, slopes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.funding import funding_paid
from jaxrisk.venue.position_liquidation import (
    LinearBook,
    PositionRefusal,
    ShareLiquidation,
    equity,
    maintenance_margin,
)
from jaxrisk.venue.presets.perpetual_v2 import FUNDING_PERIOD, premium_funding, share_liquidation
from tests.helpers import assert_close

CONTRACTS = 3
SIZES = st.lists(
    st.one_of(st.just(0.0), st.floats(-50.0, -0.01), st.floats(0.01, 50.0)),
    min_size=CONTRACTS, max_size=CONTRACTS,
)  # fmt: skip
PRICES = st.lists(st.floats(1.0, 100.0), min_size=CONTRACTS, max_size=CONTRACTS)
AMOUNTS = st.lists(st.floats(-50.0, 50.0), min_size=CONTRACTS, max_size=CONTRACTS)
CALL = jax.jit(ShareLiquidation.call)
EQUITY = jax.jit(equity)
FUNDS = st.one_of(st.just(0.0), st.floats(0.1, 1e4))


def book(size, paid, due, cash, dtype=np.float64):
    """Return one account whose positions were opened at the prices `paid`."""
    column = lambda x: jnp.asarray(x, dtype)[:, None]
    opened = -np.asarray(size) * np.asarray(paid)
    return LinearBook(
        size=column(size), open_notional=column(opened), funding_due=column(due),
        cash=jnp.asarray([cash], dtype),
    )  # fmt: skip


def called(held, mark, contract, requested, fund, dtype: Any = np.float64, **options):
    number = lambda x: jnp.asarray(x, dtype)
    rule = share_liquidation(dtype, **options)
    contract = jnp.asarray([contract])
    return CALL(rule, held, number(mark), contract, number([requested]), number(fund))


def reference(size, paid, due, cash, mark, contract, requested, fund):
    """Return (refusal, closed, penalty, to fund, bad debt, equity after) in plain Python."""
    value = cash + sum(q * (p - o) - f for q, o, p, f in zip(size, paid, mark, due, strict=True))
    total = sum(abs(q) * p for q, p in zip(size, mark, strict=True))
    if value >= 0.0625 * total:
        return PositionRefusal.HEALTHY, 0.0, 0.0, 0.0, 0.0, value
    q, worth = size[contract], abs(size[contract]) * mark[contract]
    if q == 0:
        return PositionRefusal.NOTHING, 0.0, 0.0, 0.0, 0.0, value
    if q * requested < 0:
        return PositionRefusal.WRONG_SIDE, 0.0, 0.0, 0.0, 0.0, value
    limit = abs(q)
    if worth > 100.0 and value >= 0.0625 * total / 2:
        limit *= min(1.0, 0.5 * total / worth)
    closed = limit if requested == 0 else min(abs(requested), limit)
    penalty = 0.025 * closed * mark[contract]
    to_fund = penalty / 2 if value >= 0 else 0.0
    after = value - penalty
    if after < 0 and fund + to_fund < -after:
        return PositionRefusal.FUND_TOO_SMALL, 0.0, 0.0, 0.0, 0.0, value
    others = [s for i, s in enumerate(size) if i != contract]
    ends = closed == abs(q) and not any(others)
    bad = -after if ends and after < 0 else 0.0
    return PositionRefusal.NONE, np.sign(q) * closed, penalty, to_fund, bad, after + bad


@given(
    size=SIZES, paid=PRICES, mark=PRICES, due=AMOUNTS, cash=st.floats(-200.0, 500.0),
    contract=st.integers(0, CONTRACTS - 1), requested=st.sampled_from([0.0, 1.0, -1.0, 20.0, 1e6]),
    fund=FUNDS,
)  # fmt: skip
def test_a_call_is_that_of_the_reference(size, paid, mark, due, cash, contract, requested, fund):
    held = book(size, paid, due, cash)
    call = called(held, mark, contract, requested, fund)
    expected = reference(size, paid, due, cash, mark, contract, requested, fund)
    total = sum(abs(q) * p for q, p in zip(size, mark, strict=True))
    for edge in (0.0, 0.0625 * total / 2, 0.0625 * total):
        if abs(float(EQUITY(held, jnp.asarray(mark))[0]) - edge) < 1e-9 * (1 + total):
            return
    assert PositionRefusal(int(call.refusal[0])) == expected[0]
    names = ("closed", "penalty", "to_fund", "bad_debt", "equity_after")
    for name, value in zip(names, expected[1:], strict=True):
        assert_close(getattr(call, name)[0], value, rtol=1e-10, atol=1e-8)


@given(
    size=SIZES, paid=PRICES, mark=PRICES, due=AMOUNTS, cash=st.floats(-200.0, 200.0),
    contract=st.integers(0, CONTRACTS - 1), fund=FUNDS,
)  # fmt: skip
def test_nothing_vanishes(size, paid, mark, due, cash, contract, fund):
    held, price = book(size, paid, due, cash), jnp.asarray(mark)
    call = called(held, mark, contract, 0.0, fund)
    before, after = float(EQUITY(held, price)[0]), float(EQUITY(call.book, price)[0])
    scale = 1e-10 * (1.0 + abs(before) + fund + float(np.sum(np.abs(size)) * 100.0))
    # Sold at the mark: the account loses the penalty and gains what the fund pays for it.
    paid_out = float(call.penalty[0] - call.bad_debt[0])
    assert_close(after + paid_out, before, rtol=0.0, atol=scale)
    assert_close(call.equity_after[0], after, rtol=0.0, atol=scale)
    assert_close(call.to_fund + call.to_caller, call.penalty, rtol=1e-12, atol=0.0)
    fund_moves = float(call.to_fund[0] - call.bad_debt[0])
    assert_close(call.fund_after[0], fund + fund_moves, rtol=1e-12, atol=scale)
    # The fund never goes below zero, no position is closed beyond its size, sizes are conserved.
    assert float(call.fund_after[0]) >= -scale
    assert abs(float(call.closed[0])) <= abs(size[contract]) * (1 + 1e-12)
    moved = np.asarray(held.size[:, 0] - call.book.size[:, 0])
    assert_close(moved.sum(), float(call.closed[0]), rtol=1e-12, atol=1e-12)
    assert np.count_nonzero(moved) <= 1
    # A call that does not go through moves nothing.
    if call.refusal[0] != PositionRefusal.NONE:
        same = jax.tree.map(lambda a, b: bool((a == b).all()), held, call.book)
        assert all(jax.tree.leaves(same))
        assert float(call.penalty[0]) == float(call.bad_debt[0]) == 0.0
    # More in the fund refuses no more.
    richer = called(held, mark, contract, 0.0, fund + 1e6)
    assert (richer.refusal[0] == PositionRefusal.NONE) >= (call.refusal[0] == PositionRefusal.NONE)


def test_recorded_calls():
    """Restated from the contracts: half a position, a whole one with bad debt, and a refusal."""
    terms: dict[str, Any] = {"penalty": 0.05, "as_contract": True}
    half = LinearBook(
        size=jnp.array([[749.382659717033828306]]),
        open_notional=jnp.array([[-1590.370581]]),
        funding_due=jnp.array([[120.859395460621702243]]),
        cash=jnp.array([247.999371]),
    )
    call = called(half, [2.053537719001575638], 0, 749.382659717033828306, 1e5, **terms)
    assert_close(call.closed, [374.691329858516914153], rtol=1e-14, atol=0.0)
    assert_close(call.penalty, [38.472138942366289725], rtol=1e-13, atol=0.0)
    assert_close(call.to_fund, [19.236069471183144863], rtol=1e-13, atol=0.0)
    assert_close(call.equity_after, [37.182813], rtol=0.0, atol=2e-6)
    weak = LinearBook(
        size=jnp.array([[88.262701068466506089]]),
        open_notional=jnp.array([[-187.3437905]]),
        funding_due=jnp.array([[-0.000311525077321771]]),
        cash=jnp.array([60.056202 - 43.625315863198510288]),
    )
    mark = [1.609906642978048765]
    call = called(weak, mark, 0, 176.525402136933012178, 100023.767339, **terms)
    assert_close(call.closed, weak.size[0], rtol=0.0, atol=0.0)
    assert_close(call.bad_debt, [35.922620], rtol=0.0, atol=2e-6)
    assert_close(call.equity_after, [0.0], rtol=0.0, atol=2e-6)
    assert_close(call.fund_after, [99987.844719], rtol=0.0, atol=2e-6)
    assert call.to_fund.tolist() == [0.0]
    call = called(weak, mark, 0, 0.0, 35.0, **terms)
    assert call.refusal.tolist() == [PositionRefusal.FUND_TOO_SMALL]
    assert call.closed.tolist() == [0.0]
    assert call.fund_after.tolist() == [35.0]


def test_the_fund_pays_only_when_the_last_position_closes():
    """What an account with another position then owes must fit, but is not paid yet."""
    held = book([10.0, 5.0, 0.0], [100.0, 50.0, 1.0], [0.0, 0.0, 0.0], 0.0)
    call = called(held, [70.0, 50.0, 1.0], 0, 0.0, 1000.0)
    assert call.refusal.tolist() == [PositionRefusal.NONE]
    assert call.bad_debt.tolist() == [0.0]
    assert_close(call.equity_after, [-300.0 - 0.025 * 700.0], rtol=1e-12, atol=0.0)
    assert_close(call.fund_after, [1000.0], rtol=0.0, atol=0.0)
    then = called(call.book, [70.0, 50.0, 1.0], 1, 0.0, 1000.0)
    assert_close(then.bad_debt, [317.5 + 0.025 * 250.0], rtol=1e-12, atol=0.0)


@pytest.mark.slow
def test_single_precision_and_slopes():
    held = book([3.0, -2.0, 0.0], [100.0, 40.0, 1.0], [0.5, -0.2, 0.0], 60.0)
    mark = [81.0, 40.5, 1.0]
    exact = called(held, mark, 0, 2.0, 100.0)
    small = jax.tree.map(lambda x: x.astype(jnp.float32), held)
    rough = called(small, mark, 0, 2.0, 100.0, np.float32)
    for a, b in zip(jax.tree.leaves(rough), jax.tree.leaves(exact), strict=True):
        assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert rough.closed.dtype == jnp.float32
    assert exact.refusal.tolist() == [PositionRefusal.NONE]

    def outcome(cash, first, penalty):
        moved = dataclasses.replace(held, cash=cash[None])
        call = called(moved, jnp.stack([first, 40.5, 1.0]), 0, 0.0, 100.0, penalty=penalty)
        return call.equity_after[0] + 2.0 * call.to_fund[0] + 0.1 * call.closed[0]

    point = [jnp.asarray(x) for x in (60.0, 81.0, 0.03)]
    slopes = jax.grad(outcome, argnums=(0, 1, 2))(*point)
    for position, step in enumerate((1e-4, 1e-4, 1e-6)):
        up, down = list(point), list(point)
        up[position], down[position] = up[position] + step, down[position] - step
        bump = (outcome(*up) - outcome(*down)) / (2 * step)
        assert_close(slopes[position], bump, rtol=1e-6, atol=1e-9)


@given(
    mark=st.floats(1.0, 100.0), index=st.floats(1.0, 100.0), cap=st.floats(0.0, 0.2),
    elapsed=st.floats(0.0, 3.0), paid=st.floats(-5.0, 5.0),
)  # fmt: skip
def test_funding_is_the_premium_a_day_and_never_more_than_the_cap(mark, index, cap, elapsed, paid):
    array = lambda x: jnp.asarray([x])
    rate = premium_funding(np.float64, maximum_rate=cap).rate(array((mark - index) / index))
    years = jnp.asarray(elapsed * FUNDING_PERIOD)
    after = funding_paid(array(paid), rate, array(index), years)
    premium = max(min(mark - index, cap * index), -cap * index)
    assert_close(after, [paid + elapsed * premium], rtol=1e-12, atol=1e-12)


def test_margin_counts_both_sides():
    held = book([10.0, -5.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0], 0.0)
    margin = maintenance_margin(held, jnp.array([2.0, 3.0, 4.0]), jnp.asarray(0.1))
    assert_close(margin, [3.5], rtol=1e-14, atol=0.0)
