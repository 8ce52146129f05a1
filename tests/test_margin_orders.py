"""Close-out rules round by round and step by step, and rankings as slots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.auto_deleverage import leveraged_profit, levered_gain, margin_profit
from jaxrisk.venue.bankruptcy_price import BlockLimits
from jaxrisk.venue.buffered_orders import BufferedOrders, SquareRootMargin
from jaxrisk.venue.close_out import CloseOut, OpenAccounts, WholeClose
from jaxrisk.venue.deleverage_ranking import (
    DrawnOrder,
    LeveragedProfit,
    LeveredGain,
    MarginProfit,
    RankedPositions,
)
from jaxrisk.venue.margin_orders import SECONDS_A_YEAR, BlockOrders, SlicedOrders, TierOrders
from jaxrisk.venue.partial_close import TierStep
from jaxrisk.venue.presets import drift_v2, hyperliquid, okx
from tests.helpers import assert_close

number = lambda x: jnp.asarray(x, float)
HOUR = number(1.0 / 8760.0)


def accounts(equity, requirement, notional):
    """Return accounts of one position each, a contract worth one."""
    row = jnp.asarray([notional], float)
    return OpenAccounts(
        equity=jnp.asarray(equity, float),
        requirement=jnp.asarray(requirement, float),
        count=row,
        notional=row,
    )


def sliced(hours):
    return SlicedOrders(
        rule=hyperliquid.partial_close(), unwind=number(hours) * HOUR, fee=number(0.0)
    )


def test_a_slice_goes_first_and_then_all_that_is_left():
    rule = sliced(1.0)
    held = accounts([90.0, 90.0, 110.0], [100.0] * 3, [2e5, 9e4, 2e5])
    memory = rule.aged(rule.opening(held.count), HOUR)
    first = rule.orders(held, memory, None)
    assert_close(first.share, [[0.2, 1.0, 0.0]], rtol=1e-12, atol=0.0)
    again = rule.orders(held, first.memory, None)
    assert_close(again.share, [[1.0, 1.0, 0.0]], rtol=1e-12, atol=0.0)
    # An hour later it is a slice again; twenty seconds later it is not.
    late = rule.orders(held, rule.aged(first.memory, HOUR), None)
    assert_close(late.share[0, 0], 0.2, rtol=1e-12, atol=0.0)
    soon = rule.orders(held, rule.aged(first.memory, number(20.0 / SECONDS_A_YEAR)), None)
    assert_close(soon.share[0, 0], 1.0, rtol=1e-12, atol=0.0)


def test_the_vault_keeps_what_it_took_over_and_closes_it_in_equal_parts():
    rule = sliced(4.0)
    weak, well = (accounts([e], [100.0], [2e5]) for e in (60.0, 500.0))
    memory, stands = rule.opening(weak.count), []
    left, held = 1.0, weak
    for _ in range(5):
        memory = rule.aged(memory, HOUR)
        orders = rule.orders(held, memory, None)
        assert orders.forfeited.tolist() == [1.0]
        left *= 1.0 - float(orders.share[0, 0])
        stands.append(left)
        again = rule.orders(held, orders.memory, None)
        assert again.share.tolist() == [[0.0]]
        # Whatever the market does later, the account is not given back.
        memory, held = orders.memory, well
    assert_close(stands, [0.75, 0.5, 0.25, 0.0, 0.0], rtol=1e-12, atol=1e-12)
    at_once = sliced(0.0)
    orders = at_once.orders(weak, at_once.aged(at_once.opening(weak.count), HOUR), None)
    assert orders.share.tolist() == [[1.0]]


def blocks(portion=0.1, account=1e5):
    limits = BlockLimits(
        portion=number(portion), minimum=number(1e3), account=number(account), insurance=number(1e6)
    )
    return BlockOrders(limits=limits, block=HOUR / 4.0, fee=number(0.01))


def test_a_step_closes_no_more_than_its_blocks_allow():
    rule = blocks()
    held = accounts([0.0, 0.0, 9_000.0], [1e4, 1e5, 1e4], [1e5, 1e7, 1e5])
    memory = rule.aged(rule.opening(held.count), HOUR)
    first = rule.orders(held, memory, None)
    # Nine tenths to the power of four blocks stay; of the large account 100,000 a block go.
    restored = (1e4 - 9_000.0) / (1e4 - 0.01 * 1e5)
    assert_close(first.share, [[1 - 0.9**4, 4e5 / 1e7, restored]], rtol=1e-12, atol=0.0)
    stays = 1.0 - np.asarray(first.share[0])
    after = accounts([0.0, 0.0, 9_000.0], [1e4, 1e5, 1e4], held.notional[0] * stays)
    second = rule.orders(after, first.memory, None)
    # The least order always goes out, within what an account may close.
    least = 1e3 / after.notional[0]
    assert_close(second.share[0, 0], least[0], rtol=1e-9, atol=0.0)
    assert_close(second.share[0, 1], 0.0, rtol=0.0, atol=1e-12)
    fresh = rule.orders(after, rule.aged(first.memory, HOUR), None)
    assert_close(fresh.share[0, 0], 1 - 0.9**4, rtol=1e-12, atol=0.0)


def buffered(initial, slots=9_000.0):
    one = jnp.ones((1, 1))
    return BufferedOrders(
        margin=SquareRootMargin(
            initial=0.1 * one, maintenance=0.05 * one, weight=drift_v2.size_weight(0.0, float)
        ),
        call=drift_v2.margin_call(0.01, float),
        throttle=drift_v2.throttle(initial, slots * 0.4 / SECONDS_A_YEAR, float),
        buffer=number(0.02),
        taker_fee=number(0.01),
    )


def test_liquidation_ends_above_where_it_began():
    """Drift's end-to-end case: 200 of notional, 5 of equity, 5 % and 2 %, fees of 1 and 1 %."""
    rule = buffered(1.0)
    held = accounts([5.0, 12.0], [10.0, 10.0], [200.0, 200.0])
    orders = rule.orders(held, rule.aged(rule.opening(held.count), HOUR), None)
    assert_close(orders.share, [[0.9, 0.0]], rtol=1e-12, atol=0.0)
    assert_close(orders.fee[0, 0], 0.01, rtol=1e-12, atol=0.0)
    # Between the margin and the buffer an account is left alone, unless it is being liquidated.
    between = accounts([12.0, 12.0], [10.0, 10.0], [200.0, 200.0])
    again = rule.orders(between, orders.memory, None)
    assert again.called.tolist() == [1.0, 0.0]


