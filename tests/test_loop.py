"""Loops and stacks against their closed forms, the deposits they are made of, and the engine."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.measure.claims import (
    effective_leverage,
    layer_balance_sheets,
    layer_debt_to_equity_delta,
)
from jaxrisk.measure.leverage import account_leverage
from jaxrisk.measure.solvency import debt_to_equity, debt_to_equity_delta
from jaxrisk.system.claims import value_claims
from jaxrisk.system.loop import (
    flash_built,
    looped,
    nested,
    nested_claims,
    rehypothecated,
    rounds_to_unwind,
    unwound,
    with_perpetual,
)
from tests import books
from tests.helpers import assert_close

FREE = jnp.array(0.0)
# Leverage after 1, 3, 5, 10, 20 rounds and without end: (1 - l^(n+1)) / (1 - l), to two places.
ROUNDS = [1.0, 3.0, 5.0, 10.0, 20.0, math.inf]
LEVERAGE = {
    0.93: [1.93, 3.60, 5.04, 7.86, 11.17, 14.29],
    0.90: [1.90, 3.44, 4.69, 6.86, 8.91, 10.00],
    0.75: [1.75, 2.73, 3.29, 3.83, 3.99, 4.00],
}
PRICE = jnp.array([2000.0, 1.0])


def number(x):
    return jnp.asarray(x, float)


def by_hand(loan_to_value, rounds, swap_cost):
    """Deposit, borrow against what was deposited last, swap, and again."""
    deposit, collateral, debt = 1.0, 1.0, 0.0
    for _ in range(rounds):
        loan = loan_to_value * deposit
        deposit = loan * (1.0 - swap_cost)
        collateral, debt = collateral + deposit, debt + loan
    return collateral, debt


@pytest.mark.parametrize("loan_to_value", LEVERAGE)
def test_leverage_after_rounds_is_the_known_table(loan_to_value):
    found = looped(number(loan_to_value), number(ROUNDS), FREE)
    assert_close(found.leverage, LEVERAGE[loan_to_value], rtol=0.0, atol=0.005)
    assert_close(found.debt, found.collateral - 1.0, rtol=1e-14, atol=0.0)
    assert_close(found.equity, np.ones(6), rtol=1e-13, atol=0.0)


@given(l=st.floats(0.0, 0.98), n=st.integers(0, 25), cost=st.floats(0.0, 0.05))
def test_a_loop_is_what_its_rounds_add_up_to(l, n, cost):
    found = looped(number(l), number(n), number(cost))
    collateral, debt = by_hand(l, n, cost)
    assert_close([found.collateral, found.debt], [collateral, debt], rtol=1e-12, atol=1e-15)
    assert_close(found.equity + found.cost, 1.0, rtol=1e-12, atol=0.0)


def test_derivatives_of_leverage_are_those_of_the_closed_form():
    endless = lambda l: looped(l, number(math.inf), FREE).collateral
    # L = 1 / (1 - l): dL/dl = L^2.
    assert_close(jax.grad(endless)(number(0.9)), 100.0, rtol=1e-13, atol=0.0)
    rounds = lambda n: looped(number(0.9), n, FREE).collateral
    # dL/dn = -l^(n+1) ln l / (1 - l).
    slope = -(0.9**6) * math.log(0.9) / 0.1
    assert_close(jax.grad(rounds)(number(5.0)), slope, rtol=1e-13, atol=0.0)
    cost = lambda k: looped(number(0.9), number(5.0), k).collateral
    bump = (cost(number(1e-6)) - cost(number(-1e-6))) / 2e-6
    assert_close(jax.grad(cost)(FREE), bump, rtol=1e-8, atol=0.0)


def test_a_flash_loan_builds_in_one_swap_what_rounds_only_approach():
    l, cost = 0.9, 0.002
    most = looped(number(l), number(math.inf), number(cost))
    built = flash_built(most.collateral, number(cost))
    assert_close(built.debt, most.debt, rtol=1e-12, atol=0.0)
    assert_close(built.debt, l * built.collateral, rtol=1e-12, atol=0.0)
    # The cost is near k (L - 1), and exactly k (L - 1) / (1 - k): the loan pays for its own swap.
    assert_close(built.cost, cost * (built.collateral - 1.0) / (1 - cost), rtol=1e-12, atol=0.0)
    assert_close(built.cost, cost * (built.collateral - 1.0), rtol=1.01 * cost, atol=0.0)


@pytest.mark.parametrize(
    ("loan_to_value", "threshold", "drop"),
    [(0.93, 0.95, 2.1), (0.90, 0.92, 2.2), (0.75, 0.78, 3.9)],
)
def test_an_endless_loop_is_called_after_a_drop_of_one_less_ltv_over_threshold(
    loan_to_value, threshold, drop
):
    multiple = float(looped(number(loan_to_value), number(math.inf), FREE).leverage)
    venue = books.loops([multiple], threshold=threshold)
    figures = account_leverage(venue, PRICE, jnp.array([True, False]))
    fall = figures["distance_to_liquidation_frac"]
    assert_close(fall, [1.0 - loan_to_value / threshold], rtol=1e-10, atol=0.0)
    assert_close(100.0 * fall, [drop], rtol=0.0, atol=0.06)
    assert_close(figures["health_factor"], [threshold / loan_to_value], rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("rounds", [1.0, 5.0, math.inf])
def test_debt_to_equity_delta_of_a_loop_is_minus_l_times_l_less_one(rounds):
    multiple = float(looped(number(0.9), number(rounds), FREE).leverage)
    venue = books.loops([multiple], threshold=0.95)
    delta = float(debt_to_equity_delta(venue, PRICE)[0])
    assert_close(delta, -multiple * (multiple - 1.0), rtol=1e-12, atol=0.0)
    h = 1e-6
    moved = [float(debt_to_equity(venue, PRICE.at[0].multiply(math.exp(s * h)))) for s in (1, -1)]
    assert_close(delta, (moved[0] - moved[1]) / (2 * h), rtol=1e-6, atol=0.0)


def test_single_borrows_add_and_full_loops_multiply():
    l = [0.8, 0.7, 0.5]
    lent_on = rehypothecated(number(l), FREE)
    assert_close(lent_on.collateral.sum(), 1 + 0.8 + 0.56 + 0.28, rtol=1e-14, atol=0.0)
    assert_close(lent_on.equity.sum(), 1.0, rtol=1e-14, atol=0.0)
    assert_close(lent_on.debt[:-1], np.cumprod(l), rtol=1e-14, atol=0.0)
    full = nested(1.0 / (1.0 - number(l)))
    assert_close(full.collateral[0], 1 / (0.2 * 0.3 * 0.5), rtol=1e-13, atol=0.0)
    assert_close(full.leverage, 1.0 / (1.0 - np.array(l)), rtol=1e-13, atol=0.0)
    # All equity and debt of the stack, layers' holdings of each other taken out.
    outside = full.collateral[0] - full.debt.sum()
    assert_close(outside, 1.0, rtol=1e-12, atol=0.0)


@given(l=st.floats(0.1, 0.9), n=st.integers(1, 8), cost=st.floats(0.0, 0.02))
def test_a_loop_at_one_venue_is_the_same_stack_at_many(l, n, cost):
    many = rehypothecated(jnp.full(n, l), number(cost))
    one = looped(number(l), number(n), number(cost))
    totals = [x.sum() for x in (many.collateral, many.debt, many.cost)]
    assert_close(totals, [one.collateral, one.debt, one.cost], rtol=1e-11, atol=1e-15)


STACK = [3.0, 2.5, 1.8]
sheets, effective = jax.jit(layer_balance_sheets), jax.jit(effective_leverage)
deltas, value = jax.jit(layer_debt_to_equity_delta), jax.jit(value_claims)


def stack():
    return nested_claims(STACK, asset="ether", debt_asset="dollar", price=2000.0, debt_price=1.0)


def test_a_stack_of_claims_is_the_nested_strategy():
    sheet, form = sheets(stack(), PRICE), nested(number(STACK))
    owners = [0, 1, 2]
    assert_close(sheet.assets[np.array(owners)], form.collateral, rtol=1e-12, atol=0.0)
    assert_close(sheet.debt[np.array(owners)], form.debt, rtol=1e-12, atol=0.0)
    assert_close(sheet.leverage, STACK, rtol=1e-12, atol=0.0)
    assert_close(effective(stack(), PRICE), np.cumprod(STACK), rtol=1e-11, atol=0.0)


def test_debt_to_equity_delta_of_a_stack_is_the_bump():
    graph = stack()
    delta = np.asarray(deltas(graph, PRICE))[:, 0]
    # Each layer's own L (L - 1), times how much more than the asset it holds moves.
    L = np.array(STACK)
    below = np.cumprod([1.0, *L[:-1]])
    assert_close(delta, -L * (L - 1.0) * below, rtol=1e-11, atol=0.0)
    h = 1e-6
    ratio = lambda s: sheets(graph, PRICE.at[0].multiply(math.exp(s * h)))
    bump = (ratio(1).debt_to_equity - ratio(-1).debt_to_equity) / (2 * h)
    assert_close(delta, bump, rtol=1e-6, atol=0.0)


def test_a_stack_whose_lowest_layer_is_wiped_out():
    # A fall of a third takes the lowest equity, and with it all that the others hold.
    gone = value(stack(), PRICE.at[0].multiply(0.6))
    assert gone.price[:3].tolist() == [0.0, 0.0, 0.0]
    assert_close(gone.rate[3], 0.6 * 1.5, rtol=1e-12, atol=0.0)
    assert gone.rate[4:].tolist() == [0.0, 0.0]
    delta = deltas(stack(), PRICE.at[0].multiply(0.6))
    assert np.isnan(np.asarray(delta)[:3]).all()
    lost = effective(stack(), PRICE.at[0].multiply(0.6))
    assert lost.tolist() == [math.inf, 0.0, 0.0]


@pytest.mark.parametrize("leverage", [[], [2.0, 1.0]])
def test_a_stack_of_nothing_is_refused(leverage):
    with pytest.raises(ValueError, match="each above 1"):
        nested_claims(leverage, asset="ether", debt_asset="dollar", price=1.0, debt_price=1.0)


def test_a_perpetual_on_borrowed_margin_adds_exposure_or_takes_it_away():
    spot = flash_built(number(1.0), FREE)
    long = with_perpetual(spot, number(0.5), number(2.0))
    assert_close([long.equity, long.exposure, long.leverage], [1.0, 3.0, 3.0], rtol=1e-14, atol=0.0)
    basis = with_perpetual(spot, number(0.5), number(-1.0))
    assert_close([basis.equity, basis.exposure], [1.0, 0.0], rtol=1e-14, atol=0.0)
    assert_close(basis.leverage, 2.0, rtol=1e-14, atol=0.0)


# Rounding grows by 1 / l a round: with these, by no more than 4,096.
@given(n=st.integers(1, 12), l=st.floats(0.5, 0.95))
def test_unwinding_takes_as_many_rounds_as_looping_did(n, l):
    built = looped(number(l), number(n), FREE)
    assert_close(rounds_to_unwind(built.leverage, number(l)), float(n), rtol=1e-6, atol=0.0)
    done = unwound(built, number(l), FREE, rounds=n)
    assert_close([done.debt, done.collateral], [0.0, 1.0], rtol=1e-9, atol=1e-9)
    before = unwound(built, number(l), FREE, rounds=n - 1)
    assert_close(before.debt, l, rtol=1e-6, atol=0.0)


def test_an_endless_loop_has_room_to_unwind_only_up_to_a_higher_loan_to_value():
    most = looped(number(0.93), number(math.inf), FREE)
    # ln(19 / (20 - 100/7)) / ln(1 / 0.95) = 23.42: 24 rounds up to 95 %, none up to 93 %.
    assert_close(rounds_to_unwind(most.leverage, number(0.95)), 23.4235, rtol=0.0, atol=5e-5)
    assert float(unwound(most, number(0.95), FREE, rounds=23).debt) > 0.0
    assert_close(unwound(most, number(0.95), FREE, rounds=24).debt, 0.0, rtol=0.0, atol=1e-12)
    assert np.isinf(rounds_to_unwind(number(20.0), number(0.95)))
    stuck = unwound(most, number(0.93), FREE, rounds=50)
    assert_close(stuck.debt, most.debt, rtol=1e-10, atol=0.0)


def test_unwinding_at_a_cost_spends_what_is_swapped():
    most = looped(number(0.9), number(10.0), FREE)
    done = unwound(most, number(0.92), number(0.003), rounds=60)
    assert_close(done.debt, 0.0, rtol=0.0, atol=1e-12)
    assert_close(done.cost, 0.003 / 0.997 * most.debt, rtol=1e-9, atol=0.0)
    assert_close(done.equity + done.cost, 1.0, rtol=1e-12, atol=0.0)
