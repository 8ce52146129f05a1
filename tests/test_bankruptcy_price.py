"""Bankruptcy and fillable prices, the insurance fund's part, limits a block, the withdrawal gate.

Published figures are from dydxprotocol/v4-chain, protocol/x/clob/keeper/liquidations_test.go and
protocol/x/perpetuals/types/liquidity_tier_test.go, with BTC at 50,000 and ETH at 3,000 USDC and
margins of 20 % and 10 %.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.bankruptcy_price import (
    FillablePrice,
    bankruptcy_value,
    insurance_change,
    liquidatable,
)
from jaxrisk.venue.presets.dydx_v4 import (
    TIERS,
    Tier,
    block_limits,
    fillable_price,
    funding_cap,
    margin,
    withdrawal_gate,
)
from tests.helpers import assert_close

EXACT = {"rtol": 1e-12, "atol": 1e-9}
# Processors take subnormal numbers for zero.
floats = functools.partial(st.floats, allow_subnormal=False)
number = lambda x: jnp.asarray(x, jnp.float64)
PRICES = number([50_000.0, 3_000.0])
TESTED = Tier(0.2, 0.5, 0.0, 0.0)


def account(quote, sizes):
    """Return sizes, values, maintenance margins and equity of an account in BTC and ETH."""
    size = number(sizes)
    required = margin(TESTED, jnp.float64).required(size, PRICES, number(0.0), number(0.0))
    return size, size * PRICES, required[1], number(quote) + jnp.sum(size * PRICES)


def bankruptcy(quote, sizes, closed, part=1.0):
    _, value, required, equity = account(quote, sizes)
    return bankruptcy_value(
        part * value[closed],
        part * required[closed],
        equity=equity,
        total_requirement=jnp.sum(required),
    )


@pytest.mark.parametrize(
    ("quote", "sizes", "closed", "part", "expected"),
    [
        (-4_501.0, (0.1, 0.0), 0, 1.0, 4_501.0),
        (5_499.0, (-0.1, 0.0), 0, 1.0, -5_499.0),
        (-5_000.0, (0.1, 0.0), 0, 1.0, 5_000.0),
        (-5_000.0, (0.1, 0.0), 0, 0.5, 2_500.0),
        (5_000.0, (-0.1, 0.0), 0, 0.5, -2_500.0),
        (-5_100.0, (0.1, 0.0), 0, 1.0, 5_100.0),
        (4_900.0, (-0.1, 0.0), 0, 1.0, -4_900.0),
        (-490.0, (0.004, 0.1), 1, 1.0, 294.0),
        (510.0, (-0.004, -0.1), 1, 1.0, -306.0),
        (110.0, (0.004, -0.1), 1, 1.0, -306.0),
    ],
)
def test_published_bankruptcy_prices(quote, sizes, closed, part, expected):
    assert_close(bankruptcy(quote, sizes, closed, part), expected, **EXACT)


@pytest.mark.parametrize(
    ("quote", "sizes", "closed", "adjustment", "spread", "expected"),
    [
        (-4_501.0, (0.1, 0.0), 0, 1.0, 0.1, 49_999.0),
        (-4_501.0, (0.1, 0.0), 0, 2.0, 0.1, 49_998.0),
        (-4_501.0, (0.1, 0.0), 0, 1.0, 0.2, 49_998.0),
        (5_499.0, (-0.1, 0.0), 0, 1.0, 0.1, 50_001.0),
        (5_499.0, (-0.1, 0.0), 0, 2.0, 0.1, 50_002.0),
        (-5_000.0, (0.1, 0.0), 0, 1.0, 0.1, 49_500.0),
        (-5_500.0, (0.1, 0.0), 0, 1.0, 0.1, 49_500.0),
        (5_000.0, (-0.1, 0.0), 0, 1.0, 0.1, 50_500.0),
        (4_500.0, (-0.1, 0.0), 0, 1.0, 0.1, 50_500.0),
        (-490.0, (0.004, 0.1), 1, 1.0, 0.1, 2_976.0),
    ],
)
def test_published_fillable_prices(quote, sizes, closed, adjustment, spread, expected):
    size, _, required, equity = account(quote, sizes)
    rule = FillablePrice(adjustment=number(adjustment), spread=number(spread))
    price = rule.price(
        size[closed],
        PRICES[closed],
        required[closed],
        equity=equity,
        total_requirement=jnp.sum(required),
    )
    assert_close(price, expected, **EXACT)


@pytest.mark.parametrize(
    ("quote", "size", "fill", "fee", "expected"),
    [
        (-5_100.0, 0.1, 56_100.0, 0.005, 28.05),
        (-5_100.0, 0.1, 56_100.0, 0.025, 140.25),
        (-5_100.0, 0.1, 56_100.0, 1.0, 510.0),
        (4_900.0, -0.1, 44_100.0, 0.005, 22.05),
        (4_900.0, -0.1, 44_100.0, 0.025, 110.25),
        (4_900.0, -0.1, 44_100.0, 1.0, 490.0),
        (-5_100.0, 0.1, 51_051.0, 0.005, 5.1),
        (4_900.0, -0.1, 48_951.0, 0.005, 4.9),
        (-5_100.0, 0.1, 51_000.0, 0.005, 0.0),
        (-5_100.0, 0.1, 50_000.0, 0.005, -100.0),
    ],
)
def test_published_changes_of_the_insurance_fund(quote, size, fill, fee, expected):
    at = bankruptcy(quote, (size, 0.0), 0)
    assert_close(insurance_change(number(size * fill), at, number(fee)), expected, **EXACT)


@pytest.mark.parametrize(
    ("open_interest", "caps", "expected"),
    [
        (28_123_456.789123, (25e6, 60e6), 135_697e-6),
        (1.5e6, (1e6, 2e6), 0.3),
        (80e6, (25e6, 50e6), 0.5),
        (25e6, (25e6, 50e6), 0.1),
        (1.5e6, (0.0, 0.0), 0.1),
    ],
)
def test_published_initial_margins(open_interest, caps, expected):
    """On 0.5 USDC; the chain rounds the rate down and the margin up to a millionth."""
    rule = margin(Tier(0.2, 0.5, *caps), jnp.float64)
    required = rule.required(number(0.5), number(1.0), number(open_interest), number(0.0))
    assert_close(required[0], expected, rtol=0.0, atol=1e-6)
    assert_close(required[1], 0.05, **EXACT)


def test_the_published_rate_between_caps():
    rates = margin(Tier(0.2, 0.5, 1e6, 2e6), jnp.float64).rates(number(1_234_567.0), number(0.0))
    assert_close(rates[0], 0.3876536, **EXACT)


def test_published_funding_clamp():
    """600 % of the gap between 15 % and 80 % of it: liquidity_tier_test.go."""
    assert_close(funding_cap(Tier(0.15, 0.8, 0.0, 0.0)), 0.18, **EXACT)
    assert_close(funding_cap(TIERS["large_cap"]), 0.048, **EXACT)


@given(quote=floats(-1e4, 1e4), btc=floats(-0.3, 0.3), eth=floats(-3.0, 3.0))
def test_closing_all_at_bankruptcy_leaves_nothing(quote, btc, eth):
    _, value, required, equity = account(quote, (btc, eth))
    if float(jnp.sum(required)) < 1.0:
        return
    closed = bankruptcy_value(value, required, equity=equity, total_requirement=jnp.sum(required))
    assert_close(number(quote) + jnp.sum(closed), 0.0, rtol=0.0, atol=1e-6)


@given(quote=floats(-9e3, 9e3), size=st.sampled_from([-0.1, 0.1]))
def test_the_fillable_price_lies_between_oracle_and_full_concession(quote, size):
    signed, _, required, equity = account(quote, (size, 0.0))
    rule = fillable_price(jnp.float64)
    price = rule.price(
        signed[0], PRICES[0], required[0], equity=equity, total_requirement=jnp.sum(required)
    )
    concession = float((PRICES[0] - price) * np.sign(size))
    assert -1e-9 <= concession <= 1.5 * 0.1 * 50_000.0 + 1e-9
    if not bool(liquidatable(equity, jnp.sum(required))):
        assert_close(concession, 0.0, rtol=0.0, atol=1e-9)


@given(proceeds=floats(-1e4, 1e4), at=floats(-1e4, 1e4), fee=st.sampled_from([0.0, 0.015, 1.0]))
def test_the_fund_never_takes_more_than_the_fee_and_pays_every_shortfall(proceeds, at, fee):
    change = float(insurance_change(number(proceeds), number(at), number(fee)))
    expected = min(proceeds - at, fee * abs(proceeds)) if proceeds > at else proceeds - at
    assert_close(change, expected, **EXACT)


@given(low=floats(0.0, 60e6), more=floats(0.0, 60e6), chosen=floats(0.0, 1.0))
def test_margin_never_falls_with_open_interest_and_maintenance_does_not_move(low, more, chosen):
    rule = margin(TIERS["small_cap"], jnp.float64)
    first, second = (rule.rates(number(x), number(chosen)) for x in (low, low + more))
    assert float(second[0]) >= float(first[0]) >= max(0.1, chosen) - 1e-15
    assert float(second[0]) <= 1.0
    assert_close([first[1], second[1]], [0.05, 0.05], **EXACT)


@pytest.mark.parametrize(
    ("notional", "already", "expected"),
    [
        (500.0, 0.0, 500.0),
        (5_000.0, 0.0, 1_000.0),
        (50_000.0, 0.0, 5_000.0),
        (5e6, 0.0, 1e5),
        (5e6, 99_000.0, 1_000.0),
        (5e6, 1e5, 0.0),
    ],
)
def test_what_mainnet_liquidates_in_a_block(notional, already, expected):
    rule = block_limits(jnp.float64)
    assert_close(rule.largest(number(notional), number(already)), expected, **EXACT)


def test_the_insurance_fund_has_a_limit_a_block():
    rule = block_limits(jnp.float64)
    assert rule.covered(number(4e5), number(6e5))
    assert not rule.covered(number(4e5), number(6.1e5))


def test_withdrawals_stop_for_fifty_blocks():
    """protocol/x/clob/e2e/withdrawal_gating_test.go: open again in the fiftieth block after."""
    gate = withdrawal_gate(jnp.float64)
    last = gate.opening()
    assert not gate.closed(last, number(100.0))
    last = gate.seen(last, number(-1.0), number(100.0))
    assert [bool(gate.closed(last, number(100.0 + k))) for k in (0, 49, 50)] == [True, True, False]
    assert float(gate.seen(last, number(0.0), number(120.0))) == 100.0


def test_gradients_are_central_differences():
    def total(x):
        value, required = x[0] * x[1], jnp.abs(x[0]) * x[1] * 0.1
        at = bankruptcy_value(value, required, equity=x[2], total_requirement=required + 300.0)
        rule = FillablePrice(adjustment=number(1.2), spread=number(1.5))
        price = rule.price(x[0], x[1], required, equity=x[2], total_requirement=required + 300.0)
        return at + price + insurance_change(value * 0.98, at, number(0.2))

    at = number([0.1, 5_000.0, 250.0])
    step = number([1e-6, 1e-2, 1e-3])
    expected = [
        (total(at + step * e) - total(at - step * e)) / (2 * step[i])
        for i, e in enumerate(number(np.eye(3)))
    ]
    assert_close(jax.grad(total)(at), np.array(expected), rtol=1e-6, atol=1e-6)
