"""Staked coverage: recorded figures, a scalar reference over random histories, conservation."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.slashing import (
    Coverage,
    SlashRefusal,
    cover_offset,
    cover_pending,
    deposit,
    set_offset,
    slash,
)
from tests.helpers import assert_close

FIELDS = ("deficit", "offset", "pending", "stake", "shares")


def coverage(dtype: Any = float, **values: Any) -> Coverage:
    """Return one reserve; amounts that are not given are 0, and there is a share an asset."""
    values = {"deficit": 0.0, "offset": 0.0, "pending": 0.0, "stake": 0.0, **values}
    values.setdefault("shares", values["stake"])
    return Coverage(**{k: jnp.atleast_1d(jnp.asarray(v, dtype)) for k, v in values.items()})


def slashed(c, fee=0.0, reserve_price=1.0, stake_price=1.0, minimum=0.0, **options):
    """Return the outcome of a slash at stated prices."""
    number = lambda x: jnp.atleast_1d(jnp.asarray(x, c.stake.dtype))
    return slash(
        c,
        fee=number(fee),
        reserve_price=number(reserve_price),
        stake_price=number(stake_price),
        minimum_stake=number(minimum),
        **options,
    )


def test_recorded_slashes():
    """Restated from Umbrella's contracts: in full with a fee, and with the stake exhausted."""
    unit = {"minimum": 1.0, "unit": jnp.array(1e-6)}
    taken, after = slashed(
        coverage(deficit=2838.935447, offset=40.166708, stake=41875.717631), fee=0.25, **unit
    )
    assert_close(taken.covered, [2798.768739], rtol=1e-12, atol=0.0)
    assert_close(taken.fee, [699.692184], rtol=1e-12, atol=0.0)
    assert_close(after.pending, [2798.768739], rtol=1e-12, atol=0.0)
    assert_close(after.stake, [38377.256708], rtol=1e-12, atol=0.0)
    assert_close(taken.uncovered, [0.0], rtol=0.0, atol=1e-9)
    worth = after.share_worth(jnp.array(1e-6))
    assert_close(worth, [0.916456096257402521], rtol=1e-10, atol=0.0)

    taken, after = slashed(
        coverage(deficit=84680.283941, stake=25726.883858, shares=41367.102163),
        reserve_price=2541.25090164,
        stake_price=2826.21159178,
        **unit,
    )
    assert_close(taken.covered, [28610.630741], rtol=1e-9, atol=0.0)
    assert_close(taken.uncovered, [84680.283941 - 28610.630741], rtol=1e-9, atol=0.0)
    assert after.stake.tolist() == [1.0]
    # What it did not cover stays slashable, and there is nothing to slash.
    again, same = slashed(after, **unit)
    assert again.refusal.tolist() == [SlashRefusal.NO_STAKE]
    assert again.slashed.tolist() == [0.0]
    assert_close(same.pending, after.pending, rtol=0.0, atol=0.0)


class Reference:
    """The same bookkeeping, one number at a time, written from the rules."""

    def __init__(self, deficit, offset, stake, fee, ratio, minimum):
        self.deficit, self.offset, self.pending = deficit, offset, 0.0
        self.stake, self.shares = stake, stake
        self.fee, self.ratio, self.minimum = fee, ratio, minimum

    def slash(self, _):
        new = self.deficit - self.offset - self.pending
        if new <= 1e-9 * self.deficit:
            return SlashRefusal.NO_NEW_DEFICIT
        room = self.stake - self.minimum
        if room <= 1e-9 * self.stake:
            return SlashRefusal.NO_STAKE
        needed = new * (1 + self.fee) * self.ratio
        taken = min(needed, room)
        self.stake -= taken
        self.pending += new * taken / needed
        return SlashRefusal.NONE

    def cover_offset(self, amount):
        limit = self.offset
        if self.offset + self.pending > self.deficit:
            limit = self.deficit - self.pending
        paid = min(amount, limit)
        if paid <= 1e-9 * self.deficit:
            return SlashRefusal.NOTHING_TO_COVER
        self.deficit -= paid
        self.offset -= paid
        return SlashRefusal.NONE

    def cover_pending(self, amount):
        paid = min(amount, self.pending)
        if paid <= 0:
            return SlashRefusal.NOTHING_TO_COVER
        self.deficit -= paid
        self.pending -= paid
        return SlashRefusal.NONE

    def set_offset(self, amount):
        if amount + self.pending < self.deficit * (1 - 1e-9):
            return SlashRefusal.OFFSET_TOO_LOW
        self.offset = amount
        return SlashRefusal.NONE

    def deposit(self, amount):
        self.shares += amount * (self.shares / self.stake if self.shares else 1.0)
        self.stake += amount
        return SlashRefusal.NONE

    def worsen(self, amount):
        self.deficit += amount
        return SlashRefusal.NONE


def act(c, name, amount, fee, ratio, minimum):
    """Return the refusal and the coverage after one action of the package."""
    value = jnp.array([amount])
    if name == "slash":
        taken, c = slashed(c, fee=fee, reserve_price=ratio, minimum=minimum)
        return taken.refusal[0], c
    if name == "set_offset":
        refusal, c = set_offset(c, value)
        return refusal[0], c
    if name == "deposit":
        return SlashRefusal.NONE, deposit(c, value)[1]
    if name == "worsen":
        return SlashRefusal.NONE, dataclasses.replace(c, deficit=c.deficit + value)
    _, refusal, c = (cover_offset if name == "cover_offset" else cover_pending)(c, value)
    return refusal[0], c


ACTIONS = st.sampled_from(
    ["slash", "cover_offset", "cover_pending", "set_offset", "deposit", "worsen"]
)


