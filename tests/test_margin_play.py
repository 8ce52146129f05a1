"""Contracts on margin in the step: against a scalar reference, and what must hold."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.oracle import DelayedOracle, SpotOracle
from jaxrisk.market.paths import GivenMoves
from jaxrisk.numerics.keys import root_key
from jaxrisk.system.margin_book import marks_at, opened, slot_of
from jaxrisk.system.margin_loss import charged, deleveraging
from jaxrisk.system.simulate import Plan, cut_books, final_state, layouts, outcome
from jaxrisk.system.system import Flow
from jaxrisk.system.trace import tracer
from jaxrisk.venue.close_out import CloseOut
from jaxrisk.venue.margin_accounts import Behind
from jaxrisk.venue.venue import Pool
from tests import margin_systems, systems
from tests import reference_margin_step as reference
from tests.helpers import assert_close
from tests.margin_systems import (
    ALLOWANCE,
    BUFFER,
    COEFFICIENT,
    PERMANENT,
    RATES,
    SLICES,
    TIERS,
    USDC,
)
from tests.systems import STEP_YEARS
from tests.test_step import check_conservation, mid

on_random_systems = given(
    seed=st.integers(0, 2**32 - 1),
    fall=st.floats(-0.1, 0.3),
    log_depth=st.floats(6.5, 10.0),
    log_insurance=st.floats(0.0, 6.5),
    leverage=st.floats(3.0, 60.0),
)
on_every_bearer = pytest.mark.parametrize("behind", list(Behind))


def played(behind, seed, fall, log_depth, log_insurance, leverage, **venue):
    system = margin_systems.random_system(
        seed, fall=fall, depth=10**log_depth, insurance=10**log_insurance, leverage=leverage,
        behind=behind, **venue,
    )  # fmt: skip
    return system, systems.played_verb_by_verb(system)


def book(system, v=0):
    accounts = system.venues[v].accounts
    return (
        np.asarray(accounts.collateral)[0],
        np.asarray(accounts.positions.size),
        np.asarray(accounts.positions.entry),
    )


def worth(contracts, quotes):
    """Return the worth of a unit of perpetuals by quote, settlement currency."""
    multiplier, inverse = np.asarray(contracts.multiplier), np.asarray(contracts.inverse)
    wide = lambda x: x.reshape(x.shape + (1,) * (quotes.ndim - 1))
    return wide(multiplier) * np.where(wide(inverse) > 0, -1.0 / quotes, quotes)


def forwards(system, prices, v=0):
    slot, accounts = slot_of(system.venues[v]), system.venues[v].accounts
    money = np.where(np.asarray(slot.contracts.inverse) > 0, 1.0, prices[accounts.debt_assets[0]])
    return prices[list(slot.underlying)] / money


def profits(system, state, v=0):
    """Return the unrealised profit of every position at the market's mid."""
    _, size, entry = book(system, v)
    contracts = slot_of(system.venues[v]).contracts
    value = worth(contracts, forwards(system, mid(state), v))
    fraction = state.venues[v].execution.fraction
    return size * fraction * (value[:, None] - worth(contracts, entry))


def check_accounts(system, stages, v=0):
    """Fail unless what the sheet owes accounts is what the accounts have."""
    collateral, size, entry = book(system, v)
    scale = np.abs(size * worth(slot_of(system.venues[v]).contracts, entry)).sum()
    for verb, state in stages:
        venue = state.venues[v]
        claims = (collateral + venue.execution.cash).sum()
        slack = {"rtol": 1e-9, "atol": 1e-12 * scale + 1e-9 * np.abs(collateral).sum()}
        assert_close(venue.pool[Pool.SUPPLIED, 0], claims, **slack)
        if not verb.startswith(("move", "absorb")) and verb != "opening":
            assert_close(venue.pool[Pool.UNREALISED, 0], profits(system, state, v).sum(), **slack)


@pytest.mark.slow
@on_every_bearer
@on_random_systems
def test_every_verb_keeps_the_balance_sheet(behind, **numbers):
    system, stages = played(behind, **numbers)
    check_conservation(system, stages)
    check_accounts(system, stages)


