"""Margin contract by contract: published cases, a scalar reference, bounds, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.chain import OptionChain
from jaxrisk.venue.contingency import ConfidenceCharge, PegCharge, naked_shorts
from jaxrisk.venue.expiry_payoff import PayoffMargin, worst_payoff
from jaxrisk.venue.presets.derive import standard_terms
from jaxrisk.venue.requirement import INITIAL, MAINTENANCE
from jaxrisk.venue.short_option import ShortOptionMargin
from jaxrisk.venue.standard_margin import (
    ISOLATED,
    PAYOFF,
    StandardHoldings,
    StandardMarket,
    StandardTerms,
    standard_margin,
)
from tests import reference_margin as reference
from tests.helpers import assert_close

TOLERANCE = {np.float32: {"rtol": 1e-4, "atol": 1e-2}, np.float64: {"rtol": 1e-11, "atol": 1e-9}}
SECONDS_PER_YEAR = 365.0 * 86_400.0
SIZE = 4
margin = jax.jit(standard_margin)
loss_at_worst = jax.jit(worst_payoff)


def market(options, *, spot=1500.0, forward=1500.833279310994, seconds=500_400.0, sure=1.0,
           currency=1.0, fixed=0.0, dtype: type = np.float64):  # fmt: skip
    """Return the market of one expiry of `SIZE` options, (strike, is_call, amount, volatility)."""
    number = lambda x: jnp.asarray(x, dtype)
    rows = [*options, *[(0.0, False, 0.0, 0.0)] * (SIZE - len(options))]
    chain = OptionChain(
        years=number([seconds / SECONDS_PER_YEAR]),
        forward=number([forward]),
        fixed=number([fixed]),
        discount=number([1.0]),
        strike=number([[r[0] for r in rows]]),
        volatility=number([[r[3] for r in rows]]),
        is_call=jnp.asarray([[r[1] for r in rows]]),
    )
    return StandardMarket(
        spot=number(spot),
        perpetual=number(spot),
        currency=number(currency),
        chain=chain,
        spot_confidence=number(sure),
        perpetual_confidence=number(1.0),
        expiry_confidence=number([1.0]),
    )


def holdings(options, *, perpetual=0.0, earned=0.0, collateral=0.0, dtype: type = np.float64):
    number = lambda x: jnp.asarray(x, dtype)
    amounts = [*(o[2] for o in options), *[0.0] * (SIZE - len(options))]
    return StandardHoldings(
        perpetual=number([perpetual]),
        earned=number([earned]),
        collateral=number([collateral]),
        options=number(amounts)[None, :, None],
    )


def terms_of_the_tests():
    """Return the terms of the contract's own test cases: 15 %, 10 % and 7.5 % of spot."""
    number = jnp.asarray
    off = ConfidenceCharge(threshold=number(0.0), factor=number(0.0))
    return StandardTerms(
        option=ShortOptionMargin(
            highest=number(0.15), lowest=number(0.1), call=number(0.075), put=number(0.075),
            put_of_mark=number(0.075), put_cover=number(1.0),
        ),
        payoff=PayoffMargin(unpaired=number([1.2, 1.1])),
        perpetual=number([0.1, 0.065]),
        collateral=number([0.75, 0.8]),
        perpetual_confidence=off,
        option_confidence=off,
        collateral_confidence=off,
        peg=PegCharge(threshold=number(0.0), factor=number(0.0)),
    )  # fmt: skip


