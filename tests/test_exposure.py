"""The liquidation map and the snapshot of the book, against loops in NumPy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.oracle import DelayedOracle, SpotOracle
from jaxrisk.market.state import Market
from jaxrisk.measure.exposure import (
    liquidation_map,
    liquidation_table,
    snapshot,
    volatile_assets,
    with_pegged,
    within_liquidation,
)
from jaxrisk.run.columns import check_columns
from jaxrisk.venue.incentive import UniformBonus
from tests import books
from tests.helpers import assert_close
from tests.systems import random_system, with_venues

CHANGES = (-0.6, -0.3, -0.1, 0.0, 0.25)
ETHER, STAKED, DOLLAR = range(3)
JOINT = np.array([True, True, False])

jitted_map = jax.jit(liquidation_map)


def accounts_by_loops(venue, price):
    """Collateral, debt, backing and redeemable debt of every account."""
    book, rows = venue.accounts, []
    units, owed = np.asarray(book.collateral), np.asarray(book.debt)
    threshold = np.asarray(venue.collateral.liquidation_threshold)
    for account, category in enumerate(np.asarray(book.category)):
        collateral = debt = backing = redeemable = 0.0
        for row, asset in enumerate(book.collateral_assets):
            incentive = venue.incentive
            uniform = isinstance(incentive, UniformBonus)
            bonus = float(incentive.bonus if uniform else incentive.bonus[category, row])
            value = units[row, account] * price[asset]
            collateral += value
            backing += threshold[category, row] * value
            redeemable += value / (1.0 + bonus)
        for row, asset in enumerate(book.debt_assets):
            debt += owed[row, account] * price[asset]
        rows.append((collateral, debt, backing, redeemable))
    return np.array(rows).T


def totals_by_loops(venue, price):
    """Debt, collateral, seizable collateral and bad debt of accounts with health below 1."""
    totals = np.zeros(4)
    for collateral, debt, backing, redeemable in accounts_by_loops(venue, price).T:
        if debt > 0 and backing / debt < 1.0:
            taken = collateral * min(1.0, debt / redeemable)
            totals += (debt, collateral, taken, max(0.0, debt - redeemable))
    return totals


def moved(system, factor):
    return np.asarray(system.market.mid) * np.asarray(factor)


def compare(mapped, venue_index, system, factors):
    """Compare one venue's row of the map with loops, one price vector a change."""
    venue = system.venues[venue_index]
    for step, factor in enumerate(factors):
        found = [x[venue_index, step] for x in (mapped.debt, mapped.collateral)]
        found += [x[venue_index, step] for x in (mapped.seizable, mapped.bad_debt)]
        expected = totals_by_loops(venue, moved(system, factor))
        assert_close(np.array(found), expected, rtol=1e-9, atol=1e-6)


@given(seed=st.integers(0, 10**6))
def test_joint_move_agrees_with_loops(seed):
    system = random_system(seed)
    mapped = jitted_map(system, jnp.array(CHANGES), jnp.asarray(JOINT))
    for index in range(2):
        compare(mapped, index, system, [(1 + c, 1 + c, 1) for c in CHANGES])


@given(seed=st.integers(0, 10**6))
def test_moves_of_one_asset_agree_with_loops(seed):
    system = random_system(seed)
    of = lambda asset: jitted_map(system, jnp.array(CHANGES), jnp.arange(3) == asset)
    for index in range(2):
        # Staked ether is pegged to ether and goes with it.
        compare(of(ETHER), index, system, [(1 + c, 1 + c, 1) for c in CHANGES])
        compare(of(DOLLAR), index, system, [(1, 1, 1 + c) for c in CHANGES])
    # Moved alone the pool's market-price oracle sees it, the other venue's exchange rate does not.
    compare(of(STAKED), 0, system, [(1, 1 + c, 1) for c in CHANGES])
    compare(of(STAKED), 1, system, [(1, 1, 1) for c in CHANGES])


def test_an_index_names_the_only_asset_that_moves():
    system = random_system(1)
    by_index = liquidation_map(system, jnp.array(CHANGES), STAKED)
    by_mask = jitted_map(system, jnp.array(CHANGES), jnp.arange(3) == STAKED)
    assert float(by_mask.debt.sum()) > 0
    for a, b in zip(jax.tree.leaves(by_index), jax.tree.leaves(by_mask), strict=True):
        assert_close(a, b, rtol=1e-12, atol=0.0)


def test_a_delayed_oracle_is_taken_to_have_caught_up():
    system = random_system(1)
    slow, prompt = (
        with_venues(system, lambda v, oracle=oracle: dataclasses.replace(v, oracle=oracle))
        for oracle in (DelayedOracle(steps=2), SpotOracle())
    )
    for a, b in zip(
        jax.tree.leaves(jitted_map(slow, jnp.array(CHANGES), jnp.asarray(JOINT))),
        jax.tree.leaves(jitted_map(prompt, jnp.array(CHANGES), jnp.asarray(JOINT))),
        strict=True,
    ):
        assert_close(a, b, rtol=1e-12, atol=0.0)


