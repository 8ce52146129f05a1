"""Toxic liquidations: where a close lowers health, through the rules that liquidators meet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.measure.leverage import toxic_gap, toxic_threshold
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.call import repay_call
from jaxrisk.venue.health import health_factor, toxic
from jaxrisk.venue.position import Position
from jaxrisk.venue.presets.aave_v3 import aave_v3
from jaxrisk.venue.presets.aave_v3_ethereum import CATEGORIES
from jaxrisk.venue.recognition import AtZeroCollateral
from tests import books
from tests.helpers import assert_close
from tests.systems import random_system

# Bonus and the loan to value above which a close lowers health. Source: Warmuz, Chaudhary and
# Pinna, arXiv 2212.07306: 1 / (1 + bonus).
FRONTIER = [(0.05, 0.9524), (0.08, 0.9259), (0.10, 0.9091)]
PRICE = jnp.array([2000.0, 1.0])


def pool(loan_to_value, bonus, threshold):
    """Return a pool with one account that holds 500 ether, at PRICE a million dollars."""
    value = 1e6
    accounts = Accounts(
        collateral=jnp.array([[value / 2000.0]]),
        debt=jnp.array([[loan_to_value * value]]),
        category=jnp.zeros(1, jnp.int32),
        collateral_assets=(0,),
        debt_assets=(1,),
    )
    terms = {"WETH": {"liquidation_bonus": bonus, "liquidation_threshold": threshold}}
    return aave_v3(accounts, ("WETH", "USDC"), overrides=terms)


def closed(venue):
    """Yield collateral, debt and whether all was taken after each largest call in turn."""
    collateral = float(venue.accounts.collateral[0, 0]) * 2000.0
    debt = float(venue.accounts.debt[0, 0])
    credit = float(venue.incentive.largest_credit(1, 1)[0, 0])
    threshold = float(venue.collateral.liquidation_threshold[0, 0])
    exhausted = False
    while not exhausted:
        one = lambda x: jnp.array([x])
        position = Position(
            collateral=one(collateral), debt=one(debt), total_collateral=one(collateral),
            total_debt=one(debt), backing=one(threshold * collateral), credit=one(credit),
            fee_share=None,
        )  # fmt: skip
        call = repay_call(venue.close, position, venue.close.largest(position, None))
        assert float(call.weight[0]) == 1.0
        collateral, debt = collateral - float(call.seized[0]), debt - float(call.repaid[0])
        exhausted = bool(call.exhausts[0])
        yield collateral, debt, exhausted


@pytest.mark.parametrize(("bonus", "frontier"), FRONTIER)
def test_the_threshold_is_the_published_one_and_toxic_begins_there(bonus, frontier):
    venue = pool(frontier, bonus, 0.83)
    assert_close(toxic_threshold(venue, PRICE), [frontier], rtol=0.0, atol=5e-5)
    at = float(toxic_threshold(venue, PRICE)[0])
    for shift, flag in ((-1e-9, 0.0), (1e-9, 1.0)):
        assert toxic(pool(at + shift, bonus, 0.83), PRICE).tolist() == [flag]


@pytest.mark.parametrize(("bonus", "frontier"), FRONTIER)
@pytest.mark.parametrize("shift", [-0.01, 0.01])
def test_calls_at_the_close_factor_lower_health_only_above_the_frontier(bonus, frontier, shift):
    loan_to_value = frontier + shift
    # A health of 0.97: the close factor allows half of the debt a call, and then half of the rest.
    venue = pool(loan_to_value, bonus, 0.97 * loan_to_value)
    before = float(health_factor(venue, PRICE)[0])
    collateral, debt, _ = next(closed(venue))
    after = 0.97 * loan_to_value * collateral / debt
    assert_close(debt, loan_to_value * 5e5, rtol=1e-12, atol=0.0)
    assert (after < before) == (shift > 0)
    assert float(toxic(venue, PRICE)[0]) == (shift > 0)


@pytest.mark.parametrize(("bonus", "frontier"), FRONTIER)
def test_a_spiral_of_toxic_calls_ends_in_debt_without_collateral(bonus, frontier):
    loan_to_value = frontier + 0.005
    venue = pool(loan_to_value, bonus, 0.975 * loan_to_value)
    states = list(closed(venue))
    health = [0.975 * loan_to_value * collateral / debt for collateral, debt, _ in states]
    assert len(health) > 2
    assert all(np.diff([0.975, *health]) < 0.0)
    collateral, debt, exhausted = states[-1]
    assert (collateral, exhausted) == (0.0, True)
    # D - C / (1 + b), however it was cut, though collateral covered the debt at its full price.
    left = 1e6 * (loan_to_value - 1.0 / (1.0 + bonus))
    written_off = AtZeroCollateral().write_off(jnp.array([True]), jnp.array([debt]))
    assert_close(written_off, [left], rtol=1e-9, atol=0.0)
    assert loan_to_value < 1.0


# Threshold and bonus as deployed, and the fall from where accounts are called to where calls are
# toxic, in percent. Source: the parameters of the Ethereum core pool, December 2025.
GAPS = [("WETH", 12.9), ("wstETH", 14.1), ("WBTC", 18.1), ("weETH", 14.4)]


def deployed(asset, category=0):
    accounts = Accounts(
        collateral=jnp.array([[100.0]]),
        debt=jnp.array([[1.0]]),
        category=jnp.full(1, category, jnp.int32),
        collateral_assets=(0,),
        debt_assets=(1,),
    )
    return aave_v3(accounts, (asset, "USDC"))


@pytest.mark.parametrize(("asset", "gap"), GAPS)
def test_room_between_call_and_toxicity_of_deployed_parameters(asset, gap):
    assert_close(100.0 * toxic_gap(deployed(asset), PRICE), [gap], rtol=0.0, atol=0.06)


@pytest.mark.parametrize(
    ("asset", "mode", "gap"),
    [("wstETH", "eth_correlated", 4.1), ("sUSDe", "ethena_stablecoins", 4.3)],
)
def test_correlated_collateral_has_a_third_of_that_room(asset, mode, gap):
    venue = deployed(asset, 1 + list(CATEGORIES).index(mode))
    assert_close(100.0 * toxic_gap(venue, PRICE), [gap], rtol=0.0, atol=0.06)


def test_a_discount_beyond_the_bonus_less_its_fee_stops_calls_of_correlated_collateral():
    # Bonus 1 %, of which the protocol keeps 10 %: 1.009 of collateral for a unit of debt, so a
    # discount or slippage above 0.9 % leaves nothing to earn while health may fall below 1.
    venue = deployed("wstETH", 1 + list(CATEGORIES).index("eth_correlated"))
    credit = venue.incentive.largest_credit(len(venue.categories), 1)
    bonus = float(credit[1 + list(CATEGORIES).index("eth_correlated"), 0]) - 1.0
    seized = jnp.array([1.0 + bonus])
    kept = venue.incentive.fee(seized, jnp.array(bonus / (1.0 + bonus)))
    assert_close(seized - kept, [1.009], rtol=1e-12, atol=0.0)
    assert_close(100.0 * (1.0 - 1.0 / (seized - kept)), [0.9], rtol=0.0, atol=0.01)


def test_the_gap_is_the_fall_from_health_one_to_toxic():
    system, checked = random_system(2), 0
    for venue in system.venues:
        price = system.market.mid
        health = np.asarray(health_factor(venue, price))
        gap = np.asarray(jax.jit(toxic_gap)(venue, price))
        # Collateral falls by 1 - 1 / h to the call, and by the gap from there.
        left = (1.0 / health) * (1.0 - gap)
        held = np.unique(np.asarray(venue.accounts.collateral_assets))
        owed = np.unique(np.asarray(venue.accounts.debt_assets))
        if set(held) & set(owed):
            continue
        for account in np.flatnonzero(np.isfinite(left)):
            for nudge, flag in ((1.0 + 1e-9, 0.0), (1.0 - 1e-9, 1.0)):
                moved = price.at[held].multiply(left[account] * nudge)
                assert float(toxic(venue, moved)[account]) == flag
                checked += 1
    assert checked > 4


def test_no_collateral_no_threshold():
    venue = books.pair_venue([0.0], [5.0])
    assert np.isnan(toxic_threshold(venue, PRICE)).all()
    assert np.isnan(toxic_gap(venue, PRICE)).all()