# A quarter of the settlement average is still open, fifteen minutes before: the rest is fixed.
CLOSE = {"seconds": 900.0, "forward": 0.25 * 1500.0014982884198, "fixed": 0.75 * 1433.5577777777777}
PUBLISHED = {
    "short call at the money": (
        [(1500.0, True, -1.0, 1.0478844940849862)],
        {}, -79.37158518905994, -191.87158518905995, -304.37158518905995, ISOLATED,
    ),
    "short call out of the money": (
        [(1900.0, True, -1.0, 1.1799938322791132)],
        {}, -6.008261835426665, -118.50826183542666, -156.00826183542666, ISOLATED,
    ),
    "quarter of an hour before expiry": (
        [(1500.0, True, -1.0, 1.0481245668157331)],
        CLOSE,
        -1.042212373e-9, -112.50000000104221, -225.00000000104221, ISOLATED,
    ),
    "call spread and a call not covered, before expiry": (
        [(1200.0, True, 1.0, 1.1385520609538669), (1000.0, True, -1.0, 1.2616528861736467),
         (2500.0, True, -0.1, 1.3268194743411348)],
        CLOSE,
        -200.0, -359.51855786959824, -374.0202449486526, PAYOFF,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PUBLISHED)
def test_published_cases(case):
    """derivexyz/v2-core, test/risk-managers/unit-tests/StandardManager/test-cases.json, cases 1, 3,
    24 and 25."""
    options, given_market, value, maintenance, initial, block = PUBLISHED[case]
    state = margin(terms_of_the_tests(), market(options, **given_market), holdings(options))
    assert_close(state.value[0], value, rtol=1e-9, atol=1e-11)
    assert_close(state.surplus[MAINTENANCE, 0], maintenance, rtol=1e-9, atol=0.0)
    assert_close(state.surplus[INITIAL, 0], initial, rtol=1e-9, atol=0.0)
    assert state.binding[:, 0].tolist() == [block, block]


def test_a_call_spread_asks_for_the_distance_of_its_strikes():
    """As above, short the 1,100 and long the 1,300 call: 200, whatever the volatility."""
    options = [(1100.0, True, -1.0, 1.2), (1300.0, True, 1.0, 1.1)]
    state = margin(terms_of_the_tests(), market(options), holdings(options))
    assert_close(state.surplus[:, 0], [-200.0, -200.0], rtol=1e-12, atol=0.0)


STRIKES = st.sampled_from([800.0, 1200.0, 1500.0, 1800.0, 2600.0])
OPTION = st.tuples(STRIKES, st.booleans(), st.floats(-3.0, 3.0), st.floats(0.2, 1.5))
OPTIONS = st.lists(OPTION, min_size=1, max_size=SIZE, unique_by=lambda o: o[:2])


def reference_margin(options, perpetual, collateral, sure, currency):
    """Return the initial and maintenance surplus under the mainnet terms of ETH."""
    spot, forward, years = 1500.0, 1500.833279310994, 500_400.0 / SECONDS_PER_YEAR
    alone, short = [0.0, 0.0], 0.0
    for strike, is_call, amount, volatility in options:
        mark = reference.black(forward, strike, years, volatility, 1.0, is_call)
        asked = reference.short_option(
            spot, strike, is_call, mark, highest=0.15, lowest=0.13, share=0.09, cover=1.05
        )
        short += max(-amount, 0.0)
        alone = [a + max(-amount, 0.0) * x for a, x in zip(alone, asked, strict=True)]
    calls = sum(amount for _, is_call, amount, _ in options if is_call)
    loss = reference.worst_payoff([o[:3] for o in options])
    bounded = [loss + u * forward * max(-calls, 0.0) for u in (1.2, 1.1)]
    unsure = (1.0 - sure) if sure < 0.55 else 0.0
    charge = (unsure + 2.0 * max(0.99 - currency, 0.0)) * (abs(perpetual) + short) * spot
    surplus = [
        w * collateral * spot - min(a, b) - rate * abs(perpetual) * spot
        for w, a, b, rate in zip((0.75, 0.8), alone, bounded, (0.1, 0.065), strict=True)
    ]
    surplus[0] -= charge + unsure * collateral * spot
    return surplus


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(
    options=OPTIONS,
    perpetual=st.floats(-5.0, 5.0),
    collateral=st.floats(0.0, 5.0),
    sure=st.sampled_from([0.3, 0.5, 0.6, 1.0]),
    currency=st.sampled_from([0.9, 0.98, 1.0]),
)
def test_surplus_is_that_of_the_reference(dtype, options, perpetual, collateral, sure, currency):
    state = margin(
        standard_terms("ETH", dtype),
        market(options, sure=sure, currency=currency, dtype=dtype),
        holdings(options, perpetual=perpetual, collateral=collateral, dtype=dtype),
    )
    expected = reference_margin(options, perpetual, collateral, sure, currency)
    assert state.surplus.dtype == dtype
    assert_close(state.surplus[:, 0], expected, **TOLERANCE[dtype])
    # What opens a position is never less than what keeps it.
    assert state.surplus[INITIAL, 0] <= state.surplus[MAINTENANCE, 0] * (1 + 1e-5) + 1e-2


@given(options=OPTIONS)
def test_the_worst_payoff_bounds_every_settlement(options):
    """No price up to the last strike loses more, and the price named loses exactly that."""
    rows = [*options, *[(0.0, False, 0.0, 0.0)] * (SIZE - len(options))]
    strike, is_call, amount, _ = (jnp.asarray(column) for column in zip(*rows, strict=True))
    worst = loss_at_worst(strike, is_call, amount[:, None])
    at = lambda s: sum(q * max(s - k if c else k - s, 0.0) for k, c, q, _ in options)
    prices = np.linspace(0.0, float(strike.max()), 53)
    assert min(at(s) for s in prices) >= -float(worst.loss[0]) - 1e-9
    assert_close(-min(at(float(worst.price[0])), 0.0), worst.loss[0], rtol=1e-12, atol=1e-9)
    net = sum(o[2] for o in options if o[1])
    assert_close(worst.net_calls[0], net, rtol=0.0, atol=1e-12)


@given(options=OPTIONS)
def test_naked_shorts_are_those_of_the_reference(options):
    rows = [*options, *[(0.0, False, 0.0, 0.0)] * (SIZE - len(options))]
    actual = jax.jit(naked_shorts)(
        jnp.asarray([r[0] for r in rows]), jnp.asarray([r[2] for r in rows])[:, None]
    )
    assert_close(actual[0], reference.naked([o[:3] for o in options]), rtol=1e-13, atol=1e-13)


def test_confidence_is_charged_below_its_threshold_only():
    rule = ConfidenceCharge(threshold=jnp.asarray(0.55), factor=jnp.asarray(2.0))
    actual = rule.rate(jnp.asarray([0.0, 0.5, 0.55, 0.9]))
    assert_close(actual, [2.0, 1.0, 0.0, 0.0], rtol=1e-15, atol=0.0)


def test_accounts_do_not_see_each_other():
    """Several accounts in another order: the same numbers."""
    rng = np.random.default_rng(3)
    options = [(1200.0, True, 0.0, 0.9), (1500.0, False, 0.0, 0.7), (1800.0, True, 0.0, 0.8)]
    amounts = np.zeros((1, SIZE, 5))
    amounts[0, :3] = rng.normal(size=(3, 5))
    terms, here = standard_terms("ETH", np.float64), market(options)
    hold = lambda pick: StandardHoldings(
        perpetual=jnp.arange(5.0)[pick], earned=jnp.ones(5)[pick], collateral=jnp.ones(5)[pick],
        options=jnp.asarray(amounts)[:, :, pick],
    )  # fmt: skip
    every = margin(terms, here, hold(np.arange(5)))
    order = np.array([3, 1, 4, 0, 2])
    shuffled = margin(terms, here, hold(order))
    assert_close(shuffled.surplus, every.surplus[:, order], rtol=1e-14, atol=1e-12)


def test_gradients_are_those_of_central_differences():
    options = [(1200.0, True, -2.0, 0.9), (1600.0, False, -1.0, 0.7), (2100.0, True, 1.0, 0.8)]
    terms, held = standard_terms("ETH", np.float64), holdings(options, collateral=1.0)

    def surplus(x):
        here = market(options)
        chain = here.chain
        moved = OptionChain(
            years=chain.years, forward=chain.forward * x[0], fixed=chain.fixed,
            discount=chain.discount, strike=chain.strike, volatility=chain.volatility * x[1],
            is_call=chain.is_call,
        )  # fmt: skip
        there = StandardMarket(
            spot=here.spot * x[0], perpetual=here.perpetual, currency=here.currency, chain=moved,
            spot_confidence=here.spot_confidence, perpetual_confidence=here.perpetual_confidence,
            expiry_confidence=here.expiry_confidence,
        )  # fmt: skip
        return margin(terms, there, held).surplus[MAINTENANCE, 0]

    at, step = jnp.ones(2), 1e-5
    surplus = jax.jit(surplus)
    bumps = [
        (surplus(at.at[i].add(step)) - surplus(at.at[i].add(-step))) / (2 * step) for i in range(2)
    ]
    assert_close(jax.grad(surplus)(at), jnp.stack(bumps), rtol=1e-6, atol=0.0)
