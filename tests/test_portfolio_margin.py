"""Portfolio margin: a published case, a scalar reference, padding, bounds, gradients."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.chain import OptionChain
from jaxrisk.venue.contingency import ConfidenceCharge, PegCharge
from jaxrisk.venue.portfolio_margin import (
    BasisCharge,
    PortfolioHoldings,
    PortfolioMarket,
    TimeDiscount,
    portfolio_margin,
    scenario_gains,
)
from jaxrisk.venue.presets.derive import portfolio_terms_1, portfolio_terms_2
from jaxrisk.venue.requirement import INITIAL, MAINTENANCE
from jaxrisk.venue.scenario_grid import SmileShock, VolatilityShock
from tests import reference_margin as reference
from tests.helpers import assert_close

TOLERANCE = {np.float32: {"rtol": 2e-4, "atol": 2e-1}, np.float64: {"rtol": 1e-10, "atol": 1e-8}}
EXPIRIES, OPTIONS = 2, 4
DAY = 1.0 / 365.0
margin = jax.jit(portfolio_margin)
gains_of = jax.jit(scenario_gains)


def chain_of(expiries, *, shape=(EXPIRIES, OPTIONS), dtype: type = np.float64):
    """Return a chain and amounts of (years, forward, rate, discount, options), padded.

    Options are (strike, is_call, amount, volatility).
    """
    strike, volatility, amount = (np.zeros(shape, dtype) for _ in range(3))
    is_call = np.zeros(shape, bool)
    per_expiry = np.zeros((4, shape[0]), dtype)
    per_expiry[1] = per_expiry[3] = 1.0
    for k, (*numbers, options) in enumerate(expiries):
        per_expiry[:, k] = numbers
        for n, (held_strike, call, size, sigma) in enumerate(options):
            strike[k, n], is_call[k, n], amount[k, n] = held_strike, call, size
            volatility[k, n] = sigma
    years, forward, rate, discount = (jnp.asarray(row) for row in per_expiry)
    chain = OptionChain(
        years=years, forward=forward, fixed=jnp.zeros_like(forward), discount=discount,
        strike=jnp.asarray(strike), volatility=jnp.asarray(volatility),
        is_call=jnp.asarray(is_call),
    )  # fmt: skip
    return chain, rate, jnp.asarray(amount)[..., None]


def market_of(chain, rate, *, spot=2000.0, currency=1.0, sure=1.0, dtype: type = np.float64):
    number = lambda x: jnp.asarray(x, dtype)
    return PortfolioMarket(
        spot=number(spot), perpetual=number(spot), currency=number(currency), chain=chain,
        rate=rate, confidence=number(sure), expiry_confidence=jnp.ones_like(rate),
        collateral_confidence=number([1.0]),
    )  # fmt: skip


def holdings_of(amount, *, cash=0.0, perpetual=0.0, collateral=0.0, dtype: type = np.float64):
    number = lambda x: jnp.asarray(x, dtype)
    return PortfolioHoldings(
        cash=number([cash]), perpetual=number([perpetual]), earned=number([0.0]), options=amount,
        collateral=number([[collateral]]), charged=number([[collateral]]),
        haircut=number([[0.08], [0.05]]), cancels=jnp.array([True]),
    )  # fmt: skip


def terms_of_the_tests():
    """Return the terms of the published case: milder shocks and tails than those deployed."""
    number = jnp.asarray
    terms = portfolio_terms_2(np.float64)
    grid = terms.grid
    tails = jnp.abs(grid.scenarios.move) > 0.2
    weight = jnp.where(tails, 0.036 / jnp.abs(grid.scenarios.move), grid.scenarios.weight)
    return dataclasses.replace(
        terms,
        grid=dataclasses.replace(
            grid,
            scenarios=dataclasses.replace(grid.scenarios, weight=weight),
            volatility=dataclasses.replace(
                grid.volatility, up=number(0.5), down=number(0.275), minimum=number(0.45)
            ),
            smile=SmileShock(
                tilt=number(0.15), tilt_slope=number(-0.05), wings=number(0.15),
                wings_slope=number(-0.05), nearest=number(0.01), width=number(4.0),
                level=number(0.6), level_slope=number(-0.1),
            ),
        ),
        discount=TimeDiscount(
            long=number(0.95), long_rate=number(1.0), long_spread=number(0.08),
            short=number(1.04), short_rate=number(0.5), short_spread=number(0.08),
        ),
        basis=BasisCharge(
            up=number(0.045), down=number(-0.045), flat=number(0.5), per_year=number(2.0)
        ),
        perpetual=number([0.02, 0.015]),
        peg=PegCharge(threshold=number(0.98), factor=number(2.0)),
        confidence=ConfidenceCharge(threshold=number(0.55), factor=number(1.0)),
    )  # fmt: skip


def test_a_published_case():
    """A short call on one bitcoin. derivexyz/v2-core, test/risk-managers/unit-tests/PMRM_2/
    portfolio_cases/test_12_risk_cancelling_naked_short_call.json."""
    seconds = 794_852.0
    years, rate = seconds / 86_400.0 / 365.0, 0.15000000000000002
    option = (100_000.0, True, -1.0, 0.453803924321583)
    expiry = (years, 95_776.67392708939, rate, 0.9962264490688729, [option])
    terms = terms_of_the_tests()
    chain, rates, amount = chain_of([expiry])
    market = market_of(chain, rates, spot=95_663.50604855, currency=1.00019088635)
    held = holdings_of(amount)
    state = margin(terms, market, held)
    assert_close(state.value[0], -1186.4185694587657, rtol=1e-9, atol=0.0)
    assert_close(state.surplus[INITIAL, 0], -14_604.048120144837, rtol=1e-9, atol=0.0)
    assert_close(state.surplus[MAINTENANCE, 0], -11_824.858703959073, rtol=1e-9, atol=0.0)
    assert int(state.binding[0, 0]) == 0
    gains, basis, _ = gains_of(terms, market, held)
    assert_close(gains[0, 0], -12_939.312020443322, rtol=1e-9, atol=0.0)
    # Two tails, and both moves of the smile.
    assert_close(gains[23:26, 0], [64.71374015229629606, 129.384515024796002081,
                                   -3058.966961715574143454], rtol=1e-8, atol=0.0)  # fmt: skip
    assert_close(gains[31:, 0], [-43.43395259503018] * 2, rtol=1e-8, atol=0.0)
    assert_close(basis[0], -947.2098049301085, rtol=1e-9, atol=0.0)
    up, down = terms.grid.volatility.factors(chain.years)
    assert_close(up[0], 1.712811375927374, rtol=1e-12, atol=0.0)
    assert_close(down[0], 0.6079537432399443, rtol=1e-12, atol=0.0)


# The parameters of `portfolio_terms_2` as the reference names them.
SECOND = {
    "up": 0.5, "down": 0.3, "short_power": 0.3, "long_power": 0.13, "minimum": 0.4, "cap": 0.25,
    "cap_slope": -0.1, "width": 4.0, "level": 0.6, "long": 1.05, "short": 0.95, "spread": 0.16,
    "basis": 0.045, "flat": 0.5, "per_year": 2.0,
}  # fmt: skip
STRIKES = st.sampled_from([1000.0, 1700.0, 2000.0, 2300.0, 4000.0])
OPTION = st.tuples(STRIKES, st.booleans(), st.floats(-4.0, 4.0), st.floats(0.25, 1.6))
LEGS = st.lists(OPTION, max_size=OPTIONS, unique_by=lambda o: o[:2])
EXPIRY = st.tuples(st.sampled_from([0.25, 3.0, 30.0, 90.0, 365.0]), st.floats(0.98, 1.03),
                   st.floats(0.0, 0.2), LEGS)  # fmt: skip
BOOK = st.lists(EXPIRY, max_size=EXPIRIES)


def expiries_of(book):
    return [
        (days * DAY, 2000.0 * ahead, rate, float(np.exp(-rate * days * DAY)), legs)
        for days, ahead, rate, legs in book
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(
    book=BOOK,
    perpetual=st.floats(-3.0, 3.0),
    collateral=st.floats(0.0, 4000.0),
    currency=st.sampled_from([0.95, 1.0]),
    sure=st.sampled_from([0.4, 1.0]),
)
def test_surplus_and_gains_are_those_of_the_reference(
    dtype, book, perpetual, collateral, currency, sure
):
    terms, expiries = portfolio_terms_2(dtype), expiries_of(book)
    chain, rates, amount = chain_of(expiries, dtype=dtype)
    market = market_of(chain, rates, currency=currency, sure=sure, dtype=dtype)
    held = holdings_of(amount, perpetual=perpetual, collateral=collateral, dtype=dtype)
    rows = list(zip(*(np.asarray(x, float) for x in jax.tree.leaves(terms.grid.scenarios)),
                    strict=True))  # fmt: skip
    expected, basis, value = reference.portfolio(
        expiries, perpetual * 2000.0 + collateral, rows, SECOND
    )
    gains, charge, worth = gains_of(terms, market, held)
    assert gains.dtype == dtype
    assert_close(gains[:, 0], expected, **TOLERANCE[dtype])
    assert_close(charge[0], basis, **TOLERANCE[dtype])
    assert_close(worth[0], value, **TOLERANCE[dtype])
    naked = sum(reference.naked([o[:3] for o in e[-1]]) for e in expiries)
    units = sum(abs(o[2]) for e in expiries for o in e[-1])
    worst, unsure = min([basis, *expected]), (1.0 - sure) if sure < 0.55 else 0.0
    total = value + collateral
    initial = 1.0 + 4.0 * max(0.99 - currency, 0.0)
    surplus = [
        total + factor * worst - 2000.0 * (p * abs(perpetual) + n * naked) - h * collateral
        for factor, p, n, h in ((initial, 0.04, 0.005, 0.08), (0.8, 0.03, 0.003, 0.05))
    ]
    surplus[0] -= unsure * 2000.0 * (abs(perpetual) + units)
    state = margin(terms, market, held)
    assert_close(state.surplus[:, 0], surplus, **TOLERANCE[dtype])
    outcomes = [*expected, basis]
    chosen = outcomes[int(state.binding[0, 0])]
    assert_close(chosen, worst, **TOLERANCE[dtype])


@given(book=BOOK)
def test_neither_padding_nor_company_changes_an_account(book):
    terms, expiries = portfolio_terms_1(np.float64), expiries_of(book)
    chain, rates, amount = chain_of(expiries)
    narrow = margin(terms, market_of(chain, rates), holdings_of(amount, perpetual=1.0))
    chain, rates, amount = chain_of(expiries, shape=(EXPIRIES + 1, OPTIONS + 2))
    wide = margin(terms, market_of(chain, rates), holdings_of(amount, perpetual=1.0))
    assert_close(wide.surplus, narrow.surplus, rtol=1e-12, atol=1e-9)
    both = PortfolioHoldings(
        cash=jnp.zeros(2), perpetual=jnp.array([-2.0, 1.0]), earned=jnp.zeros(2),
        options=jnp.concatenate([-2.0 * amount, amount], axis=2),
        collateral=jnp.zeros((1, 2)), charged=jnp.zeros((1, 2)),
        haircut=jnp.zeros((2, 1)), cancels=jnp.array([True]),
    )  # fmt: skip
    state = margin(terms, market_of(chain, rates), both)
    assert_close(state.surplus[:, 1], wide.surplus[:, 0], rtol=1e-12, atol=1e-9)


@given(book=BOOK, scale=st.floats(0.1, 10.0))
def test_a_portfolio_times_a_number_has_the_margin_times_that_number(book, scale):
    terms = portfolio_terms_2(np.float64)
    chain, rates, amount = chain_of(expiries_of(book))
    here = market_of(chain, rates)
    once = margin(terms, here, holdings_of(amount, cash=100.0, perpetual=-1.0))
    more = margin(terms, here, holdings_of(scale * amount, cash=scale * 100.0, perpetual=-scale))
    assert_close(more.surplus, scale * once.surplus, rtol=1e-11, atol=1e-8)
    # The requirement is never negative.
    assert (once.surplus[:, 0] <= once.value[0] + 1e-9).all()


def test_a_second_portfolio_never_offsets_more_than_it_loses():
    """Without charges, losses are subadditive: the worst of a sum is no worse than the sum."""
    rng = np.random.default_rng(1)
    terms = portfolio_terms_2(np.float64)
    legs = [(s, bool(c), 0.0, 0.8) for s in (1700.0, 2300.0) for c in (0, 1)]
    chain, rates, _ = chain_of([(30 * DAY, 2000.0, 0.0, 1.0, legs)] * 2)
    amount = jnp.asarray(rng.normal(size=(EXPIRIES, OPTIONS, 2)))
    number = lambda x: jnp.full(2, x)
    held = PortfolioHoldings(
        cash=number(0.0), perpetual=jnp.asarray(rng.normal(size=2)), earned=number(0.0),
        options=amount, collateral=jnp.zeros((1, 2)), charged=jnp.zeros((1, 2)),
        haircut=jnp.zeros((2, 1)), cancels=jnp.array([True]),
    )  # fmt: skip
    joint = jax.tree.map(
        lambda x: x.sum(-1, keepdims=True) if x.shape[-1:] == (2,) and x.dtype != bool else x, held
    )
    # Prices alone: what an expiry counts depends on its sign, which sums need not keep.
    flat = dataclasses.replace(
        terms.discount, long=jnp.asarray(1.0), long_spread=jnp.asarray(0.0),
        short=jnp.asarray(1.0), short_spread=jnp.asarray(0.0),
    )  # fmt: skip
    terms = dataclasses.replace(terms, discount=flat)
    apart, _, _ = gains_of(terms, market_of(chain, rates), held)
    together, _, _ = gains_of(terms, market_of(chain, rates), joint)
    assert float(together.min()) >= float(apart.min(0).sum()) - 1e-9


@pytest.mark.parametrize(
    "build", [pytest.param(portfolio_terms_1, marks=pytest.mark.slow), portfolio_terms_2]
)
def test_gradients_are_those_of_central_differences(build):
    """In the spot, every volatility and every amount held, to 1e-4 of the largest."""
    terms = build(np.float64)
    legs = [(1700.0, False, -2.0, 0.7), (2000.0, True, -3.0, 0.6), (2300.0, True, 1.0, 0.65)]
    later = [(1500.0, False, 1.0, 0.8), (2500.0, True, -1.0, 0.75)]
    expiries = [(20 * DAY, 2010.0, 0.05, 0.9973, legs), (120 * DAY, 2040.0, 0.05, 0.9837, later)]
    chain, rates, amount = chain_of(expiries)

    @jax.jit
    def surplus(spot_factor, volatility, amount):
        moved = dataclasses.replace(
            chain, forward=chain.forward * spot_factor, volatility=volatility
        )
        here = market_of(moved, rates)
        here = dataclasses.replace(
            here, spot=here.spot * spot_factor, perpetual=here.perpetual * spot_factor
        )
        return margin(terms, here, holdings_of(amount, perpetual=0.5)).surplus.sum()

    at = (jnp.asarray(1.0), chain.volatility, amount)
    slopes = jax.jit(jax.grad(surplus, argnums=(0, 1, 2)))(*at)
    step, held = 1e-6, np.flatnonzero(amount)
    for n, places in enumerate(([0], held, held)):
        flat, shape = at[n].reshape(-1), at[n].shape
        bumps = []
        for i in places:
            moved = [
                surplus(*(x if m != n else flat.at[i].add(sign * step).reshape(shape)
                          for m, x in enumerate(at)))
                for sign in (1.0, -1.0)
            ]  # fmt: skip
            bumps.append(float((moved[0] - moved[1]) / (2 * step)))
        scale = max(abs(b) for b in bumps)
        assert scale > 1.0
        assert np.isfinite(slopes[n]).all()
        actual = np.asarray(slopes[n]).reshape(-1)[places]
        assert_close(actual, np.array(bumps), rtol=0.0, atol=1e-4 * scale)


def test_volatilities_move_further_near_expiry_and_no_further_than_the_floor():
    shock = portfolio_terms_2(np.float64).grid.volatility
    years = jnp.array([0.0, 0.5 * DAY, DAY, 7 * DAY, 30 * DAY, 365 * DAY])
    up, down = shock.factors(years)
    assert_close(up[:2], [up[2], up[2]], rtol=1e-14, atol=0.0)
    assert_close(up[4], 1.5, rtol=1e-14, atol=0.0)
    assert bool(jnp.all(jnp.diff(up) <= 0))
    assert bool(jnp.all(jnp.diff(down) >= 0))
    steep = VolatilityShock(
        up=shock.up, down=jnp.asarray(3.0), short_power=shock.short_power,
        long_power=shock.long_power, pivot=shock.pivot, floor=shock.floor, minimum=shock.minimum,
    )  # fmt: skip
    assert float(steep.factors(years)[1].min()) == 0.0
