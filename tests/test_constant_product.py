"""Constant-product pools: the product, exact integers, undoing, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.constant_product import ConstantProductPool, swap, swap_for
from jaxrisk.market.pool_swap import SwapRefusal
from tests.helpers import assert_close

row = lambda *values, dtype=jnp.float64: jnp.asarray(values, dtype)
reserves = st.floats(10.0, 1e9)
sells = st.booleans()
trade, trade_for = jax.jit(swap), jax.jit(swap_for)


def pool(base=1000.0, quote=2e6, fee=0.003, dtype=jnp.float64):
    return ConstantProductPool(
        base=row(base, dtype=dtype), quote=row(quote, dtype=dtype), fee=row(fee, dtype=dtype)
    )


def test_a_recorded_swap():
    # Uniswap v2-core at ee547b17: the most the pair gives; one unit more is refused.
    p = pool(1343975219133.0, 778825619899.0)
    unit = row(1.0)
    done, after = trade(p, row(2372693535283.0), jnp.array([True]), base_unit=unit, quote_unit=unit)
    assert float(done.received[0]) == 496656045950.0
    assert [float(after.base[0]), float(after.quote[0])] == [3716668754416.0, 282169573949.0]


@given(st.integers(10**3, 10**9), st.integers(10**3, 10**9), st.integers(1, 10**9))
def test_in_whole_units_nothing_more_would_be_accepted(base, quote, amount):
    done, _ = swap(
        pool(float(base), float(quote)), row(float(amount)), jnp.array([True]),
        base_unit=row(1.0), quote_unit=row(1.0),
    )  # fmt: skip
    out = int(done.received[0])
    # The pair's own test, in integers: the product of balances less 0.3 % of what came in.
    accepts = lambda out: (
        ((base + amount) * 1000 - 3 * amount) * (quote - out) * 1000 >= base * quote * 10**6
    )
    assert accepts(out)
    assert not accepts(out + 1)


@given(reserves, reserves, st.floats(1e-6, 100.0), st.floats(0.0, 0.1), sells)
def test_the_product_net_of_fees_is_kept(base, quote, share, fee, sells_base):
    amount = share * (base if sells_base else quote)
    p, side = pool(base, quote, fee), jnp.array([sells_base])
    done, after = trade(p, row(amount), side)
    net = np.asarray([-1.0, -1.0])
    net[0] = float(after.base[0]) - (float(done.fee[0]) if sells_base else 0.0)
    net[1] = float(after.quote[0]) - (0.0 if sells_base else float(done.fee[0]))
    assert_close(net[0] * net[1], base * quote, rtol=1e-9, atol=0.0)
    held, given_up = (base, quote) if sells_base else (quote, base)
    assert 0.0 <= float(done.received[0]) < given_up
    moved = float((after.base if sells_base else after.quote)[0]) - held
    assert_close(moved, amount, rtol=1e-9, atol=1e-9 * held)


@given(reserves, reserves, st.floats(1e-4, 0.99), sells)
def test_naming_what_comes_out_asks_for_what_went_in(base, quote, share, sells_base):
    p, side = pool(base, quote), jnp.array([sells_base])
    wanted = share * (quote if sells_base else base)
    done, after = trade_for(p, row(wanted), side)
    back, again = trade(p, done.paid, side)
    assert_close(back.received, row(wanted), rtol=1e-9, atol=0.0)
    assert_close(again.base, after.base, rtol=1e-9, atol=0.0)


def test_refusals():
    side = jnp.array([True])
    nothing, after = trade(pool(), row(0.0), side)
    assert int(nothing.refusal[0]) == SwapRefusal.NOTHING
    assert float(after.base[0]) == 1000.0
    done, after = swap_for(pool(), row(2e6), side)
    assert int(done.refusal[0]) == SwapRefusal.EXCEEDS_POOL
    assert [float(done.paid[0]), float(after.quote[0])] == [0.0, 2e6]
    assert int(swap_for(pool(), row(0.0), side)[0].refusal[0]) == SwapRefusal.NOTHING


@pytest.mark.slow
@pytest.mark.parametrize("amount", [0.0, 1e-6, 10.0, 1e12])
def test_derivatives_are_finite_and_start_at_the_price(amount):
    def received(p, x):
        return swap(p, x, jnp.array([True]))[0].received[0]

    slopes = jax.grad(received, argnums=(0, 1))(pool(), row(amount))
    assert all(np.all(np.isfinite(np.asarray(s))) for s in jax.tree.leaves(slopes))
    if amount == 1e-6:
        assert_close(slopes[1], pool().price() * 0.997, rtol=1e-8, atol=0.0)


@pytest.mark.slow
def test_single_precision():
    for side in (True, False):
        small, _ = trade(pool(dtype=jnp.float32), row(25.0, dtype=jnp.float32), jnp.array([side]))
        exact, _ = trade(pool(), row(25.0), jnp.array([side]))
        assert small.received.dtype == jnp.float32
        assert_close(small.received, exact.received, rtol=1e-6, atol=0.0)
