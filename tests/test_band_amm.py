"""The band market maker: recorded figures, the reference, conservation, limits, derivatives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.band_amm import amount_to_price, exchange
from jaxrisk.venue.band_grid import BandGrid, Bands, spot_price
from tests.band_systems import BASE, charges, opened, pool_of, seen, whole
from tests.helpers import assert_close

TIGHT = {"rtol": 1e-10, "atol": 1e-10}
trade = jax.jit(exchange)
wanted = jax.jit(amount_to_price)

prices = st.floats(0.75, 1.05).map(lambda x: x * BASE)
sizes = st.floats(1.0, 6e4)
fees = st.floats(0.0, 0.05)


def bought(price, amount, fee=0.006, admin_share=0.0, dynamic=0.0):
    """Return grid, bands and the purchase of collateral for `amount` from the opening state."""
    g, bands, _ = opened()
    done = trade(
        g,
        bands,
        seen(price, dynamic),
        charges(fee, admin_share),
        jnp.asarray(amount),
        jnp.array(True),
    )
    return g, bands, done


def test_a_recorded_purchase():
    # curve-stablecoin at 63ac0686, A 200, three loans of which that in bands 12 to 15 is touched:
    # 7,429.174 in, 0.208610 collateral out, half of the fee of 3.619 % to the admin.
    g = BandGrid(
        amplification=jnp.array(200.0), base_price=jnp.array(37127.488516537182), first=whole(0),
        count=20,
    )  # fmt: skip
    held = np.zeros(20)
    held[12:18] = [1.300264001730591488, 10.753823413091898524, *[10.753823413091898521] * 2,
                   *[9.453559411361307033] * 2]  # fmt: skip
    bands = Bands(
        borrowed=jnp.zeros(20), collateral=jnp.asarray(held), active=whole(0), lowest=whole(0),
        highest=whole(17),
    )  # fmt: skip
    now = seen(34737.400243909036, 0.036191211154026401)
    assert_close(spot_price(g, bands, now.price), 30561.714352031513, rtol=1e-12, atol=0.0)
    done = trade(g, bands, now, charges(0.01, 0.5), jnp.array(7429.174263638743), jnp.array(True))
    assert_close(done.received, 0.208610444489071492, rtol=1e-12, atol=0.0)
    assert_close(done.spent, 7429.174263638743, rtol=1e-15, atol=0.0)
    assert int(done.bands.active) == 12
    assert_close(done.bands.borrowed[12], 7294.738856401038881, rtol=1e-12, atol=0.0)
    assert_close(done.bands.collateral[12], 1.091653557241519996, rtol=1e-12, atol=0.0)
    assert_close(spot_price(g, done.bands, now.price), 34352.223698372592, rtol=1e-12, atol=0.0)


def test_band_edges_meet_and_quotes_equal_the_oracle_at_an_edge():
    g, _, _ = opened()
    n = g.numbers()
    assert_close(g.upper_price(whole(3)), BASE * 0.99**3, rtol=1e-14, atol=0.0)
    low, high = g.quote_range(n, jnp.array(1800.0))
    assert_close(high[:-1], low[1:], rtol=1e-13, atol=0.0)
    edge = g.upper_price(whole(5))
    assert_close(g.quote_range(whole(5), edge)[0], edge, rtol=1e-13, atol=0.0)
    assert_close(g.quote_range(whole(4), edge)[1], edge, rtol=1e-13, atol=0.0)


@given(prices, sizes, fees, st.floats(0.0, 1.0), st.floats(0.7, 1.1), st.floats(0.01, 20.0))
def test_a_purchase_and_a_sale_agree_with_the_reference(
    price, amount, fee, admin_share, move, sale
):
    g, bands, done = bought(price, amount, fee, admin_share)
    pool = pool_of(g, bands)
    spent, received = pool.exchange(price, fee, admin_share, amount, True)
    assert_close([done.spent, done.received], [spent, received], rtol=1e-9, atol=1e-9)
    assert int(done.bands.active) == pool.active
    # The oracle moves on, and someone sells collateral back.
    now = price * move
    if done.received > 0:
        assert_close(spot_price(g, done.bands, jnp.asarray(now)), pool.price(now), **TIGHT)
    back = trade(
        g, done.bands, seen(now), charges(fee, admin_share), jnp.asarray(sale), jnp.array(False)
    )
    spent, received = pool.exchange(now, fee, admin_share, sale, False)
    assert_close([back.spent, back.received], [spent, received], rtol=1e-8, atol=1e-8)
    assert int(back.bands.active) == pool.active
    for number, x, y in zip(
        g.numbers().tolist(), back.bands.borrowed, back.bands.collateral, strict=True
    ):
        expected = [pool.borrowed.get(number, 0.0), pool.collateral.get(number, 0.0)]
        assert_close([x, y], expected, rtol=1e-8, atol=1e-8)


@given(prices, sizes, fees, st.floats(0.0, 1.0))
def test_what_leaves_the_trader_arrives_in_the_bands(price, amount, fee, admin_share):
    _, bands, done = bought(price, amount, fee, admin_share)
    gained = jnp.sum(done.bands.borrowed) - jnp.sum(bands.borrowed)
    lost = jnp.sum(bands.collateral) - jnp.sum(done.bands.collateral)
    assert_close(gained + done.admin_fee, done.spent, rtol=1e-12, atol=1e-9)
    assert_close(lost, done.received, rtol=1e-12, atol=1e-12)
    assert 0.0 <= float(done.admin_fee) <= float(done.fee) * (1 + 1e-12)
    assert float(done.spent) <= amount * (1 + 1e-12)
    assert np.all(np.asarray(done.bands.collateral) >= 0.0)


@given(prices, sizes, st.floats(1.01, 3.0))
def test_more_in_gives_more_out_at_a_worse_price(price, amount, factor):
    _, _, small = bought(price, amount, fee=0.0)
    _, _, large = bought(price, amount * factor, fee=0.0)
    assert float(large.received) >= float(small.received) * (1 - 1e-12)
    if small.received > 0:
        average = lambda t: float(t.spent / t.received)
        assert average(large) >= average(small) * (1 - 1e-9)


@given(st.floats(10.0, 3e4))
def test_there_and_back_gains_nothing_and_costs_nothing_where_there_is_no_fee(amount):
    # The oracle stands inside band 2, which therefore charges nothing of its own; others do.
    price = BASE * 0.99**2.5
    g, bands, done = bought(price, amount, fee=0.0)
    back = trade(g, done.bands, seen(price), charges(0.0), done.received, jnp.array(False))
    assert float(back.received) <= float(done.spent) * (1 + 1e-9)
    if done.bands.active == 2:
        assert_close(back.received, done.spent, rtol=1e-9, atol=0.0)
        assert_close(back.bands.collateral, bands.collateral, rtol=1e-9, atol=0.0)
    else:
        assert float(done.fee) > 0.0


def test_an_amount_beyond_what_the_bands_hold_is_not_spent():
    g, bands, done = bought(1500.0, 1e9)
    assert_close(done.received, jnp.sum(bands.collateral), rtol=1e-12, atol=0.0)
    assert float(done.spent) < 1e6
    assert int(done.bands.active) == int(bands.highest)
    assert float(jnp.sum(done.bands.collateral)) == 0.0
    # One more purchase finds nothing and leaves everything as it was.
    again = trade(g, done.bands, seen(1500.0), charges(), jnp.array(1e3), jnp.array(True))
    assert [float(again.spent), float(again.received)] == [0.0, 0.0]
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), again.bands, done.bands))


def test_no_trade_reaches_bands_more_than_fifty_below_the_oracle():
    # At ten times the price of the bands, quotes are cheap, but the walk stops before them.
    _, _, done = bought(BASE * 2.0, 1e6)
    assert float(done.received) == 0.0


def test_the_amount_for_all_of_it_stops_in_the_last_band():
    g, bands, _ = opened()
    now, fee = seen(1400.0), charges(0.006)
    all_of_it, rises = wanted(g, bands, now, fee, jnp.array(1e9))
    assert bool(rises)
    done = trade(g, bands, now, fee, all_of_it, jnp.array(True))
    assert int(done.bands.active) == int(bands.highest)
    back, _ = wanted(g, done.bands, now, fee, jnp.array(1e-3))
    sold = trade(g, done.bands, now, fee, back, jnp.array(False))
    # All sold, and not one band further: the next one down is empty. Rounding errors do not
    # change that, a millionth more does.
    assert int(sold.bands.active) == 2
    assert_close(jnp.sum(sold.bands.borrowed), 0.0, rtol=0.0, atol=1e-6)
    for more, active in ((back * (1 + 1e-14), 2), (back * (1 + 1e-6), 0)):
        sold = trade(g, done.bands, now, fee, more, jnp.array(False))
        assert int(sold.bands.active) == active


@given(st.floats(0.8, 0.95), st.floats(0.9, 1.1), st.floats(500.0, 2e4))
def test_the_amount_to_a_price_brings_the_price_there(price, target, first):
    # With all fees taken out, what stays in the bands is what the formula counts.
    price, all_out = price * BASE, charges(0.006, 1.0)
    g, bands, done = bought(price, first, 0.006, 1.0)
    start = done.bands if done.received > 0 else bands
    goal = jnp.asarray(target * price)
    amount, rises = wanted(g, start, seen(price), all_out, goal)
    moved = trade(g, start, seen(price), all_out, amount, rises)
    before, after = (float(spot_price(g, b, jnp.asarray(price))) for b in (start, moved.bands))
    n = int(moved.bands.active) - int(g.first)
    empty = float(moved.bands.borrowed[n] + moved.bands.collateral[n]) == 0.0
    if amount > 0 and not empty:
        low, high = sorted((before, float(goal)))
        assert low * (1 - 1e-9) <= after <= high * (1 + 1e-9)
        quoted = [float(e) for e in g.quote_range(moved.bands.active, jnp.asarray(price))]
        if quoted[0] * (1 + 1e-9) < float(goal) < quoted[1] * (1 - 1e-9):
            assert_close(after, float(goal), rtol=1e-8, atol=0.0)


def test_the_fee_is_a_quarter_of_the_distance_where_that_is_more():
    # Band 2 with the oracle in band 6: the quote of band 2 lies far below the oracle.
    g, bands, _ = opened()
    price = float(g.upper_price(whole(6))) * 0.995
    high = float(g.quote_range(whole(2), jnp.asarray(price))[1])
    expected = 0.25 * (1 - high / price)
    assert expected > 0.006
    done = trade(g, bands, seen(price), charges(0.006), jnp.array(1.0), jnp.array(True))
    assert_close(done.fee, expected, rtol=1e-12, atol=0.0)
    dynamic = trade(g, bands, seen(price, 0.2), charges(0.006), jnp.array(1.0), jnp.array(True))
    assert_close(dynamic.fee, 0.2, rtol=1e-12, atol=0.0)


def test_trades_that_round_to_nothing_change_nothing():
    g, bands, _ = opened()
    units = {"borrowed_unit": jnp.array(1e-18), "collateral_unit": jnp.array(1e-8)}
    dust = exchange(g, bands, seen(1900.0), charges(), jnp.array(1e-6), jnp.array(True), **units)
    assert [float(dust.spent), float(dust.received), int(dust.bands.active)] == [0.0, 0.0, 0]
    done = exchange(g, bands, seen(1900.0), charges(), jnp.array(123.0), jnp.array(True), **units)
    assert_close(done.received, round(float(done.received), 8), rtol=0.0, atol=1e-15)
    assert float(done.received) > 0.0


@pytest.mark.slow
def test_single_precision_agrees_with_double():
    results = []
    for dtype in (jnp.float32, jnp.float64):
        g, bands, _ = opened(dtype=dtype)
        amount = jnp.asarray(2.5e4, dtype)
        done = exchange(
            g, bands, seen(1850.0, dtype=dtype), charges(dtype=dtype), amount, jnp.array(True)
        )
        assert done.received.dtype == dtype
        assert done.bands.borrowed.dtype == dtype
        results.append([float(done.spent), float(done.received), int(done.bands.active)])
    assert_close(results[0], results[1], rtol=2e-4, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("amount", [0.0, 50.0, 9e3, 1e6])
def test_derivatives_are_finite_and_match_differences(amount):
    g, bands, _ = opened()

    def received(price, amount, collateral):
        state = dataclasses.replace(bands, collateral=collateral)
        return exchange(
            g, state, seen(price), charges(0.006), amount, jnp.array(True)
        ).received  # fmt: skip

    at = (jnp.array(1850.0), jnp.asarray(amount), bands.collateral)
    slopes = jax.grad(received, argnums=(0, 1, 2))(*at)
    assert all(np.all(np.isfinite(np.asarray(s))) for s in slopes)
    if amount > 0:
        h = 1e-4
        bump = (received(at[0], at[1] + h, at[2]) - received(at[0], at[1] - h, at[2])) / (2 * h)
        assert_close(slopes[1], bump, rtol=1e-5, atol=1e-9)


@pytest.mark.slow
def test_systems_may_be_mapped():
    g, bands, _ = opened()
    amounts = jnp.array([10.0, 1e4, 1e9])
    sides = jnp.array([True, True, False])
    many = jax.vmap(lambda a, b: exchange(g, bands, seen(1850.0), charges(), a, b))(amounts, sides)
    for i in range(3):
        one = exchange(g, bands, seen(1850.0), charges(), amounts[i], sides[i])
        assert_close(many.received[i], one.received, rtol=1e-14, atol=0.0)
        assert_close(many.bands.borrowed[i], one.bands.borrowed, rtol=1e-14, atol=0.0)
