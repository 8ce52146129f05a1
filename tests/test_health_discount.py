"""Discounts inverse in health: worked figures, a scalar reference, socialisation, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.typing import ArrayLike

from jaxrisk.venue.health_discount import HealthDiscount
from jaxrisk.venue.position import Position
from jaxrisk.venue.settlement import Refusal
from tests.helpers import assert_close

ACCOUNTS = 4
EXACT = {"rtol": 1e-12, "atol": 1e-9}
CENT = {"rtol": 0.0, "atol": 0.005}

# One collateral of 10,000 USD at a liquidation weight of 86 %, maximum discount 15 %, the largest
# call: (LTV, repaid, seized, bad debt). Worked out by hand from EVK `calculateMaxLiquidation`.
WORKED_CASES = [
    (0.86, 8_600.00, 8_600.00, 0.00),
    (0.90, 9_000.00, 9_418.60, 0.00),
    (0.95, 9_052.63, 10_000.00, 447.37),
    (0.98, 8_775.51, 10_000.00, 1_024.49),
    (1.05, 8_500.00, 10_000.00, 2_000.00),
]


def rule(
    maximum: ArrayLike = 0.15,
    socialises: ArrayLike = True,
    minimum: ArrayLike = 0.0,
    cool_off: float | None = None,
    dtype: type = np.float64,
):
    """Return the rule with one setting for all accounts."""
    return HealthDiscount(
        maximum_discount=jnp.asarray(maximum, dtype),
        socialises=jnp.asarray(socialises),
        minimum_socialised=jnp.asarray(minimum, dtype),
        cool_off=None if cool_off is None else jnp.asarray(cool_off, dtype),
    )


def position(held, owed, weight=0.86, other: ArrayLike = 0.0, dtype: type = np.float64, **units):
    """Return accounts of one called collateral, `other` of the same weight, and one debt."""
    array = lambda x: jnp.atleast_1d(jnp.asarray(x, dtype))
    held, owed = array(held), array(owed)
    total = held + array(other)
    return Position(
        collateral=held,
        debt=owed,
        total_collateral=total,
        total_debt=owed,
        backing=weight * total,
        credit=jnp.ones_like(held),
        fee_share=jnp.zeros_like(held),
        **units,
    )


def reference(held, other, owed, weight, maximum, asked):
    """Return (reason, repaid, seized, bad debt) of one account, in plain Python."""
    backing = weight * (held + other)
    most = everything = 0.0
    healthy = backing > owed or owed == 0
    if not healthy:
        price = max(backing / owed, 1.0 - maximum)
        most, everything = owed, owed / price
        if held < everything:
            most, everything = held * price, held
    if asked != np.inf and asked > most:
        return Refusal.EXCEEDS_ALLOWANCE, 0.0, 0.0, 0.0
    if healthy:
        return Refusal.HEALTHY, 0.0, 0.0, 0.0
    repaid = min(asked, most)
    seized = everything if repaid == most else everything * repaid / most
    gone = seized >= held and other == 0
    return Refusal.NONE, repaid, seized, owed - repaid if gone else 0.0


@jax.jit
def called(discount, p, repay):
    return discount.call(p, repay)


@pytest.mark.parametrize(("ltv", "repaid", "seized", "bad_debt"), WORKED_CASES)
def test_worked_cases(ltv, repaid, seized, bad_debt):
    call = rule().call(position(1e4, ltv * 1e4), jnp.array([np.inf]))
    assert call.refusal[0] == Refusal.NONE
    actual = [call.repaid[0], call.seized[0], call.bad_debt[0]]
    assert_close(actual, [repaid, seized, bad_debt], **CENT)


VALUES = st.lists(st.floats(10.0, 1e5), min_size=ACCOUNTS, max_size=ACCOUNTS)


@given(
    collateral=VALUES, debt=VALUES, weight=st.floats(0.5, 0.96), maximum=st.floats(0.0, 0.2),
    other=st.sampled_from([0.0, 37.0]),
    share=st.one_of(st.sampled_from([0.0, np.inf]), st.floats(1e-6, 1.1)),
)  # fmt: skip
def test_random_accounts_are_those_of_the_reference(
    collateral, debt, weight, maximum, other, share
):
    held, owed = np.array(collateral), np.array(debt)
    p = position(held, owed, weight, other)
    asked = np.full(ACCOUNTS, np.inf) if share == np.inf else share * owed
    call = called(rule(maximum), p, jnp.asarray(asked))
    for n in range(ACCOUNTS):
        reason, *amounts = reference(held[n], other, owed[n], weight, maximum, asked[n])
        assert call.refusal[n] == reason
        assert_close([call.repaid[n], call.seized[n], call.bad_debt[n]], amounts, **EXACT)
    assert bool(jnp.all(call.seized <= p.collateral))
    assert bool(jnp.all(call.repaid + call.bad_debt <= p.debt * (1 + 1e-12)))
    # Nobody pays more than the collateral is worth, or less than the largest discount leaves.
    assert bool(jnp.all(call.repaid <= call.seized * (1 + 1e-12)))
    assert bool(jnp.all(call.repaid >= (1.0 - maximum) * call.seized * (1 - 1e-12)))


@given(low=st.floats(8.6e3, 1.2e4), more=st.floats(0.0, 5e3))
def test_weaker_accounts_are_cheaper(low, more):
    price = rule().price_factor(position([1e4, 1e4], [low, low + more]))
    assert float(price[1]) <= float(price[0])
    assert 0.85 <= float(price[1]) <= 1.0


def test_debt_is_socialised_only_where_nothing_is_left_and_it_is_worth_it():
    p = position([1e4] * 4, [1.05e4] * 4, other=np.array([0.0, 1.0, 0.0, 0.0]))
    discount = rule(
        socialises=jnp.array([True, True, False, True]),
        minimum=jnp.array([0.0, 0.0, 0.0, 1.06e4]),
    )
    call = discount.call(p, jnp.full(4, np.inf))
    assert call.refusal.tolist() == [Refusal.NONE] * 4
    expected = [2_000.0, 0.0, 0.0, 0.0]
    assert_close(call.bad_debt, expected, **EXACT)
    # The whole debt is compared with the minimum, and the minimum itself is enough.
    at_it = rule(minimum=jnp.array(1.05e4)).call(position(1e4, 1.05e4), jnp.array([np.inf]))
    assert_close(at_it.bad_debt, [2_000.0], **EXACT)


def test_a_call_short_of_everything_socialises_nothing():
    most = rule().limit(position(1e4, 1.05e4)).repaid
    call = rule().call(position(1e4, 1.05e4), most * 0.999)
    assert float(call.bad_debt[0]) == 0.0
    assert float(call.seized[0]) < 1e4


def test_debt_without_any_collateral_is_socialised_in_a_call_of_nothing():
    call = rule().call(position(0.0, 500.0), jnp.array([0.0]))
    actual = [call.refusal[0], call.repaid[0], call.seized[0], call.bad_debt[0]]
    assert_close(actual, [Refusal.NONE, 0.0, 0.0, 500.0], rtol=0.0, atol=0.0)


@pytest.mark.parametrize(
    ("since", "reason"),
    [(0.0, Refusal.COOLING_OFF), (0.99, Refusal.COOLING_OFF), (1.0, Refusal.NONE)],
)
def test_accounts_cool_off_after_a_check(since, reason):
    call = rule(cool_off=1.0).call(
        position(1e4, 9e3), jnp.array([np.inf]), since_check=jnp.array([since])
    )
    assert call.refusal[0] == reason
    assert (float(call.repaid[0]) > 0) == (reason == Refusal.NONE)


def test_amounts_round_down_to_contract_units():
    p = position(100.0, 90.0, collateral_unit=jnp.array([4.0]), debt_unit=jnp.array([7.0]))
    # f = 86 / 90; D / f = 94.19 in fours is 92. Half of 90 in sevens is asked: 42.
    call = rule().call(p, jnp.array([42.0]))
    # The limit is 90 in sevens, 84: the seizure is 92 x 42 / 84 = 46, in fours 44.
    assert_close([call.repaid[0], call.seized[0]], [42.0, 44.0], rtol=0.0, atol=1e-9)


@pytest.mark.slow
def test_single_precision_agrees():
    owed = np.array([8.5e3, 9.0e3, 9.7e3, 1.2e4])
    ask = np.array([np.inf, 100.0, np.inf, np.inf])
    results = {
        dtype: rule(dtype=dtype).call(
            position([1e4] * 4, owed, dtype=dtype), jnp.asarray(ask, dtype)
        )
        for dtype in (np.float32, np.float64)
    }
    single, double = results[np.float32], results[np.float64]
    assert single.repaid.dtype == np.float32
    assert single.refusal.tolist() == double.refusal.tolist()
    for name in ("repaid", "seized", "bad_debt"):
        assert_close(getattr(single, name), getattr(double, name), rtol=1e-6, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("owed", [0.0, 8_600.0, 9_000.0, 8_600.0 / 0.85, 1.2e4])
@pytest.mark.parametrize("ask", [np.inf, 0.0])
def test_gradients_are_finite_at_the_kinks(owed, ask):
    """No debt, health exactly 1, between, health exactly at the cap, and beyond."""

    def total(held, debt, maximum):
        call = rule(maximum).call(position(held, debt), jnp.array([ask]))
        return jnp.sum(call.repaid + 2.0 * call.seized + 3.0 * call.bad_debt)

    gradients = jax.grad(total, (0, 1, 2))(jnp.array([1e4]), jnp.array([owed]), jnp.array(0.15))
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in gradients)


@pytest.mark.slow
def test_a_gradient_in_closed_form():
    """Beyond the cap `bad_debt = D - C (1 - m)`: slopes 1 in D, m - 1 in C and C in m."""

    def bad(held, debt, maximum):
        return jnp.sum(rule(maximum).call(position(held, debt), jnp.array([np.inf])).bad_debt)

    slopes = jax.grad(bad, (0, 1, 2))(jnp.array([1e4]), jnp.array([1.2e4]), jnp.array(0.15))
    assert_close(jnp.hstack(slopes), [-0.85, 1.0, 1e4], rtol=1e-12, atol=0.0)
