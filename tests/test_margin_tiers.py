"""Margin in tiers: published figures, a slice-by-slice reference, and tables that are refused."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.margin_tiers import Bracket, MarginTiers, SlabTiers, step_brackets
from tests.helpers import assert_close
from tests.reference_liquidation import marginal, slab

BRACKETS = {
    "A": [
        Bracket(0.0, 50e3, 0.004, 125.0, 0.0),
        Bracket(50e3, 600e3, 0.005, 100.0, 50.0),
        Bracket(600e3, 3e6, 0.0065, 75.0, 950.0),
        Bracket(3e6, 12e6, 0.01, 50.0, 11_450.0),
    ],
    "B": [Bracket(0.0, 1e4, 0.02, 25.0), Bracket(1e4, np.inf, 0.5, 1.0)],
}
LEVERAGE = jnp.full((2, 4), 10.0)
NOTIONALS = st.lists(
    st.floats(0.0, 1.2e7, allow_subnormal=False), min_size=4, max_size=4
)  # fmt: skip


@given(first=NOTIONALS, second=NOTIONALS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_slice_pays_the_rate_of_its_tier(dtype, first, second):
    tiers = MarginTiers.from_brackets(BRACKETS, dtype)
    notional = np.asarray([first, second], dtype)
    (initial, amount), tier = tiers.required(jnp.asarray(notional), LEVERAGE.astype(dtype))
    expected = [
        [float(marginal(rows)(n, None, None)) for n in row]
        for rows, row in zip(BRACKETS.values(), notional, strict=True)
    ]
    slack = {np.float32: 1e-5, np.float64: 1e-12}[dtype]
    assert amount.dtype == dtype
    assert_close(amount, expected, rtol=slack, atol=slack * 1e6)
    # The tier that binds is the one the notional lies in, and at a bound two say the same.
    for rows, row, places in zip(BRACKETS.values(), notional, np.asarray(tier), strict=True):
        for n, place in zip(row, places, strict=True):
            near = min(abs(n - bracket.floor) for bracket in rows[1:]) <= 1e-3 * n
            assert near or place == sum(n > bracket.floor for bracket in rows[1:])
    assert_close(initial[0], notional[0] / 10.0, rtol=slack, atol=1e-30)
    assert (np.diff(np.asarray(tiers.maintenance(jnp.sort(jnp.asarray(notional)))[0])) >= 0).all()


@given(first=NOTIONALS)
def test_a_slab_charges_the_whole_position_and_never_less(first):
    rows = {"A": [row._replace(deduction=None) for row in BRACKETS["A"]]}
    notional = jnp.asarray([first])
    amount, tier = SlabTiers.from_brackets(rows).maintenance(notional, notional)
    expected = [[float(slab(rows["A"])(n, None, None)) for n in first]]
    assert_close(amount, expected, rtol=1e-14, atol=1e-30)
    assert (amount >= MarginTiers.from_brackets(rows).maintenance(notional)[0] - 1e-9).all()
    assert tier.tolist()[0] == [sum(n > row.floor for row in rows["A"][1:]) for n in first]


def test_at_a_bound_a_slab_position_is_in_the_tier_below():
    tiers = SlabTiers.from_brackets({"B": BRACKETS["B"]})
    notional = jnp.asarray([[0.0, 1e4, np.nextafter(1e4, 2e4)]])
    amount, tier = tiers.maintenance(notional, notional)
    assert tier.tolist() == [[0, 0, 1]]
    assert_close(amount, [[0.0, 200.0, 5_000.0]], rtol=1e-12, atol=0.0)


def test_tiers_by_count_ask_for_contracts():
    tiers = SlabTiers.from_brackets(
        {"X": step_brackets(1e3, 2e3, rate=0.01, initial=0.02, added=0.005, tiers=4)},
        by_count=True,
    )
    count = jnp.asarray([[500.0, 1_000.0, 3_001.0, 1e6]])
    (initial, amount), tier = tiers.required(10.0 * count, count, jnp.full((1, 4), 100.0))
    assert tier.tolist() == [[0, 0, 2, 3]]
    assert_close(
        amount, 10.0 * count * jnp.asarray([[0.01, 0.01, 0.02, 0.025]]), rtol=1e-14, atol=0.0
    )
    # The leverage asked for is more than any tier allows.
    assert_close(initial / (10.0 * count), [[0.02, 0.02, 0.03, 0.035]], rtol=1e-14, atol=0.0)


def test_leverage_says_how_large_a_position_may_be():
    tiers = MarginTiers.from_brackets(BRACKETS)
    leverage = jnp.asarray([[150.0, 125.0, 76.0, 20.0], [26.0, 25.0, 1.5, 1.0]])
    expected = [[0.0, 50e3, 600e3, 12e6], [0.0, 1e4, 1e4, np.inf]]
    assert_close(tiers.largest_position(leverage), expected, rtol=0.0, atol=0.0)
    slabs = SlabTiers.from_brackets({"B": BRACKETS["B"]})
    assert_close(slabs.largest_position(leverage[1:]), expected[1:], rtol=0.0, atol=0.0)


def test_slopes_are_the_rates_and_finite_without_a_position():
    tiers = MarginTiers.from_brackets(BRACKETS)
    notional = jnp.asarray([[0.0, 1e5, 2e6, 5e6], [0.0, 5e3, 2e4, 3e4]])
    slope = jax.grad(lambda n: jnp.sum(tiers.maintenance(n)[0]))(notional)
    expected = [[0.004, 0.005, 0.0065, 0.01], [0.02, 0.02, 0.5, 0.5]]
    assert_close(slope, expected, rtol=1e-14, atol=0.0)
    # A rate moves the bounds of its own tier's deduction; rates above do not matter.
    by_rate = jax.grad(lambda r: jnp.sum(_with_rate(tiers, r).maintenance(notional)[0]))
    step, base = 1e-6, tiers.rate
    for k in range(4):
        up, down = (
            jnp.sum(_with_rate(tiers, base.at[k, 0].add(sign * step)).maintenance(notional)[0])
            for sign in (1, -1)
        )
        assert_close(by_rate(base)[k, 0], (up - down) / (2 * step), rtol=1e-6, atol=1e-6)


def _with_rate(tiers, rate):
    return dataclasses.replace(tiers, rate=rate)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no brackets"),
        ([Bracket(1.0, 2.0, 0.1, 2.0)], "floor 1.0: expected 0.0"),
        ([Bracket(0.0, 5.0, 0.1, 2.0), Bracket(6.0, 9.0, 0.2, 2.0)], "gap or overlap"),
        ([Bracket(0.0, 5.0, 0.1, 2.0), Bracket(4.0, 9.0, 0.2, 2.0)], "gap or overlap"),
        ([Bracket(0.0, 5.0, 0.2, 2.0), Bracket(5.0, 9.0, 0.1, 2.0)], "expected more than 0.2"),
        ([Bracket(0.0, 5.0, 0.2, 2.0), Bracket(5.0, 9.0, 0.2, 2.0)], "expected more than 0.2"),
        ([Bracket(0.0, 5.0, 1.0, 1.0)], "rate 1.0: expected a fraction in"),
        ([Bracket(0.0, 5.0, 0.0, 1.0)], "rate 0.0: expected a fraction in"),
        ([Bracket(0.0, 5.0, np.nan, 1.0)], "rate nan"),
        ([Bracket(0.0, 5.0, 0.1, 0.5)], "leverage 0.5: expected 1 or more"),
        ([Bracket(0.0, 5.0, 0.1, 20.0)], "its margin is below maintenance"),
        (
            [Bracket(0.0, 5.0, 0.1, 2.0), Bracket(5.0, 9.0, 0.2, 3.0)],
            "above 2.0 of the tier before",
        ),
        ([Bracket(0.0, 0.0, 0.1, 2.0)], "cap 0.0: expected more than the floor"),
        (
            [Bracket(0.0, 5.0, 0.1, 2.0, 0.0), Bracket(5.0, 9.0, 0.2, 2.0, 0.6)],
            "deduction 0.6: rates and bounds give 0.5",
        ),
    ],
)
def test_tables_that_are_wrong_are_refused_by_name(rows, message):
    with pytest.raises(ValueError, match="no contracts"):
        MarginTiers.from_brackets({})
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        MarginTiers.from_brackets({"GOOD": BRACKETS["B"], "BAD": rows})
    assert message in str(caught.value)
    assert all(line.startswith("BAD") for line in str(caught.value).splitlines())


def test_a_slab_states_no_deduction():
    with pytest.raises(ValueError, match="which slab tiers do not have"):
        SlabTiers.from_brackets(BRACKETS)