@on_every_bearer
@on_random_systems
def test_losses_end_on_named_bearers(behind, **numbers):
    system, stages = played(behind, largest=0.4, **numbers)
    money = 1e-9 * np.abs(book(system)[2]).max()
    for verb, state in stages:
        flows, venue = state.venues[0].flows, state.venues[0]
        borne = flows[Flow.DELEVERAGED] + flows[Flow.SOCIALISED] + flows[Flow.RESIDUAL]
        borne = borne + venue.paid.sum() + venue.unsettled
        assert_close(flows[Flow.BAD_DEBT], borne, rtol=1e-9, atol=money)
        assert (venue.funds >= 0).all()
        assert flows[Flow.PROCEEDS] == pytest.approx(flows[Flow.KEEPER_PAID], rel=1e-12, abs=1e-6)
        assert flows[Flow.REPAID] <= flows[Flow.LIQUIDATED] * (1.0 + 1e-12)
        if behind is not Behind.WINNERS:
            assert flows[Flow.DELEVERAGED] == 0
        if behind not in (Behind.POSITIONS, Behind.GAINERS):
            assert flows[Flow.SOCIALISED] == 0
        if verb == "absorb":
            assert venue.unsettled == 0
        fraction = venue.execution.fraction
        assert fraction.min() >= -1e-12
        assert fraction.max() <= 1.0


def at_a_price(seed, fall, leverage, fund):
    """Return positions, state and marks of a venue after a fall, and what the rules say of them."""
    system = margin_systems.random_system(seed, leverage=leverage)
    venue = system.venues[0]
    held = opened(venue, [venue.accounts])
    kept = slot_of(venue).opening(venue.accounts)
    seen = marks_at(
        venue, kept, system.market.price * jnp.exp(jnp.array([-fall, -0.7 * fall, 0.0]))
    )
    return held, kept, seen, jnp.asarray(10.0**fund)


on_marks = given(
    seed=st.integers(0, 2**32 - 1),
    fall=st.floats(-0.4, 0.4),
    leverage=st.floats(5.0, 60.0),
    fund=st.floats(0.0, 6.0),
)


@on_marks
def test_no_winner_is_deleveraged_of_more_than_his_profit(seed, fall, leverage, fund):
    held, kept, seen, fund = at_a_price(seed, fall, leverage, fund)
    equity = np.asarray(held.equity(kept, seen))
    called = jnp.asarray((equity < 0).astype(float))
    score = jnp.abs(held.size)
    ours = jax.jit(deleveraging)(held, kept, seen, called, fund, score)
    lack = np.maximum(-equity, 0.0)
    if lack.sum() <= fund:
        assert (np.asarray(ours.fraction) == 0).all()
        return
    scale = 1e-9 * np.abs(equity).max()
    fraction, cash = np.asarray(ours.fraction), np.asarray(ours.cash)
    assert_close(cash.sum(), 0.0, rtol=0.0, atol=scale)
    # As many longs as shorts are closed in every contract.
    closed = np.asarray(held.size) * fraction
    assert_close(closed.sum(axis=1) / np.abs(held.size).max(), np.zeros(2), rtol=0.0, atol=1e-12)
    assert ((fraction >= 0) & (fraction <= 1.0 + 1e-12)).all()
    realised = (closed * (np.asarray(seen.value)[:, None] - np.asarray(held.entered))).sum(axis=0)
    winner = equity > 0
    assert (realised + cash >= -scale)[winner].all()
    assert (cash[winner] <= scale).all()
    assert (cash[~winner] >= -scale).all()
    assert_close(ours.loss, cash[~winner].sum(), rtol=1e-9, atol=scale)
    # The rest is what the fund can pay, or found nobody on the other side.
    assert ours.loss <= lack.sum() - fund + scale


@pytest.mark.slow
@pytest.mark.parametrize("behind", list(Behind))
@on_marks
def test_nobody_is_charged_more_than_he_has(behind, seed, fall, leverage, fund):
    held, kept, marks, loss = at_a_price(seed, fall, leverage, fund)
    charge = functools.partial(charged, behind)
    paid = np.asarray(jax.jit(charge)(held, kept, marks, loss))
    equity = np.asarray(held.equity(kept, marks))
    profits = np.asarray(held.profit(kept, marks.value))
    profit = np.maximum(profits, 0.0).sum(axis=0)
    scale = 1e-9 * np.abs(equity).max()
    assert (paid >= 0).all()
    assert (paid <= np.maximum(equity, 0.0) + scale).all()
    able = np.maximum(equity, 0.0)
    if behind is Behind.WINNERS:
        able = np.minimum(profit, able)
        assert (paid <= profit + scale).all()
    if behind is Behind.GAINERS:
        assert not np.asarray(held.posted).size
        gain = np.asarray(kept.cash) + profits.sum(axis=0) - np.asarray(held.begun)
        able = np.minimum(np.maximum(gain, 0.0), able)
    if behind is Behind.POSITIONS:
        able = np.where((np.asarray(held.size) != 0).any(axis=0), able, 0.0)
    total = 0.0 if behind is Behind.NOBODY else min(able.sum(), float(loss))
    assert_close(paid.sum(), total, rtol=1e-9, atol=scale)


