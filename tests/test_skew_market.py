"""A market scaled by its skew: margins, fills, fees, funding, rewards, liquidation windows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.keeper_reward import KeeperReward
from jaxrisk.venue.liquidation_window import LiquidationWindow
from jaxrisk.venue.presets.synthetix_v3 import MARKETS, keeper_reward, perp_market
from jaxrisk.venue.size_margin import SkewShareMargin
from jaxrisk.venue.skew_price import SkewPrice
from jaxrisk.venue.velocity_funding import FundingState, VelocityFunding, funding_received
from tests import reference_perps as reference
from tests.helpers import assert_close

EXACT = {"rtol": 1e-12, "atol": 1e-12}
# Processors take subnormal numbers for zero.
floats = functools.partial(st.floats, allow_subnormal=False)
SIZES = floats(-500.0, 500.0)
SCALE = 1_000.0
number = lambda x: jnp.asarray(x, jnp.float64)


def margin(**changes):
    values = {"slope": 2.0, "scale": 100.0, "floor": 0.01, "maintenance_share": 0.5, "fixed": 1.0}
    return SkewShareMargin(**{k: number(v) for k, v in (values | changes).items()})


def test_the_published_account():
    """Synthetix v3, test/integration/Account/Margins.test.ts, before the keeper's reward."""
    rule = margin(scale=[[100.0], [1_000.0]], fixed=[[1_000.0], [500.0]])
    required = rule.required(number([[-2.0], [20.0]]), number([[30_000.0], [2_000.0]]))
    assert_close(jnp.sum(required, axis=(1, 2)), [6_500.0, 4_000.0], **EXACT)


@given(size=SIZES, price=floats(1.0, 1e5))
def test_margins_are_those_of_the_reference(size, price):
    values = {"slope": 2.0, "scale": 100.0, "floor": 0.01, "fixed": 1.0}
    expected = reference.skew_share_margins(size, price, share=0.5, **values)
    assert_close(margin().required(number(size), number(price)), expected, **EXACT)


@given(size=floats(0.1, 500.0), more=floats(0.01, 100.0))
def test_margin_grows_faster_than_the_position(size, more):
    rule, price = margin(fixed=0.0), number(10.0)
    small, large = (rule.required(number(x), price)[0] for x in (size, size + more))
    assert float(large) > float(small) * (size + more) / size


def test_without_a_scale_the_rate_does_not_depend_on_size():
    assert_close(margin(scale=0.0).rates(number(50.0)), [0.01, 0.005], **EXACT)


def test_no_position_needs_no_margin():
    assert not np.asarray(margin().required(number([0.0]), number([10.0]))).any()


def prices(scale=SCALE):
    return SkewPrice(scale=number(scale), maker_fee=number(0.0002), taker_fee=number(0.001))


@given(skew=SIZES, size=SIZES)
def test_fills_and_fees_are_those_of_the_reference(skew, size):
    rule = prices()
    fill = rule.fill_price(number(skew), number(size), number(20.0))
    assert_close(fill, reference.skew_fill(skew, size, 20.0, SCALE), **EXACT)
    expected = reference.skew_fee(skew, size, float(fill), 0.0002, 0.001)
    assert_close(rule.fee(number(skew), number(size), fill), expected, **EXACT)


@given(skew=SIZES, size=SIZES, part=floats(0.0, 1.0))
def test_splitting_an_order_changes_neither_cost_nor_fee_base(skew, size, part):
    rule, price = prices(), number(20.0)
    cost = lambda k, q: q * rule.fill_price(number(k), number(q), price)
    first, rest = part * size, size - part * size
    assert_close(cost(skew, first) + cost(skew + first, rest), cost(skew, size), rtol=0, atol=1e-8)


def test_there_is_no_premium_without_a_scale():
    assert float(prices(0.0).fill_price(number(5.0), number(1.0), number(20.0))) == 20.0


def funding(velocity=9.0):
    return VelocityFunding(scale=number(SCALE), velocity=number(velocity))


@given(skew=floats(-2_000.0, 2_000.0), rate=floats(-5.0, 5.0), time=floats(0.0, 2.0))
def test_funding_is_the_integral_of_a_drifting_rate(skew, rate, time):
    state = FundingState(rate=number(rate), paid=number(0.3))
    after = funding().advance(state, number(skew), number(20.0), number(time))
    expected = reference.velocity_funding(
        rate, 0.3, skew=skew, scale=SCALE, velocity=9.0, price=20.0, time=time
    )
    assert_close([after.rate, after.paid], expected, rtol=1e-9, atol=1e-9)


@given(time=floats(0.01, 1.0), part=floats(0.1, 0.9))
def test_funding_does_not_depend_on_how_often_it_is_settled(time, part):
    rule, skew, price = funding(), number(300.0), number(20.0)
    start = FundingState(rate=number(-1.0), paid=number(0.0))
    once = rule.advance(start, skew, price, number(time))
    first = rule.advance(start, skew, price, number(time * part))
    twice = rule.advance(first, skew, price, number(time * (1.0 - part)))
    assert_close([twice.rate, twice.paid], [once.rate, once.paid], rtol=1e-9, atol=1e-9)


