"""Auto-deleveraging: published examples, allocations against NumPy, bounds, order, slopes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.auto_deleverage import (
    close_levelled,
    close_proportional,
    close_ranked,
    forgone,
    leveraged_profit,
    levered_gain,
    margin_profit,
    opposite,
    quantile,
    random_order,
)
from tests.helpers import assert_close

COUNT = 6
CAPACITIES = st.lists(
    st.one_of(st.just(0.0), st.floats(0.01, 100.0)), min_size=COUNT, max_size=COUNT
)
WEIGHTS = st.lists(st.floats(0.01, 10.0), min_size=COUNT, max_size=COUNT)
SCORES = st.lists(st.integers(-3, 3).map(float), min_size=COUNT, max_size=COUNT)
AMOUNTS = st.floats(0.0, 700.0)
ALLOCATIONS = (close_ranked, close_proportional, close_levelled)
CLOSE = {rule: jax.jit(rule) for rule in ALLOCATIONS}
SLACK = {np.float32: 1e-3, np.float64: 1e-10}


def closed(rule, capacity, key, amount, dtype: Any = np.float64):
    number = lambda x: jnp.asarray(x, dtype)
    return CLOSE[rule](number(capacity), number(key), number(amount))


def ranked_reference(capacity, score, amount):
    """Return a queue walked one account at a time."""
    out, left = np.zeros(len(capacity)), amount
    for i in sorted(range(len(capacity)), key=lambda i: (-score[i], i)):
        out[i] = min(capacity[i], left)
        left -= out[i]
    return out


def bisected(share, amount, high):
    """Return `share(l)` at the level where its sum, monotone in `l`, is the amount."""
    low = 0.0
    rising = share(high).sum() > share(low).sum()
    for _ in range(200):
        middle = (low + high) / 2
        if (share(middle).sum() < amount) == rising:
            low = middle
        else:
            high = middle
    return share(high)


def reference(rule, capacity, key, amount):
    capacity, key = np.asarray(capacity), np.asarray(key)
    amount = min(amount, float(capacity.sum()))
    if rule is close_ranked:
        return ranked_reference(capacity, key, amount)
    if rule is close_proportional:
        return bisected(lambda level: np.minimum(capacity, level * key), amount, 1e5)
    return bisected(lambda level: np.maximum(capacity - level * key, 0.0), amount, 1e5)


def test_published_queue():
    """Source: BitMEX, Auto Deleveraging Examples: a short of 20 bankrupt at 650."""
    size = jnp.asarray([10.0, 10.0, 20.0, 30.0, 20.0, 10.0])
    rank = jnp.asarray([3.0, 6.0, 1.0, 4.0, 5.0, 2.0])
    short = jnp.asarray(-20.0)
    taken = close_ranked(opposite(size, short), rank, -short)
    assert taken.tolist() == [0.0, 10.0, 0.0, 0.0, 10.0, 0.0]
    assert_close(6.0 * quantile(rank), rank, rtol=1e-14, atol=0.0)


def test_published_score_of_margin_and_profit():
    """Source: dev.binance.vision, topic 17801: profit 40.2 on 4.27, margin ratio 13.42 %."""
    number = lambda x: jnp.asarray([x])
    score = margin_profit(number(40.2), number(4.27), number(0.1342 * 44.47))
    assert_close(score, [40.2 / 4.27 * 0.1342], rtol=1e-12, atol=0.0)
    # Small wallets count as one unit, losers and accounts without equity as nothing.
    assert_close(margin_profit(number(3.0), number(0.5), number(0.7)), [0.6], rtol=1e-12, atol=0.0)
    assert margin_profit(number(-1.0), number(5.0), number(0.7)).tolist() == [0.0]
    assert margin_profit(number(2.0), number(-5.0), number(0.7)).tolist() == [0.0]


def test_score_of_leveraged_profit():
    """A long of 1 and a short of 1, entered at 100, mark 110, margin gone 20 away; a tie at 100."""
    mark = jnp.asarray([110.0, -110.0, 100.0, 110.0])
    entry = jnp.asarray([100.0, -100.0, 100.0, 100.0])
    bankrupt = jnp.asarray([90.0, -130.0, 80.0, 110.0])
    score = leveraged_profit(mark, entry, bankrupt)
    # Half an effective leverage of 5.5 for the winner, a division by it for the loser.
    assert_close(score[:3], [0.1 * 5.5, -0.1 / 5.5, 0.0], rtol=1e-12, atol=0.0)
    assert score[3] == jnp.inf


def test_score_of_levered_gain_is_the_same_for_both_sides():
    size, mark = jnp.asarray([2.0, -2.0, 2.0]), jnp.asarray([110.0, 100.0, 110.0])
    entry, value = jnp.asarray([100.0, 110.0, 100.0]), jnp.asarray([44.0, 40.0, 0.0])
    score = levered_gain(size, mark, entry, value)
    assert_close(score[:2], [1.1 * 5.0, 1.1 * 5.0], rtol=1e-12, atol=0.0)
    assert score[2] == jnp.inf


def test_random_order_is_a_permutation_that_the_key_decides(keys):
    key = next(keys)
    score = random_order(key, 50)
    assert len(set(score.tolist())) == 50
    assert score.tolist() == random_order(key, 50).tolist()
    assert score.tolist() != random_order(next(keys), 50).tolist()
    assert quantile(score).tolist() != sorted(quantile(score).tolist())


@given(capacity=CAPACITIES, weight=WEIGHTS, score=SCORES, amount=AMOUNTS)
@pytest.mark.parametrize("rule", ALLOCATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_closed_is_that_of_the_reference(dtype, rule, capacity, weight, score, amount):
    key = score if rule is close_ranked else weight
    capacity, key = np.asarray(capacity, dtype), np.asarray(key, dtype)
    taken = closed(rule, capacity, key, amount, dtype)
    assert taken.dtype == dtype
    expected = reference(rule, capacity.astype(float), key.astype(float), float(dtype(amount)))
    assert_close(taken, expected, rtol=SLACK[dtype], atol=SLACK[dtype])


@given(capacity=CAPACITIES, weight=WEIGHTS, score=SCORES, amount=AMOUNTS, more=st.floats(0.0, 50.0))
@pytest.mark.parametrize("rule", ALLOCATIONS)
def test_exactly_the_amount_and_nobody_beyond_his_position(
    rule, capacity, weight, score, amount, more
):
    key = score if rule is close_ranked else weight
    total = sum(capacity)
    taken = np.asarray(closed(rule, capacity, key, amount))
    assert_close(taken.sum(), min(amount, total), rtol=1e-12, atol=1e-12 * (1.0 + total))
    assert (taken >= 0.0).all()
    assert (taken <= np.asarray(capacity) * (1.0 + 1e-12)).all()
    # Closing more closes no less of anyone, and the order of accounts does not matter.
    further = np.asarray(closed(rule, capacity, key, amount + more))
    assert (further >= taken - 1e-11 * (1.0 + total)).all()
    if rule is not close_ranked or len(set(score)) == COUNT:
        turned = closed(rule, capacity[::-1], key[::-1], amount)
        assert_close(turned[::-1], taken, rtol=1e-11, atol=1e-11 * (1.0 + total))


@given(capacity=CAPACITIES, weight=WEIGHTS, score=SCORES, amount=AMOUNTS)
def test_order_is_respected(capacity, weight, score, amount):
    capacity, total = np.asarray(capacity), sum(capacity)
    slack = 1e-11 * (1.0 + total)
    queue = np.asarray(closed(close_ranked, capacity, score, amount))
    spared = queue < capacity - slack
    # Nobody is touched behind one who still has something.
    for i in np.flatnonzero(spared):
        behind = np.asarray(score) < score[i]
        assert (queue[behind] <= slack).all()
    # The same share of the weight for all who have it; the same level left to all who had more.
    shares = np.asarray(closed(close_proportional, capacity, weight, amount)) / weight
    room = shares < capacity / weight - slack
    assert (shares <= shares[room].min() + 1e3 * slack).all() if room.any() else amount >= total
    drawn = np.asarray(closed(close_levelled, capacity, weight, amount))
    left = (capacity - drawn) / weight
    touched = drawn > 1e3 * slack
    if touched.any():
        assert np.ptp(left[touched]) <= 1e5 * slack
        assert (left <= left[touched].max() + 1e5 * slack).all()


def test_weights_of_the_capacities_are_pro_rata():
    capacity = [10.0, 0.0, 30.0, 60.0, 0.0, 0.0]
    taken = closed(close_proportional, capacity, capacity, 25.0)
    assert_close(taken, [2.5, 0.0, 7.5, 15.0, 0.0, 0.0], rtol=1e-14, atol=0.0)
    # By risk: capacity times leverage, until the first has no more.
    risk = [50.0, 0.0, 30.0, 60.0, 0.0, 0.0]
    taken = closed(close_proportional, capacity, risk, 40.0)
    assert_close(taken, [10.0, 0.0, 10.0, 20.0, 0.0, 0.0], rtol=1e-14, atol=0.0)
    # The same of all, and the largest down to a level.
    one = [1.0] * COUNT
    taken = closed(close_proportional, capacity, one, 45.0)
    assert_close(taken, [10.0, 0.0, 17.5, 17.5, 0.0, 0.0], rtol=1e-14, atol=0.0)
    taken = closed(close_levelled, capacity, one, 45.0)
    assert_close(taken, [0.0, 0.0, 7.5, 37.5, 0.0, 0.0], rtol=1e-14, atol=0.0)


def test_accounts_without_weight_are_spared():
    taken = closed(close_proportional, [5.0] * 6, [1.0, 0.0, 1.0, 1.0, 1.0, 1.0], 100.0)
    assert taken.tolist() == [5.0, 0.0, 5.0, 5.0, 5.0, 5.0]


@given(
    size=st.floats(0.5, 20.0), entry=st.floats(50.0, 150.0), mark=st.floats(50.0, 150.0),
    equity=st.floats(-500.0, -0.5), long=st.booleans(),
)  # fmt: skip
def test_closing_at_the_bankruptcy_price_moves_the_deficit_to_the_winners(
    size, entry, mark, equity, long
):
    """The bankrupt account ends at zero, winners give up exactly what it lacked."""
    lost = size if long else -size
    price = mark - equity / lost
    winners = jnp.asarray([-lost * 0.7, lost * 3.0, -lost * 0.8])
    taken = close_ranked(
        opposite(winners, jnp.asarray(lost)), jnp.asarray([1.0, 9.0, 2.0]), jnp.asarray(size)
    )
    given_up = forgone(winners, taken, jnp.asarray(mark), jnp.asarray(price))
    assert_close(jnp.sum(given_up), -equity, rtol=1e-9, atol=1e-9)
    assert given_up[1] == 0.0
    assert_close(taken / size, [0.2, 0.0, 0.8], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rule", ALLOCATIONS)
def test_slopes_are_those_of_central_differences(rule):
    capacity = jnp.asarray([10.0, 4.0, 30.0, 60.0, 7.0, 1.0])
    key = jnp.asarray([3.0, 6.0, 1.0, 4.0, 5.0, 2.0])
    weigh = jnp.arange(1.0, 7.0) ** 2
    value = jax.jit(lambda c, k, a: jnp.sum(weigh * rule(c, k, a)))
    point = [capacity, key, jnp.asarray(40.0)]
    slopes = jax.grad(value, argnums=(0, 1, 2))(*point)
    for position in range(3):
        for entry in range(6 if position < 2 else 1):
            moved = []
            for step in (1e-5, -1e-5):
                bumped = list(point)
                where = entry if position < 2 else ...
                bumped[position] = bumped[position].at[where].add(step)
                moved.append(value(*bumped))
            slope = slopes[position][entry] if position < 2 else slopes[position]
            assert_close(slope, (moved[0] - moved[1]) / 2e-5, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("rule", ALLOCATIONS)
@pytest.mark.parametrize("amount", [0.0, 1e9])
def test_slopes_are_finite_where_nothing_or_everything_is_closed(rule, amount):
    value = lambda c, k, a: jnp.sum(rule(c, k, a))
    for capacity in (jnp.zeros(3), jnp.ones(3)):
        slopes = jax.grad(value, argnums=(0, 1, 2))(capacity, jnp.ones(3), jnp.asarray(amount))
        assert all(bool(jnp.isfinite(s).all()) for s in slopes)
