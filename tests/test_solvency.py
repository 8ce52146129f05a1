"""Debt-to-equity and its deltas, against closed forms, bumps and the NumPy reference."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.measure.solvency import (
    account_balance_sheets,
    account_debt_to_equity_delta,
    balance_sheet,
    debt_to_equity,
    debt_to_equity_delta,
    debt_to_equity_delta_by_side,
    debt_to_equity_gamma,
    solvency_report,
)
from tests import books, reference
from tests.helpers import assert_close
from tests.systems import random_system

PRICE = jnp.array(books.PRICE)

jitted_ratio = jax.jit(debt_to_equity)
jitted_delta = jax.jit(debt_to_equity_delta)
jitted_account_delta = jax.jit(account_debt_to_equity_delta)


def values_by_asset(venue, price):
    """Values held and owed as `(asset, account)`, by loops over rows."""
    price = np.asarray(price)
    held = np.zeros((len(price), venue.accounts.count))
    owed = np.zeros_like(held)
    for row, asset in enumerate(venue.accounts.collateral_assets):
        held[asset] += np.asarray(venue.accounts.collateral)[row] * price[asset]
    for row, asset in enumerate(venue.accounts.debt_assets):
        owed[asset] += np.asarray(venue.accounts.debt)[row] * price[asset]
    return held, owed


@pytest.mark.parametrize("leverage", [1.5, 3.0, 8.0, 14.0])
def test_delta_of_a_loop_is_minus_l_times_l_minus_one(leverage):
    venue = books.loops([leverage], threshold=0.95)
    assert_close(debt_to_equity(venue, PRICE), leverage - 1.0, rtol=1e-12, atol=0.0)
    delta = debt_to_equity_delta(venue, PRICE)
    assert_close(delta[0], -leverage * (leverage - 1.0), rtol=1e-11, atol=0.0)
    of_account = account_debt_to_equity_delta(venue, PRICE)
    assert_close(of_account[:, 0], delta, rtol=1e-12, atol=0.0)


def test_delta_of_an_asset_that_is_only_owed_is_assets_times_debt_over_equity_squared():
    short = books.pair_venue([10.0], [4.0], pair=(1, 0))
    assets_through, debts_through = debt_to_equity_delta_by_side(short, PRICE)
    assert_close(assets_through, [0.0, -4.0 * 10.0 / 36.0], rtol=1e-12, atol=0.0)
    assert_close(debts_through, [10.0 * 4.0 / 36.0, 0.0], rtol=1e-12, atol=0.0)
    assert_close(debt_to_equity_delta(short, PRICE), [40 / 36, -40 / 36], rtol=1e-12, atol=0.0)


@given(seed=st.integers(0, 10**6))
def test_ratio_and_deltas_of_a_system_agree_with_the_reference(seed):
    system = random_system(seed)
    sides = [values_by_asset(venue, system.market.mid) for venue in system.venues]
    held, owed = (np.sum([side[i].sum(axis=1) for side in sides], axis=0).tolist() for i in (0, 1))
    expected = reference.debt_to_equity(held, owed)
    assert_close(jitted_ratio(system), expected, rtol=1e-10, atol=0.0)
    deltas = [reference.debt_to_equity_delta(held, owed, a) for a in range(3)]
    assert_close(jitted_delta(system), deltas, rtol=1e-9, atol=1e-9)
    # A change of the numeraire moves all prices alike and leaves the ratio as it is.
    assert abs(float(jitted_delta(system).sum())) < 1e-9 * abs(max(deltas, key=abs))


def test_delta_agrees_with_a_bump_of_the_log_price():
    system, bump = random_system(3), 1e-5
    delta = np.asarray(jitted_delta(system))
    for asset in range(3):
        up, down = (
            system.market.mid * np.exp(sign * bump * (np.arange(3) == asset))
            for sign in (1.0, -1.0)
        )
        bumped = (jitted_ratio(system, up) - jitted_ratio(system, down)) / (2.0 * bump)
        assert_close(delta[asset], bumped, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("leverage", [1.5, 3.0, 8.0])
def test_gamma_of_a_loop_is_the_slope_of_its_delta(leverage):
    """With A = L and D = L - 1 per unit of equity: D A (A + D) = L (L - 1) (2 L - 1)."""
    gamma = debt_to_equity_gamma(books.loops([leverage], threshold=0.95), PRICE)
    expected = leverage * (leverage - 1.0) * (2.0 * leverage - 1.0)
    assert_close(gamma[0, 0], expected, rtol=1e-10, atol=0.0)


def test_gamma_of_a_system_is_the_bump_of_its_delta():
    system, h = random_system(3), 1e-5
    gamma = np.asarray(jax.jit(debt_to_equity_gamma)(system))
    price = system.market.mid
    for asset in range(3):
        move = jnp.zeros(3).at[asset].set(h)
        up, down = (jitted_delta(system, price * jnp.exp(s * move)) for s in (1.0, -1.0))
        assert_close(gamma[asset], (up - down) / (2.0 * h), rtol=1e-6, atol=1e-5)
    assert_close(gamma, gamma.T, rtol=1e-10, atol=1e-10)
    # Without equity there is nothing to differentiate.
    broke = debt_to_equity_gamma(system, price * jnp.array([1e-3, 1e-3, 1.0]))
    assert np.isnan(np.asarray(broke)).all()


def test_deltas_of_all_accounts_agree_with_the_reference_one_by_one():
    system = random_system(11)
    for venue in system.venues:
        held, owed = values_by_asset(venue, system.market.mid)
        delta = np.asarray(jitted_account_delta(venue, system.market.mid))
        assert delta.shape == held.shape
        for account in range(held.shape[1]):
            values = held[:, account].tolist(), owed[:, account].tolist()
            for asset in range(3):
                expected = reference.debt_to_equity_delta(*values, asset)
                assert_close(delta[asset, account], expected, rtol=1e-9, atol=1e-9)


def test_a_venue_is_the_plain_sum_of_its_accounts_and_a_system_of_its_venues():
    venue = books.pair_venue([100.0, 50.0], [80.0, 65.0])
    sheet = balance_sheet(venue, PRICE)
    assert_close(sheet.equity, 20.0 - 15.0, rtol=1e-12, atol=0.0)
    assert_close(sheet.debt_to_equity, 145.0 / 5.0, rtol=1e-12, atol=0.0)
    system = random_system(5)
    whole = balance_sheet(system)
    parts = [balance_sheet(v, system.market.mid) for v in system.venues]
    assert_close(whole.equity, sum(p.equity for p in parts), rtol=1e-12, atol=0.0)


def test_ratios_without_equity_without_debt_and_of_nothing_at_all():
    venue = books.pair_venue([100.0, 100.0, 100.0, 0.0], [130.0, 100.0, 0.0, 0.0])
    sheets = account_balance_sheets(venue, PRICE)
    assert_close(sheets.debt_to_equity, [np.inf, np.inf, 0.0, 0.0], rtol=0.0, atol=0.0)
    assert_close(sheets.leverage, [np.inf, np.inf, 1.0, 1.0], rtol=0.0, atol=0.0)
    delta = np.asarray(account_debt_to_equity_delta(venue, PRICE))
    # No number stands for a derivative that does not exist, least of all zero.
    assert np.isnan(delta[:, [0, 1, 3]]).all()
    assert_close(delta[:, 2], [0.0, 0.0], rtol=0.0, atol=0.0)


def test_the_first_unit_of_debt_has_a_derivative():
    venue = books.pair_venue([100.0], [0.0])

    def ratio(units):
        accounts = dataclasses.replace(venue.accounts, debt=units)
        return debt_to_equity(dataclasses.replace(venue, accounts=accounts), PRICE)

    assert_close(jax.grad(ratio)(venue.accounts.debt), [[0.01]], rtol=1e-12, atol=0.0)


def test_a_venue_alone_needs_prices():
    with pytest.raises(ValueError, match="morpho_blue: a venue has no market"):
        debt_to_equity(books.loops([2.0]))


def test_dtype_is_that_of_the_inputs():
    system = random_system(7, dtype=np.float32)
    exact = random_system(7)
    for function in (jitted_ratio, jitted_delta):
        assert function(system).dtype == jnp.float32
        assert_close(function(system), function(exact), rtol=1e-4, atol=1e-4)


def test_report_names_every_figure_and_agrees_with_the_accounts():
    system = random_system(2)
    report = solvency_report(system)
    assert set(report) == {"system", "venues"}
    assert list(report["venues"]) == ["pool", "isolated"]
    for name, venue in zip(report["venues"], system.venues, strict=True):
        held, owed = (side.sum(axis=1) for side in values_by_asset(venue, system.market.mid))
        equity = np.diff(values_by_asset(venue, system.market.mid), axis=0)[0].sum(axis=0)
        entry = report["venues"][name]
        assert_close(entry["collateral_usd"], held.sum(), rtol=1e-12, atol=0.0)
        assert_close(entry["debt_usd"], owed.sum(), rtol=1e-12, atol=0.0)
        assert_close(entry["equity_usd"], held.sum() - owed.sum(), rtol=1e-10, atol=0.0)
        assert_close(entry["shortfall_usd"], np.maximum(equity, 0).sum(), rtol=1e-10, atol=1e-9)
        ratio = reference.debt_to_equity(held, owed)
        assert_close(entry["debt_to_equity"], ratio, rtol=1e-10, atol=0.0)
        for a, asset in enumerate(system.assets):
            if asset not in entry["debt_to_equity_delta"]:
                assert held[a] == owed[a] == 0.0
                continue
            delta = reference.debt_to_equity_delta(held, owed, a)
            through_assets = -owed.sum() * held[a] / (held.sum() - owed.sum()) ** 2
            assert_close(entry["debt_to_equity_delta"][asset], delta, rtol=1e-9, atol=1e-9)
            part = entry["debt_to_equity_asset_delta"][asset]
            assert_close(part, through_assets, rtol=1e-9, atol=1e-9)
    assert set(report["venues"]["isolated"]["debt_to_equity_delta"]) == {"wstETH", "USDC"}
    assert set(report["system"]["debt_to_equity_delta"]) == set(system.assets)
    total = sum(entry["debt_usd"] for entry in report["venues"].values())
    assert_close(report["system"]["debt_usd"], total, rtol=1e-12, atol=0.0)
    assert all(type(x) is float for x in report["system"]["debt_to_equity_delta"].values())


def test_report_of_an_insolvent_system_says_infinite_and_not_a_number():
    system = random_system(2)
    report = solvency_report(system, system.market.mid * jnp.array([0.1, 0.1, 1.0]))["system"]
    assert report["equity_usd"] < 0 < report["shortfall_usd"]
    assert report["debt_to_equity"] == np.inf
    assert all(np.isnan(x) for x in report["debt_to_equity_delta"].values())
