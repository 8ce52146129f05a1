"""A market in price bands in the one step: conserved, against a scalar reference, and fair."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxrisk.market.impact import SquareRootImpact
from jaxrisk.market.liquidity import ConstantDepth, Liquidity
from jaxrisk.market.paths import GivenMoves
from jaxrisk.market.state import Market
from jaxrisk.numerics.keys import root_key
from jaxrisk.system import band_trades
from jaxrisk.system.policy import Keeper, ProRata
from jaxrisk.system.simulate import Plan, cut_books, layouts, simulator, step_rules
from jaxrisk.system.system import Flow, System
from jaxrisk.system.trace import tracer
from jaxrisk.venue.band_conversion import BandConversion
from jaxrisk.venue.venue import Pool, changed_pool, imbalance
from tests import band_venues, systems
from tests import reference_band_step as reference
from tests.band_systems import pool_of
from tests.helpers import assert_close
from tests.test_step import check_conservation, debt_units, mid

EPS = np.finfo(np.float64).eps
SEEDS = st.integers(0, 2**32 - 1)
BANDS = 1
"""Position of the market in bands among the venues."""

on_random_systems = given(
    seed=SEEDS,
    fall=st.floats(-0.05, 0.3),
    swing=st.floats(0.0, 2.0),
    log_depth=st.floats(5.5, 10.0),
    cost=st.sampled_from([None, 50.0]),
    admin_share=st.sampled_from([0.0, 0.5]),
)


def played(seed, fall, swing, log_depth, cost, admin_share):
    system = band_venues.random_system(
        seed, fall=fall, swing=swing, depth=10**log_depth, cost=cost, admin_share=admin_share
    )
    return system, systems.played_verb_by_verb(system)


def rounds_of(states):
    pairs = itertools.pairwise(states)
    return [(old, new) for (_, old), (verb, new) in pairs if verb.startswith("round")]


@pytest.mark.slow
@on_random_systems
def test_every_verb_conserves_and_nobody_is_cheated(**drawn):
    system, states = played(**drawn)
    check_conservation(system, states)
    check_bands_are_booked(states)
    check_what_accounts_lose_others_gain(system, states)
    check_everyone_trades_for_a_profit(states)
    check_fractions(system, states)


def check_bands_are_booked(states):
    """What the balance sheet holds for borrowers is what stands in the bands."""
    for _, state in states:
        venue = state.venues[BANDS]
        in_bands = venue.execution.bands.borrowed.sum()
        size = 1e-9 * (in_bands + np.abs(venue.flows).sum())
        assert_close(venue.pool[Pool.CONVERTED, 0], in_bands, rtol=1e-9, atol=size)


@pytest.mark.slow
def test_a_trade_booked_on_one_side_only_is_caught(monkeypatch):
    def forgetful(**rows):
        return changed_pool(**{row: rows[row] for row in rows if row != "converted"})

    monkeypatch.setattr(band_trades, "changed_pool", forgetful)
    system = band_venues.random_system(1, fall=0.1)
    states = systems.played_verb_by_verb(system, afresh=True)
    with pytest.raises(AssertionError, match=r"^round \d: venue 1 is out"):
        check_conservation(system, states)


def held_units(state):
    """Return the collateral and the borrowed coin that stand in the bands."""
    bands = state.venues[BANDS].execution.bands
    return bands.collateral.sum(), bands.borrowed.sum()


def check_what_accounts_lose_others_gain(system, states):
    collateral, coin = (system.venues[BANDS].accounts.collateral_assets[0], 2)
    for old, new in rounds_of(states):
        price = mid(old)
        flows = new.venues[BANDS].flows - old.venues[BANDS].flows
        (held, borrowed), (held_after, borrowed_after) = held_units(old), held_units(new)
        gone = (held - held_after) * price[collateral] + (borrowed - borrowed_after) * price[coin]
        cleared = (debt_units(system, old, 1) - debt_units(system, new, 1))[0] * price[coin]
        lost = flows[[Flow.LIQUIDATED, Flow.CONVERSION_LOSS]].sum() - flows[Flow.REPAID]
        size = held * price[collateral] + borrowed * price[coin]
        assert_close(lost, gone - cleared, rtol=1e-9, atol=1e-12 * size)
        paid = flows[[Flow.REPAID, Flow.RELEASED]].sum()
        assert_close(paid, cleared, rtol=1e-9, atol=1e-12 * size)
        assert (flows >= -1e-12 * size).all()


def check_everyone_trades_for_a_profit(states):
    for old, new in rounds_of(states):
        flows = new.venues[BANDS].flows - old.venues[BANDS].flows
        paid = flows[[Flow.KEEPER_PAID, Flow.KEEPER_COST]].sum()
        assert flows[Flow.PROCEEDS] - paid >= -1e-9 * paid


def check_fractions(system, states):
    units = np.asarray(system.venues[BANDS].accounts.collateral[0])
    for (_, before), (_, after) in itertools.pairwise(states):
        old, new = before.venues[BANDS], after.venues[BANDS]
        for was, now in zip(
            (*old.collateral, *old.debt), (*new.collateral, *new.debt), strict=True
        ):
            assert (now >= -1e-12).all()
            assert (now <= was + 1e-12).all()
        bands = new.execution.bands
        assert (bands.borrowed >= -1e-9).all()
        assert (bands.collateral >= -1e-9).all()
        standing = (units * new.collateral[0][0]).sum()
        assert_close(new.execution.units.sum(), standing, rtol=1e-12, atol=1e-12)
        assert new.flows[Flow.BAD_DEBT] == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_accounts_does_not_matter(seed):
    system, states = played(seed, 0.1, 1.0, 8.0, None, 0.0)
    other = systems.played_verb_by_verb(systems.permuted(system, seed))
    for old, new in zip(states[-1][1].venues, other[-1][1].venues, strict=True):
        size = np.abs(old.flows).sum()
        assert_close(new.flows, old.flows, rtol=1e-7, atol=1e-9 * size)


def lone_system(seed, fall, swing, depth, cost, admin_share):
    """Return the market in bands alone, on a market without pegs and of constant depth."""
    array = lambda x: jnp.asarray(np.asarray(x, np.float64))
    rng = np.random.default_rng(seed + 2)
    moves = np.zeros((1, systems.STEPS, 3))
    moves[0, :, 1] = rng.normal(-fall, swing * abs(fall), systems.STEPS)
    return System(
        market=Market.opening(systems.PRICE),
        paths=GivenMoves(log_return=array(moves)),
        liquidity=Liquidity(
            law=SquareRootImpact(coefficient=array([0.1, 0.15, 0.02])),
            depth=ConstantDepth(depth=array([depth, 0.3 * depth, 10 * depth])),
            permanent_share=array(0.3),
            recovery_rate=array(np.log(2.0) / (6 * systems.STEP_YEARS)),
            variance_rate=array(0.0),
        ),
        venues=(band_venues.band_venue(seed, admin_share=admin_share, dtype=np.float64),),
        keeper=Keeper(
            minimum_return=array(0.0),
            choice=ProRata(),
            cost=None if cost is None else array(cost),
        ),
    )


def reference_world(system, depth, cost):
    venue = system.venues[0]
    rules = venue.execution
    assert isinstance(rules, BandConversion)
    state = rules.opening(venue.accounts)
    deposits = np.asarray(venue.accounts.collateral[0]).tolist()
    first = np.asarray(rules.first_position(venue.accounts) + rules.grid.first).tolist()
    return reference.World(
        pool=pool_of(rules.grid, state.bands),
        shares=[
            dict.fromkeys(range(start, start + rules.bands), float(held) / rules.bands)
            for held, start in zip(deposits, first, strict=True)
        ],
        deposits=deposits,
        debt=np.asarray(venue.accounts.debt[0]).tolist(),
        fee=float(rules.fee.fee),
        admin_share=float(rules.fee.admin_share),
        liquidation_discount=0.06,
        base_rate=0.3,
        cash=float(venue.pool[Pool.CASH, 0]),
        price=systems.PRICE["wstETH"],
        coefficient=0.15,
        depth=0.3 * depth,
        permanent_share=0.3,
        recovery_rate=np.log(2.0) / (6 * systems.STEP_YEARS),
        cost=cost,
    )


def compare(state, world, rtol):
    venue = state.venues[0]
    assert_close(mid(state)[1], world.mid, rtol=rtol, atol=0.0)
    expected = [world.flows.get(entry.name.lower(), 0.0) for entry in Flow]
    size = sum(map(abs, expected))
    assert_close(venue.flows, expected, rtol=rtol, atol=rtol * size)
    bands = venue.execution.bands
    for held, wanted in (
        (bands.borrowed, world.pool.borrowed),
        (bands.collateral, world.pool.collateral),
    ):
        wanted = np.array(list(wanted.values()))
        # Bisection ends a trade up to the edge of a band a little to one side of it.
        assert_close(held, wanted, rtol=rtol, atol=1e-9 * (size + sum(world.debt)))
    rows = {Pool.CASH: world.cash, Pool.DEBT: sum(world.debt), Pool.TREASURY: world.treasury}
    for row, units in rows.items():
        assert_close(venue.pool[row, 0], units, rtol=rtol, atol=1e-6)


@pytest.mark.slow
@settings(max_examples=40)
@given(
    seed=SEEDS,
    fall=st.floats(-0.05, 0.2),
    swing=st.floats(0.0, 2.0),
    log_depth=st.floats(6.0, 10.0),
    cost=st.sampled_from([None, 50.0]),
    admin_share=st.sampled_from([0.0, 0.5]),
)
def test_a_step_is_that_of_the_scalar_reference(seed, fall, swing, log_depth, cost, admin_share):
    system = lone_system(seed, fall, swing, 10**log_depth, cost, admin_share)
    assert isinstance(system.paths, GivenMoves)
    absorbed = [s for verb, s in systems.played_verb_by_verb(system) if verb == "absorb"]
    world = reference_world(system, 10**log_depth, cost)
    for state, move in zip(absorbed, np.asarray(system.paths.log_return[0, :, 1]), strict=True):
        reference.step(world, float(move), systems.STEP_YEARS, systems.ROUNDS)
        compare(state, world, rtol=1e-6)


@pytest.mark.slow
def test_the_comparison_is_not_of_nothing():
    happened = np.zeros(len(Flow))
    for seed in range(4):
        system = lone_system(seed, 0.04, 2.0, 1e9, 50.0, 0.5)
        moves = np.zeros((1, systems.STEPS, 3))
        moves[0, :, 1] = (-0.1, 0.05, -0.12)
        system = dataclasses.replace(system, paths=GivenMoves(log_return=jnp.asarray(moves)))
        happened += systems.played_verb_by_verb(system)[-1][1].venues[0].flows
    for entry in (Flow.LIQUIDATED, Flow.CONVERTED, Flow.RECONVERTED, Flow.RELEASED, Flow.FEE):
        assert happened[entry] > 0, entry.name


PLAN = Plan(steps=systems.STEPS, rounds=systems.ROUNDS)


def simulated(system, plan=PLAN, count=4):
    rules = step_rules(system, plan, systems.STEP_YEARS)
    run = simulator(plan)
    books = cut_books(system, layouts(system, plan))
    return jax.device_get(run(system, books, rules, root_key(1), np.zeros(count, np.uint32)))


@pytest.mark.slow
def test_accounts_of_a_trace_add_up_to_their_venue():
    system = band_venues.random_system(4, fall=0.12, depth=1e9)
    ended = simulated(system)
    rules = step_rules(system, PLAN, systems.STEP_YEARS)
    traced = tracer(PLAN, keep_steps=False)(system, rules, root_key(1), np.zeros(4, np.uint32))
    accounts = traced.accounts[BANDS]
    for entry, flow in (
        ("seized", ended.liquidated),
        ("repaid", ended.repaid),
        ("converted", ended.conversion_loss),
    ):
        assert (flow[:, BANDS] > 0).all()
        assert_close(getattr(accounts, entry).sum(axis=1), flow[:, BANDS], rtol=1e-9, atol=1e-6)


@pytest.mark.slow
def test_single_precision_tells_the_same():
    wide, narrow = (
        simulated(band_venues.random_system(4, fall=0.05, depth=1e9, dtype=dtype))
        for dtype in (np.float64, np.float32)
    )
    assert narrow.flows.dtype == np.float32
    size = np.abs(wide.flows[:, :, BANDS]).max()
    assert_close(narrow.flows[:, :, BANDS], wide.flows[:, :, BANDS], rtol=2e-3, atol=1e-4 * size)
    assert wide.conservation_error.max() < 1e-14
    assert narrow.conservation_error.max() < 1e-6


@pytest.mark.slow
def test_derivatives_of_a_simulation_are_finite():
    system = band_venues.random_system(4, fall=0.08, depth=1e9)
    plan = dataclasses.replace(PLAN, differentiable=True)
    rules = step_rules(system, plan, systems.STEP_YEARS, width=0.02)
    books, run = cut_books(system, layouts(system, plan)), simulator(plan)

    def loss(factor):
        liquidity = system.liquidity
        depth = dataclasses.replace(liquidity.depth, depth=liquidity.depth.depth * factor)
        changed = dataclasses.replace(system, liquidity=dataclasses.replace(liquidity, depth=depth))
        return run(changed, books, rules, root_key(1), np.zeros(2, np.uint32)).borrower_loss.sum()

    value, slope = jax.value_and_grad(loss)(jnp.asarray(1.0))
    assert np.isfinite(value)
    assert np.isfinite(slope)


@pytest.mark.slow
def test_open_shortfall_counts_the_coin_in_the_bands():
    # So deep a fall that nobody closes: what is owed beyond coin and collateral stays open.
    system = lone_system(3, 0.6, 0.0, 1e9, None, 0.0)
    ended = simulated(system)
    state = systems.played_verb_by_verb(system)[-1][1].venues[0]
    rules, accounts = system.venues[0].execution, system.venues[0].accounts
    assert isinstance(rules, BandConversion)
    coin, held = (np.asarray(x) for x in rules.holdings(state.execution))
    at = np.asarray(rules.first_position(accounts))
    price = ended.price[0, 1]
    owns = np.asarray(accounts.collateral[0]) * state.collateral[0][0]
    worth = owns * (coin[at] + held[at] * price)
    owed = np.asarray(accounts.debt[0]) * state.debt[0][0] * np.exp(state.log_index[0])
    expected = np.maximum(owed - worth, 0.0).sum()
    assert expected > 0
    assert_close(ended.shortfall[0, 0], expected, rtol=1e-9, atol=0.0)
    assert_close(imbalance(state.pool), np.zeros(1), rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_a_larger_discount_of_health_never_closes_less(seed):
    # Of one round: what is closed in it changes what the later ones find.
    def cleared(factor):
        system = lone_system(seed, 0.3, 0.0, 1e10, None, 0.0)
        venue = system.venues[0]
        stricter = dataclasses.replace(venue, incentive=venue.incentive.scaled(jnp.asarray(factor)))
        states = systems.played_verb_by_verb(dataclasses.replace(system, venues=(stricter,)))
        first = next(state for verb, state in states if verb == "round 1")
        return (first.venues[0].collateral[0] == 0).sum()

    closed = [cleared(factor) for factor in (0.2, 0.6, 1.0, 2.0)]
    assert closed == sorted(closed)
    assert closed[-1] > 0
