"""Auctions by bids: who may bid, when an auction is won, what a restart changes."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.venue.bid_auction import (
    BidAuction,
    BidRefusal,
    BidRules,
    lower_lot,
    raise_bid,
    reopen,
    settle,
)
from tests.helpers import assert_close

HOUR, DAY = 3_600.0, 86_400.0


def rules(restart_factor=1.5):
    return BidRules(
        step=jnp.array(1.05),
        bid_duration=jnp.array(3 * HOUR),
        duration=jnp.array(2 * DAY),
        restart_factor=jnp.array(restart_factor),
    )


def auction(bid=100.0, lot=40.0, expires=np.inf, ends=2 * DAY):
    one = lambda x: jnp.array([x])
    return BidAuction(bid=one(bid), lot=one(lot), expires=one(expires), ends=one(ends))


@pytest.mark.parametrize(
    ("bid", "expires", "now", "refusal"),
    [
        (105.0, np.inf, 0.0, BidRefusal.NONE),
        (104.9, np.inf, 0.0, BidRefusal.TOO_SMALL_A_STEP),
        (200.0, HOUR, HOUR, BidRefusal.BID_EXPIRED),
        (200.0, HOUR + 1, HOUR, BidRefusal.NONE),
        (200.0, 3 * DAY, 2 * DAY, BidRefusal.ENDED),
    ],
)
def test_bids_must_rise_by_the_step_before_a_clock_runs_out(bid, expires, now, refusal):
    before = auction(expires=expires)
    after, actual = raise_bid(rules(), before, jnp.array([bid]), jnp.array([now]))
    assert actual[0] == refusal
    accepted = refusal == BidRefusal.NONE
    assert float(after.bid[0]) == (bid if accepted else 100.0)
    assert float(after.expires[0]) == (now + 3 * HOUR if accepted else expires)
    assert float(after.lot[0]) == 40.0


def test_the_first_bid_may_be_anything_but_nothing():
    offer = lambda x: raise_bid(rules(), auction(bid=0.0), jnp.array([x]), jnp.array([0.0]))[1][0]
    assert offer(1e-9) == BidRefusal.NONE
    assert offer(0.0) == BidRefusal.TOO_SMALL_A_STEP


@pytest.mark.parametrize(
    ("lot", "refusal"), [(38.0, BidRefusal.NONE), (38.2, BidRefusal.TOO_SMALL_A_STEP)]
)
def test_lots_must_fall_by_the_step(lot, refusal):
    after, actual = lower_lot(rules(), auction(), jnp.array([lot]), jnp.array([HOUR]))
    assert actual[0] == refusal
    assert float(after.lot[0]) == (lot if refusal == BidRefusal.NONE else 40.0)
    assert float(after.bid[0]) == 100.0


@pytest.mark.parametrize(
    ("expires", "now", "refusal"),
    [
        (np.inf, 3 * DAY, BidRefusal.NOT_FINISHED),
        (HOUR, HOUR, BidRefusal.NOT_FINISHED),
        (HOUR, HOUR + 1, BidRefusal.NONE),
        (3 * DAY, 2 * DAY, BidRefusal.NOT_FINISHED),
        (3 * DAY, 2 * DAY + 1, BidRefusal.NONE),
    ],
)
def test_an_auction_is_won_by_a_bid_that_stood_or_at_the_end(expires, now, refusal):
    assert settle(auction(expires=expires), jnp.array([now]))[0] == refusal


@pytest.mark.parametrize(
    ("expires", "now", "refusal"),
    [
        (np.inf, 2 * DAY + 1, BidRefusal.NONE),
        (np.inf, 2 * DAY, BidRefusal.NOT_FINISHED),
        (HOUR, 2 * DAY + 1, BidRefusal.HAS_BID),
    ],
)
def test_an_auction_without_a_bid_starts_again_with_a_larger_lot(expires, now, refusal):
    after, actual = reopen(rules(), auction(expires=expires), jnp.array([now]))
    assert actual[0] == refusal
    again = refusal == BidRefusal.NONE
    lot, ends = (60.0, now + 2 * DAY) if again else (40.0, 2 * DAY)
    assert_close([after.lot[0], after.ends[0]], [lot, ends], rtol=0.0, atol=0.0)
