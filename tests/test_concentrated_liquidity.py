"""Concentrated liquidity: a walk in exact fractions, gaps, limits, both directions."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.concentrated_liquidity import ConcentratedPool, liquidity_at, swap
from jaxrisk.market.constant_product import ConstantProductPool
from jaxrisk.market.constant_product import swap as product_swap
from jaxrisk.market.pool_swap import SwapRefusal
from tests.helpers import assert_close

EDGES = (0.5, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0)
LIQUIDITY = (0.0, 50.0, 400.0, 900.0, 0.0, 300.0, 20.0)
FEE = 0.003
row = lambda *values, dtype=jnp.float64: jnp.asarray(values, dtype)
flags = lambda *values: jnp.asarray(values)
trade = jax.jit(swap)


def pool(root=1.03, liquidity=LIQUIDITY, fee=FEE, dtype=jnp.float64):
    return ConcentratedPool(
        root_price=row(root, dtype=dtype),
        edges=jnp.asarray(EDGES, dtype)[:, None],
        liquidity=jnp.asarray(liquidity, dtype)[:, None],
        fee=row(fee, dtype=dtype),
    )


def walk(root, amount, sells_base, limit, exact_output):
    """Return (paid, received, root price) by walking range by range in exact fractions."""
    s, left, fee = Fraction(root), Fraction(amount), Fraction(FEE)
    limit = Fraction(limit)
    paid = received = Fraction(0)
    ranges = list(zip(map(Fraction, EDGES[:-1]), map(Fraction, EDGES[1:]), LIQUIDITY, strict=True))
    for low, high, depth in reversed(ranges) if sells_base else ranges:
        depth = Fraction(depth)
        start = min(high, s) if sells_base else max(low, s)
        end = max(low, limit) if sells_base else min(high, limit)
        if left == 0 or (start <= end if sells_base else start >= end):
            continue
        quote, base = depth * abs(end - start), depth * abs(1 / end - 1 / start)
        net, out = (base, quote) if sells_base else (quote, base)
        used = out if exact_output else net / (1 - fee)
        if used <= left:
            s, left = end, left - used
            paid, received = paid + net / (1 - fee), received + out
            continue
        # The rest is found from the invariant of the range: (x + L/s_high)(y + L s_low) = L^2.
        if exact_output:
            s = start - left / depth if sells_base else 1 / (1 / start - left / depth)
        else:
            given_in = left * (1 - fee)
            s = 1 / (1 / start + given_in / depth) if sells_base else start + given_in / depth
        quote, base = depth * abs(s - start), depth * abs(1 / s - 1 / start)
        net, out = (base, quote) if sells_base else (quote, base)
        return float(paid + net / (1 - fee)), float(received + out), float(s)
    return float(paid), float(received), float(s)


@given(
    st.floats(0.81, 1.49), st.floats(1e-3, 300.0), st.booleans(), st.booleans(),
    st.floats(0.51, 1.99),
)  # fmt: skip
def test_swaps_agree_with_the_walk(root, amount, sells_base, exact_output, limit):
    limit = min(limit, root * 0.999) if sells_base else max(limit, root * 1.001)
    done, after = trade(pool(root), row(amount), flags(sells_base), row(limit), flags(exact_output))
    paid, received, end = walk(root, amount, sells_base, limit, exact_output)
    assert_close([done.paid[0], done.received[0]], [paid, received], rtol=1e-9, atol=1e-11)
    assert_close(after.root_price, [end], rtol=1e-10, atol=0.0)
    # What is paid beyond the fee is what the fee is a part of; a trader never pays more than named.
    assert_close(done.fee, FEE * np.asarray(done.paid), rtol=1e-9, atol=1e-12)
    named = done.received if exact_output else done.paid
    assert float(named[0]) <= amount * (1 + 1e-12)
    beyond = float(after.root_price[0]) - limit
    assert (beyond if sells_base else -beyond) >= -1e-15


def test_a_recorded_swap_that_crosses_two_edges():
    # Uniswap v3-core at d8b1c635, pool with a fee of 0.3 %: 0.332 of the quote coin wanted.
    q96, wei = 2.0**96, 1e-18
    ticks = [857664271413954570754128103898, 999449953713699251289496543574,
             1008485148938967667172823592933, 1042318649790173926305351602778]  # fmt: skip
    p = ConcentratedPool(
        root_price=row(1024186439597710934550959069797 / q96),
        edges=jnp.asarray([4319247724 / q96, *(t / q96 for t in ticks)])[:, None],
        liquidity=jnp.asarray(
            [5000000000000001, 186035861430503137, 271893890892551553, 419295519529241025]
        ).astype(float)[:, None] * wei,
        fee=row(0.003),
    )  # fmt: skip
    done, after = swap(
        p, row(332010685842098369 * wei), flags(True), row(4295128740 / q96), flags(True)
    )
    assert_close(done.paid, [2214241548695059 * wei], rtol=1e-12, atol=2 * wei)
    assert_close(done.received, [332010685842098369 * wei], rtol=1e-14, atol=0.0)
    expected = 906647946440439363478037722770 / q96
    assert_close(after.root_price, [expected], rtol=1e-13, atol=0.0)
    assert int(np.floor(after.tick()[0])) == 48750
    assert_close(liquidity_at(after, flags(True)), [186035861430503137 * wei], rtol=1e-14, atol=0.0)


@given(st.floats(0.6, 1.9), st.floats(1e-3, 1e4), st.booleans())
def test_one_wide_range_is_constant_product(root, amount, sells_base):
    depth = 100.0
    wide = ConcentratedPool(
        root_price=row(root),
        edges=jnp.array([1e-9, 1e9])[:, None],
        liquidity=jnp.array([depth])[:, None],
        fee=row(FEE),
    )
    limit = row(1e-8 if sells_base else 1e8)
    done, after = swap(wide, row(amount), flags(sells_base), limit, flags(False))
    twin = ConstantProductPool(base=row(depth / root), quote=row(depth * root), fee=row(FEE))
    same, _ = product_swap(twin, row(amount), flags(sells_base))
    assert_close(done.received, same.received, rtol=1e-10, atol=1e-12)
    assert_close(wide.price(), twin.price(), rtol=1e-12, atol=0.0)
    assert (float(after.root_price[0]) < root) == sells_base


def test_a_gap_is_crossed_for_nothing_and_an_edge_belongs_to_where_the_price_goes():
    # From the top edge of the range below the gap: the first purchase jumps the gap.
    done, after = swap(pool(1.1), row(1e-6), flags(False), row(1.9), flags(False))
    assert float(after.root_price[0]) > 1.25
    assert_close(done.received, [1e-6 * (1 - FEE) / 1.25**2], rtol=1e-6, atol=0.0)
    assert float(liquidity_at(pool(1.1), flags(False))[0]) == 0.0
    assert float(liquidity_at(pool(1.1), flags(True))[0]) == 900.0
    assert float(liquidity_at(after, flags(True))[0]) == 300.0


def test_a_pool_that_runs_out_stops_at_the_limit_and_leaves_the_rest():
    done, after = swap(pool(), row(1e6), flags(False), row(1.9), flags(False))
    assert float(done.paid[0]) < 1e6
    assert float(after.root_price[0]) == 1.9
    quote_in = 900 * (1.1 - 1.03) + 300 * (1.5 - 1.25) + 20 * (1.9 - 1.5)
    assert_close(done.paid, [quote_in / (1 - FEE)], rtol=1e-12, atol=0.0)


def test_refusals_change_nothing():
    for limit, amount, refusal in (
        (1.05, 1.0, SwapRefusal.PRICE_LIMIT),
        (0.9, 0.0, SwapRefusal.NOTHING),
    ):
        done, after = swap(pool(), row(amount), flags(True), row(limit), flags(False))
        assert int(done.refusal[0]) == refusal
        assert [float(done.paid[0]), float(done.received[0])] == [0.0, 0.0]
        assert float(after.root_price[0]) == 1.03


def test_whole_units_round_in_the_pools_favour():
    unit = row(1.0)
    deep = tuple(1e6 * x for x in LIQUIDITY)
    for exact_output in (False, True):
        real, _ = swap(pool(1.03, deep), row(1e7), flags(True), row(0.6), flags(exact_output))
        done, _ = swap(
            pool(1.03, deep), row(1e7), flags(True), row(0.6), flags(exact_output),
            base_unit=unit, quote_unit=unit,
        )  # fmt: skip
        assert float(done.paid[0]) == round(float(done.paid[0]))
        assert float(done.received[0]) == round(float(done.received[0]))
        assert 0.0 <= float(done.paid[0] - real.paid[0]) < 20.0
        assert 0.0 <= float(real.received[0] - done.received[0]) < 20.0


def test_pools_stand_side_by_side():
    many = jax.tree.map(lambda *x: jnp.concatenate(x, axis=-1), pool(0.85), pool(1.03), pool(1.4))
    amount, limit = row(3.0, 90.0, 1e5), row(0.6, 1.8, 1.45)
    sells, exact = flags(True, False, False), flags(True, False, False)
    done, _ = swap(many, amount, sells, limit, exact)
    for i, root in enumerate((0.85, 1.03, 1.4)):
        one, _ = swap(
            pool(root), amount[i : i + 1], sells[i : i + 1], limit[i : i + 1], exact[i : i + 1]
        )
        assert_close(done.paid[i], one.paid[0], rtol=1e-14, atol=0.0)
        assert_close(done.received[i], one.received[0], rtol=1e-14, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("root", [1.0, 1.03, 1.1, 1.2])
@pytest.mark.parametrize("exact_output", [True, False])
@pytest.mark.parametrize("amount", [0.0, 5.0, 1e6])
def test_derivatives_are_finite_at_edges_and_in_gaps(root, exact_output, amount):
    def result(p, x):
        done, after = swap(p, x, flags(True), row(0.6), flags(exact_output))
        return done.paid[0] + done.received[0] + after.root_price[0]

    slopes = jax.grad(result, argnums=(0, 1))(pool(root), row(amount))
    assert all(np.all(np.isfinite(np.asarray(s))) for s in jax.tree.leaves(slopes))
    if root == 1.03 and amount == 5.0:
        h = 1e-5
        bump = (result(pool(root), row(amount + h)) - result(pool(root), row(amount - h))) / (2 * h)
        assert_close(slopes[1][0], bump, rtol=1e-6, atol=0.0)


@pytest.mark.slow
def test_single_precision():
    args = (flags(False), flags(False))
    small, _ = swap(
        pool(dtype=jnp.float32), row(70.0, dtype=jnp.float32), args[0],
        row(1.9, dtype=jnp.float32), args[1],
    )  # fmt: skip
    exact, _ = swap(pool(), row(70.0), args[0], row(1.9), args[1])
    assert small.received.dtype == jnp.float32
    assert_close(small.received, exact.received, rtol=1e-5, atol=0.0)
