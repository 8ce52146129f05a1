"""Venues that take accounts over, beside one whose keepers call: the step, rule by rule."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxrisk.gradient.parameter import parameters, with_values
from jaxrisk.market.oracle import SpotOracle
from jaxrisk.market.paths import GivenMoves
from jaxrisk.numerics.keys import root_key
from jaxrisk.system.simulate import (
    Plan,
    cut_books,
    final_state,
    layouts,
    simulator,
    step_rules,
)
from jaxrisk.system.system import Flow, State, System
from jaxrisk.system.trace import tracer
from jaxrisk.venue.absorption import Absorption
from jaxrisk.venue.accrual import CurveInterest, SpreadInterest
from jaxrisk.venue.auction import Vault, start_auction
from jaxrisk.venue.auction_price import StairstepDecrease
from jaxrisk.venue.settlement import Refusal
from jaxrisk.venue.slope_rate import SlopeRate
from jaxrisk.venue.stability_fee import StabilityFee
from jaxrisk.venue.storefront import Storefront
from jaxrisk.venue.takeover import AbsorbedStock, AuctionedLots
from jaxrisk.venue.venue import Pool, opening_pool
from jaxrisk.venue.venue import Venue as EngineVenue
from tests import reference_takeover as reference
from tests import systems, takeover_systems
from tests.helpers import assert_close
from tests.reference_systems import check_flows, check_market, reference_world
from tests.takeover_systems import CATEGORIES, STOCK, VAULTS
from tests.test_step import check_conservation, rounds_of

KINDS = [("pro_rata", False), ("best_pair", True)]
on_both_kinds = pytest.mark.parametrize(("policy", "has_cost"), KINDS)
VALUES = {
    "seed": st.integers(0, 2**32 - 1),
    "fall": st.floats(0.0, 0.5),
    "log_depth": st.floats(5.0, 9.0),
    "log_funds": st.floats(0.0, 7.0),
    "log_ceiling": st.floats(4.0, 7.0),
}


def random_system(policy, has_cost, seed, fall, log_depth, log_funds, log_ceiling, **changes):
    return takeover_systems.random_system(
        seed,
        policy=policy,
        has_cost=has_cost,
        fall=fall,
        depth=10**log_depth,
        funds=10**log_funds,
        ceiling=10**log_ceiling,
        **changes,
    )


def claims(state: State, v: int) -> float:
    """Return the claims that a venue's execution keeps."""
    kept = state.venues[v].execution
    return float(np.sum(kept.claims if v == STOCK else kept.claim))


@pytest.mark.slow
@on_both_kinds
@given(**VALUES)
def test_every_verb_keeps_every_balance_sheet(policy, has_cost, **values):
    played = systems.played_verb_by_verb(system := random_system(policy, has_cost, **values))
    check_conservation(system, played)
    for verb, state in played:
        for v in (STOCK, VAULTS):
            pool = state.venues[v].pool
            size = np.abs(pool).sum()
            booked = pool[Pool.IN_SALE].sum()
            assert_close(booked, claims(state, v), rtol=1e-9, atol=1e-12 * size)
            assert verb == "opening" or size > 0


@pytest.mark.slow
@on_both_kinds
@pytest.mark.parametrize("debt_auctions", ["carried", "dilution"])
@given(**VALUES)
def test_losses_end_on_named_bearers(policy, has_cost, debt_auctions, **values):
    system = random_system(policy, has_cost, **values, debt_auctions=debt_auctions)
    for verb, state in systems.played_verb_by_verb(system):
        for v, venue in enumerate(state.venues):
            assert (venue.funds >= 0).all()
            for fraction in (*venue.collateral, *venue.debt):
                assert fraction.min() >= -1e-12
                assert fraction.max() <= 1.0
            for kept in jax.tree.leaves(venue.execution):
                assert kept.min() >= -1e-9 * np.abs(kept).max()
            flows = venue.flows
            assert (np.delete(flows, Flow.RESERVE_INTEREST) >= -1e-12 * np.abs(flows).sum()).all()
            if verb != "absorb":
                continue
            borne = venue.paid.sum() + flows[Flow.RESIDUAL] + flows[Flow.DILUTION]
            borne += flows[Flow.TREASURY_PAID]
            assert_close(borne, flows[Flow.BAD_DEBT], rtol=1e-12, atol=1e-9)
            assert (venue.pool[Pool.UNSETTLED] == 0).all()
            diluted = v == VAULTS and debt_auctions == "dilution"
            assert flows[Flow.RESIDUAL if diluted else Flow.DILUTION] == 0
            assert not diluted or (venue.pool[Pool.DEFICIT] == 0).all()


