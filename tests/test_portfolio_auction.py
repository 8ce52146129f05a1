"""Auctions of portfolios: published clocks, recorded bids, a scalar reference, what is restored."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from jaxrisk.venue.auction_price import TwoPhaseDecrease
from jaxrisk.venue.portfolio_auction import (
    Margined,
    PortfolioAuction,
    PortfolioAuctionTerms,
    PortfolioRefusal,
    asking_price,
    bid,
    buffer_margin,
    largest_share,
    opening_fee,
    recovered,
)
from jaxrisk.venue.presets.derive import auction_terms
from tests.helpers import assert_close

TOLERANCE = {np.float32: {"rtol": 2e-4, "atol": 2e-3}, np.float64: {"rtol": 1e-11, "atol": 1e-10}}


def clock(start, turn, fast, slow, *seconds):
    number = jnp.asarray
    curve = TwoPhaseDecrease(
        start=number(start), turn=number(turn), fast=number(fast), slow=number(slow)
    )
    return curve.fraction(jnp.asarray(seconds))


def test_published_clocks():
    """derivexyz/v2-core, test/auction/unit-tests/DutchAuctionView.t.sol."""
    actual = clock(1.0, 0.8, 600.0, 7200.0, 0.0, 300.0, 600.0, 960.0, 8160.0)
    assert_close(actual, [1.0, 0.9, 0.8, 0.76, 0.0], rtol=1e-12, atol=1e-15)
    actual = clock(0.96, 0.8, 300.0, 7200.0, 0.0, 150.0, 300.0, 6780.0)
    assert_close(actual, [0.96, 0.88, 0.8, 0.08], rtol=1e-12, atol=0.0)


def one(x, dtype: type = np.float64):
    return jnp.asarray([x], dtype)


def account(margin, value, dtype: type = np.float64):
    return Margined(margin=one(margin, dtype), value=one(value, dtype))


def running(elapsed, *, reserved=0.0, insolvent=False, dtype: type = np.float64):
    return PortfolioAuction(
        elapsed=one(elapsed, dtype), reserved=one(reserved, dtype), insolvent=jnp.array([insolvent])
    )


def recorded_terms(start, turn, fast, slow, insolvent, fee, buffer):
    number = jnp.asarray
    return PortfolioAuctionTerms(
        price=TwoPhaseDecrease(
            start=number(start), turn=number(turn), fast=number(fast), slow=number(slow)
        ),
        insolvent_duration=number(insolvent),
        fee=number(fee),
        buffer=number(buffer),
        whole_below=number(0.0),
    )


def test_a_recorded_bid_that_restores_the_margin():
    """Derive v2 DutchAuction at 7736900d, the second bid of an auction."""
    terms = recorded_terms(1.0, 0.8, 900.0, 43_200.0, 600.0, 0.0, 0.05)
    state = running(20_030.0, reserved=622.618139337297408389)
    held = account(-2812.997048843102591611, 6884.389703780697408389)
    done = bid(terms, held, state, one(0.5115), fund=one(1e6))
    assert_close(done.share, [0.491367315199990176], rtol=1e-14, atol=0.0)
    assert_close(done.from_bidder, [1371.468430743145021055], rtol=1e-14, atol=0.0)
    assert bool(done.ends[0])


def test_a_recorded_bid_that_the_fund_cannot_pay():
    """As above: 500 in the fund, 13,465.55 to be paid, the rest spread over everyone."""
    terms = recorded_terms(0.98, 0.7, 600.0, 7200.0, 600.0, 0.02, 0.3)
    state = running(300.0, insolvent=True)
    held = account(-27_009.927708, -7_870.400155)
    done = bid(terms, held, state, one(0.7721), fund=one(500.0))
    assert_close(done.to_bidder, [13_465.55057151115], rtol=1e-14, atol=0.0)
    assert_close(done.socialised, [12_965.55057151115], rtol=1e-14, atol=0.0)
    assert not bool(done.ends[0])


def reference_bid(margin, value, elapsed, reserved, wanted, fund, *, insolvent):
    """Return (refusal, share, price, to bidder, from fund) under the mainnet terms."""
    buffer = margin + 0.15 * (margin - value)
    over = elapsed >= 44_100.0
    done = margin >= 0 if insolvent or over else value < 0 or reserved >= value or buffer >= 0
    if done:
        return "RECOVERED", 0.0, 0.0, 0.0, 0.0
    if insolvent:
        floor = min(value, 0.0)
        share_of_time = min(elapsed / 3600.0, 1.0)
        ask = -(floor + (margin - floor) * share_of_time) * wanted
        return "NONE", wanted, 0.0, ask, min(ask, fund)
    if elapsed < 900.0:
        discount = 0.95 - 0.25 * elapsed / 900.0
    else:
        discount = 0.7 * max(44_100.0 - elapsed, 0.0) / 43_200.0
    price = discount * (value - reserved)
    if price <= 0:
        return "ENDED", 0.0, 0.0, 0.0, 0.0
    short = max(-buffer, 0.0)
    largest = short / (short + value * discount + reserved * (1.0 - discount))
    share = min(wanted, largest)
    return "NONE", share, price * share, 0.0, 0.0


CASES = {
    "margin": st.floats(-5e3, 1e2), "value": st.floats(-5e3, 1e4), "elapsed": st.floats(0.0, 5e4),
    "reserved": st.floats(0.0, 2e3), "wanted": st.floats(0.01, 1.0), "fund": st.floats(0.0, 3e3),
    "insolvent": st.booleans(),
}  # fmt: skip


@given(**CASES)
def test_bids_are_those_of_the_reference(margin, value, elapsed, reserved, wanted, fund, insolvent):
    margin = min(margin, value)
    state = running(elapsed, reserved=reserved, insolvent=insolvent)
    done = bid(auction_terms(np.float64), account(margin, value), state, one(wanted),
               fund=one(fund))  # fmt: skip
    refusal, *expected = reference_bid(
        margin, value, elapsed, reserved, wanted, fund, insolvent=insolvent
    )
    assert PortfolioRefusal(int(done.refusal[0])).name == refusal
    actual = [done.share[0], done.from_bidder[0], done.to_bidder[0], done.from_fund[0]]
    assert_close(actual, expected, **TOLERANCE[np.float64])
    assert_close(done.from_fund + done.socialised, done.to_bidder, rtol=1e-14, atol=0.0)
    assert 0.0 <= float(done.from_fund[0]) <= fund


@given(margin=st.floats(-5e3, -1.0), value=st.floats(1.0, 1e4), elapsed=st.floats(0.0, 4e4))
def test_the_largest_bid_restores_the_buffer_margin_and_no_more(margin, value, elapsed):
    """The rest of the portfolio scales with what is left of it, and the cash adds to both."""
    assume(margin < value - 1.0)
    terms, state = auction_terms(np.float64), running(elapsed)
    held = account(margin, value)
    share = largest_share(terms, held, state)
    cash = asking_price(terms, held, state) * share
    rest = Margined(
        margin=held.margin * (1.0 - share) + cash, value=held.value * (1.0 - share) + cash
    )
    assert_close(buffer_margin(terms, rest), [0.0], rtol=0.0, atol=1e-9 * (value - margin))
    less = Margined(
        margin=held.margin * (1.0 - 0.9 * share) + 0.9 * cash,
        value=held.value * (1.0 - 0.9 * share) + 0.9 * cash,
    )
    assert not bool(recovered(terms, less, state)[0])


def test_takers_of_an_insolvent_portfolio_are_paid_more_as_time_passes():
    terms, held = auction_terms(np.float64), account(-1000.0, -400.0)
    asked = [float(asking_price(terms, held, running(t, insolvent=True))[0])
             for t in (0.0, 900.0, 1800.0, 3600.0, 7200.0)]  # fmt: skip
    assert_close(asked, [-400.0, -550.0, -700.0, -1000.0, -1000.0], rtol=1e-14, atol=0.0)


@pytest.mark.parametrize(
    ("margin", "value", "fee", "refusal"),
    [
        (-100.0, 900.0, 0.1 * 900.0 * 250.0 / 1150.0, PortfolioRefusal.NONE),
        (-100.0, -20.0, 0.0, PortfolioRefusal.NONE),
        (0.0, 900.0, 0.0, PortfolioRefusal.HEALTHY),
    ],
)
def test_an_auction_starts_with_a_fee_on_what_would_be_sold(margin, value, fee, refusal):
    actual, why = opening_fee(auction_terms(np.float64), account(margin, value))
    assert_close(actual, [fee], rtol=1e-13, atol=0.0)
    assert PortfolioRefusal(int(why[0])) is refusal


def test_a_share_of_nothing_or_of_more_than_everything_is_refused():
    terms, held, state = auction_terms(np.float64), account(-100.0, 900.0), running(60.0)
    for wanted in (0.0, 1.5):
        done = bid(terms, held, state, one(wanted), fund=one(0.0))
        assert PortfolioRefusal(int(done.refusal[0])) is PortfolioRefusal.INVALID_SHARE
        assert float(done.from_bidder[0]) == 0.0


def test_gradients_are_those_of_central_differences():
    terms, state = auction_terms(np.float64), running(400.0)

    def paid(x):
        held = Margined(margin=x[:1], value=x[1:])
        return bid(terms, held, state, one(1.0), fund=one(0.0)).from_bidder.sum()

    at, step = jnp.array([-300.0, 2000.0]), 1e-3
    bumps = [(paid(at.at[i].add(step)) - paid(at.at[i].add(-step))) / (2 * step) for i in range(2)]
    assert_close(jax.grad(paid)(at), jnp.stack(bumps), rtol=1e-7, atol=0.0)
    # Nothing to restore: the denominators are guarded in both directions.
    assert np.isfinite(jax.grad(paid)(jnp.array([0.0, 0.0]))).all()
