"""Auctions between lenders in the step: against a scalar reference, and what must hold."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.paths import GivenMoves
from jaxrisk.numerics.keys import root_key
from jaxrisk.system.cascade import cascade_round
from jaxrisk.system.simulate import Plan, cut_books, final_state, layouts, simulator
from jaxrisk.system.system import Flow, StepRules, System, opening_state
from jaxrisk.system.trace import tracer
from jaxrisk.venue.accrual import CurveInterest
from jaxrisk.venue.lender_auctions import LenderAuctions, LoanAuctions
from jaxrisk.venue.stability_fee import StabilityFee
from jaxrisk.venue.venue import Pool
from tests import lender_systems, systems
from tests import reference_lender as reference
from tests.helpers import assert_close
from tests.lender_systems import BUCKETS, HOURS, LENT, STEP_YEARS, played
from tests.reference_systems import reference_world
from tests.test_step import check_conservation, collateral_units, debt_units, mid, rounds_of

on_both_kinds = pytest.mark.parametrize("has_cost", [False, True])
VALUES = {
    "seed": st.integers(0, 2**32 - 1),
    "fall": st.floats(0.0, 0.4),
    "log_depth": st.floats(5.0, 9.0),
    "ladder": st.floats(0.7, 1.1),
    "idle": st.floats(0.01, 1.0),
    "log_reserves": st.floats(0.0, 6.0),
    "leaving": st.floats(0.0, 1.0),
}


def random_system(has_cost, log_depth, log_reserves, **values: Any) -> System:
    return lender_systems.random_system(
        has_cost=has_cost,
        depth=10**log_depth,
        reserves=10**log_reserves,
        **values,
    )


def slot(system: System) -> LenderAuctions:
    rule = system.venues[LENT].execution
    assert isinstance(rule, LenderAuctions)
    return rule


def reference_pool(system: System) -> reference.Pool:
    """Return the pool of a system of one venue as the reference holds it."""
    (venue,) = system.venues
    rule, interest = slot(system), venue.interest
    assert isinstance(interest, CurveInterest)
    assert isinstance(interest.curve, StabilityFee)
    held, owed = (np.asarray(x)[0] for x in (venue.accounts.collateral, venue.accounts.debt))
    rows = zip(np.asarray(rule.prices)[:-1], np.asarray(rule.deposits)[:-1], strict=True)
    return reference.Pool(
        loans=[reference.Loan(c, d) for c, d in zip(held, owed, strict=True)],
        deposits=[[float(price), float(amount)] for price, amount in rows],
        reserves=float(venue.pool[Pool.TREASURY, 0]),
        cash=float(venue.pool[Pool.CASH, 0]),
        held=venue.accounts.collateral_assets[0],
        owed=venue.accounts.debt_assets[0],
        rate=float(np.expm1(interest.curve.borrow_rate(jnp.zeros(1))[0])),
        kept=float(interest.reserve_factor[0]),
        leaving=float(rule.leaving),
    )


def check_reference(system: System, *, rtol: float) -> reference.Pool:
    """Play a system of the pool alone in both and compare after every step."""
    world, own = reference_world(system, "pro_rata", []), reference_pool(system)
    (venue,) = system.venues
    assert isinstance(system.paths, GivenMoves)
    size = float(np.abs(np.asarray(venue.pool)).sum())
    absorbed = [s for verb, s in played(system) if verb == "absorb"]
    for state, move in zip(absorbed, np.asarray(system.paths.log_return[0]), strict=True):
        reference.step(world, own, move, HOURS, systems.ROUNDS)
        (found,) = state.venues
        assert_close(mid(state), [world.mid(a) for a in range(3)], rtol=rtol, atol=0.0)
        pool = [own.pool.get(row.name.lower(), 0.0) for row in Pool]
        assert_close(found.pool[:, 0], pool, rtol=rtol, atol=rtol * size)
        deposits = [amount for _, amount in own.deposits]
        assert_close(found.execution.deposits[:-1], deposits, rtol=rtol, atol=rtol * size)
        for name, fractions in (("collateral", found.collateral), ("debt", found.debt)):
            units = np.asarray(getattr(venue.accounts, name))[0] * fractions[0][0]
            units = units * (np.exp(found.log_index) if name == "debt" else 1.0)
            expected = [getattr(loan, name) for loan in own.loans]
            assert_close(units, expected, rtol=rtol, atol=rtol * float(np.max(units, initial=1.0)))
        flows = [own.flows.get(entry.name.lower(), 0.0) for entry in Flow]
        assert_close(found.flows, flows, rtol=rtol, atol=rtol * size)
    return own


@pytest.mark.slow
@on_both_kinds
@given(**VALUES)
def test_a_step_is_that_of_the_scalar_reference(has_cost, **values):
    system = random_system(has_cost, **values)
    check_reference(system, rtol=1e-7)


def test_the_comparison_is_not_of_nothing():
    system = lender_systems.random_system(30, depth=3e6, idle=0.1)
    own = check_reference(system, rtol=1e-7)
    for entry in ("liquidated", "repaid", "keeper_paid", "proceeds", "fee", "bad_debt"):
        assert own.flows[entry] > 0, entry
    assert own.flows["treasury_paid"] > 0
    assert own.flows["depositor_loss"] > 0
    assert own.flows["depositor_gain"] < 0


@jax.jit
def one_round(system, layout, kept):
    books = cut_books(system, layout)
    state = opening_state(system, books)
    venues = (dataclasses.replace(state.venues[LENT], execution=kept),)
    rules = StepRules(step_years=jnp.asarray(0.0))
    state = dataclasses.replace(state, venues=venues)
    return cascade_round(system, books, rules, state)[0].venues[0]


def under_way(system: System, seed: int) -> tuple[LoanAuctions, list[reference.Auction | None]]:
    """Return auctions of random ages and terms, of most loans, in both forms."""
    rng = np.random.default_rng([seed, 3])
    (venue,) = system.venues
    held, owed = (np.asarray(x)[0] for x in (venue.accounts.collateral, venue.accounts.debt))
    auctions = []
    for collateral, debt in zip(held, owed, strict=True):
        threshold = debt / collateral * rng.uniform(0.8, 1.2)
        neutral = threshold * rng.uniform(1.05, 1.3)
        since = rng.uniform(3.0, 9.0)
        auction = reference.Auction(
            top=neutral * rng.uniform(1.0, 1.3),
            neutral=neutral,
            threshold=threshold,
            share=rng.uniform(0.005, 0.03),
            bond=debt * rng.uniform(0.0, 0.01),
            cover=debt * rng.uniform(0.0, 0.01),
            since=since,
            age=since + rng.uniform(0.01, 3.0),
        )
        auctions.append(auction if rng.uniform() < 0.8 else None)
    column = lambda name, scale=1.0: jnp.asarray(
        [0.0 if a is None else getattr(a, name) * scale for a in auctions]
    )
    kept = LoanAuctions(
        reference=column("top"),
        neutral=column("neutral"),
        threshold=column("threshold"),
        bond_share=column("share"),
        bond=column("bond"),
        cover=column("cover"),
        since=column("since", 1.0 / 8760.0),
        elapsed=column("age", 1.0 / 8760.0),
        deposits=slot(system).deposits,
    )
    return kept, auctions


def check_round(seed: int, **values: Any) -> tuple[reference.Pool, list[float]]:
    """Play one round from auctions under way in both, and return the reference and its rations."""
    system = random_system(**values, seed=seed, log_reserves=4.0, leaving=1.0, fall=0.1)
    kept, auctions = under_way(system, seed)
    layout = layouts(system, Plan(steps=1, health_groups=1))
    found = jax.device_get(one_round(system, layout, kept))
    world, own = reference_world(system, "pro_rata", []), reference_pool(system)
    for loan, auction in zip(own.loans, auctions, strict=True):
        loan.auction = auction
    shares = reference.play_round(world, own)
    size = float(np.abs(np.asarray(system.venues[LENT].pool)).sum())
    for actual, expected in (
        (found.pool[:, 0], [own.pool.get(row.name.lower(), 0.0) for row in Pool]),
        (found.execution.deposits[:-1], [amount for _, amount in own.deposits]),
        (found.flows, [own.flows.get(entry.name.lower(), 0.0) for entry in Flow]),
    ):
        assert_close(actual, expected, rtol=1e-8, atol=1e-8 * size)
    bonds = [0.0 if loan.auction is None else loan.auction.bond for loan in own.loans]
    assert_close(found.execution.bond, bonds, rtol=1e-8, atol=1e-8 * size)
    return own, shares


@on_both_kinds
@given(
    seed=VALUES["seed"], log_depth=VALUES["log_depth"], ladder=VALUES["ladder"], idle=VALUES["idle"]
)
def test_a_round_of_auctions_under_way_is_that_of_the_reference(has_cost, **values):
    check_round(has_cost=has_cost, **values)


def test_some_rounds_take_loans_in_part():
    found = [
        check_round(s, has_cost=False, log_depth=6.0, ladder=0.75, idle=0.1) for s in range(20)
    ]
    assert any(0 < shares[1] < 1 for _, shares in found)
    assert any(own.flows["depositor_gain"] != 0 for own, _ in found)


@pytest.mark.slow
@pytest.mark.parametrize("policy", systems.POLICIES)
@given(**VALUES)
def test_every_verb_keeps_every_balance_sheet(policy, **values):
    system = random_system(policy == "best_pair", policy=policy, beside=True, **values)
    stages = played(system)
    check_conservation(system, stages)
    for _, state in stages:
        pool = state.venues[LENT].pool
        # After an accrual interest is in the deposits too; nothing waits for anybody.
        deposits = state.venues[LENT].execution.deposits.sum()
        assert_close(deposits, pool[Pool.SUPPLIED].sum(), rtol=1e-9, atol=1e-9)
        empty = [Pool.UNSETTLED, Pool.DEFICIT, Pool.IN_SALE, Pool.CONVERTED, Pool.BORROWERS]
        assert (pool[empty] == 0).all()


@on_both_kinds
@given(**VALUES)
def test_losses_end_on_reserves_and_lenders(has_cost, **values):
    system = random_system(has_cost, **values)
    for _, state in played(system):
        venue, flows = state.venues[LENT], state.venues[LENT].flows
        borne = flows[Flow.TREASURY_PAID] + flows[Flow.DEPOSITOR_LOSS]
        assert_close(flows[Flow.BAD_DEBT], borne, rtol=1e-12, atol=1e-9)
        assert flows[Flow.RESIDUAL] == 0
        for fraction in (*venue.collateral, *venue.debt):
            assert fraction.min() >= 0
            assert fraction.max() <= 1.0
        size = np.abs(venue.pool).sum()
        assert venue.pool[Pool.TREASURY, 0] >= -1e-12 * size
        assert venue.pool[Pool.CASH, 0] >= -1e-12 * size
        for leaf in jax.tree.leaves(venue.execution):
            assert leaf.min() >= 0


@on_both_kinds
@given(**VALUES)
def test_what_leaves_the_loans_is_booked(has_cost, **values):
    system = random_system(has_cost, **values)
    for old, new in rounds_of(played(system)):
        held, owed = mid(old)[[1, 2]]
        flows = new.venues[LENT].flows - old.venues[LENT].flows
        change = (new.venues[LENT].pool - old.venues[LENT].pool)[:, 0] * owed
        size = np.abs(old.venues[LENT].pool).sum() * owed + collateral_units(system, old, LENT)[0]
        less = (
            held * (collateral_units(system, old, LENT) - collateral_units(system, new, LENT)).sum()
        )
        assert_close(flows[Flow.LIQUIDATED], less, rtol=1e-9, atol=1e-12 * size)
        gone = owed * (debt_units(system, old, LENT) - debt_units(system, new, LENT)).sum()
        left = flows[Flow.REPAID] + flows[Flow.BAD_DEBT]
        assert_close(left, gone, rtol=1e-9, atol=1e-12 * size)
        # Deposits change hands against collateral or are lost; all else keepers bring as cash.
        burnt = -change[Pool.SUPPLIED] - flows[Flow.DEPOSITOR_LOSS]
        assert burnt >= -1e-12 * size
        assert_close(change[Pool.CASH], flows[Flow.KEEPER_PAID], rtol=1e-9, atol=1e-12 * size)
        own = flows[Flow.FEE] - flows[Flow.TREASURY_PAID]
        assert_close(change[Pool.TREASURY], own, rtol=1e-9, atol=1e-12 * size)


def rewarding(system: System, old: Any, new: Any) -> bool:
    """Return whether no auction can be taken above its neutral price in a round."""
    running = old.venues[LENT].execution
    neutral = running.neutral[running.neutral > 0]
    prices = np.asarray(slot(system).prices)
    used = running.deposits > new.venues[LENT].execution.deposits
    price = max(mid(old)[1] / mid(old)[2], prices[used].max(initial=0.0))
    return neutral.min(initial=np.inf) >= price


@on_both_kinds
@given(**VALUES)
def test_nobody_who_takes_below_neutral_loses(has_cost, **values):
    system = random_system(has_cost, **values)
    for old, new in rounds_of(played(system)):
        if not rewarding(system, old, new):
            continue
        flows = new.venues[LENT].flows - old.venues[LENT].flows
        started = (new.venues[LENT].execution.reference > 0) & (
            old.venues[LENT].execution.reference == 0
        )
        kicks = 0.0 if system.keeper.cost is None else started.sum() * float(system.keeper.cost)
        outlay = flows[Flow.KEEPER_PAID] + flows[Flow.KEEPER_COST] - kicks
        assert flows[Flow.PROCEEDS] - outlay >= -1e-9 * (outlay + kicks)


@given(seed=VALUES["seed"], fall=st.floats(0.0, 0.4), ladder=VALUES["ladder"], idle=VALUES["idle"])
def test_more_reserves_never_raise_what_lenders_lose(seed, fall, ladder, idle):
    losses = []
    for reserves in (0.0, 1e3, 1e6):
        system = lender_systems.random_system(
            seed, fall=fall, ladder=ladder, idle=idle, reserves=reserves
        )
        losses.append(played(system)[-1][1].venues[LENT].flows[Flow.DEPOSITOR_LOSS])
    assert losses[1] <= losses[0] * (1 + 1e-9) + 1e-9
    assert losses[2] <= losses[1] * (1 + 1e-9) + 1e-9


@given(seed=VALUES["seed"], market=st.floats(500.0, 4000.0), leaving=st.floats(0.0, 1.0))
def test_kicks_need_a_price_that_does_not_back_and_a_market_below_neutral(seed, market, leaving):
    system = lender_systems.random_system(seed, leaving=leaving)
    venue, rule = system.venues[LENT], slot(system)
    held, debt = venue.accounts.collateral[0], venue.accounts.debt[0]
    weight, price = venue.collateral.liquidation_threshold[0, 0], jnp.asarray(market)
    kept = rule.opening(venue.accounts)
    none = jnp.zeros(())

    def kicked(rule, at, cost):
        return np.asarray(
            rule.kick(kept, held, debt, market=at, weight=weight, cost=jnp.asarray(cost))[1]
        )

    now = kicked(rule, price, 0.0)
    at = float(rule.price_in_use(kept.deposits, jnp.sum(debt), price))
    threshold = np.asarray(debt / held)
    backed = 1.04 * threshold <= at
    neutral = threshold * 1.04 * (1.0 + np.sqrt(0.08) / 2.0)
    clear = np.abs(market / neutral - 1.0) > 1e-9
    assert (now == (~backed & (market < neutral)))[clear].all()
    # More lenders who leave, a lower market or a cheaper kick never spare a loan.
    staying = dataclasses.replace(rule, leaving=none)
    assert (kicked(staying, price, 0.0) <= now).all()
    assert (now <= kicked(rule, 0.9 * price, 0.0)).all()
    assert (kicked(rule, price, 1e4) <= now).all()


def test_the_highest_deposits_lose_first():
    """Bad debt of a loan that no bucket wants: the market is above every price."""
    system = lender_systems.random_system(30, depth=3e6, idle=0.1)
    stages = lender_systems.played(system)
    found = 0
    for old, new in rounds_of(stages):
        flows = new.venues[0].flows - old.venues[0].flows
        if flows[Flow.DEPOSITOR_LOSS] == 0:
            continue
        found += 1
        deposits = new.venues[0].execution.deposits[:BUCKETS]
        hit = np.flatnonzero(deposits < old.venues[0].execution.deposits[:BUCKETS])
        assert (deposits[: hit.max()] == 0).all()
    assert found > 0


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_derivatives_are_finite_and_the_type_is_kept(dtype):
    system = lender_systems.random_system(30, depth=3e6, idle=0.1, has_cost=True, dtype=dtype)
    plan = Plan(steps=systems.STEPS, rounds=1, health_groups=1, differentiable=True)
    layout = layouts(system, plan)
    rules = systems.rules_of(system, rounds=1, differentiable=True, step_years=STEP_YEARS)

    def total(system):
        books = cut_books(system, layout)
        end = final_state(plan, system, books, rules, root_key(1), jnp.zeros((), jnp.uint32))
        return jnp.sum(end.venues[0].flows), end

    (value, end), slopes = jax.jit(jax.value_and_grad(total, has_aux=True, allow_int=True))(system)
    assert np.isfinite(value)
    for leaf in jax.tree.leaves(end.venues):
        assert leaf.dtype in (dtype, bool)
    floating = [s for s in jax.tree.leaves(slopes) if s.dtype == dtype]
    assert all(np.isfinite(s).all() for s in floating)
    assert any((s != 0).any() for s in floating)
    assert end.venues[0].flows[Flow.PROCEEDS] > 0
    assert end.venues[0].flows[Flow.BAD_DEBT] > 0


@pytest.mark.slow
def test_what_accounts_leave_and_lose_adds_up_to_the_flows():
    system = lender_systems.random_system(30, depth=3e6, idle=0.1)
    plan = Plan(steps=systems.STEPS, rounds=systems.ROUNDS)
    rules, ids = systems.rules_of(system, step_years=STEP_YEARS), np.arange(1)
    traced = tracer(plan, keep_steps=False)(system, rules, root_key(1), ids).accounts[LENT]
    books = cut_books(system, layouts(system, plan))
    flows = simulator(plan)(system, books, rules, root_key(1), ids).flows[0, :, LENT]
    assert flows[Flow.BAD_DEBT] > 0
    for entry, values in (
        (Flow.LIQUIDATED, traced.seized),
        (Flow.REPAID, traced.repaid),
        (Flow.BAD_DEBT, traced.written_off),
    ):
        assert_close(values.sum(), flows[entry], rtol=1e-9, atol=1e-6)