def test_funding_is_paid_by_one_side_to_the_other():
    sizes = number([3.0, -5.0, 2.0])
    assert_close(jnp.sum(funding_received(sizes, number(1.7), number(0.4))), 0.0, **EXACT)
    assert float(VelocityFunding(scale=number(0.0), velocity=number(9.0)).drift(number(5.0))) == 0.0


def rewards():
    return KeeperReward(
        minimum=number(1.0), profit=number(0.3), maximum=number(30.0), margin_share=number(0.3)
    )


@given(
    earned=floats(0.0, 50.0),
    cost=floats(0.0, 20.0),
    margin=st.one_of(st.just(0.0), floats(1.0, 500.0)),
)
def test_rewards_are_those_of_the_reference_and_never_above_the_cap(earned, cost, margin):
    actual = rewards().reward(number(earned), number(cost), number(margin))
    expected = reference.keeper_reward(
        earned, cost, margin, minimum=1.0, profit=0.3, maximum=30.0, share=0.3
    )
    assert_close(actual, expected, **EXACT)
    assert float(actual) <= 30.0


@pytest.mark.parametrize(("windows", "expected"), [(0.0, 15.0), (1.0, 15.0), (4.0, 15.0 + 3 * 4.0)])
def test_every_further_window_is_one_more_execution(windows, expected):
    reserved = keeper_reward(jnp.float64).reserved(
        number(10.0),
        flag_cost=number(2.0),
        close_cost=number(3.0),
        margin=number(1_000.0),
        windows=number(windows),
    )
    assert_close(reserved, expected, **EXACT)


EVENTS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 1.0, 7.0, 40.0]),
        st.sampled_from([0.0, 1.0, 3.0, 6.0, 20.0]),
        st.sampled_from([0.0, 0.5]),
    ),
    min_size=8,
    max_size=8,
)


def play(events, *, limit=10.0, calm=0.1, exempt=False):
    rule = LiquidationWindow(limit=number(limit), duration=number(30.0), calm_premium=number(calm))
    step = jax.jit(rule.liquidate)
    recent, allowed = rule.opening(8), []
    for now, wanted, premium in events:
        got, recent = step(
            recent,
            number(wanted),
            now=number(now),
            premium=number(premium),
            exempt=jnp.asarray(exempt),
        )
        allowed.append(float(got))
    return allowed


@pytest.mark.slow
@given(events=EVENTS, calm=st.sampled_from([0.0, 0.1]))
def test_what_is_allowed_is_what_looking_back_over_the_list_gives(events, calm):
    times = np.cumsum([dt for dt, _, _ in events])
    events = [(float(t), wanted, p) for t, (_, wanted, p) in zip(times, events, strict=True)]
    expected = reference.liquidation_window(events, limit=10.0, duration=30.0, calm=calm)
    assert_close(play(events, calm=calm), expected, **EXACT)


def test_a_window_frees_up_when_it_has_passed():
    events = [
        (0.0, 8.0, 1.0),
        (10.0, 8.0, 1.0),
        (29.9, 8.0, 1.0),
        (30.0, 9.0, 1.0),
        (41.0, 9.0, 1.0),
    ]
    assert_close(play(events), [8.0, 2.0, 0.0, 8.0, 2.0], **EXACT)


def test_the_endorsed_are_held_to_nothing_and_no_limit_is_none():
    events = [(0.0, 8.0, 1.0), (0.0, 8.0, 1.0)]
    assert play(events, exempt=True) == [8.0, 8.0]
    assert play(events, limit=0.0) == [8.0, 8.0]


def test_windows_are_counted_up():
    rule = LiquidationWindow(limit=number(10.0), duration=number(30.0), calm_premium=number(0.0))
    counts = [float(rule.windows(number(x))) for x in (0.0, 3.0, 10.0, 10.1, -35.0)]
    assert counts == [0.0, 1.0, 1.0, 2.0, 4.0]


def test_the_deployed_window_is_a_small_part_of_the_scale():
    """BTC on Base: (0.01 + 5 bp) x 12,500 x 1.5 x 30 s = 281.8 BTC in half a minute."""
    market = perp_market(MARKETS["BTC"], jnp.float64)
    assert_close(market.window.limit, 0.000501 * 12_500 * 1.5 * 30, **EXACT)
    assert_close(market.funding.drift(number(12_500.0)), 9.0 * 365.0**2, **EXACT)


@pytest.mark.parametrize("size", [-37.0, 12.5, 80.0])
def test_gradients_are_central_differences(size):
    """Away from the kinks: no position, a flipped skew, a skew at its bound."""

    def total(x):
        fill = prices().fill_price(x[0], x[1], x[2])
        state = funding().advance(
            FundingState(rate=number(0.2), paid=number(0.0)), x[0], x[2], number(0.4)
        )
        required = margin().required(x[1], x[2])
        return fill + prices().fee(x[0], x[1], fill) + state.paid + jnp.sum(required)

    at = number([50.0, size, 20.0])
    gradient = jax.grad(total)(at)
    bump = 1e-5 * np.eye(3)
    expected = [(total(at + b) - total(at - b)) / 2e-5 for b in bump]
    assert_close(gradient, np.array(expected), rtol=1e-6, atol=1e-6)