@given(
    steps=st.lists(st.tuples(ACTIONS, st.integers(0, 3000)), min_size=1, max_size=8),
    offset=st.integers(0, 500),
    stake=st.integers(1, 5000),
    fee=st.sampled_from([0.0, 0.1, 0.25]),
    ratio=st.sampled_from([0.8, 1.0, 1.3]),
)
def test_random_histories_are_those_of_the_reference(steps, offset, stake, fee, ratio):
    minimum = 1.0
    expected = Reference(float(offset), float(offset), float(stake), fee, ratio, minimum)
    c = coverage(deficit=offset, offset=offset, stake=stake)
    for name, amount in steps:
        refusal, c = act(c, name, float(amount), fee, ratio, minimum)
        assert refusal == getattr(expected, name)(float(amount)), name
        for field in FIELDS:
            actual, value = getattr(c, field), [getattr(expected, field)]
            assert_close(actual, value, rtol=1e-9, atol=1e-9 * (1.0 + expected.deficit))
        # No more is pending than is owed, and stakers keep the minimum.
        assert float(c.pending[0]) <= float(c.deficit[0]) * (1.0 + 1e-12)
        assert float(c.stake[0]) >= minimum * (1.0 - 1e-12)


# Nothing, or at least a little: the compiler flushes subnormal numbers to zero.
AMOUNTS = st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1e6)), min_size=3, max_size=3)


@given(
    deficit=AMOUNTS,
    offset=AMOUNTS,
    stake=AMOUNTS,
    fee=st.sampled_from([0.0, 0.1, 1.0]),
    price=st.floats(0.1, 10.0),
)
def test_a_slash_conserves_and_is_limited(deficit, offset, stake, fee, price):
    c = coverage(deficit=deficit, offset=offset, stake=stake)
    triple = lambda x: jnp.full(3, x)
    taken, after = slash(
        c,
        fee=triple(fee),
        reserve_price=triple(price),
        stake_price=triple(1.0),
        minimum_stake=triple(5.0),
    )
    part = np.asarray
    # What leaves the stake is what was slashed, and it pays for what is covered and for the fee.
    assert_close(part(after.stake) + part(taken.slashed), stake, rtol=1e-12, atol=1e-9)
    paid = (part(taken.covered) + part(taken.fee)) * price
    assert_close(part(taken.slashed), paid, rtol=1e-9, atol=1e-8)
    new = np.maximum(np.array(deficit) - np.array(offset), 0.0)
    assert_close(part(taken.covered) + part(taken.uncovered), new, rtol=1e-9, atol=1e-8)
    assert (part(taken.slashed) <= np.maximum(np.array(stake) - 5.0, 0.0) + 1e-9).all()
    # The pool's deficit does not move until the proceeds are brought in.
    assert_close(after.deficit, c.deficit, rtol=0.0, atol=0.0)
    assert_close(after.pending, taken.covered, rtol=0.0, atol=0.0)
    assert_close(after.shares, c.shares, rtol=0.0, atol=0.0)
    # More stake covers no less.
    richer = dataclasses.replace(c, stake=c.stake + 100.0)
    more, _ = slash(
        richer,
        fee=triple(fee),
        reserve_price=triple(price),
        stake_price=triple(1.0),
        minimum_stake=triple(5.0),
    )
    assert (part(more.covered) >= part(taken.covered) * (1.0 - 1e-12)).all()


def test_a_newcomer_after_a_full_slash_owns_nearly_all():
    _, after = slashed(coverage(deficit=1e6, stake=1e4), minimum=1.0)
    assert_close(after.share_worth(), [1e-4], rtol=1e-12, atol=0.0)
    shares, then = deposit(after, jnp.array([99.0]))
    assert_close(shares / then.shares, [0.99], rtol=1e-12, atol=0.0)
    assert coverage().share_worth().tolist() == [1.0]


def test_exact_sums_are_not_taken_for_new_deficit():
    """0.1 + 0.2 is more than 0.3 and 0.3 - 0.1 less than 0.2: neither is a deficit."""
    for deficit, offset, pending in ((0.3, 0.1, 0.2), (0.1 + 0.2, 0.3, 0.0)):
        c = coverage(deficit=deficit, offset=offset, pending=pending, stake=10.0)
        taken, _ = slashed(c)
        assert taken.refusal.tolist() == [SlashRefusal.NO_NEW_DEFICIT]
        assert taken.uncovered.tolist() == [0.0]
        assert set_offset(c, jnp.array([offset]))[0].tolist() == [SlashRefusal.NONE]


@pytest.mark.slow
def test_single_precision_and_derivatives():
    values = {
        "deficit": [100.0, 0.0, 50.0, 100.0],
        "offset": [10.0, 0.0, 50.0, 0.0],
        "stake": [50.0, 0.0, 10.0, 100.0],
    }
    exact, rough = slashed(coverage(**values)), slashed(coverage(jnp.float32, **values))
    for a, b in zip(jax.tree.leaves(exact), jax.tree.leaves(rough), strict=True):
        assert_close(b, a, rtol=1e-6, atol=0.0)
    assert rough[0].covered.dtype == jnp.float32
    assert exact[0].covered.tolist() == [50.0, 0.0, 0.0, 100.0]

    def total(c, fee):
        taken, after = slashed(c, fee=fee, minimum=0.0)
        shares, after = deposit(after, jnp.ones(4))
        paid, _, after = cover_pending(after, jnp.full(4, 20.0))
        first, _, after = cover_offset(after, jnp.full(4, 20.0))
        return jnp.sum(taken.covered + taken.fee + after.stake + shares + paid + first)

    slopes = jax.grad(total, argnums=(0, 1))(coverage(**values), jnp.full(4, 0.1))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(slopes))
