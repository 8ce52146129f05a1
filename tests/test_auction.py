"""Dutch auctions: recorded figures, the rule one account at a time, conservation, precision."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.typing import DTypeLike

from jaxrisk.venue.auction import (
    Auction,
    AuctionRefusal,
    AuctionTerms,
    Vault,
    auction_room,
    buy,
    restart,
    start_auction,
)
from tests.helpers import assert_close

BASE = {
    "penalty": 0.13,
    "minimum_debt": 7_500.0,
    "ceiling": 4e7,
    "opening_factor": 1.1,
    "maximum_duration": 7_200.0,
    "price_floor": 0.45,
    "reward": 250.0,
    "reward_share": 0.001,
    "minimum_target": 8_475.0,
}


def terms(dtype: DTypeLike = np.float64, **changes):
    return AuctionTerms(**{k: jnp.asarray(v, dtype) for k, v in {**BASE, **changes}.items()})


def vault(collateral, debt, backing, dtype: DTypeLike = np.float64):
    array = lambda x: jnp.atleast_1d(jnp.asarray(x, dtype))
    return Vault(collateral=array(collateral), debt=array(debt), backing=array(backing))


def auction(target, lot, opening_price, elapsed, dtype: DTypeLike = np.float64):
    array = lambda x: jnp.atleast_1d(jnp.asarray(x, dtype))
    return Auction(
        target=array(target),
        lot=array(lot),
        opening_price=array(opening_price),
        elapsed=array(elapsed),
    )


def one_start(t, collateral, debt, backing, price, room):
    """Return (repaid, seized, target, opening price, reward, refusal) of one account."""
    nothing = (0.0, 0.0, 0.0, 0.0, 0.0)
    if backing >= debt:
        return *nothing, AuctionRefusal.HEALTHY
    if room <= 0:
        return *nothing, AuctionRefusal.NO_ROOM
    part = min(debt, room / (1 + t["penalty"]))
    if part < debt:
        if debt - part < t["minimum_debt"]:
            part = debt
        elif part < t["minimum_debt"]:
            return *nothing, AuctionRefusal.DUST
    lot = collateral * part / debt
    if lot <= 0:
        return *nothing, AuctionRefusal.NO_ROOM
    target = part * (1 + t["penalty"])
    reward = t["reward"] + t["reward_share"] * target
    return part, lot, target, price * t["opening_factor"], reward, AuctionRefusal.NONE


def one_purchase(t, target, lot, price, stale, wanted):
    """Return (paid, bought, target left, lot left, refusal) of one auction."""
    if stale:
        return 0.0, 0.0, target, lot, AuctionRefusal.STALE
    bought = min(wanted, lot)
    paid = bought * price
    if paid > target:
        return target, target / price, 0.0, lot - target / price, AuctionRefusal.NONE
    if paid < target and bought < lot and target - paid < t["minimum_target"]:
        if target <= t["minimum_target"]:
            return 0.0, 0.0, target, lot, AuctionRefusal.DUST
        paid = target - t["minimum_target"]
        bought = paid / price
    return paid, bought, target - paid, lot - bought, AuctionRefusal.NONE


def test_a_recorded_seizure_cut_by_the_ceiling():
    """Dog.bark and Clipper.kick of Maker dss (fa4f663), run in a local machine."""
    t = terms(
        penalty=0.05, minimum_debt=5_000.0, reward=300.0, reward_share=0.002, ceiling=20_000.0
    )
    price = 16.833226677012389888
    room = auction_room(
        t,
        outstanding=jnp.array(0.0),
        global_outstanding=jnp.array(1_000.0),
        global_ceiling=jnp.array(1e8),
    )
    assert float(room) == 20_000.0
    position = vault(6776.864751448724865025, 251742.318556782862008321, 87751.15)
    start = start_auction(t, position, oracle_price=jnp.array([price]), room=room[None])
    actual = [start.repaid, start.seized, start.target, start.opening_price, start.reward]
    recorded = [19047.619047619047, 512.758994446604850950, 20_000.0, 18.5165493447136288768, 340.0]
    assert_close(np.ravel(actual), recorded, rtol=1e-12, atol=0.0)


def test_recorded_purchases():
    """Clipper.take of Maker dss (fa4f663): lowered to leave the minimum, sold out, raised."""
    a = auction(
        target=[8330.322522496398, 20_000.0, 20_000.0],
        lot=[21265.981703511738, 4.284542531622558595, 4.284542531622558595],
        opening_price=[0.267263127051612192, 4880.638041494955, 4880.638041494955],
        elapsed=[1072.0, 2017.0, 60.0],
    )
    t = terms(minimum_target=jnp.array([5250.0, 5000.0, 5000.0]), price_floor=0.4)
    fraction = 0.9998**a.elapsed
    bought = buy(t, a, fraction, jnp.array([18766.197421861752, np.inf, 4.159012976233165825]))
    assert_close(bought.repaid, [3080.322522496398, 13969.123058174066, 20_000.0],
                 rtol=1e-12, atol=0.0)  # fmt: skip
    left = bought.target + bought.bad_debt
    assert_close(left, [5250.0, 6030.876941825934, 0.0], rtol=1e-12, atol=0.0)
    assert_close(bought.lot, [6984.305078333481, 0.0, 0.0], rtol=1e-11, atol=0.0)
    assert_close(bought.refund, [0.0, 0.0, 0.137242547846225], rtol=1e-11, atol=0.0)
    assert_close(bought.bad_debt, [0.0, 6030.876941825934, 0.0], rtol=1e-12, atol=0.0)


AMOUNTS = st.lists(st.floats(1.0, 1e5), min_size=4, max_size=4)


@given(
    collateral=AMOUNTS,
    debt=AMOUNTS,
    cover=st.lists(st.floats(0.5, 1.2), min_size=4, max_size=4),
    room=st.lists(st.one_of(st.just(-1.0), st.floats(1e-3, 1e5)), min_size=4, max_size=4),
)
def test_starts_are_those_of_the_rule_and_conserve(collateral, debt, cover, room):
    held, owed = np.array(collateral), np.array(debt)
    backing, price = owed * np.array(cover), np.full(4, 3.0)
    start = start_auction(
        terms(), vault(held, owed, backing), oracle_price=jnp.asarray(price),
        room=jnp.asarray(room),
    )  # fmt: skip
    for n in range(4):
        expected = one_start(BASE, held[n], owed[n], backing[n], price[n], room[n])
        actual = [start.repaid[n], start.seized[n], start.target[n], start.opening_price[n]]
        assert_close([*actual, start.reward[n]], expected[:5], rtol=1e-12, atol=1e-9)
        assert start.refusal[n] == expected[5]
    assert_close(start.repaid + start.fee, start.target, rtol=1e-12, atol=0.0)
    repaid, seized = np.asarray(start.repaid), np.asarray(start.seized)
    assert (repaid <= owed).all()
    assert (seized <= held).all()
    # Collateral leaves in proportion, and what is left is nothing or more than dust.
    assert_close(seized * owed, repaid * held, rtol=1e-9, atol=0.0)
    rest = owed - repaid
    started = repaid > 0
    assert ((rest[started] == 0) | (rest[started] >= BASE["minimum_debt"])).all()


@given(
    target=AMOUNTS,
    lot=AMOUNTS,
    top=st.lists(st.floats(0.1, 10.0), min_size=4, max_size=4),
    fraction=st.floats(0.3, 1.0),
    share=st.lists(st.floats(0.01, 1.5), min_size=4, max_size=4),
)
def test_purchases_are_those_of_the_rule_and_conserve(target, lot, top, fraction, share):
    a = auction(target, lot, top, np.full(4, 100.0))
    wanted = np.array(lot) * np.array(share)
    bought = buy(terms(), a, jnp.full(4, fraction), jnp.asarray(wanted))
    for n in range(4):
        price = top[n] * fraction
        expected = one_purchase(BASE, target[n], lot[n], price, fraction < 0.45, wanted[n])
        left = [bought.target[n] + bought.bad_debt[n], bought.lot[n] + bought.refund[n]]
        actual = [bought.repaid[n], bought.seized[n], *left]
        assert_close(actual, expected[:4], rtol=1e-12, atol=1e-8)
        assert bought.refusal[n] == expected[4]
    paid, units = np.asarray(bought.repaid), np.asarray(bought.seized)
    # Money and collateral arrive somewhere, and the buyer pays the asking price for every unit.
    total = paid + np.asarray(bought.target) + np.asarray(bought.bad_debt)
    assert_close(total, target, rtol=1e-12, atol=1e-9)
    whereabouts = units + np.asarray(bought.lot) + np.asarray(bought.refund)
    assert_close(whereabouts, lot, rtol=1e-12, atol=1e-9)
    assert_close(paid, units * np.array(top) * fraction, rtol=1e-11, atol=1e-9)
    assert (units <= np.array(lot)).all()
    assert (paid <= np.array(target)).all()
    assert_close(bought.released, paid + np.asarray(bought.bad_debt), rtol=0.0, atol=0.0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_asking_for_exactly_what_is_needed_leaves_nothing_to_raise(dtype):
    rng = np.random.default_rng(2)
    targets, top = rng.uniform(1e4, 1e6, 5_000), rng.uniform(0.1, 1e4, 5_000)
    a = auction(targets, 2.0 * targets / top, top, np.zeros(5_000), dtype)
    fraction = jnp.asarray(rng.uniform(0.6, 1.0, 5_000), dtype)
    bought = buy(terms(dtype), a, fraction, a.target / (a.opening_price * fraction))
    assert not bought.target.any()
    assert not bought.refusal.any()
    assert (bought.refund > 0).all()


@given(
    lot=st.floats(1.0, 1e4),
    shares=st.tuples(
        st.one_of(st.just(0.0), st.floats(1e-6, 1.2)), st.one_of(st.just(0.0), st.floats(1e-6, 1.2))
    ),
)
def test_asking_for_more_never_buys_less(lot, shares):
    low, high = sorted(shares)
    a = auction([5e3, 5e3], [lot, lot], [1.0, 1.0], [0.0, 0.0])
    wanted = lot * jnp.array([low, high])
    # Without the dust rule: that one turns a purchase away that a smaller one is not.
    bought = buy(terms(minimum_target=0.0), a, jnp.ones(2), wanted)
    assert bought.repaid[0] <= bought.repaid[1]
    assert bought.seized[0] <= bought.seized[1]


def test_refusals_at_their_edges():
    price, big = jnp.array([3.0]), jnp.array([1e9])
    starts = lambda p, room: start_auction(terms(), p, oracle_price=price, room=room).refusal[0]
    assert starts(vault(1e4, 2e4, 2e4), big) == AuctionRefusal.HEALTHY
    assert starts(vault(1e4, 2e4, math.nextafter(2e4, 0)), big) == AuctionRefusal.NONE
    assert starts(vault(1e4, 2e4, 1e4), jnp.array([0.0])) == AuctionRefusal.NO_ROOM
    assert starts(vault(0.0, 2e4, 0.0), big) == AuctionRefusal.NO_ROOM
    # 7,500 of debt is as little as an auction, or the account, may hold.
    assert starts(vault(1e4, 2e4, 1e4), jnp.array([7_499.0 * 1.13])) == AuctionRefusal.DUST
    assert starts(vault(1e4, 2e4, 1e4), jnp.array([7_501.0 * 1.13])) == AuctionRefusal.NONE
    a = auction([8_475.0, 8_476.0], [1e4, 1e4], [1.0, 1.0], [0.0, 0.0])
    assert buy(terms(), a, jnp.ones(2), jnp.full(2, 5e3)).refusal.tolist() == [
        AuctionRefusal.DUST,
        AuctionRefusal.NONE,
    ]
    late = auction([1e4, 1e4], [1e4, 1e4], [1.0, 1.0], [7_200.0, 7_201.0])
    assert buy(terms(), late, jnp.ones(2), jnp.full(2, 1e2)).refusal.tolist() == [
        AuctionRefusal.NONE,
        AuctionRefusal.STALE,
    ]
    fallen = dataclasses.replace(late, elapsed=jnp.zeros(2))
    assert buy(terms(), fallen, jnp.array([0.45, 0.44]), jnp.full(2, 1e2)).refusal.tolist() == [
        AuctionRefusal.NONE,
        AuctionRefusal.STALE,
    ]


def test_restarts_reward_only_what_is_worth_the_trouble():
    a = auction([1e4, 1e4, 8e3, 1e4], [1e4, 10.0, 1e4, 1e4], np.full(4, 2.0), np.full(4, 8e3))
    a = dataclasses.replace(a, elapsed=a.elapsed.at[3].set(10.0))
    again = restart(terms(), a, jnp.full(4, 0.9), jnp.full(4, 3.0))
    assert_close(again.opening_price, [3.3, 3.3, 3.3, 2.0], rtol=1e-15, atol=0.0)
    assert_close(again.reward, [260.0, 0.0, 0.0, 0.0], rtol=1e-15, atol=0.0)
    assert again.refusal.tolist() == [AuctionRefusal.NONE] * 3 + [AuctionRefusal.NOT_STALE]


def test_whole_units_of_collateral_and_debt():
    coarse = dataclasses.replace(
        vault(10.0, 1e5, 5e4), collateral_unit=jnp.array([1.0]), debt_unit=jnp.array([100.0])
    )
    start = start_auction(
        terms(), coarse, oracle_price=jnp.array([1.0]), room=jnp.array([45_250.0 * 1.13])
    )
    assert (start.repaid[0], start.seized[0]) == (45_200.0, 4.0)


@pytest.mark.slow
def test_single_precision_agrees():
    rng = np.random.default_rng(1)
    held, owed = rng.uniform(1e3, 1e5, 64), rng.uniform(1e4, 1e5, 64)
    price, room = np.full(64, 3.0), rng.uniform(5e4, 2e5, 64)
    run = lambda dtype: start_auction(
        terms(dtype), vault(held, owed, 0.8 * owed, dtype),
        oracle_price=jnp.asarray(price, dtype), room=jnp.asarray(room, dtype),
    )  # fmt: skip
    double, single = run(np.float64), run(np.float32)
    assert single.target.dtype == np.float32
    assert (single.refusal == double.refusal).all()
    assert_close(single.seized, double.seized, rtol=1e-5, atol=0.0)
    assert_close(single.target, double.target, rtol=1e-5, atol=0.0)


@pytest.mark.slow
def test_gradients_are_finite_where_nothing_is_owed_or_left():
    def loss(t, price_fraction, p, a):
        start = start_auction(t, p, oracle_price=jnp.full(3, 2.0), room=jnp.array([0.0, 1e4, 1e9]))
        bought = buy(t, a, price_fraction, jnp.array([0.0, 1e3, 1e9]))
        return jnp.sum(start.target + start.seized + bought.bad_debt + bought.refund)

    p = vault([0.0, 1e4, 1e4], [0.0, 1e4, 1e4], [0.0, 5e3, 1e4])
    a = auction([0.0, 1e3, 1e4], [0.0, 1e3, 1e3], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0])
    gradients = jax.grad(loss, argnums=(0, 1, 2, 3))(terms(), jnp.array([0.0, 1.0, 0.9]), p, a)
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all()


def test_bad_debt_falls_with_the_price_at_which_the_last_unit_is_sold():
    a = auction([1e4], [1e3], [8.0], [0.0])
    slope = jax.grad(lambda f: buy(terms(), a, f, jnp.array([1e9])).bad_debt[0])(jnp.array([0.9]))
    assert_close(slope, [-8e3], rtol=1e-12, atol=0.0)


@pytest.mark.parametrize("global_left", [5.0, 50.0])
def test_room_is_the_smaller_remainder(global_left):
    room = auction_room(
        terms(ceiling=30.0),
        outstanding=jnp.array(10.0),
        global_outstanding=jnp.array(100.0),
        global_ceiling=jnp.array(100.0 + global_left),
    )
    assert float(room) == min(20.0, global_left)
