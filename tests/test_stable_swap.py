"""Stable swaps: the invariant in exact decimals, fees, prices, virtual price, derivatives."""

from decimal import Decimal, getcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.pool_swap import SwapRefusal
from jaxrisk.market.stable_swap import (
    StablePool,
    balanced_value,
    invariant,
    off_peg_fee,
    prices,
    swap,
    traded_values,
    virtual_price,
)
from tests.helpers import assert_close

row = lambda *values, dtype=jnp.float64: jnp.asarray(values, dtype)
place = lambda *values: jnp.asarray(values, jnp.int32)
trade = jax.jit(swap)
solve = jax.jit(invariant)
holdings = st.floats(1.0, 1e6)
flatness = st.sampled_from([10.0, 100.0, 2000.0])


def pool(balance=(1e6, 1.2e6, 7e5), rate=(1.0, 1.05, 1.0), dtype=jnp.float64, **terms):
    fill = lambda name, default: row(terms.get(name, default), dtype=dtype)
    return StablePool(
        balance=jnp.asarray(balance, dtype)[:, None],
        rate=jnp.asarray(rate, dtype)[:, None],
        amplification=fill("amplification", 200.0),
        fee=fill("fee", 4e-4),
        off_peg_multiplier=fill("off_peg_multiplier", 5.0),
        admin_share=fill("admin_share", 0.5),
    )


def defect(values, a, d):
    """Return a S + D - a D - D^(n+1) / (n^n prod x), relative to a D, in 60 digits."""
    getcontext().prec = 60
    x, d = [Decimal(float(v)) for v in values], Decimal(float(d))
    n = len(x)
    ann = Decimal(a) * n
    power = d
    for v in x:
        power = power * d / (n * v)
    return float((ann * sum(x) + d - ann * d - power) / (ann * d))


@given(holdings, holdings, holdings, flatness)
def test_the_invariant_holds(x, y, z, a):
    values = row(x, y, z)[:, None]
    d = float(solve(values, row(a))[0])
    # The defect's slope in log D is -(1 - 1/a) - (n + 1) P / (a D): at least about one.
    n, ann = 3, 3 * a
    power = d**4 / (27 * x * y * z)
    slope = (ann - 1) / ann + (n + 1) * power / (ann * d)
    assert abs(defect((x, y, z), a, d)) / slope < 1e-13
    assert d <= (x + y + z) * (1 + 1e-12)
    assert d >= 3 * (x * y * z) ** (1 / 3) * (1 - 1e-12)


def test_a_balanced_pool_is_worth_its_sum_and_an_empty_one_nothing():
    values = jnp.array([[5.0, 0.0], [5.0, 3.0]])
    assert_close(invariant(values, row(100.0, 100.0)), [10.0, 0.0], rtol=1e-14, atol=0.0)


@given(holdings, holdings, holdings, flatness)
def test_the_balanced_value_undoes_the_invariant(x, y, z, a):
    values = row(x, y, z)[:, None]
    d = solve(values, row(a))
    for coin, expected in enumerate((x, y, z)):
        found = float(balanced_value(values, place(coin), row(a), d)[0])
        moved = [found if k == coin else v for k, v in enumerate((x, y, z))]
        again = float(solve(jnp.asarray(moved)[:, None], row(a))[0])
        assert_close(again, float(d[0]), rtol=1e-12, atol=0.0)
        assert_close(found, expected, rtol=1e-6, atol=0.0)


def test_a_recorded_exchange():
    # Curve stableswap-ng at 2abe778f: A 2000, fee 0.01 %, multiplier 5, run on one coin.
    p = pool(
        (2883193.647259191747, 3793471.731297659183), (1.0, 1.051),
        amplification=2000.0, fee=1e-4, off_peg_multiplier=5.0,
    )  # fmt: skip
    done, after = swap(p, row(4048906.088472781173), place(1), place(0), fee_unit=row(1e-10))
    assert_close(done.received, [2880991.384703049787], rtol=1e-12, atol=0.0)
    assert_close(
        after.balance[:, 0], [1994.734155583573, 7842377.819770440356], rtol=1e-10, atol=0.0
    )
    shares = row(6870067.339040745078)
    assert_close(virtual_price(p, shares), [1.000002855195354298], rtol=1e-13, atol=0.0)
    assert_close(virtual_price(after, shares), [1.013504524343812881], rtol=1e-12, atol=0.0)