@on_both_kinds
@given(**VALUES)
@example(seed=230, fall=0.1875, log_depth=7.0, log_funds=0.0, log_ceiling=4.875)  # dust left over
def test_nobody_who_buys_from_a_venue_loses(policy, has_cost, **values):
    system = random_system(policy, has_cost, **values)
    for old, new in rounds_of(systems.played_verb_by_verb(system)):
        for v in (STOCK, VAULTS):
            flows = new.venues[v].flows - old.venues[v].flows
            outlay = flows[Flow.KEEPER_PAID] + flows[Flow.KEEPER_COST]
            assert flows[Flow.PROCEEDS] - outlay >= -1e-9 * outlay


@pytest.mark.slow
@given(**VALUES)
def test_more_insurance_never_raises_the_loss_of_suppliers(**values):
    system = random_system("pro_rata", False, **values)
    insured = systems.with_venues(
        system, lambda v: dataclasses.replace(v, funds=v.funds.at[-1].multiply(3.0))
    )
    before, after = (systems.played_verb_by_verb(s)[-1][1] for s in (system, insured))
    for old, new in zip(before.venues, after.venues, strict=True):
        loss = old.flows[Flow.RESIDUAL]
        assert new.flows[Flow.RESIDUAL] <= loss + 1e-6 * old.flows[Flow.BAD_DEBT]


@given(**VALUES)
def test_auctions_never_exceed_their_ceilings_by_more_than_the_dust_they_take_along(**values):
    system = random_system("pro_rata", False, **values)
    rule = system.venues[VAULTS].execution
    assert isinstance(rule, AuctionedLots)
    dust = np.asarray(rule.terms.minimum_debt * (1.0 + rule.terms.penalty))
    for _, state in systems.played_verb_by_verb(system):
        target = np.asarray(state.venues[VAULTS].execution.target).sum(axis=0)
        assert (target <= np.asarray(rule.terms.ceiling) + dust + 1e-6).all()
        assert target.sum() <= float(rule.global_ceiling) + dust.sum() + 1e-6


def common(venue: EngineVenue) -> dict:
    """Return what the reference's two kinds share of an engine's venue."""
    accounts = venue.accounts
    threshold = np.asarray(venue.collateral.liquidation_threshold)
    return {
        "collateral": np.array(accounts.collateral),
        "debt": np.array(accounts.debt[0]),
        "coin": accounts.debt_assets[0],
        "threshold": threshold[np.asarray(accounts.category)].T,
        "funds": np.asarray(venue.funds).tolist(),
        "cash": float(venue.pool[Pool.CASH, 0]),
        "supplied": float(venue.pool[Pool.SUPPLIED, 0]),
    }


def reference_stock(venue: EngineVenue) -> reference.Stock:
    rule, interest = venue.execution, venue.interest
    assert isinstance(rule, AbsorbedStock)
    assert isinstance(interest, SpreadInterest)

    def curve(c: SlopeRate) -> tuple[float, float, float, float]:
        return float(c.base[0]), float(c.slope_below[0]), float(c.slope_above[0]), float(c.kink[0])

    return reference.Stock(
        **common(venue),
        factor=np.asarray(1.0 / venue.incentive.largest_credit(1, 2))[0],
        discount_share=float(rule.discount_share),
        target_reserves=float(rule.target_reserves),
        curves={"borrow": curve(interest.rates.borrow), "supply": curve(interest.rates.supply)},
    )


