"""Bands of a crowd against the exact rules account by account, and trades that leave no profit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.band_amm import exchange
from jaxrisk.venue.band_conversion import BandConversion, BandState
from jaxrisk.venue.band_grid import Bands
from jaxrisk.venue.band_health import band_health, converted_down, headroom
from jaxrisk.venue.band_loan import LoanRefusal, first_band
from jaxrisk.venue.band_oracle import SeenPrice
from jaxrisk.venue.band_shares import Shares, deposit, holdings, withdraw
from tests import band_venues
from tests.band_systems import pool_of, whole
from tests.helpers import assert_close

SEEDS = st.integers(0, 2**32 - 1)
NOTHING = jnp.array(0.0)
trade = jax.jit(exchange)
wanted_trade = jax.jit(BandConversion.wanted_trade)
per_unit = jax.jit(BandConversion.per_unit)


def market(seed):
    """Return the venue, its rules and its opening bands."""
    venue = band_venues.band_venue(seed, dtype=np.float64)
    rules = venue.execution
    assert isinstance(rules, BandConversion)
    return venue, rules, rules.opening(venue.accounts)


def exact_shares(rules, state, accounts):
    """Return the shares of every account, band by band, as the exact rules know them."""
    first = rules.first_position(accounts) + rules.grid.first
    number = rules.grid.numbers()[:, None]
    inside = (number >= first[None, :]) & (number < first[None, :] + rules.bands)
    return Shares(
        count=jnp.where(inside, accounts.collateral / rules.bands, 0.0),
        first=first,
        last=first + rules.bands - 1,
    )


def seen(price, fee=0.0):
    return SeenPrice(price=jnp.asarray(price), fee=jnp.asarray(fee))


def after_fall(rules, state, price):
    """Return the state once outsiders have traded the bands to a lower price."""
    amount, buys = wanted_trade(
        rules, rules.grid, state.bands, seen(price), jnp.asarray(price), NOTHING
    )
    done = trade(rules.grid, state.bands, seen(price), rules.fee, amount, buys)
    return dataclasses.replace(state, bands=done.bands)


@pytest.mark.slow
@given(SEEDS)
def test_the_opening_is_that_of_deposits_one_by_one(seed):
    venue, rules, state = market(seed)
    accounts, grid = venue.accounts, rules.grid
    none, start = jnp.zeros(grid.count), whole(grid.first)
    bands = Bands(borrowed=none, collateral=none, active=start, lowest=start, highest=start)
    zero = jnp.zeros(accounts.count, jnp.int32)
    shares = Shares(count=jnp.zeros((grid.count, accounts.count)), first=zero, last=zero)
    first, refusal = first_band(
        grid, dataclasses.replace(bands, active=whole(0)), accounts.collateral[0],
        accounts.debt[0], zero + rules.bands, rules.loan_discount, jnp.asarray(3600.0),
    )  # fmt: skip
    assert (refusal == LoanRefusal.NONE).all()
    for i in range(accounts.count):
        bands, shares, code = deposit(
            grid, bands, shares, whole(i), accounts.collateral[0, i], first[i],
            first[i] + rules.bands - 1,
        )  # fmt: skip
        assert int(code) == 0
    assert_close(state.bands.collateral, bands.collateral, rtol=1e-12, atol=0.0)
    units = jnp.zeros(grid.count).at[first - grid.first].add(accounts.collateral[0])
    assert_close(state.units, units, rtol=1e-12, atol=0.0)
    assert int(state.bands.active) == int(bands.active)


@given(seed=SEEDS, fall=st.floats(0.0, 0.6), weight=st.floats(0.5, 1.0))
def test_what_a_unit_stands_for_is_that_of_the_exact_rules(seed, fall, weight):
    venue, rules, state = market(seed)
    price = jnp.asarray(3600.0 * np.exp(-fall))
    state = after_fall(rules, state, float(price))
    shares = exact_shares(rules, state, venue.accounts)
    unit = per_unit(rules, rules.grid, state, price, jnp.asarray(weight))
    at = rules.first_position(venue.accounts)
    units, debt = venue.accounts.collateral[0], venue.accounts.debt[0]
    held = holdings(state.bands, shares)
    assert_close(units * unit.borrowed[at], held.borrowed, rtol=1e-11, atol=1e-9)
    assert_close(units * unit.collateral[at], held.collateral, rtol=1e-11, atol=1e-9)
    down = converted_down(rules.grid, state.bands, shares, price)
    health = band_health(down, debt, jnp.asarray(1.0 - weight))
    full = health + headroom(rules.grid, state.bands, shares, held, debt, price)
    assert_close(units * unit.backing[at] / debt - 1.0, full, rtol=1e-9, atol=1e-11)


@given(seed=SEEDS, fall=st.floats(0.0, 0.4))
def test_what_leaves_the_bands_is_that_of_the_exact_rules(seed, fall):
    venue, rules, state = market(seed)
    state = after_fall(rules, state, 3600.0 * np.exp(-fall))
    shares = exact_shares(rules, state, venue.accounts)
    portion = jnp.asarray(np.random.default_rng(seed).choice([0.0, 0.3, 1.0], band_venues.LOANS))
    left = venue.accounts.collateral[0] * (1.0 - portion)
    after = rules.withdrawn(state, rules.by_first_band(rules.first_position(venue.accounts), left))
    exact, _, _ = withdraw(rules.grid, state.bands, shares, portion)
    assert_close(after.borrowed, exact.borrowed, rtol=1e-10, atol=1e-9)
    assert_close(after.collateral, exact.collateral, rtol=1e-10, atol=1e-9)


def profit(rules, state, view, price, amount, buys):
    done = trade(rules.grid, state.bands, view, rules.fee, jnp.asarray(amount), jnp.asarray(buys))
    if buys:
        return float(done.received * price - done.spent)
    return float(done.received - done.spent * price)


@given(
    seed=SEEDS,
    fall=st.floats(0.02, 0.4),
    rise=st.floats(-0.1, 0.3),
    gap=st.floats(-0.01, 0.01),
    fee=st.floats(0.0, 0.02),
)
def test_no_other_trade_of_outsiders_earns_more(seed, fall, rise, gap, fee):
    _, rules, state = market(seed)
    state = after_fall(rules, state, 3600.0 * np.exp(-fall))
    price = float(3600.0 * np.exp(rise - fall))
    view = seen(price * np.exp(gap), fee)
    amount, buys = wanted_trade(rules, rules.grid, state.bands, view, jnp.asarray(price), NOTHING)
    best = profit(rules, state, view, price, amount, bool(buys))
    assert best >= 0.0
    size = float(amount) * (1.0 if buys else price)
    for factor in (0.0, 0.5, 0.9, 0.99, 1.01, 1.1, 2.0):
        # Where the price lands on the edge of two bands, their fees differ a little.
        other = profit(rules, state, view, price, factor * float(amount), bool(buys))
        assert other <= best + 1e-4 * size + 1e-6


@given(seed=SEEDS, fall=st.floats(0.02, 0.4), back=st.floats(-0.2, 0.2))
def test_trades_are_those_of_the_scalar_reference(seed, fall, back):
    _, rules, state = market(seed)
    state = after_fall(rules, state, 3600.0 * np.exp(-fall))
    price = 3600.0 * np.exp(-fall + back)
    amount, buys = wanted_trade(
        rules, rules.grid, state.bands, seen(price), jnp.asarray(price), NOTHING
    )
    pool = pool_of(rules.grid, state.bands)
    spent, received = pool.exchange(price, 0.006, 0.0, float(amount), bool(buys))
    done = trade(rules.grid, state.bands, seen(price), rules.fee, amount, buys)
    assert_close(done.spent, spent, rtol=1e-9, atol=1e-9)
    assert_close(done.received, received, rtol=1e-9, atol=1e-9)
    numbers = np.asarray(rules.grid.numbers()).tolist()
    for now, expected in (
        (done.bands.borrowed, pool.borrowed),
        (done.bands.collateral, pool.collateral),
    ):
        assert_close(now, [expected[n] for n in numbers], rtol=1e-7, atol=1e-6)


def test_bands_follow_debts():
    _, rules, _ = market(1)
    grown = rules.grown(jnp.asarray(1.07))
    assert_close(grown.base_price, 1.07 * rules.grid.base_price, rtol=1e-15, atol=0.0)
    assert grown.count == rules.grid.count


def test_loans_beyond_the_axis_stand_at_its_end():
    venue, rules, _ = market(1)
    tiny = dataclasses.replace(venue.accounts, debt=1e-6 * venue.accounts.debt)
    assert (rules.first_position(tiny) == rules.grid.count - rules.bands).all()
    opened = rules.opening(tiny)
    total = jnp.sum(venue.accounts.collateral)
    assert_close(jnp.sum(opened.bands.collateral), total, rtol=1e-12, atol=0.0)


def test_nothing_is_traded_for_less_than_the_smallest_move():
    venue, rules, state = market(1)
    first = int(jnp.min(rules.first_position(venue.accounts)))
    begin = 0.975 * float(rules.grid.upper_price(rules.grid.numbers()[first]))
    state = after_fall(rules, state, begin)
    for factor, trades in ((1.0, False), (1.0 - 2e-5, False), (1.0 - 1e-3, True)):
        price = begin * factor
        amount, _ = wanted_trade(
            rules, rules.grid, state.bands, seen(price), jnp.asarray(price), NOTHING
        )
        assert (float(amount) > 0) == trades


@pytest.mark.slow
@pytest.mark.parametrize("price", [3300.0, 3600.0, 1000.0])
def test_derivatives_are_finite(price):
    _, rules, state = market(2)

    def value(units, price):
        moved = BandState(
            bands=dataclasses.replace(state.bands, collateral=units),
            units=state.units,
            oracle=state.oracle,
        )
        view = SeenPrice(price=price, fee=jnp.zeros_like(price))
        amount, buys = rules.wanted_trade(rules.grid, moved.bands, view, price, NOTHING)
        done = exchange(rules.grid, moved.bands, view, rules.fee, amount, buys)
        unit = rules.per_unit(rules.grid, moved, price, jnp.asarray(0.94))
        return done.received + jnp.sum(unit.backing)

    grads = jax.grad(value, argnums=(0, 1))(state.bands.collateral, jnp.asarray(price))
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