@given(st.floats(1.0, 1e6), st.permutations([0, 1, 2]), flatness)
def test_a_swap_conserves_and_never_lowers_the_virtual_price(amount, order, a):
    p = pool(amplification=a)
    done, after = trade(p, row(amount), place(order[0]), place(order[1]))
    change = np.asarray(after.balance - p.balance)[:, 0]
    assert_close(change[order[0]], amount, rtol=1e-9, atol=0.0)
    assert change[order[2]] == 0.0
    admin = 0.5 * float(done.fee[0])
    assert_close(-change[order[1]], float(done.received[0]) + admin, rtol=1e-9, atol=1e-9)
    assert np.all(np.asarray(after.balance) > 0)
    shares = row(1e6)
    assert float(virtual_price(after, shares)[0]) >= float(virtual_price(p, shares)[0]) * (
        1 - 1e-14
    )


@given(st.floats(1.0, 1e6), st.floats(1.1, 3.0))
def test_more_in_gives_more_out_at_a_worse_price(amount, factor):
    p = pool()
    small, _ = trade(p, row(amount), place(0), place(1))
    large, _ = trade(p, row(amount * factor), place(0), place(1))
    assert float(large.received[0]) > float(small.received[0])
    assert float(large.received[0]) <= factor * float(small.received[0]) * (1 + 1e-9)


@pytest.mark.slow
@given(holdings, holdings, flatness)
def test_prices_are_the_slopes_of_small_swaps(x, y, a):
    p = pool((x, y), (1.0, 1.05), amplification=a, fee=0.0, off_peg_multiplier=1.0)
    values = p.values()
    got = prices(values, p.amplification, invariant(values, p.amplification))
    # d y / d x along the invariant, by differentiating the solution.
    d = invariant(values, p.amplification)
    slope = jax.grad(
        lambda x0: balanced_value(row(0.0, 0.0)[:, None].at[0].set(x0), place(1), row(a), d)[0]
    )(values[0])
    assert_close(got[1], -1.0 / slope, rtol=1e-6, atol=0.0)
    assert_close(got[0], [1.0], rtol=1e-12, atol=0.0)


def test_the_off_peg_fee():
    at = lambda x, y, **t: float(off_peg_fee(pool(**t), row(x), row(y))[0])
    assert_close(at(5.0, 5.0), 4e-4, rtol=1e-12, atol=0.0)
    assert_close(at(1e-9, 1e9), 20e-4, rtol=1e-9, atol=0.0)
    assert at(1.0, 9.0, off_peg_multiplier=1.0) == 4e-4
    assert 4e-4 < at(3.0, 5.0) < at(1.0, 5.0) < 20e-4
    step = float(off_peg_fee(pool(), row(3.0), row(5.0), row(1e-6))[0])
    assert_close(step * 1e6, round(step * 1e6), rtol=0.0, atol=1e-9)


def test_coins_may_be_renamed_and_nothing_gives_nothing():
    p = pool()
    turned = pool((7e5, 1e6, 1.2e6), (1.0, 1.0, 1.05))
    one, _ = swap(p, row(3e4), place(0), place(2))
    same, _ = swap(turned, row(3e4), place(1), place(0))
    assert_close(one.received, same.received, rtol=1e-11, atol=0.0)
    none, after = swap(p, row(0.0), place(0), place(2))
    assert int(none.refusal[0]) == SwapRefusal.NOTHING
    assert_close(after.balance, p.balance, rtol=0.0, atol=0.0)
    values, _ = traded_values(p, row(0.0), place(0), place(2))
    assert_close(values, p.values(), rtol=1e-13, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("amount", [0.0, 1.0, 1e5, 1e9])
def test_derivatives_are_finite_and_match_differences(amount):
    received = lambda p, x: swap(p, x, place(0), place(1))[0].received[0]
    slopes = jax.jit(jax.grad(received, argnums=(0, 1)))(pool(), row(amount))
    assert all(np.all(np.isfinite(np.asarray(s))) for s in jax.tree.leaves(slopes))
    if amount == 1e5:
        h = 1.0
        bump = (received(pool(), row(amount + h)) - received(pool(), row(amount - h))) / (2 * h)
        assert_close(slopes[1][0], bump, rtol=1e-6, atol=0.0)


@pytest.mark.slow
def test_single_precision():
    exact, _ = swap(pool(), row(2e5), place(0), place(1))
    small, _ = swap(pool(dtype=jnp.float32), row(2e5, dtype=jnp.float32), place(0), place(1))
    assert small.received.dtype == jnp.float32
    assert_close(small.received, exact.received, rtol=1e-5, atol=0.0)