def reference_vaults(venue: EngineVenue, opening: np.ndarray) -> reference.Vaults:
    rule, interest = venue.execution, venue.interest
    assert isinstance(rule, AuctionedLots)
    assert isinstance(rule.curve, StairstepDecrease)
    assert isinstance(interest, CurveInterest)
    assert isinstance(interest.curve, StabilityFee)
    terms, curve = rule.terms, rule.curve
    types = [
        reference.Type(
            asset=row,
            category=category,
            penalty=float(terms.penalty[i]),
            dust=float(terms.minimum_debt[i]),
            ceiling=float(terms.ceiling[i]),
            opening=float(terms.opening_factor[i]),
            longest=float(terms.maximum_duration[i]),
            floor=float(terms.price_floor[i]),
            cut=float(curve.cut[i]),
            every=float(curve.step[i]),
        )
        for i, (category, row) in enumerate(rule.types)
    ]
    return reference.Vaults(
        **common(venue),
        category=np.array(CATEGORIES),
        types=types,
        ceiling=float(rule.global_ceiling),
        fee=float(np.expm1(interest.curve.borrow_rate(jnp.zeros(1))[0])),
        before=opening,
    )


def check_reference(system: System, *, rtol: float) -> reference.Stock | reference.Vaults:
    """Play a system of one venue in both and compare after every step."""
    (venue,) = system.venues
    world = reference_world(system, "pro_rata", venues=[])
    opening = np.array(system.market.price)
    is_stock = isinstance(venue.execution, AbsorbedStock)
    own = reference_stock(venue) if is_stock else reference_vaults(venue, opening)
    assert isinstance(system.paths, GivenMoves)
    moves = np.asarray(system.paths.log_return[0])
    absorbed = [s for verb, s in systems.played_verb_by_verb(system) if verb == "absorb"]
    size = float(np.abs(np.asarray(venue.pool)).sum())
    for state, move in zip(absorbed, moves, strict=True):
        reference.step(world, own, move, systems.STEP_YEARS, systems.ROUNDS)
        (found,) = state.venues
        check_market(state, world, rtol=rtol)
        pool = [own.pool.get(row.name.lower(), 0.0) for row in Pool]
        assert_close(found.pool[:, 0], pool, rtol=rtol, atol=rtol * size)
        assert_close(found.funds, own.funds, rtol=rtol, atol=rtol * size)
        check_flows(found.flows, own.flows, rtol=rtol, atol=rtol * size)
    return own


@pytest.mark.slow
@pytest.mark.parametrize("has_cost", [False, True])
@pytest.mark.parametrize("v", [STOCK, VAULTS], ids=["stock", "vaults"])
@given(**VALUES)
def test_a_step_is_that_of_the_scalar_reference(v, has_cost, **values):
    system = random_system("pro_rata", has_cost, **values)
    check_reference(takeover_systems.only(system, system.venues[v]), rtol=1e-7)


@pytest.mark.parametrize(("v", "seed", "fall"), [(STOCK, 6, 0.2), (VAULTS, 56, 0.22)])
def test_the_comparison_is_not_of_nothing(v, seed, fall):
    system = takeover_systems.random_system(seed, fall=fall, depth=1e8, ceiling=1e7)
    own = check_reference(takeover_systems.only(system, system.venues[v]), rtol=1e-7)
    for entry in ("liquidated", "repaid", "keeper_paid", "proceeds", "fee", "refund", "bad_debt"):
        assert own.flows[entry] > 0, entry
    assert own.flows["treasury_paid"] > 0


def test_a_round_absorbs_and_sells_as_the_exact_rules_say():
    system = takeover_systems.random_system(6, fall=0.2, depth=1e12)
    system = takeover_systems.only(system, system.venues[STOCK])
    (venue,) = system.venues
    rule = venue.execution
    assert isinstance(rule, AbsorbedStock)
    played = dict(systems.played_verb_by_verb(system)[:4])
    before, after = played["accrue"], played["round 1"]
    price = np.asarray(before.market.price)
    factor = 1.0 / venue.incentive.largest_credit(1, 2).T
    exact = Absorption(
        liquidation_threshold=venue.collateral.liquidation_threshold.T, liquidation_factor=factor
    )
    growth = np.exp(before.venues[0].log_index)
    absorbed = exact.absorb(
        venue.accounts.collateral * price[:2, None], venue.accounts.debt[0] * growth * price[2]
    )
    gone = np.asarray(after.venues[0].collateral[0][0] == 0)
    assert np.array_equal(gone, np.asarray(absorbed.refusal) == Refusal.NONE)
    assert gone.any()
    assert not gone.all()
    flows = after.venues[0].flows
    for entry, field in ((Flow.LIQUIDATED, "seized"), (Flow.REPAID, "repaid")):
        assert_close(flows[entry], getattr(absorbed, field).sum(), rtol=1e-12, atol=0.0)
    assert_close(flows[Flow.REFUND], absorbed.refund.sum(), rtol=1e-9, atol=0.0)
    # A market this deep takes all of the stock; the last purchase may not exceed the inventory.
    units = (np.asarray(venue.accounts.collateral) * gone).sum(axis=1)
    store = Storefront(
        discount_share=rule.discount_share[None],
        liquidation_factor=factor[:, 0],
        target_reserves=rule.target_reserves[None],
    )
    payment = store.ask_price(jnp.asarray(price[:2])) * units * (1.0 - 1e-12)
    none = jnp.zeros(2)
    bought = store.buy(payment, price=jnp.asarray(price[:2]), inventory=units, reserves=none)
    assert_close(bought.bought, units, rtol=1e-9, atol=0.0)
    assert_close(flows[Flow.KEEPER_PAID], bought.paid.sum(), rtol=1e-9, atol=0.0)