def test_the_throttle_cuts_a_step_once():
    rule = buffered(0.2)
    held = accounts([5e4], [1e5], [2e6])
    memory = rule.aged(rule.opening(held.count), HOUR / 2.0)
    first = rule.orders(held, memory, None)
    # 0.2 and half an hour of an hour, of (1e5 + 4e4 - 5e4) missing.
    whole = 9e4 / (2e6 * (0.07 - 0.01 - 0.01))
    assert_close(first.share, [[0.7 * whole]], rtol=1e-9, atol=0.0)
    assert rule.orders(held, first.memory, None).share.tolist() == [[0.0]]
    later = rule.orders(held, rule.aged(first.memory, HOUR / 2.0), None)
    assert_close(later.share, [[whole]], rtol=1e-9, atol=0.0)


@given(
    equity=st.floats(-1e5, 1e5),
    requirement=st.floats(1.0, 1e5),
    notional=st.floats(1.0, 1e8),
    portion=st.floats(0.01, 0.9),
)
def test_orders_are_shares_and_only_those_called_are_closed(equity, requirement, notional, portion):
    held = accounts([equity], [requirement], [notional])
    tiers = okx.margin(["ADA-USDT-SWAP"])
    rules = [
        CloseOut(
            trigger=number(1.0), target=number(1.1), largest=number(1.0), fee=number(0.002),
            forfeit=number(1.0),
        ),
        WholeClose(reserve=number(0.001)),
        sliced(2.0),
        TierOrders(rule=TierStep(tiers=tiers), fee=number(0.001)),
        blocks(portion),
        buffered(0.3),
    ]  # fmt: skip
    for rule in rules:
        memory = rule.aged(rule.opening(held.count), HOUR)
        orders = rule.orders(held, memory, None)
        called = equity < float(rule.threshold(held.requirement, held.total)[0])
        share = float(orders.share[0, 0])
        assert 0.0 <= share <= 1.0 + 1e-12
        assert called or share == 0.0
        assert float(orders.called[0]) == called
        assert 0.0 <= float(orders.forfeited[0]) <= called


