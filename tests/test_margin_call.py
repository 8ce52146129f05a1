"""Closing that restores an account, its fees and throttle, weights by size, losses spread over all.

Published figures are from drift-labs/protocol-v2 @0ae3e3b, programs/drift/src:
math/liquidation/tests.rs, controller/liquidation/tests.rs and math/margin.rs.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.margin_call import (
    FreedMarginThrottle,
    MarginCall,
    restoring_share,
    spot_insurance_fee,
    transfer_to_restore,
)
from jaxrisk.venue.presets.drift_v2 import (
    MARGIN_BUFFER,
    liquidator_fee,
    margin_call,
    size_weight,
    throttle,
)
from jaxrisk.venue.size_margin import crowded_weight
from jaxrisk.venue.social_loss import deposit_cut, loss_per_unit, resolved
from tests.helpers import assert_close

EXACT = {"rtol": 1e-12, "atol": 1e-12}
# Processors take subnormal numbers for zero.
floats = functools.partial(st.floats, allow_subnormal=False)
number = lambda x: jnp.asarray(x, jnp.float64)
NO_SMALL = MarginCall(insurance_fee=number(0.01), kept=number(0.95), small=number(0.0))


def called(
    rule,
    size,
    price,
    shortage,
    *,
    quote_price=1.0,
    margin_rate=0.1,
    fee=0.0,
    allowed=1.0,
    own_shortage=None,
):
    return rule.call(
        number(size),
        number(price),
        quote_price=number(quote_price),
        shortage=number(shortage),
        own_shortage=number(shortage if own_shortage is None else own_shortage),
        margin_rate=number(margin_rate),
        fee=number(fee),
        allowed=number(allowed),
    )


@pytest.mark.parametrize(
    ("quote_price", "fee", "insurance", "expected"),
    [
        (1.0, 0.0, 0.0, 1.0),
        (0.99, 0.0, 0.0, 1.010101010),
        (1.01, 0.0, 0.0, 0.990099009),
        (1.0, 0.01, 0.0, 10.0 / 9.0),
        (1.0, 0.01, 0.01, 1.25),
    ],
)
def test_published_amounts_to_cover_a_shortage(quote_price, fee, insurance, expected):
    """Ten missing at a margin rate of 10 % and a price of 100; the chain rounds to 1e-9."""
    rule = margin_call(insurance, jnp.float64)
    close = called(rule, 100.0, 100.0, 10.0, quote_price=quote_price, fee=fee)
    assert_close(close.size, expected, rtol=0.0, atol=2e-9)


@pytest.mark.parametrize(
    ("multipliers", "insurance", "expected", "rounding"),
    [
        ((1.0, 1.0), 0.0, 0.25, 2e-9),
        ((1.1, 0.9), 0.0, 0.449984250, 2e-5),
        ((1.0, 1.0), 0.01, 0.257731958, 2e-9),
        ((1.1, 0.9), 0.01, 0.475669504, 2e-5),
    ],
)
def test_published_transfers(multipliers, insurance, expected, rounding):
    """The chain rounds the ratio of multipliers, times the weight, to 1e-5 of a weight."""
    moved = transfer_to_restore(
        number(10.0),
        price=number(100.0),
        asset_weight=number(0.8),
        liability_weight=number(1.2),
        asset_multiplier=number(multipliers[0]),
        liability_multiplier=number(multipliers[1]),
        insurance_fee=number(insurance),
    )
    assert_close(moved, expected, rtol=0.0, atol=rounding)


def test_no_transfer_restores_an_account_whose_asset_counts_as_much():
    weights = {"asset_weight": number(1.0), "liability_weight": number(1.0)}
    multipliers = {"asset_multiplier": number(1.0), "liability_multiplier": number(0.75)}
    moved = transfer_to_restore(
        number(10.0), price=number(100.0), insurance_fee=number(0.0), **weights, **multipliers
    )
    assert moved == np.inf


def test_the_published_liquidation():
    """`successful_liquidation_to_cover_margin_shortage`: 2 long at 100, deposit 5, 1 % to each."""
    rate = 0.05 + MARGIN_BUFFER
    close = called(margin_call(0.01, jnp.float64), 2.0, 100.0, 9.0, margin_rate=rate, fee=0.01)
    assert_close(close.size, 1.8, **EXACT)
    quote = -200.0 + close.size * 100.0 - close.liquidator_fee - close.insurance_fee
    assert_close([quote, close.insurance_fee], [-23.6, 1.8], **EXACT)
    left = 2.0 - close.size
    assert_close((5.0 + quote + left * 100.0) / (left * 100.0), 0.07, **EXACT)


def test_the_general_share_of_the_published_liquidation():
    share = lambda equity: restoring_share(
        equity, number(10.0), number(200.0), target=number(1.4), cost=number(0.02)
    )
    assert_close([share(number(5.0)), jax.grad(share)(number(5.0))], [0.9, -0.1], **EXACT)


@pytest.mark.parametrize(
    ("shortage", "size", "fee", "expected"),
    [
        (20.0, 10.0, 0.01, 0.019),
        (1.0, 10.0, 0.01, 0.03705),
        (1_000.0, 10.0, 0.01, 0.0),
        (20.0, 10.0, 0.1, 0.0),
        (20.0, 0.0, 0.01, 0.0),
    ],
)
def test_published_insurance_fees(shortage, size, fee, expected):
    rule = margin_call(0.05, jnp.float64)
    args = (number(x) for x in (shortage, size * 100.0, 0.05, fee))
    assert_close(rule.insurance_rate(*args), expected, **EXACT)


@pytest.mark.parametrize(
    ("shortage", "value", "weights", "multiplier", "expected"),
    [
        (5.0, 100.0, (1.0, 1.1), 1.0, 0.036363),
        (100.0, 100.0, (1.0, 1.1), 1.0, 0.0),
        (1.0, 100.0, (1.0, 1.1), 1.0, 0.05),
        (1.0, 100.0, (2.0, 1.1), 1.0, 0.0),
        (5.0, 100.0, (1.0, 0.0), 1.0, 0.0),
        (5.0, 0.0, (1.0, 1.1), 1.0, 0.0),
        (5.0, 100.0, (1.0, 1.1), 0.0, 0.0),
    ],
)
def test_published_insurance_fees_of_spot(shortage, value, weights, multiplier, expected):
    fee = spot_insurance_fee(
        number(shortage),
        number(value),
        asset_weight=number(weights[0]),
        liability_weight=number(weights[1]),
        asset_multiplier=number(1.01),
        liability_multiplier=number(multiplier),
        maximum=number(0.05),
    )
    assert_close(fee, expected, rtol=0.0, atol=1e-6)


def test_published_losses_spread():
    """100 over 7 long and 4 short; 11 of 120 deposited. The chain rounds up, to 1e-6."""
    assert_close(loss_per_unit(number(100.0), number(7.0), number(4.0)), 9.09091, rtol=0, atol=1e-6)
    assert_close(deposit_cut(number(11.0), number(120.0)), 11.0 / 120.0, **EXACT)
    assert loss_per_unit(number(1.0), number(0.0), number(0.0)) == np.inf
    assert float(deposit_cut(number(1.0), number(0.0))) == 0.0


@pytest.mark.parametrize(
    ("factor", "liability", "asset"), [(0.01, 1.1962, 0.8357), (0.1, 4.0422, 0.2642)]
)
def test_published_weights_by_size(factor, liability, asset):
    """Of 1,000 units, weights 1.1 and 0.9; the chain cuts to 1e-4."""
    rule, size = size_weight(factor, jnp.float64), number(1_000.0)
    assert_close(rule.liability(number(1.1), size), liability, rtol=0.0, atol=1e-4)
    assert_close(rule.asset(number(0.9), size), asset, rtol=0.0, atol=1e-4)


@given(size=floats(0.0, 1e6), more=floats(0.0, 1e6), factor=st.sampled_from([0.0, 1e-4, 0.1]))
def test_weights_only_get_worse_with_size(size, more, factor):
    rule = size_weight(factor, jnp.float64)
    small, large = number(size), number(size + more)
    liability = [float(rule.liability(number(1.1), x)) for x in (small, large)]
    asset = [float(rule.asset(number(0.9), x)) for x in (small, large)]
    assert 1.1 <= liability[0] <= liability[1] + 1e-12
    assert 0.9 >= asset[0] >= asset[1] - 1e-12
    if factor == 0.0:
        assert (liability[1], asset[1]) == (1.1, 0.9)


def test_weights_fall_once_a_venue_holds_much():
    weigh = lambda held, start: float(crowded_weight(number(0.8), number(held), number(start)))
    assert [weigh(50.0, 100.0), weigh(200.0, 100.0), weigh(200.0, 0.0)] == [0.8, 0.4, 0.8]


@given(
    size=floats(0.1, 100.0),
    rate=floats(0.05, 0.3),
    fee=floats(0.0, 0.04),
    missing=floats(0.01, 0.99),
)
def test_a_call_restores_the_account_exactly_or_closes_it_whole(size, rate, fee, missing):
    notional = size * 100.0
    equity = (1.0 - missing) * rate * notional
    close = called(NO_SMALL, size, 100.0, rate * notional - equity, margin_rate=rate, fee=fee)
    left = notional - float(close.size) * 100.0
    after = equity - float(close.liquidator_fee + close.insurance_fee)
    if left > 1e-6 * notional:
        assert_close(after, rate * left, rtol=1e-9, atol=1e-9)
    assert float(close.size) <= size * (1.0 + 1e-12)


@pytest.mark.parametrize(
    ("shortage", "allowed", "expected"),
    [(0.0, 1.0, 0.0), (5.0, 0.0, 0.0), (5.0, 0.4, 0.2), (-3.0, 1.0, 0.0)],
)
def test_nothing_is_closed_that_need_or_may_not_be(shortage, allowed, expected):
    close = called(margin_call(0.0, jnp.float64), 10.0, 100.0, shortage, allowed=allowed)
    assert_close(close.size, expected, **EXACT)


def test_small_positions_and_positions_that_free_nothing_are_closed_whole():
    rule = margin_call(0.0, jnp.float64)
    assert float(called(rule, 0.4, 100.0, 0.1).size) == 0.4
    assert float(called(rule, 10.0, 100.0, 0.1, fee=0.2, allowed=0.3).size) == 10.0


@pytest.mark.parametrize(
    ("idle", "expected"), [(0.0, 0.01), (1_499.0, 0.01), (1_500.0, 0.0115), (9_000.0, 0.015)]
)
def test_the_fee_grows_while_nobody_comes(idle, expected):
    assert_close(liquidator_fee(0.01, 0.015, jnp.float64).at(number(idle)), expected, **EXACT)


def allowed(shortage, elapsed, freed, slots=150.0):
    rule: FreedMarginThrottle = throttle(0.1, slots, jnp.float64)
    return float(rule.allowed(*map(number, (shortage, elapsed, freed))))


def test_the_throttle_opens_with_time_and_counts_what_was_freed():
    """Shortages below 50 are not throttled: `calculate_max_pct_to_liquidate`."""
    assert allowed(49.0, 1.0, 0.0) == 1.0
    assert_close(allowed(100.0, 0.0, 0.0), 0.1, **EXACT)
    assert_close(allowed(100.0, 75.0, 0.0), 0.6, **EXACT)
    assert_close(allowed(60.0, 75.0, 40.0), 20.0 / 60.0, **EXACT)
    assert allowed(60.0, 0.0, 40.0) == 0.0
    assert allowed(100.0, 0.0, 0.0, slots=0.0) == 1.0


@given(steps=st.lists(floats(0.0, 30.0), min_size=6, max_size=6))
def test_no_more_is_freed_than_the_ramp_has_released(steps):
    left, freed, now = 1_000.0, 0.0, 0.0
    for elapsed in steps:
        now += elapsed
        part = allowed(left, now, freed) * left
        left, freed = left - part, freed + part
        assert freed <= 1_000.0 * min(0.1 + now / 150.0, 1.0) + 1e-9 or left < 50.0


@given(loss=floats(0.0, 1e3), fund=floats(0.0, 400.0), claim=floats(0.0, 400.0))
def test_fund_then_fee_pool_then_everyone(loss, fund, claim):
    paid, spread = resolved(
        number(loss), insurance=number(fund), claim=number(claim), fee_pool=number(50.0)
    )
    first = min(loss, fund, claim)
    second = min(loss - first, 50.0)
    assert_close(paid, [first, second], **EXACT)
    assert_close(spread, loss - first - second, rtol=1e-12, atol=1e-9)
    shares = np.array([3.0, -2.0, 4.0])
    each = float(loss_per_unit(spread, number(7.0), number(2.0)))
    assert_close(float(np.sum(np.abs(shares))) * each, spread, rtol=1e-9, atol=1e-9)


def test_gradients_are_central_differences():
    """Away from the kinks: a whole position, a fee at its cap, a throttle that binds."""

    def total(x):
        close = NO_SMALL.call(
            x[0],
            x[1],
            quote_price=number(0.99),
            shortage=x[2],
            own_shortage=x[2],
            margin_rate=x[3],
            fee=number(0.01),
            allowed=number(0.8),
        )
        weight = size_weight(0.01, jnp.float64)
        moved = weight.liability(number(1.1), x[1] * 20) + weight.asset(number(0.9), x[1] * 20)
        return close.size + close.liquidator_fee + close.insurance_fee + moved

    at = number([2.0, 100.0, 9.0, 0.07])
    step = number([1e-5, 1e-4, 1e-5, 1e-7])
    expected = [
        (total(at + step * e) - total(at - step * e)) / (2 * step[i])
        for i, e in enumerate(number(np.eye(4)))
    ]
    assert_close(jax.grad(total)(at), np.array(expected), rtol=1e-6, atol=1e-6)
