"""A market against a pool: impact, funding, borrowing, profit caps, the liquidation test."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.adaptive_funding import (
    AdaptiveFunding,
    FundingRate,
    ProportionalFunding,
    funding_payment,
)
from jaxrisk.venue.borrowing_fee import PowerFee, UsageFee, reserved_value, spared
from jaxrisk.venue.pool_pnl import ProfitCap, paid_pnl, profit_factor, side_pnl
from jaxrisk.venue.position_fees import PositionFees
from jaxrisk.venue.position_impact import (
    PowerImpact,
    Sides,
    capped_gain,
    virtual_sides,
    with_position,
    with_swap,
)
from jaxrisk.venue.presets.gmx_v2 import MARKETS, borrowing_curve, pool_market
from jaxrisk.venue.remaining_collateral import (
    LiquidationReason,
    RemainingCollateral,
    pending_impact,
)
from tests import reference_perps as reference
from tests.helpers import assert_close

EXACT = {"rtol": 1e-12, "atol": 1e-12}
# Processors take subnormal numbers for zero.
floats = functools.partial(st.floats, allow_subnormal=False)
INTEREST = floats(0.0, 1e6)
number = lambda x: jnp.asarray(x, jnp.float64)
sides = lambda first, second: Sides(first=number(first), second=number(second))


def impact_rule(k=(2e-7, 1e-7), e=(2.0, 2.0)):
    return PowerImpact(
        positive_factor=number(k[1]),
        negative_factor=number(k[0]),
        positive_exponent=number(e[1]),
        negative_exponent=number(e[0]),
        least=number(1.0),
    )


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [((50e3, 50e3), (100e3, 50e3), -500.0), ((100e3, 50e3), (75e3, 50e3), 375.0)],
)
def test_the_published_impact(before, after, expected):
    """gmx-synthetics, contracts/pricing/PricingUtils.sol, first comment: k = 0.01 / 50,000."""
    rule = impact_rule(k=(2e-7, 2e-7))
    assert_close(rule.impact(sides(*before), sides(*after)).value, expected, **EXACT)


@given(
    long=INTEREST,
    short=INTEREST,
    is_long=st.booleans(),
    change=floats(-1e6, 1e6),
    k=st.sampled_from([(2e-7, 1e-7), (1e-7, 3e-7)]),
    e=st.sampled_from([(2.0, 1.5), (1.8, 1.9)]),
)
def test_impact_is_that_of_the_reference(long, short, is_long, change, k, e):
    rule = impact_rule(k, e)
    before, after = with_position(sides(long, short), jnp.asarray(is_long), number(change))
    got = rule.impact(before, after)
    value, improved = reference.power_impact(
        long, short, float(after.first), float(after.second), k=k, e=e
    )
    assert_close(got.value, value, rtol=1e-9, atol=1e-9)
    assert bool(got.improved) == improved


@given(long=INTEREST, short=INTEREST, size=floats(0.0, 1e6))
def test_going_back_and_forth_earns_nothing(long, short, size):
    rule, open_interest = impact_rule(k=(1e-7, 3e-7), e=(1.8, 2.0)), sides(long, short)
    there = with_position(open_interest, jnp.asarray(True), number(size))
    back = with_position(there[1], jnp.asarray(True), number(-size))
    earned = rule.impact(*there).value + rule.impact(*back).value
    assert float(earned) <= 1e-9 * (1.0 + abs(float(rule.impact(*there).value)))


def test_shared_inventory_only_ever_makes_it_worse():
    rule, change, long = impact_rule(), number(10e3), jnp.asarray(True)
    own = rule.impact(*with_position(sides(50e3, 50e3), long, change))
    for inventory in (-200e3, 0.0, 200e3):
        shared = rule.impact(*with_position(virtual_sides(number(inventory), change), long, change))
        worse = rule.worse_of(own, shared)
        assert float(worse.value) == min(float(own.value), float(shared.value))
    gains = rule.impact(*with_position(sides(50e3, 80e3), long, change))
    assert float(rule.worse_of(gains, own).value) == float(gains.value) > 0


def test_imbalances_below_one_have_no_impact():
    got = impact_rule().impact(sides(10.0, 10.0), sides(10.9, 10.0))
    assert float(got.value) == 0.0
    slope = jax.grad(lambda x: impact_rule().impact(sides(10.0, 10.0), sides(x, 10.0)).value)
    assert float(slope(10.5)) == 0.0


def test_a_swap_of_more_than_the_pool_holds_is_refused():
    _, after, holds = with_swap(sides(10.0, 10.0), number(4.0))
    assert (float(after.first), float(after.second), bool(holds)) == (14.0, 6.0, True)
    assert not with_swap(sides(10.0, 10.0), number(10.1))[2]


def test_gains_are_capped_and_losses_are_not():
    capped = lambda x: float(capped_gain(number(x), number(100.0), number(0.01)))
    assert [capped(x) for x in (-5.0, 0.5, 5.0)] == [-5.0, 0.5, 1.0]


FUNDING = {
    "increase": 0.3,
    "decrease": 0.05,
    "stable": 0.1,
    "decay": 0.02,
    "minimum": 0.01,
    "maximum": 0.5,
    "exponent": 1.0,
    "unit": 1e-12,
}


def adaptive(**changes):
    values = {k: number(v) for k, v in (FUNDING | changes).items()}
    values |= {"stable_above": values.pop("stable"), "decay_below": values.pop("decay")}
    return AdaptiveFunding(**values)


@given(
    rate=st.one_of(st.just(0.0), floats(-0.5, 0.5)),
    long=st.one_of(st.just(0.0), INTEREST),
    gap=floats(-0.3, 0.3),
    time=floats(0.0, 5.0),
    exponent=st.sampled_from([1.0, 1.1]),
)
def test_funding_is_that_of_the_reference(rate, long, gap, time, exponent):
    short = max(long * (1.0 + gap), 0.0)
    got = adaptive(exponent=exponent).advance(*map(number, (rate, long, short, time)))
    expected = reference.adaptive_funding(
        rate, long, short, time, **(FUNDING | {"exponent": exponent})
    )
    assert_close([got.charged, got.saved], [expected[0], expected[2]], **EXACT)
    assert bool(got.longs_pay) == expected[1]


@given(rate=floats(-0.5, 0.5), long=INTEREST, short=INTEREST)
def test_the_rate_stays_within_its_bounds(rate, long, short):
    got = adaptive().advance(*map(number, (rate, long, short, 3.0)))
    assert abs(float(got.saved)) <= 0.5
    assert 0.01 <= float(got.charged) <= 0.5 or min(long, short) == 0


def test_a_rate_that_decays_past_zero_keeps_its_sign():
    got = adaptive().advance(*map(number, (-0.1, 1_000.0, 1_001.0, 5.0)))
    assert float(got.saved) == -1e-12
    assert (float(got.charged), bool(got.longs_pay)) == (0.01, False)


def test_funding_without_memory_follows_the_imbalance():
    rule = ProportionalFunding(factor=number(0.2), maximum=number(0.05), exponent=number(1.0))
    got = rule.advance(*map(number, (0.4, 120.0, 80.0, 1.0)))
    assert_close([got.charged, got.saved], [0.2 * 40 / 200, 0.0], **EXACT)
    assert got.longs_pay
    assert_close(rule.advance(*map(number, (0, 900.0, 8.0, 1.0))).charged, 0.05, **EXACT)


@given(
    held=st.lists(st.one_of(st.just(0.0), floats(1.0, 1e4)), min_size=4, max_size=4),
    longs_pay=st.booleans(),
)
def test_receivers_get_what_payers_pay_in_every_collateral(held, longs_pay):
    open_interest = number(held).reshape(2, 2)
    rate = FundingRate(charged=number(0.2), longs_pay=jnp.asarray(longs_pay), saved=number(0.0))
    flow = funding_payment(rate, open_interest, number([3.0, 1.0]), number(0.5))
    paid = jnp.sum(flow.fee * open_interest, axis=0)
    received = jnp.sum(flow.claim * jnp.sum(open_interest, axis=1)[:, None], axis=0)
    both = bool(jnp.all(jnp.sum(open_interest, axis=1) > 0))
    assert_close(received, paid if both else np.zeros(2), rtol=1e-12, atol=1e-9)
    payer = 0 if longs_pay else 1
    expected = 0.2 * 0.5 * sum(held[2 * payer : 2 * payer + 2])
    assert_close(jnp.sum(paid * number([3.0, 1.0])), expected, rtol=1e-12, atol=1e-9)


CURVE = {"base": 0.45, "full": 0.9, "kink": 0.85}


@given(used=floats(0.0, 3.0), kink=st.sampled_from([0.5, 0.85, 1.0]), full=floats(0.1, 2.0))
def test_borrowing_is_that_of_the_reference(used, kink, full):
    rule = UsageFee(
        reservable=number([1.5]), curve=borrowing_curve(*(number([x]) for x in (0.45, full, kink)))
    )
    rate = rule.rate(number([used * 150.0]), number([100.0]))
    assert_close(rate[0], reference.kinked_usage(used, 0.45, full, kink), **EXACT)


def test_borrowing_of_a_pool_of_nothing_and_of_nothing_reserved():
    rule = PowerFee(factor=number([0.1]), exponent=number([1.5]))
    rates = [float(rule.rate(number([r]), number([p]))[0]) for r, p in ((0, 5), (0.5, 5), (4, 16))]
    assert_close(rates, [0.0, 0.0, 0.1 * 8.0 / 16.0], **EXACT)
    assert rule.rate(number([4.0]), number([0.0]))[0] == np.inf


def test_longs_reserve_tokens_and_shorts_their_entry_value():
    rows = [number([100.0, 100.0]), number([2.0, 2.0]), number([60.0, 60.0])]
    assert_close(reserved_value(jnp.array([True, False]), *rows), [120.0, 100.0], **EXACT)
    assert_close(
        spared(*(number(x) for x in ([1.0, 1.0], [3.0, 2.0], [2.0, 3.0]))), [1.0, 0.0], **EXACT
    )


def cap():
    return ProfitCap(payable=number(0.9), deleverage_above=number(0.85), deleverage_to=number(0.77))


@given(pnl=floats(-50.0, 300.0), pool=floats(1.0, 200.0))
def test_profits_paid_never_exceed_the_cap(pnl, pool):
    paid = float(paid_pnl(number(pnl), cap().paid_share(number(pnl), number(pool))))
    assert_close(paid, min(pnl, 0.9 * pool), **EXACT)


@given(factor=floats(0.5, 1.2), pool=floats(1.0, 200.0))
def test_deleveraging_ends_at_its_target(factor, pool):
    rule, pnl = cap(), number(factor * pool)
    share = float(rule.closed_share(pnl, number(pool)))
    assert (share > 0) == bool(rule.triggered(pnl, number(pool)))
    if 0 < share < 1:
        cost = share * float(pnl * rule.paid_share(pnl, number(pool)))
        left = profit_factor((1 - share) * pnl, number(pool - cost))
        assert_close(left, 0.77, rtol=1e-9, atol=0.0)


def test_losses_trigger_nothing_and_an_empty_pool_has_no_factor():
    assert not cap().triggered(number(-5.0), number(10.0))
    assert float(profit_factor(number(5.0), number(0.0))) == 0.0
    pnl = side_pnl(
        jnp.array([True, False, True]), *map(number, ([90.0] * 3, [1, 1, 0], [100.0] * 3))
    )
    assert_close(pnl, [10.0, -10.0, 0.0], **EXACT)


def closing_rule():
    return RemainingCollateral(
        minimum=number(5.0), margin_rate=number(0.01), impact_cap=number(0.02)
    )


@pytest.mark.parametrize(
    ("collateral", "with_minimum", "reason"),
    [
        (20.0, True, LiquidationReason.NONE),
        (4.0, True, LiquidationReason.BELOW_MINIMUM),
        (4.0, False, LiquidationReason.BELOW_MARGIN),
        (0.0, False, LiquidationReason.EXHAUSTED),
        (-3.0, True, LiquidationReason.BELOW_MINIMUM),
        (10.0, False, LiquidationReason.NONE),
        (9.999, False, LiquidationReason.BELOW_MARGIN),
    ],
)
def test_reasons_in_the_order_they_are_tested(collateral, with_minimum, reason):
    got = closing_rule().test(
        number(1_000.0),
        collateral=number(collateral),
        profit=number(0.0),
        impact=number(1.0),
        fees=number(0.0),
        with_minimum=jnp.asarray(with_minimum),
    )
    assert int(got.reason) == reason
    assert_close([got.remaining, got.margin], [collateral, 10.0], **EXACT)


@given(impact=floats(-100.0, 50.0), profit=floats(-50.0, 50.0), fees=floats(0.0, 9.0))
def test_remaining_collateral_is_that_of_the_reference(impact, profit, fees):
    values = {"collateral": 40.0, "profit": profit, "impact": impact, "fees": fees}
    got = closing_rule().test(
        number(1_000.0), with_minimum=jnp.asarray(True), **{k: number(v) for k, v in values.items()}
    )
    expected = reference.remaining_collateral(size=1_000.0, cap=0.02, **values)
    assert_close(got.remaining, expected, **EXACT)


def test_pending_impact_counts_at_the_price_that_favours_the_pool():
    got = pending_impact(number([2.0, -2.0]), number([10.0, 10.0]), number([11.0, 11.0]))
    assert_close(got, [20.0, -22.0], **EXACT)


@pytest.mark.parametrize("liquidated", [True, False])
def test_fees_go_to_pool_and_receiver(liquidated):
    fees = PositionFees(
        improving=number(0.0004),
        worsening=number(0.0006),
        liquidation=number(0.002),
        receiver_share=number(0.37),
    )
    got = fees.charge(
        number(1_000.0),
        improved=jnp.asarray(False),
        liquidated=jnp.asarray(liquidated),
        borrowing=number(0.003),
        funding=number(0.0005),
        price=number(2.0),
    )
    expected = [0.3, 1.5, 0.5, 1.0 if liquidated else 0.0]
    assert_close([got.trade, got.borrowing, got.funding, got.liquidation], expected, **EXACT)
    assert_close(got.pool + got.receiver, got.total - got.funding, **EXACT)
    assert_close(got.receiver, 0.37 * (got.total - got.funding), **EXACT)


def test_the_deployed_market_reaches_its_maximum_rate_in_three_hours():
    """Arbitrum BTC: 75 % a year after three hours of a full imbalance, config/markets.ts."""
    rule = pool_market(MARKETS["BTC"], jnp.float64).funding
    got = rule.advance(*map(number, (0.0, 1e6, 1e-9, 2.0 / 8_760)))
    assert_close(got.saved, 0.5, rtol=1e-9, atol=0.0)
    assert_close(rule.decrease * 48 / 8_760, 0.75, **EXACT)


def test_gradients_are_central_differences():
    """Away from the kinks: sides that change places, thresholds, bounds, caps."""
    rule, funding, profits = impact_rule(e=(1.8, 1.5)), adaptive(), cap()

    def total(x):
        impact = rule.impact(*with_position(sides(x[0], x[1]), jnp.asarray(True), x[2]))
        rate = funding.advance(number(0.02), x[0], x[1], number(0.1))
        share = profits.paid_share(x[0] * 1e-3, x[1] * 1e-3)
        return impact.value + 1e3 * rate.charged + 1e3 * share

    at = number([900.0, 700.0, 50.0])
    gradient = jax.grad(total)(at)
    bump = 1e-3 * np.eye(3)
    expected = [(total(at + b) - total(at - b)) / 2e-3 for b in bump]
    assert_close(gradient, np.array(expected), rtol=1e-6, atol=1e-9)