@given(equity=st.floats(-50.0, 150.0), width=st.floats(1e-3, 0.2), reserve=st.floats(0.0, 0.01))
def test_the_smooth_trigger_is_exact_away_from_it(equity, width, reserve):
    rule = WholeClose(reserve=number(reserve))
    held = accounts([equity], [100.0], [1e3])
    smooth = float(rule.orders(held, (), number(width)).share[0, 0])
    exact = float(rule.orders(held, (), None).share[0, 0])
    assert 0.0 <= smooth <= 1.0
    if abs(100.0 + reserve * 1e3 - equity) > 100.0 * width:
        assert smooth == exact


def test_what_is_left_is_forfeited_where_nothing_would_restore_the_account():
    rule = CloseOut(
        trigger=number(1.0), target=number(1.1), largest=number(1.0), fee=number(0.002),
        forfeit=number(1.0),
    )  # fmt: skip
    orders = rule.orders(accounts([90.0, -5.0], [100.0, 100.0], [1e4, 1e4]), (), None)
    assert orders.forfeited.tolist() == [0.0, 1.0]
    assert_close(orders.share[0, 0], (110.0 - 90.0) / (110.0 - 20.0), rtol=1e-12, atol=0.0)


def positions():
    size = jnp.asarray([[2.0, -3.0, 1.0]])
    mark, entry = jnp.full((1, 3), 100.0), jnp.asarray([[80.0, 130.0, 110.0]])
    return RankedPositions(
        size=size,
        mark=mark,
        entry=entry,
        value=size * mark,
        profit=size * (mark - entry),
        equity=jnp.asarray([[50.0, 200.0, 40.0]]),
        requirement=jnp.asarray([[4.0, 6.0, 2.0]]),
    )


def test_rankings_are_those_of_the_exact_rules():
    held = positions()
    value, entered = held.value, held.size * held.entry
    assert_close(
        LeveragedProfit().score(held),
        leveraged_profit(value, entered, value - held.equity),
        rtol=1e-12,
        atol=0.0,
    )
    wallet = held.equity - held.profit
    assert_close(
        MarginProfit().score(held),
        margin_profit(held.profit, wallet, held.requirement),
        rtol=1e-12,
        atol=0.0,
    )
    gain = levered_gain(held.size, held.mark, held.entry, held.equity)
    assert_close(LeveredGain().score(held), gain, rtol=0.0, atol=0.0)


@pytest.mark.parametrize("seed", [0, 7])
def test_a_drawn_order_is_one_for_all_contracts_and_another_by_seed(seed):
    held = jax.tree.map(lambda x: jnp.tile(x, (2, 5)), positions())
    score = DrawnOrder(seed=jnp.asarray(seed)).score(held)
    assert_close(score[0], score[1], rtol=0.0, atol=0.0)
    assert len(set(score[0].tolist())) == 15
    other = DrawnOrder(seed=jnp.asarray(seed + 1)).score(held)
    assert (np.asarray(other) != np.asarray(score)).any()