def reference_of(system):
    """Return the rules and the opening of the reference for a venue of linear perpetuals."""
    slot, venue = slot_of(system.venues[0]), system.venues[0]
    close = slot.close
    assert isinstance(close, CloseOut)
    collateral, size, entry = book(system)
    multiplier = np.asarray(slot.contracts.multiplier)
    inverse = np.asarray(slot.contracts.inverse)
    rules = reference.Rules(
        contracts=[
            reference.Contract("inverse" if i else "linear", float(m), u)
            for i, m, u in zip(inverse, multiplier, slot.underlying, strict=True)
        ],
        settlement=venue.accounts.debt_assets[0],
        trigger=float(close.trigger),
        target=float(close.target),
        largest=float(close.largest),
        fee=float(close.fee),
        behind=slot.behind.value,
        funding=(8.0 / 8760.0, 0.1, 20.0),
        margin=reference.tiered(TIERS, RATES),
        posted=[
            reference.Posted(asset, list(SLICES)) for asset in venue.accounts.collateral_assets[1:]
        ],
        allowance=ALLOWANCE,
        buffer=BUFFER,
        depth=np.asarray(system.liquidity.depth.depth),
        coefficient=COEFFICIENT,
        permanent=PERMANENT,
        keep=0.5 ** (1.0 / 6.0),
        years=STEP_YEARS,
    )
    price, implied = np.asarray(system.market.price), np.asarray(slot.opening_volatility)
    opening = zip(rules.contracts, reference.forwards(rules, price), implied, strict=True)
    world = reference.World(
        price=price.copy(),
        displacement=np.zeros(3),
        size=size.copy(),
        opening=size,
        began=[contract.quote(forward, own, 0.0) for contract, forward, own in opening],
        entry=entry,
        collateral=collateral,
        cash=np.zeros(len(collateral)),
        implied=implied,
        funds=np.asarray(venue.funds).tolist(),
        posted=np.asarray(venue.accounts.collateral)[1:].copy(),
    )
    return rules, world


def check_against_reference(system, rules, world, stages, move=reference.move, price_rtol=1e-7):
    """Play the reference beside the states and fail at the first verb that differs."""
    moves = np.asarray(system.paths.log_return)[0]
    scale = np.abs(world.size).max(axis=1, keepdims=True)
    scale = np.where(scale > 0, scale, 1.0)  # nobody holds the contract
    money = np.abs(np.asarray(world.collateral)).max()
    step = -1
    for verb, state in stages[1:]:
        if verb == "move":
            step += 1
            move(rules, world, moves[step])
        elif verb == "accrue":
            reference.wait(rules, world)
        elif verb == "absorb":
            reference.absorb(rules, world)
        else:
            reference.cascade_round(rules, world)
        venue = state.venues[0]
        assert_close(mid(state), world.mid, rtol=price_rtol, atol=0.0)
        standing = venue.execution.fraction * world.opening
        assert_close(standing / scale, world.size / scale, rtol=0.0, atol=1e-6)
        assert_close(venue.execution.cash, world.cash, rtol=1e-6, atol=1e-6 * money)
        left = system.venues[0].accounts.collateral[1:] * venue.execution.posted
        assert_close(left, world.posted, rtol=1e-6, atol=1e-6 * money / 3000.0)
        assert_close(venue.funds, world.funds, rtol=1e-6, atol=1e-6 * money)
        assert_close(venue.pool[Pool.DEFICIT, 0], world.deficit, rtol=1e-6, atol=1e-6 * money)
        for name in ("liquidated", "bad_debt", "fee", "deleveraged", "socialised", "funding"):
            ours = venue.flows[Flow[name.upper()]]
            assert_close(ours, world.flows.get(name, 0.0), rtol=1e-5, atol=1e-5 * money)


@on_every_bearer
@pytest.mark.parametrize("largest", [1.0, 0.5])
@on_random_systems
def test_steps_are_those_of_the_reference(behind, largest, **numbers):
    system, stages = played(behind, largest=largest, **numbers)
    check_against_reference(system, *reference_of(system), stages)


@pytest.mark.slow
@on_every_bearer
@on_random_systems
def test_posted_collateral_is_sold_as_the_reference_says(behind, **numbers):
    system, stages = played(behind, posted=0.8, **numbers)
    check_conservation(system, stages)
    check_accounts(system, stages)
    check_against_reference(system, *reference_of(system), stages)