def test_a_single_vault_is_auctioned_as_the_exact_rules_say():
    """One vault, half of it under the ceiling; the lot is sold in one purchase."""
    system = takeover_systems.random_system(6, fall=0.2, depth=1e12)
    (_, _, venue) = system.venues
    only = jnp.asarray([[1.0, 0, 0, 0, 0, 0]])
    accounts = venue.accounts
    accounts = dataclasses.replace(
        accounts, collateral=accounts.collateral * only, debt=accounts.debt * only
    )
    rule = venue.execution
    assert isinstance(rule, AuctionedLots)
    owed = float(accounts.debt[0, 0])
    room = 0.5 * owed * 1.13
    terms = dataclasses.replace(rule.terms, ceiling=jnp.full_like(rule.terms.ceiling, room))
    venue = dataclasses.replace(
        venue,
        accounts=accounts,
        oracle=SpotOracle(),
        pool=opening_pool(accounts, jnp.zeros(1)),
        execution=dataclasses.replace(rule, terms=terms),
    )
    played = systems.played_verb_by_verb(takeover_systems.only(system, venue))
    ((_, before), (_, after)) = next(
        pair
        for pair in itertools.pairwise(played)
        if pair[1][1].venues[0].flows[Flow.LIQUIDATED] > 0
    )
    price = float(before.market.price[0] / before.market.price[2])
    growth = float(np.exp(before.venues[0].log_index[0]))
    own = lambda x: jnp.asarray([x])
    first = jax.tree.map(lambda x: x[:1], terms)
    vault = Vault(collateral=accounts.collateral[0, :1], debt=own(owed * growth), backing=own(0.0))
    exact = start_auction(first, vault, oracle_price=own(price), room=own(room))
    lots = after.venues[0].execution
    assert_close(lots.lot[0, :1], exact.seized, rtol=1e-9, atol=0.0)
    assert_close(lots.target[0, :1], exact.target, rtol=1e-9, atol=0.0)
    assert_close(lots.claim[0, :1], exact.repaid, rtol=1e-9, atol=0.0)
    assert_close(lots.opening_price[0, :1], exact.opening_price, rtol=1e-9, atol=0.0)
    assert 0 < float(lots.lot[0, 0]) < float(accounts.collateral[0, 0])


@pytest.mark.slow
@pytest.mark.parametrize(("v", "seed", "fall"), [(STOCK, 6, 0.2), (VAULTS, 56, 0.22)])
def test_reverse_mode_is_finite_and_that_of_forward_mode(v, seed, fall):
    system = takeover_systems.random_system(seed, fall=fall, depth=1e8, ceiling=1e7)
    system = takeover_systems.only(system, system.venues[v])
    plan = Plan(steps=systems.STEPS, rounds=1, differentiable=True)
    rules = step_rules(system, plan, systems.STEP_YEARS, width=0.02)
    own = parameters(system, ("liquidation_threshold", "liquidation_bonus", "depth"))
    layout = layouts(system, plan)

    def moved(factor):
        changed = with_values(system, own, factor)
        books = cut_books(changed, layout)
        state = final_state(plan, changed, books, rules, root_key(1), jnp.uint32(0))
        return jnp.sum(state.venues[0].flows)

    ones, direction = jnp.ones(len(own)), jnp.asarray([1.0, -2.0, 3.0])
    backward = jax.jit(jax.grad(moved))(ones)
    _, forward = jax.jit(lambda d: jax.jvp(moved, (ones,), (d,)))(direction)
    assert np.isfinite(backward).all()
    assert (np.abs(backward) > 0).all()
    assert_close(backward @ direction, forward, rtol=1e-9, atol=0.0)


