"""Half-life auctions: the price over time, the kicker's bond, takes and who gets what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.half_life_auction import Lot, TakeRefusal, take
from jaxrisk.venue.presets.ajna import MINUTE, kicker_bond, loan_auction, reserve_auction
from tests.helpers import assert_close

TOLERANCE = {np.float32: {"rtol": 2e-5, "atol": 2e-4}, np.float64: {"rtol": 1e-12, "atol": 1e-10}}
MINUTES = st.floats(0.0, 3000.0)
AMOUNTS = st.floats(0.1, 1e3)
PRICES = st.floats(0.1, 10.0)


def price(minutes, reference=1.0, dtype: type = np.float64):
    one = lambda x: jnp.asarray([x], dtype)
    return float(loan_auction(dtype).at(one(reference), one(minutes * MINUTE))[0])


def reference_price(minutes):
    if minutes < 120:
        return 256.0 * 0.5 ** (minutes / 20)
    if minutes < 840:
        return 4.0 * 0.5 ** ((minutes - 120) / 120)
    return 0.5 ** ((minutes - 840) / 60) / 16.0


@given(minutes=MINUTES, reference=st.floats(1e-6, 1e6))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_price_is_that_of_the_reference(dtype, minutes, reference):
    reference, minutes = float(dtype(reference)), float(dtype(minutes))
    expected = reference * reference_price(minutes)
    rtol = 1e-4 if dtype is np.float32 else 1e-11
    assert_close(price(minutes, reference, dtype), expected, rtol=rtol, atol=1e-30)


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [(0, 256.0), (20, 128.0), (120, 4.0), (360, 1.0), (840, 1 / 16), (900, 1 / 32)],
)
def test_published_figures_of_the_price(minutes, expected):
    """Six halvings of 20 minutes, six of two hours, then hourly: at reference after six hours."""
    assert_close(price(minutes), expected, rtol=1e-12, atol=0.0)


def test_a_recorded_price_of_the_contract():
    """Reference 27,395.707924704254754816 after 7,199 s: just above four times that."""
    actual = price(7199.0 / 60.0, 27395.707924704254754816)
    assert_close(actual, 109646.147509071157953792, rtol=1e-12, atol=0.0)


@given(first=MINUTES, second=MINUTES)
def test_the_price_never_rises(first, second):
    early, late = sorted((first, second))
    assert price(late) <= price(early)


def test_reserve_auctions_move_by_the_minute():
    rule = reserve_auction(np.float64)
    at = lambda seconds: float(
        rule.at(jnp.array([1.0 / 500.0]), jnp.array([seconds * MINUTE / 60.0]))[0]
    )
    assert_close(at(0.0), 2e6, rtol=1e-12, atol=0.0)
    assert at(59.0) == at(0.0)
    for minutes in range(1, 200):
        expected = 2e6 * 0.5 ** (minutes / 60)
        assert_close(at(60.0 * minutes), expected, rtol=1e-12, atol=0.0)


@given(ratio=st.floats(1.0, 2.0))
def test_the_bond_is_a_tenth_of_the_margin_within_bounds(ratio):
    share = float(kicker_bond(np.float64).share(jnp.array([ratio]))[0])
    assert_close(share, min(max((ratio - 1.0) / 10.0, 0.005), 0.03), rtol=1e-12, atol=1e-15)


def test_recorded_rewards_of_the_contract():
    """`_bondParams` and `_bpf`: far above neutral the whole bond is lost, far below it is won."""
    rule = kicker_bond(np.float64)
    one = lambda x: jnp.array([x])
    for ratio, at, threshold, neutral, share, expected in (
        (1.2485507943088768, 109646.1475, 21179.5027, 27395.7079, 0.02485507943088768, -1.0),
        (1.27445821572488448, 12.2942, 186.8488, 196.6884, 0.027445821572488448, 1.0),
        (1.10321031987147162, 2.57e-8, 5.5185, 7.0879, 0.010321031987147162, 1.0),
    ):
        bond = rule.share(one(ratio))
        assert_close(bond, [share], rtol=1e-12, atol=0.0)
        won = rule.reward(bond, one(at), threshold=one(threshold), neutral=one(neutral))
        assert_close(won, [expected * share], rtol=1e-12, atol=0.0)


@given(low=PRICES, high=PRICES, threshold=PRICES, neutral=PRICES)
def test_a_lower_price_pays_the_kicker_no_less(low, high, threshold, neutral):
    one = lambda x: jnp.array([x])
    low, high = sorted((low, high))
    cheap, dear = (
        kicker_bond(np.float64).reward(
            one(0.02), one(p), threshold=one(threshold), neutral=one(neutral)
        )
        for p in (low, high)
    )
    assert -0.02 <= float(dear[0]) <= float(cheap[0]) <= 0.02


def lot(collateral, debt, threshold, neutral, bond=0.0, share=0.02, dtype=np.float64):
    one = lambda x: jnp.asarray([x], dtype)
    return Lot(
        collateral=one(collateral), debt=one(debt), bond=one(bond), bond_share=one(share),
        threshold=one(threshold), neutral=one(neutral),
    )  # fmt: skip


_take = jax.jit(take)


def taken(held, price, amount, minutes=60.0, dtype=np.float64):
    one = lambda x: jnp.asarray([x], dtype)
    return _take(kicker_bond(dtype), held, one(price), one(minutes * MINUTE), one(amount))


def reference_take(collateral, debt, threshold, neutral, bond, share, price, amount):
    """Return (repaid, seized, paid, fee, reward, bad debt) in scalars."""
    if neutral > threshold:
        reward = share * min(1.0, max(-1.0, (neutral - price) / (neutral - threshold)))
    else:
        reward = share * ((neutral > price) - (neutral < price))
    credited = price * (1.0 - 1.25 * share + 0.25 * reward)
    seized = min(amount, collateral, debt / credited)
    repaid, paid = seized * credited, seized * price
    won = max(paid * reward, -bond)
    bad_debt = debt - repaid if seized == collateral else 0.0
    return repaid, seized, paid, paid - repaid - won, won, bad_debt


@given(
    collateral=AMOUNTS,
    debt=AMOUNTS,
    threshold=PRICES,
    neutral=PRICES,
    bond=st.floats(0.0, 20.0),
    at=PRICES,
    amount=AMOUNTS,
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_take_is_that_of_the_reference(
    dtype, collateral, debt, threshold, neutral, bond, at, amount
):
    collateral, debt, threshold, neutral, bond, at, amount = (
        float(dtype(x)) for x in (collateral, debt, threshold, neutral, bond, at, amount)
    )
    held = lot(collateral, debt, threshold, neutral, bond, dtype=dtype)
    actual = taken(held, at, amount, dtype=dtype)
    expected = reference_take(
        collateral, debt, threshold, neutral, bond, float(dtype(0.02)), at, amount
    )
    names = ("repaid", "seized", "paid", "fee", "reward", "bad_debt")
    tolerance = dict(TOLERANCE[dtype])
    # The bond depends on a difference of prices, and what is left on one of debts.
    conditioning = 1.0 + (at + neutral) / max(abs(neutral - threshold), 1e-3)
    tolerance["atol"] += 8.0 * float(np.finfo(dtype).eps) * conditioning * 1e4
    values = [float(getattr(actual, name)[0]) for name in names]
    assert_close(values, expected, **tolerance)


@given(
    collateral=AMOUNTS, debt=AMOUNTS, threshold=PRICES, neutral=PRICES, at=PRICES, amount=AMOUNTS
)
def test_what_is_paid_arrives_and_nobody_pays_twice(
    collateral, debt, threshold, neutral, at, amount
):
    call = taken(lot(collateral, debt, threshold, neutral, bond=5.0), at, amount)
    repaid, paid, fee, reward = (
        float(x[0]) for x in (call.repaid, call.paid, call.fee, call.reward)
    )
    assert_close(repaid + fee + reward, paid, rtol=1e-12, atol=1e-10)
    assert -1e-12 * paid <= repaid <= debt
    assert fee >= -1e-12 * paid
    assert reward >= -5.0
    assert float(call.seized[0]) <= collateral
    assert 0.0 <= float(call.bad_debt[0]) <= debt


def test_a_worked_example():
    """At neutral: 2.5 % below the price is credited, all of it reserves; no reward. By hand."""
    call = taken(lot(10.0, 500.0, 60.0, 80.0, bond=10.0), 80.0, 4.0)
    actual = [call.repaid[0], call.seized[0], call.paid[0], call.fee[0], call.reward[0]]
    assert_close(actual, [312.0, 4.0, 320.0, 8.0, 0.0], rtol=1e-12, atol=1e-12)
    # Below the threshold price the kicker wins the whole share: 2 % of what is paid.
    low = taken(lot(10.0, 500.0, 60.0, 80.0, bond=10.0), 40.0, 100.0)
    actual = [low.repaid[0], low.paid[0], low.reward[0], low.fee[0], low.bad_debt[0]]
    assert_close(actual, [392.0, 400.0, 8.0, 0.0, 108.0], rtol=1e-12, atol=1e-12)


def test_a_bucket_decides_the_kickers_reward_by_its_own_price():
    """At an auction price of 40 a bucket at 80, the neutral price, pays no reward. By hand."""
    one = lambda x: jnp.asarray([x])
    held = lot(10.0, 500.0, 60.0, 80.0, bond=10.0)
    call = _take(
        kicker_bond(np.float64), held, one(40.0), one(60 * MINUTE), one(4.0), judged=one(80.0)
    )
    assert_close(call.reward, [0.0], rtol=0.0, atol=1e-15)
    assert_close(call.paid, [160.0], rtol=1e-12, atol=0.0)
    assert_close(call.repaid, [40.0 * (1.0 - 0.025) * 4.0], rtol=1e-12, atol=0.0)


def test_takes_at_the_very_start_or_for_nothing_are_refused():
    held = lot(10.0, 500.0, 60.0, 80.0)
    assert int(taken(held, 80.0, 1.0, minutes=0.0).refusal[0]) == TakeRefusal.NOT_STARTED
    assert int(taken(held, 0.0, 1.0).refusal[0]) == TakeRefusal.NO_PRICE
    assert int(taken(held, 80.0, 1.0).refusal[0]) == TakeRefusal.NONE


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("minutes", [0.0, 120.0, 840.0, 1e5])
def test_derivatives_of_the_price_are_finite_at_the_kinks(dtype, minutes):
    one = lambda x: jnp.asarray([x], dtype)
    rule = loan_auction(dtype)
    slopes = jax.grad(lambda r, t: rule.at(r, t)[0], argnums=(0, 1))(
        one(1.0), one(minutes * MINUTE)
    )
    assert np.isfinite(np.concatenate(slopes)).all()
    by_rule = jax.grad(lambda rule: rule.at(one(1.0), one(minutes * MINUTE))[0])(rule)
    assert np.isfinite(by_rule.half_life).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("threshold", [0.0, 60.0, 80.0])
@pytest.mark.parametrize("at", [0.0, 60.0, 80.0, 100.0])
@pytest.mark.parametrize("debt", [0.0, 100.0])
def test_derivatives_of_a_take_are_finite_at_the_kinks(dtype, threshold, at, debt):
    one = lambda x: jnp.asarray([x], dtype)

    def total(price, debt, amount, threshold):
        held = Lot(
            collateral=one(5.0), debt=debt, bond=one(1.0), bond_share=one(0.02),
            threshold=threshold, neutral=one(80.0),
        )  # fmt: skip
        call = take(kicker_bond(dtype), held, price, one(MINUTE), amount)
        return (call.repaid + 2.0 * call.fee + 3.0 * call.reward + call.bad_debt)[0]

    slopes = jax.grad(total, argnums=(0, 1, 2, 3))(one(at), one(debt), one(5.0), one(threshold))
    assert np.isfinite(np.concatenate(slopes)).all()