def test_a_crash_exhausts_the_fund_and_ends_on_winners():
    system, stages = played(Behind.WINNERS, 1, 0.12, 7.0, 3.0, 30.0)
    venue = stages[-1][1].venues[0]
    assert venue.funds[0] == 0
    assert venue.paid[0] >= 1e3
    assert venue.flows[Flow.DELEVERAGED] > 10 * venue.paid[0]
    # Nobody is left short: winners have given up all that was missing.
    assert_close(venue.pool[Pool.DEFICIT], np.zeros(1), rtol=0.0, atol=1e-6)
    collateral, size, _ = book(system)
    gone = (venue.execution.fraction * size == 0).all(axis=0)
    owned = collateral + venue.execution.cash
    assert (owned >= -1e-6 * collateral)[gone].all()
    assert (owned[gone] < 1e-6 * collateral[gone]).any()


def test_market_orders_come_before_what_keepers_want_to_sell():
    lending = systems.random_system(3, fall=0.2, depth=3e5).venues[1]
    perps = margin_systems.perpetual_venue(3, leverage=60.0)
    assets = {"collateral_assets": (0,), "debt_assets": (USDC,)}
    lending = dataclasses.replace(
        lending,
        accounts=dataclasses.replace(lending.accounts, **assets),
        oracle=SpotOracle(),
    )
    liquidated = []
    for venues in ((lending,), (lending, perps)):
        system = margin_systems.random_system(3, fall=0.2, depth=3e5, venues=venues)
        first = dict(systems.played_verb_by_verb(system)[:4])["round 1"]
        liquidated.append(float(first.venues[0].flows[Flow.LIQUIDATED]))
        closed = [v.execution.fraction for v in first.venues[1:]]
        assert all((f == 0).any() for f in closed)
    assert liquidated[1] < liquidated[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("behind", "dtype"), [(Behind.WINNERS, np.float64), (Behind.POSITIONS, np.float32)]
)
def test_derivatives_are_finite_and_the_type_is_kept(behind, dtype):
    system = margin_systems.random_system(
        1, fall=0.06, depth=1e7, leverage=40.0, insurance=1e3, behind=behind, dtype=dtype
    )
    plan = Plan(steps=systems.STEPS, rounds=2, health_groups=1, differentiable=True)
    layout = layouts(system, plan)
    rules = systems.rules_of(system, rounds=2, differentiable=True)
    rules = dataclasses.replace(rules, width=jnp.asarray(0.9, dtype))

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
    assert slopes.venues[0].execution.close.trigger != 0
    assert end.venues[0].flows[Flow.BAD_DEBT] > 0


@pytest.mark.slow
def test_scenarios_side_by_side_are_those_played_alone_and_traces_add_up():
    system = margin_systems.random_system(1, fall=0.12, depth=1e7, insurance=1e3)
    plan = Plan(steps=systems.STEPS, rounds=2, health_groups=1)
    books, rules = cut_books(system, layouts(system, plan)), systems.rules_of(system, rounds=2)
    assert isinstance(system.paths, GivenMoves)
    given = system.paths.log_return[0]
    moves = given[None] * jnp.array([0.5, 1.0, 1.5])[:, None, None]

    def play(own):
        other = dataclasses.replace(system, paths=GivenMoves(log_return=own[None]))
        state = final_state(plan, other, books, rules, root_key(1), jnp.zeros((), jnp.uint32))
        return outcome(other, books, state, plan.steps)

    together = jax.jit(jax.vmap(play))(moves)
    for i in range(3):
        alone = jax.jit(play)(moves[i])
        assert_close(together.flows[i], alone.flows, rtol=1e-9, atol=1e-3)
    traced = tracer(plan, keep_steps=False)(system, rules, root_key(1), np.arange(1))
    bad = np.asarray(traced.accounts[0].written_off).sum()
    assert_close(bad, together.flows[1, Flow.BAD_DEBT, 0], rtol=1e-9, atol=1e-6)
    assert bad > 0


@pytest.mark.slow
@on_random_systems
def test_contracts_settled_in_coin_are_those_of_the_reference(
    seed, fall, log_depth, log_insurance, leverage
):
    venue = margin_systems.coin_venue(seed, insurance=10**log_insurance, leverage=leverage)
    system = margin_systems.random_system(seed, fall=fall, depth=10**log_depth, venues=(venue,))
    stages = systems.played_verb_by_verb(system)
    check_conservation(system, stages)
    check_accounts(system, stages)
    check_against_reference(system, *reference_of(system), stages)


@on_random_systems
def test_a_venue_that_sees_old_prices_keeps_its_balance_sheet_too(
    seed, fall, log_depth, log_insurance, leverage
):
    venue = margin_systems.perpetual_venue(seed, insurance=10**log_insurance, leverage=leverage)
    venue = dataclasses.replace(venue, oracle=DelayedOracle(steps=1))
    system = margin_systems.random_system(seed, fall=fall, depth=10**log_depth, venues=(venue,))
    stages = systems.played_verb_by_verb(system)
    check_conservation(system, stages)
    check_accounts(system, stages)