def test_the_order_of_accounts_does_not_matter():
    for seed in range(3):
        system = takeover_systems.random_system(seed)
        ends = [
            systems.played_verb_by_verb(s)[-1][1] for s in (systems.permuted(system, 1), system)
        ]
        for new, old in zip(*(end.venues for end in ends), strict=True):
            assert_close(new.flows, old.flows, rtol=1e-9, atol=1e-6)


def test_a_stock_waits_for_a_market_that_takes_it():
    """Too little depth for the discount: inventory is held, and claims stand until it is sold."""
    held = {}
    for depth in (1e5, 1e9):
        system = takeover_systems.random_system(2, fall=0.1, depth=depth)
        end = systems.played_verb_by_verb(takeover_systems.only(system, system.venues[STOCK]))
        held[depth] = float(end[-1][1].venues[0].pool[Pool.IN_SALE, 0])
    assert held[1e5] > 1e5
    assert held[1e9] < 1e-6 * held[1e5]


def test_nothing_is_for_sale_once_reserves_are_full():
    system = takeover_systems.random_system(2, funds=1e8, target_reserves=1e6)
    end = systems.played_verb_by_verb(takeover_systems.only(system, system.venues[STOCK]))[-1][1]
    (venue,) = end.venues
    assert venue.flows[Flow.LIQUIDATED] > 0
    assert venue.flows[Flow.KEEPER_PAID] == 0


@pytest.mark.slow
def test_single_precision_follows_double():
    ends = []
    for dtype in (np.float32, np.float64):
        system = takeover_systems.random_system(4, fall=0.12, depth=1e7, ceiling=1e7, dtype=dtype)
        ends.append(systems.played_verb_by_verb(system)[-1][1])
    single, double = ends
    assert single.venues[STOCK].execution.units.dtype == np.float32
    for new, old in zip(single.venues, double.venues, strict=True):
        size = np.abs(old.flows).sum()
        assert_close(new.flows, old.flows, rtol=1e-3, atol=1e-4 * size)


@pytest.mark.slow
def test_accounts_add_up_to_what_their_venues_took():
    system = takeover_systems.random_system(6, fall=0.2, depth=1e8, ceiling=1e7)
    plan = Plan(steps=systems.STEPS, rounds=2)
    rules, key, ids = step_rules(system, plan, systems.STEP_YEARS), root_key(1), np.array([0])
    books = cut_books(system, layouts(system, plan))
    ended = jax.device_get(simulator(plan)(system, books, rules, key, ids))
    traced = jax.device_get(tracer(plan, keep_steps=False)(system, rules, key, ids))
    # What absorbed accounts get back at once is no loss of theirs.
    back = {STOCK: ended.flows[0, Flow.REFUND, STOCK], VAULTS: 0.0}
    assert back[STOCK] > 0
    for v in (STOCK, VAULTS):
        seized = traced.accounts[v].seized.sum()
        assert_close(seized, ended.liquidated[0, v] - back[v], rtol=1e-9, atol=0.0)
        assert seized > 0
    stock = traced.accounts[STOCK]
    assert_close(stock.repaid.sum(), ended.repaid[0, STOCK], rtol=1e-9, atol=0.0)
    assert (ended.unsold[0, [STOCK, VAULTS]] >= 0).all()
    assert ended.unsold[0, 0] == 0


def test_pairs_of_steps_age_the_lots():
    """A lot is one cohort older in every step until it is sold or starts again."""
    system = takeover_systems.random_system(1, fall=0.3)
    played = [s for verb, s in systems.played_verb_by_verb(system) if verb == "absorb"]
    cohorts = [np.asarray(s.venues[VAULTS].execution.lot).sum(axis=1) for s in played]
    aged = [after[1:].sum() > 0 and before[0] > 0 for before, after in itertools.pairwise(cohorts)]
    assert any(aged)
