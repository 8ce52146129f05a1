"""Books of surplus and unbacked debt: refusals, conservation, the lag of the queue."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.typing import DTypeLike

from jaxrisk.venue.surplus import (
    SurplusBook,
    SurplusRefusal,
    SurplusRules,
    add_surplus,
    end_surplus_auction,
    net,
    net_auctioned,
    queue_debt,
    receive_bid,
    release_debt,
    start_debt_auction,
    start_surplus_auction,
)
from tests.helpers import assert_close

SLOTS = 3


def rules(**changes):
    values = {
        "wait": 100.0,
        "surplus_lot": 10.0,
        "surplus_buffer": 50.0,
        "surplus_limit": 20.0,
        "debt_lot": 5.0,
    }
    return SurplusRules(**{k: jnp.array([v]) for k, v in {**values, **changes}.items()})


def book(surplus=0.0, free=0.0, auctioned=0.0, dtype: DTypeLike = np.float64):
    one = lambda x: jnp.array([x], dtype)
    return SurplusBook(
        surplus=one(surplus),
        free_debt=one(free),
        auctioned_debt=one(auctioned),
        queued=jnp.zeros((SLOTS, 1), dtype),
        queued_at=jnp.zeros((SLOTS, 1), dtype),
        auctioned_surplus=one(0.0),
    )


def at(time):
    return jnp.array([float(time)])


def test_debt_waits_before_it_is_free_and_then_is_netted():
    b, refusal = queue_debt(book(surplus=30.0), at(12.0), at(1_000))
    assert (refusal[0], float(b.debt()[0]), float(b.free_debt[0])) == (0, 12.0, 0.0)
    _, refusal = net(b, at(12.0))
    assert refusal[0] == SurplusRefusal.INSUFFICIENT_DEBT
    _, refusal = release_debt(rules(), b, at(1_000), at(1_099))
    assert refusal[0] == SurplusRefusal.STILL_WAITING
    b, refusal = release_debt(rules(), b, at(1_000), at(1_100))
    assert (refusal[0], float(b.free_debt[0]), float(b.queued.sum())) == (0, 12.0, 0.0)
    b, refusal = net(b, at(12.0))
    assert (refusal[0], float(b.surplus[0]), float(b.debt()[0])) == (0, 18.0, 0.0)


def test_debt_of_one_moment_shares_a_slot_and_a_full_queue_refuses():
    b = book()
    for time, amount in ((1.0, 3.0), (2.0, 4.0), (1.0, 5.0), (3.0, 6.0)):
        b, refusal = queue_debt(b, at(amount), at(time))
        assert refusal[0] == SurplusRefusal.NONE
    assert b.queued[:, 0].tolist() == [8.0, 4.0, 6.0]
    after, refusal = queue_debt(b, at(1.0), at(4.0))
    assert refusal[0] == SurplusRefusal.QUEUE_FULL
    assert_close(after.queued, b.queued, rtol=0.0, atol=0.0)
    # A released slot is used again.
    b, _ = release_debt(rules(), b, at(2.0), at(500))
    b, refusal = queue_debt(b, at(1.0), at(4.0))
    assert refusal[0] == SurplusRefusal.NONE
    assert b.queued[:, 0].tolist() == [8.0, 1.0, 6.0]


@pytest.mark.parametrize(
    ("b", "refusal"),
    [
        (book(surplus=59.0), SurplusRefusal.INSUFFICIENT_SURPLUS),
        (book(surplus=60.0), SurplusRefusal.NONE),
        (book(surplus=69.0, auctioned=10.0), SurplusRefusal.INSUFFICIENT_SURPLUS),
        (book(surplus=70.0, auctioned=10.0), SurplusRefusal.NONE),
        (book(surplus=99.0, free=1.0), SurplusRefusal.DEBT_LEFT),
    ],
)
def test_surplus_is_sold_only_above_all_debt_and_the_buffer(b, refusal):
    after, actual = start_surplus_auction(rules(), b)
    assert actual[0] == refusal
    sold = 10.0 if refusal == SurplusRefusal.NONE else 0.0
    assert float(after.auctioned_surplus[0]) == sold
    assert float(after.surplus[0]) == float(b.surplus[0]) - sold


def test_surplus_under_auction_is_limited():
    b = book(surplus=1e3)
    for expected in (SurplusRefusal.NONE, SurplusRefusal.NONE, SurplusRefusal.OVER_LIMIT):
        b, refusal = start_surplus_auction(rules(), b)
        assert refusal[0] == expected
    b = end_surplus_auction(b, at(10.0))
    _, refusal = start_surplus_auction(rules(), b)
    assert refusal[0] == SurplusRefusal.NONE


@pytest.mark.parametrize(
    ("b", "refusal"),
    [
        (book(free=4.0), SurplusRefusal.INSUFFICIENT_DEBT),
        (book(free=5.0), SurplusRefusal.NONE),
        (book(free=5.0, surplus=1.0), SurplusRefusal.SURPLUS_LEFT),
        (book(free=4.0, surplus=1.0), SurplusRefusal.INSUFFICIENT_DEBT),
    ],
)
def test_debt_is_auctioned_only_without_surplus(b, refusal):
    after, actual = start_debt_auction(rules(), b)
    assert actual[0] == refusal
    assert float(after.auctioned_debt[0]) == (5.0 if refusal == SurplusRefusal.NONE else 0.0)
    assert_close(after.debt(), b.debt(), rtol=0.0, atol=0.0)


def test_infinite_lots_switch_debt_auctions_off():
    after, refusal = start_debt_auction(rules(debt_lot=jnp.inf), book(free=1e9))
    assert refusal[0] == SurplusRefusal.INSUFFICIENT_DEBT
    assert float(after.free_debt[0]) == 1e9


def test_the_first_bid_of_a_debt_auction_pays_for_the_debt():
    b, _ = start_debt_auction(rules(), book(free=8.0))
    b = receive_bid(b, at(5.0))
    assert (float(b.surplus[0]), float(b.debt()[0])) == (0.0, 3.0)
    # Where the debt under auction was paid otherwise, the money stays.
    b = receive_bid(b, at(5.0))
    assert (float(b.surplus[0]), float(b.debt()[0])) == (5.0, 3.0)


ACTION = st.tuples(st.sampled_from(range(7)), st.integers(0, 40), st.integers(0, 300))


@given(actions=st.lists(ACTION, min_size=1, max_size=12), free=st.integers(0, 30))
def test_books_balance_whatever_is_done(actions, free):
    """Surplus under auction included, money less debt changes only by income and new debt."""
    r, b = rules(), book(surplus=60.0, free=float(free))
    worth = lambda x: float((x.surplus + x.auctioned_surplus - x.debt())[0])
    for kind, amount, time in actions:
        before, expected = worth(b), 0.0
        if kind == 0:
            b, expected = add_surplus(b, at(amount)), float(amount)
        elif kind == 1:
            b, refusal = queue_debt(b, at(amount), at(time))
            expected = -float(amount) if refusal[0] == SurplusRefusal.NONE else 0.0
        elif kind == 2:
            b, _ = release_debt(r, b, at(time), at(time + amount * 5))
        elif kind == 3:
            b, _ = net(b, at(amount))
        elif kind == 4:
            b, _ = net_auctioned(b, at(amount))
        else:
            start = start_debt_auction if kind == 5 else start_surplus_auction
            b, _ = start(r, b)
        assert worth(b) - before == expected
        for leaf in jax.tree.leaves(b):
            assert (np.asarray(leaf) >= 0).all()


@pytest.mark.slow
def test_single_precision_keeps_its_type():
    b, _ = queue_debt(
        book(surplus=3.0, dtype=np.float32), jnp.ones(1, np.float32), jnp.ones(1, np.float32)
    )
    b, _ = net(b, jnp.ones(1, np.float32))
    assert {leaf.dtype for leaf in jax.tree.leaves(b)} == {np.dtype(np.float32)}


@pytest.mark.slow
def test_gradients_are_finite_at_equal_amounts():
    def left(amount, r):
        b, _ = net(book(surplus=5.0, free=5.0), amount)
        b, _ = start_surplus_auction(r, add_surplus(b, 60.0 * amount / 5.0))
        return jnp.sum(b.surplus + b.auctioned_surplus)

    gradients = jax.grad(left, argnums=(0, 1))(at(5.0), rules())
    assert_close(gradients[0], [11.0], rtol=1e-12, atol=0.0)
    for leaf in jax.tree.leaves(gradients):
        assert np.isfinite(leaf).all()
