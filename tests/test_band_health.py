"""Loans on bands: shares, opening, health along paths, liquidation."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.band_amm import amount_to_price, exchange
from jaxrisk.venue.band_grid import Bands
from jaxrisk.venue.band_health import band_health, converted_down, converted_up, headroom
from jaxrisk.venue.band_liquidation import BandRefusal, liquidate, withdrawn_portion
from jaxrisk.venue.band_loan import LoanRefusal, effective_collateral, first_band
from jaxrisk.venue.band_shares import DepositRefusal, Holdings, deposit, holdings, withdraw
from tests.band_systems import AMOUNTS, BASE, RANGES, charges, opened, pool_of, seen, whole
from tests.helpers import assert_close

TIGHT = {"rtol": 1e-11, "atol": 1e-11}
trade = jax.jit(exchange)
wanted = jax.jit(amount_to_price)
down = jax.jit(converted_down)
up = jax.jit(converted_up)
take_out = jax.jit(withdraw)
fractions = st.floats(0.0, 1.0, allow_subnormal=False)


def after_purchase(price=1850.0, amount=1.2e4):
    """Return the opening system after a purchase, with two accounts partly converted."""
    g, bands, shares = opened()
    done = trade(g, bands, seen(price), charges(), jnp.asarray(amount), jnp.array(True))
    return g, done.bands, shares


# Shares


@pytest.mark.slow
def test_deposits_own_what_they_put_in():
    g, bands, shares = opened()
    held = holdings(bands, shares)
    assert_close(held.collateral, AMOUNTS, **TIGHT)
    assert_close(held.borrowed, np.zeros(3), rtol=0.0, atol=0.0)
    assert (int(bands.lowest), int(bands.highest), int(bands.active)) == (0, 25, 0)
    # Bands 4 to 6 hold two each of the first account and 0.4 of the second.
    at = int(4 - g.first)
    assert_close(bands.collateral[at], 2.4, **TIGHT)
    assert_close(shares.fraction()[at, :2], [2.0 / 2.4, 0.4 / 2.4], **TIGHT)


@given(st.floats(100.0, 4e4), fractions, fractions, fractions)
def test_withdrawals_conserve_and_leave_others_alone(amount, a, b, c):
    g, bands, shares = after_purchase(amount=amount)
    before = holdings(bands, shares)
    portion = jnp.array([a, b, c])
    left, remaining, taken = take_out(g, bands, shares, portion)
    assert_close(taken.borrowed, portion * before.borrowed, rtol=1e-11, atol=1e-9)
    assert_close(taken.collateral, portion * before.collateral, rtol=1e-11, atol=1e-11)
    total = jnp.sum(left.borrowed) + jnp.sum(taken.borrowed)
    assert_close(total, jnp.sum(bands.borrowed), rtol=1e-11, atol=1e-9)
    after = holdings(left, remaining)
    assert_close(after.collateral, (1 - portion) * before.collateral, rtol=1e-9, atol=1e-11)


def test_the_last_owner_leaves_nothing_and_narrows_the_range():
    g, bands, shares = after_purchase()
    # The range ends before a range emptied at its end; one emptied further in does not move it.
    for account, highest in ((2, 19), (0, 19), (1, 19)):
        portion = jnp.zeros(3).at[account].set(1.0)
        bands, shares, _ = take_out(g, bands, shares, portion)
        assert (int(bands.lowest), int(bands.highest)) == (0, highest)
    assert float(jnp.sum(bands.borrowed) + jnp.sum(bands.collateral)) == 0.0
    assert float(jnp.sum(shares.count)) == 0.0


def test_the_highest_band_in_use_falls_to_what_is_still_held():
    g, bands, shares = opened()
    bands = dataclasses.replace(bands, highest=whole(13))
    bands, shares, _ = take_out(g, bands, shares, jnp.array([0.0, 1.0, 0.0]))
    # The second account stood on bands 4 to 13; the first still holds up to band 6.
    assert int(bands.highest) == 6


def test_the_lowest_band_in_use_moves_up_only_from_itself():
    g, bands, shares = opened()
    bands = dataclasses.replace(bands, lowest=whole(2))
    bands, shares, _ = take_out(g, bands, shares, jnp.array([1.0, 0.0, 0.0]))
    # Bands 2 and 3 were the first account's alone; band 4 is also the second's.
    assert int(bands.lowest) == 4


@pytest.mark.parametrize(
    ("first", "last", "amount", "refusal"),
    [
        (14, 18, 1.0, DepositRefusal.NONE),
        (1, 5, 1.0, DepositRefusal.BELOW_ACTIVE),
        (14, 16, 1.0, DepositRefusal.TOO_FEW_BANDS),
        (14, 64, 1.0, DepositRefusal.TOO_MANY_BANDS),
        (14, 18, 0.0, DepositRefusal.NOTHING),
    ],
)
def test_deposits_are_refused(first, last, amount, refusal):
    g, bands, shares = after_purchase()
    gone = shares.count.at[:, 2].set(0.0)
    shares = dataclasses.replace(shares, count=gone)
    given_up = jnp.where(jnp.arange(g.count) >= 20 - int(g.first), 0.0, bands.collateral)
    bands = dataclasses.replace(bands, collateral=given_up)
    now, owned, code = deposit(
        g, bands, shares, whole(2), jnp.asarray(amount), whole(first), whole(last)
    )
    assert int(code) == refusal
    put = float(jnp.sum(now.collateral) - jnp.sum(bands.collateral))
    assert_close(put, amount if refusal == 0 else 0.0, **TIGHT)
    assert_close(holdings(now, owned).collateral[2], put, **TIGHT)
    _, _, again = deposit(g, now, owned, whole(0), jnp.array(1.0), whole(14), whole(18))
    assert int(again) == DepositRefusal.ALREADY_THERE


def test_a_deposit_steps_back_over_bands_without_borrowed_coin():
    g, bands, shares = opened()
    bands = dataclasses.replace(bands, active=whole(30))
    gone = dataclasses.replace(shares, count=shares.count.at[:, 0].set(0.0))
    args = (gone, whole(0), jnp.array(1.0), whole(26), whole(30))
    now, _, code = deposit(g, bands, *args)
    assert (int(code), int(now.active)) == (DepositRefusal.NONE, 25)
    held = dataclasses.replace(bands, borrowed=bands.borrowed.at[27 - int(g.first)].set(1.0))
    _, _, code = deposit(g, held, *args)
    assert int(code) == DepositRefusal.BELOW_ACTIVE


# Opening a loan


@given(st.floats(20.0, 300.0), st.floats(0.1, 100.0), st.integers(4, 50), st.floats(0.0, 0.5))
def test_effective_collateral_is_the_sum_over_bands(a, collateral, bands, discount):
    ratio = (a - 1) / a
    summed = collateral * (1 - discount) / bands * ratio**0.5 * sum(ratio**k for k in range(bands))
    got = effective_collateral(
        jnp.array(a), jnp.array([collateral]), whole([bands]), jnp.array(discount)
    )
    assert_close(got, [summed], rtol=1e-11, atol=0.0)


@given(st.floats(0.3, 0.9), st.integers(4, 12), st.floats(0.02, 0.2))
def test_a_loan_stands_on_the_lowest_priced_band_that_backs_it(ltv, count, discount):
    g, bands, _ = opened()
    collateral, debt = jnp.array([3.0]), jnp.array([ltv * 3.0 * BASE])
    n, refusal = first_band(
        g, bands, collateral, debt, whole([count]), jnp.array(discount), jnp.array(BASE)
    )
    most = lambda band: float(
        effective_collateral(g.amplification, collateral, whole([count]), jnp.array(discount))[0]
        * g.upper_price(whole(band))
    )
    number = int(n[0])
    assert most(number + 1) < float(debt[0]) <= most(number) * (1 + 1e-12)
    too_high = float(g.upper_price(n)[0]) >= BASE
    assert int(refusal[0]) == (LoanRefusal.DEBT_TOO_HIGH if too_high else LoanRefusal.NONE)


def test_a_recorded_loan_and_refused_ones():
    # curve-stablecoin at 63ac0686: A 200, loan discount 5 %, 47.2678 collateral in 5 bands against
    # 1,534,965.58 at a base price of 37,127.43 stands on bands 13 to 17.
    g, bands, _ = opened(200.0)
    g = dataclasses.replace(g, base_price=jnp.array(37127.432005986186952704))
    ask = lambda debt, state: first_band(
        g, state, jnp.array([47.267797056806535]), jnp.array([debt]), whole([5]), jnp.array(0.05),
        g.base_price,
    )  # fmt: skip
    n, refusal = ask(1534965.578571835320041472, bands)
    assert (int(n[0]), int(refusal[0])) == (13, LoanRefusal.NONE)
    assert int(ask(1.8e6, bands)[1][0]) == LoanRefusal.DEBT_TOO_HIGH
    assert int(ask(0.0, bands)[1][0]) == LoanRefusal.NO_DEBT
    # Borrowed coin in band 15 stands in the way of band 13 when trading has come that far.
    held = dataclasses.replace(
        bands, active=whole(16), borrowed=bands.borrowed.at[15 - int(g.first)].set(1.0)
    )
    assert int(ask(1534965.578571835320041472, held)[1][0]) == LoanRefusal.DEBT_TOO_HIGH


# Health


@given(st.floats(0.7, 1.1), st.floats(1.0, 6e4), st.floats(0.7, 1.1))
def test_converted_down_agrees_with_the_reference(price, amount, move):
    g, bands, shares = after_purchase(price * BASE, amount)
    now = price * move * BASE
    total = jnp.sum(down(g, bands, shares, jnp.asarray(now)))
    assert_close(total, pool_of(g, bands).converted_down(now), rtol=1e-9, atol=1e-7)


def slow_path(g, bands, prices):
    """Return the bands after free arbitrage to each price in turn."""
    free = charges(0.0)
    for price in prices:
        target = jnp.asarray(price)
        amount, rises = wanted(g, bands, seen(price), free, target)
        bands = trade(g, bands, seen(price), free, amount, rises).bands
    return bands


@pytest.mark.slow
def test_a_slow_fall_earns_what_converted_down_promises():
    # A test of the mechanism against itself over time: the promise needs no path, the path no
    # promise. The quarter-of-distance fee and coarse steps leave a gap that shrinks with the step.
    g, bands, shares = opened()
    start = BASE * 0.99**2 * 1.001
    promise = down(g, bands, shares, jnp.asarray(start))
    gaps = []
    for steps in (150, 600):
        path = start * np.exp(np.linspace(0.0, 27 * np.log(0.99), steps))
        end = slow_path(g, bands, path)
        held = holdings(end, shares)
        assert_close(held.collateral, np.zeros(3), rtol=0.0, atol=1e-9)
        gaps.append(float(np.max(np.abs(held.borrowed / promise - 1.0))))
        # What the price path does not change: the promise is kept all along.
        middle = slow_path(g, bands, path[: steps // 2])
        kept = down(g, middle, shares, jnp.asarray(path[steps // 2 - 1]))
        assert_close(kept, promise, rtol=4e-3, atol=0.0)
    assert gaps[1] < 0.6 * gaps[0]
    assert gaps[1] < 1e-3


def test_a_fall_above_the_bands_costs_headroom_but_no_health():
    g, bands, shares = opened()
    debt = jnp.array([15e3, 5e3, 8e3])
    discount = jnp.array(0.06)
    held = holdings(bands, shares)
    high, low = jnp.array(BASE * 1.2), jnp.array(BASE * 0.985)
    at = lambda p: band_health(down(g, bands, shares, p), debt, discount)
    assert_close(at(high), at(low), **TIGHT)
    extra = lambda p: headroom(g, bands, shares, held, debt, p)
    top = BASE * 0.99 ** np.array([r[0] for r in RANGES])
    assert_close(extra(high), (BASE * 1.2 - top) * np.array(AMOUNTS) / debt, **TIGHT)
    assert np.all(np.asarray(extra(low)) < np.asarray(extra(high)))
    assert_close(extra(jnp.array(1500.0)), np.zeros(3), rtol=0.0, atol=0.0)
    # Once trading has reached band 2, the first account has no headroom at any price.
    begun = dataclasses.replace(bands, active=whole(2))
    assert float(headroom(g, begun, shares, held, debt, high)[0]) == 0.0
    assert np.isinf(float(band_health(jnp.ones(1), jnp.zeros(1), discount)[0]))


def test_up_and_down_differ_by_the_geometric_middle_of_untouched_bands():
    g, bands, shares = opened()
    middle = g.upper_price(g.numbers()) * np.sqrt(0.99)
    expected = jnp.sum(shares.fraction() * (bands.collateral * middle)[:, None], axis=0)
    assert_close(down(g, bands, shares, jnp.array(BASE * 1.1)), expected, rtol=1e-12, atol=0.0)
    assert_close(up(g, bands, shares, jnp.array(BASE * 1.1)), AMOUNTS, rtol=1e-12, atol=0.0)
    _, turned, _ = after_purchase(1200.0, 1e9)
    assert_close(jnp.sum(turned.collateral), 0.0, rtol=0.0, atol=0.0)
    held = holdings(turned, shares)
    assert_close(down(g, turned, shares, jnp.array(1200.0)), held.borrowed, rtol=1e-12, atol=0.0)
    back = jnp.sum(shares.fraction() * (turned.borrowed / middle)[:, None], axis=0)
    assert_close(up(g, turned, shares, jnp.array(1200.0)), back, rtol=1e-12, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("edge", [1.5, 2.0, 2.5, 3.0, 6.0])
def test_health_has_finite_derivatives_at_band_edges_and_in_empty_bands(edge):
    g, bands, shares = after_purchase()
    price = g.upper_price(whole(2)) if edge == 2.0 else jnp.asarray(BASE * 0.99**edge)

    def value(price, borrowed, collateral, base):
        state = dataclasses.replace(bands, borrowed=borrowed, collateral=collateral)
        at = dataclasses.replace(g, base_price=base)
        return jnp.sum(converted_down(at, state, shares, price)) + jnp.sum(
            converted_up(at, state, shares, price)
        )

    at = (price, bands.borrowed, bands.collateral, g.base_price)
    slopes = jax.jit(jax.grad(value, argnums=(0, 1, 2, 3)))(*at)
    assert all(np.all(np.isfinite(np.asarray(s))) for s in slopes)
    h = 1e-5
    bump = (value(price + h, *at[1:]) - value(price - h, *at[1:])) / (2 * h)
    if edge % 1 != 0:
        assert_close(slopes[0], bump, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_single_precision_agrees_with_double():
    results = []
    for dtype in (jnp.float32, jnp.float64):
        g, bands, shares = opened(dtype=dtype)
        amount = jnp.asarray(1.2e4, dtype)
        sold = exchange(
            g, bands, seen(1850.0, dtype=dtype), charges(dtype=dtype), amount, jnp.array(True)
        ).bands
        value = converted_down(g, sold, shares, jnp.asarray(1850.0, dtype))
        assert value.dtype == dtype
        results.append(value)
    assert_close(results[0], results[1], rtol=2e-4, atol=0.0)


# Liquidation


def test_recorded_liquidations():
    # curve-stablecoin at 63ac0686. First, all of a debt at a discount of 11 %: the bands hold more
    # of the borrowed coin than is owed, and the liquidator keeps the rest. Then a quarter, at 2 %.
    call = liquidate(
        Holdings(
            borrowed=jnp.array([483984.127852352729, 1245.642159744363524]),
            collateral=jnp.array([1.174843450181000609, 1.119530908989819008]),
        ),
        jnp.array([462587.731642895849961, 8437.613179926412732]),
        jnp.array([-0.007487041111679481, -0.320197907371548299]),
        jnp.array([1.0, 0.25]),
        jnp.array([0.11, 0.02]),
    )
    assert call.refusal.tolist() == [BandRefusal.NONE] * 2
    assert_close(call.paid, [-21396.396209456879098, 1800.282538427395324], rtol=1e-12, atol=0.0)
    assert_close(call.seized, [1.174843450181000609, 0.277824766017694054], rtol=1e-12, atol=0.0)
    assert_close(call.repaid[1], 8437.613179926412732 - 6328.209884944809549, rtol=1e-12, atol=0.0)
    # 25 % at a discount of 4 %: 0.25 * (1.02 / 1.04 * 0.75 + 0.25).
    quarter = withdrawn_portion(jnp.array([0.25]), jnp.array(0.04))
    assert_close(quarter, [0.24639423076923078], **TIGHT)


@pytest.mark.slow
@given(
    st.floats(-0.5, 0.5, allow_subnormal=False),
    st.floats(0.0, 1.5, allow_subnormal=False),
    st.floats(0.01, 0.3),
    st.floats(0.0, 2e4, allow_subnormal=False),
)
def test_a_call_conserves_and_takes_no_more_than_there_is(health, fraction, discount, borrowed):
    held = Holdings(borrowed=jnp.array([borrowed]), collateral=jnp.array([3.0]))
    debt = jnp.array([1e4])
    call = liquidate(held, debt, jnp.array([health]), jnp.array([fraction]), jnp.array(discount))
    refused = health >= 0 or fraction == 0
    assert (int(call.refusal[0]) != BandRefusal.NONE) == refused
    part = min(fraction, 1.0) * (not refused)
    assert_close(call.repaid, [part * 1e4], **TIGHT)
    assert_close(call.paid + call.released, call.repaid, rtol=1e-12, atol=1e-9)
    assert float(call.seized[0]) <= 3.0
    assert float(call.released[0]) <= borrowed
    # A partial liquidator gets less than pro rata, so what is left is better backed.
    assert float(call.portion[0]) <= part * (1 + 1e-12)
    if 0.0 < part < 1.0:
        assert float(call.portion[0]) < part
    assert [float(x[0]) for x in (call.fee, call.refund, call.bad_debt)] == [0.0, 0.0, 0.0]


def test_a_partial_liquidation_raises_health_and_a_full_one_ends_the_loan():
    g, bands, shares = after_purchase(1750.0, 1.5e4)
    price, discount = jnp.array(1750.0), jnp.array(0.06)
    debt = down(g, bands, shares, price) * jnp.array([0.97, 0.8, 0.8])
    health = band_health(down(g, bands, shares, price), debt, discount)
    fraction = jnp.array([0.5, 0.5, 0.5])
    call = liquidate(holdings(bands, shares), debt, health, fraction, discount)
    assert call.refusal.tolist() == [BandRefusal.NONE, BandRefusal.HEALTHY, BandRefusal.HEALTHY]
    left, remaining, taken = take_out(g, bands, shares, call.portion)
    assert_close(taken.collateral, call.seized, **TIGHT)
    assert_close(taken.borrowed, call.released, rtol=1e-11, atol=1e-9)
    after = band_health(down(g, left, remaining, price), debt - call.repaid, discount)
    assert float(after[0]) > float(health[0])
    assert_close(after[1:], health[1:], rtol=1e-9, atol=1e-9)
    none = liquidate(holdings(bands, shares), jnp.zeros(3), health - 1.0, fraction, discount)
    assert none.refusal.tolist() == [BandRefusal.NOTHING_OWED] * 3


def test_accounts_may_be_permuted():
    g, bands, shares = after_purchase()
    order = jnp.array([2, 0, 1])
    turned = jax.tree.map(lambda x: x[..., order], shares)
    price = jnp.array(1800.0)
    assert isinstance(bands, Bands)
    assert_close(
        down(g, bands, turned, price), down(g, bands, shares, price)[order], rtol=1e-13, atol=0.0
    )