def test_full_close_leaves_debt_beyond_collateral_over_one_plus_bonus():
    venue = books.pair_venue([100.0, 100.0, 100.0, 0.0], [70.0, 90.0, 99.0, 5.0])
    assert isinstance(venue.incentive, UniformBonus)
    bonus = float(venue.incentive.bonus)
    found = within_liquidation(venue, jnp.array(books.PRICE))
    assert_close(found.debt, 90.0 + 99.0 + 5.0, rtol=1e-12, atol=0.0)
    assert_close(found.collateral, 200.0, rtol=1e-12, atol=0.0)
    assert_close(found.seizable, 90.0 * (1 + bonus) + 100.0, rtol=1e-12, atol=0.0)
    # Less than the debt is covered although collateral is worth more than it.
    assert_close(found.bad_debt, 99.0 - 100.0 / (1 + bonus) + 5.0, rtol=1e-12, atol=0.0)
    assert float(found.bad_debt) > 5.0


def test_deeper_falls_bring_more_debt_within_reach_of_long_accounts():
    system = random_system(8)
    changes = jnp.linspace(0.0, -0.95, len(CHANGES))
    debt = np.asarray(jitted_map(system, changes, jnp.asarray(JOINT)).debt[1])
    assert (np.diff(debt) >= 0).all()
    assert debt[-1] > debt[0]
    total = float(jnp.sum(system.venues[1].accounts.debt))
    assert_close(debt[-1], total, rtol=1e-12, atol=0.0)


def test_table_has_documented_columns_and_the_rows_of_the_map():
    system = random_system(6)
    table = liquidation_table(system, CHANGES, JOINT)
    check_columns("liquidation_map", table)
    assert len({len(values) for values in table.values()}) == 1
    found = list(dict.fromkeys(zip(table["venue"], table["asset"], strict=True)))
    names = {"pool": ("WETH", "wstETH", "USDC", "all"), "isolated": ("WETH", "wstETH", "USDC")}
    # Ether is neither held nor owed on the isolated venue, but it is what the collateral follows.
    expected = [("pool", a) for a in names["pool"]]
    expected += [("isolated", a) for a in (*names["isolated"], "all")]
    assert found == expected
    joint = jitted_map(system, jnp.array(CHANGES), jnp.asarray(JOINT))
    for index, venue in enumerate(("pool", "isolated")):
        rows = (table["venue"] == venue) & (table["asset"] == "all")
        assert_close(table["price_change_frac"][rows], CHANGES, rtol=0.0, atol=0.0)
        for name, values in (
            ("liquidatable_debt_usd", joint.debt),
            ("liquidatable_collateral_usd", joint.collateral),
            ("bad_debt_usd", joint.bad_debt),
        ):
            assert_close(table[name][rows], values[index], rtol=1e-12, atol=1e-9)


def test_table_leaves_out_assets_without_bearing():
    system = random_system(6)
    market = dataclasses.replace(system.market, underlying=None)
    free = dataclasses.replace(system, market=market)
    table = liquidation_table(free, CHANGES, JOINT)
    assert set(table["asset"][table["venue"] == "isolated"]) == {"wstETH", "USDC", "all"}


@given(seed=st.integers(0, 10**6))
def test_snapshot_agrees_with_loops(seed):
    system = random_system(seed)
    blocks = [accounts_by_loops(v, np.asarray(system.market.mid)) for v in system.venues]
    collateral, debt, backing, redeemable = np.concatenate(blocks, axis=1)
    health = backing / debt
    found = snapshot(system)
    expected = {
        "accounts": 10,
        "debt_usd": debt.sum(),
        "collateral_usd": collateral.sum(),
        "median_health_factor": np.median(health),
        "debt_below_health_1_1_usd": debt[health < 1.1].sum(),
        "liquidatable_accounts": (health < 1).sum(),
        "insolvent_accounts": (collateral < debt).sum(),
        "toxic_share_frac": debt[debt > redeemable].sum() / debt.sum(),
        "debt_herfindahl": (debt**2).sum() / debt.sum() ** 2,
        "largest_debt_share_frac": debt.max() / debt.sum(),
    }
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert_close(found[name], value, rtol=1e-11, atol=0.0)


def test_snapshot_counts_what_is_broken_and_bears_a_book_without_debt():
    system = random_system(0)
    broken = books.pair_venue([100.0, 100.0, 100.0, 100.0], [110.0, 97.0, 85.0, 0.0])
    at = lambda venue: dataclasses.replace(
        system, market=Market.opening(dict(zip(books.ASSETS, books.PRICE, strict=True))),
        venues=(venue,),
    )  # fmt: skip
    found = snapshot(at(broken))
    assert (found["accounts"], found["liquidatable_accounts"], found["insolvent_accounts"]) == (
        4, 3, 1,
    )  # fmt: skip
    assert_close(found["toxic_share_frac"], 207.0 / 292.0, rtol=1e-12, atol=0.0)
    assert_close(found["median_health_factor"], 80.0 / 97.0, rtol=1e-12, atol=0.0)
    idle = snapshot(at(books.pair_venue([100.0] * 4, [0.0] * 4)))
    assert np.isnan(idle["median_health_factor"])
    assert idle["toxic_share_frac"] == idle["debt_herfindahl"] == idle["debt_usd"] == 0.0


def test_volatile_assets_are_those_above_the_bound_and_those_pegged_to_them():
    market = Market.opening(
        {"stable": 1.0, "wrapped": 3.0, "coin": 2.0},
        volatility=[0.02, 0.0, 0.8],
        pegs={"wrapped": "coin"},
    )
    assert volatile_assets(market).tolist() == [False, True, True]
    assert volatile_assets(market, least=0.02).tolist() == [True, True, True]
    only_pegged = with_pegged(market, jnp.array([False, True, False]))
    assert only_pegged.tolist() == [False, True, False]
