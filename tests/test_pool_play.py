"""Deposit pools and redemptions in the step: against a scalar reference, and what must hold."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.numerics.keys import root_key
from jaxrisk.system.branch import Branch
from jaxrisk.system.pool_play import slot_of
from jaxrisk.system.redeeming import queue_of, redeemed
from jaxrisk.system.simulate import Plan, cut_books, final_state, layouts, simulator
from jaxrisk.system.system import Flow
from jaxrisk.system.trace import tracer
from jaxrisk.venue.redemption import RedemptionQueue, redeem, redeem_urgently
from jaxrisk.venue.venue import Pool
from tests import pool_systems, systems
from tests import reference_pool as reference
from tests.helpers import assert_close
from tests.pool_systems import ONE, TWO, WETH
from tests.test_step import check_conservation, collateral_units, debt_units, mid, rounds_of

EPS = np.finfo(np.float64).eps
ISSUERS = (0, 1)
on_random_systems = given(
    seed=st.integers(0, 2**32 - 1),
    fall=st.floats(0.0, 0.3),
    depeg=st.floats(-0.01, 0.08),
    log_depth=st.floats(6.0, 10.0),
    deposits=st.floats(0.0, 1.0),
    thickness=st.floats(0.1, 2.0),
)
on_every_policy = pytest.mark.parametrize("policy", systems.POLICIES)


def played(policy, seed, fall, depeg, log_depth, deposits, thickness, sale_share=0.5):
    system = pool_systems.random_system(
        seed, policy=policy, fall=fall, depeg=depeg, depth=10**log_depth, deposits=deposits,
        thickness=thickness, sale_share=sale_share,
    )  # fmt: skip
    return system, systems.played_verb_by_verb(system)


@pytest.mark.slow
@on_every_policy
@on_random_systems
def test_every_verb_keeps_every_balance_sheet(policy, **numbers):
    check_conservation(*played(policy, **numbers))


@on_every_policy
@on_random_systems
def test_losses_end_on_named_bearers(policy, **numbers):
    system, stages = played(policy, **numbers)
    for _, state in stages:
        for v in ISSUERS:
            venue, flows = state.venues[v], state.venues[v].flows
            borne = flows[Flow.DEPOSITOR_LOSS] + flows[Flow.BORROWER_LOSS]
            assert_close(flows[Flow.BAD_DEBT], borne, rtol=1e-12, atol=1e-9)
            assert flows[Flow.DEPOSITOR_LOSS] >= 0
            assert flows[Flow.BORROWER_LOSS] >= 0
            assert flows[Flow.RESIDUAL] == 0
            assert (venue.pool[[Pool.CASH, Pool.UNSETTLED, Pool.DEFICIT]] == 0).all()
            assert (venue.execution.deposits >= -1e-12 * venue.pool[Pool.DEBT]).all()
            assert (venue.execution.held >= 0).all()
            # Nobody owes or holds less than nothing, and what is held is somebody's.
            slack = 1e-9 * collateral_units(system, state, v)
            for fraction in (*venue.collateral, *venue.debt):
                assert fraction.min() >= -1e-9
            posted = np.asarray(system.venues[v].accounts.collateral).sum(axis=1)
            assert (collateral_units(system, state, v) <= posted + slack).all()


@on_every_policy
@on_random_systems
def test_what_leaves_the_accounts_is_booked(policy, **numbers):
    system, stages = played(policy, **numbers)
    for old, new in rounds_of(stages):
        prices = mid(old)
        for v in ISSUERS:
            accounts = system.venues[v].accounts
            held, owed = prices[list(accounts.collateral_assets)], prices[accounts.debt_assets[0]]
            flows = new.venues[v].flows - old.venues[v].flows
            before = collateral_units(system, old, v) @ held
            less = before - collateral_units(system, new, v) @ held
            size = np.asarray(accounts.collateral).sum(axis=1) @ held
            assert_close(flows[Flow.LIQUIDATED], less, rtol=1e-9, atol=64 * EPS * size)
            repaid = (debt_units(system, old, v) - debt_units(system, new, v)) @ [owed]
            size = np.asarray(accounts.debt).sum() * owed
            assert_close(flows[Flow.REPAID], repaid, rtol=1e-9, atol=64 * EPS * size)


@on_every_policy
@on_random_systems
def test_nobody_who_redeems_loses(policy, **numbers):
    # What depositors sell at once they sell at any price.
    _, stages = played(policy, sale_share=0.0, **numbers)
    for old, new in rounds_of(stages):
        for v in ISSUERS:
            flows = new.venues[v].flows - old.venues[v].flows
            profit = flows[Flow.PROCEEDS] - flows[Flow.KEEPER_PAID]
            assert profit >= -1e-9 * flows[Flow.REDEEMED]


def first_round(system, v):
    """Return the states around the first round, and the book of venue `v` before it."""
    stages = dict(systems.played_verb_by_verb(system)[:4])
    old, new = stages["accrue"], stages["round 1"]
    accounts, venue = system.venues[v].accounts, old.venues[v]
    row = np.asarray(accounts.category)
    collateral = np.asarray(accounts.collateral)[row, np.arange(accounts.count)]
    order = layouts(system, Plan(steps=1, health_groups=1))[v].order
    take = lambda parts, own: np.concatenate([np.asarray(p)[own] for p in parts])
    back = np.argsort(order)
    held = take(venue.collateral, 0)[back]
    owed = take(venue.debt, 0)[back]
    after = (take(new.venues[v].collateral, 0)[back], take(new.venues[v].debt, 0)[back])
    debt = np.asarray(accounts.debt)[0]
    return old, new, (held * collateral, owed * debt), (after[0] * collateral, after[1] * debt)


@given(
    seed=st.integers(0, 2**32 - 1),
    fall=st.floats(0.0, 0.4),
    depeg=st.floats(-0.01, 0.06),
    deposits=st.floats(0.0, 1.0),
    thickness=st.floats(0.1, 2.0),
)
def test_a_round_with_recovery_mode_is_that_of_the_reference(
    seed, fall, depeg, deposits, thickness
):
    system = pool_systems.random_system(
        seed, fall=fall, depeg=depeg, depth=1e16, deposits=deposits, thickness=thickness
    )
    old, new, (collateral, debt), after = first_round(system, 0)
    venue, prices = old.venues[0], mid(old)
    expected = reference.recovery_liquidations(
        collateral, debt, prices[WETH], float(venue.execution.deposits[0])
    )
    left, owed = expected.collateral, expected.debt
    ratio = np.where(owed > 0, left * prices[WETH] / np.where(owed > 0, owed, 1.0), np.inf)
    eligible = owed[ratio >= 1.1].sum()
    covered = left.sum() * prices[WETH] >= 1.1 * owed.sum()
    supply = float(venue.pool[Pool.DEBT][0])
    amount = reference.redemption_amount(
        prices[ONE], 5e6, 0.1,
        worth=1.0, floor=0.005, slope=0.5 / supply, most=eligible if covered else 0.0,
    )  # fmt: skip
    fee = 0.005 + 0.5 * amount / supply
    left, owed, got = reference.redeem(
        left, owed, ratio.tolist(), amount,
        price=prices[WETH], lowest=1.1, paid_out=1.0 - fee, fee_leaves=fee, closes=True,
    )  # fmt: skip
    scale = np.abs(collateral).max()
    assert_close(after[0], left, rtol=1e-7, atol=1e-7 * scale)
    assert_close(after[1], owed, rtol=1e-7, atol=1e-7 * np.abs(debt).max())
    state = new.venues[0].execution
    remaining = venue.execution.deposits - expected.repaid
    assert_close(state.deposits, remaining, rtol=1e-9, atol=1e-6)
    assert_close(state.held, [0.5 * expected.seized], rtol=1e-9, atol=1e-9)
    flows = new.venues[0].flows
    assert_close(flows[Flow.REDEEMED], amount * prices[ONE], rtol=1e-6, atol=1e-2)
    assert_close(flows[Flow.KEEPER_COST], 20.0 * expected.closed, rtol=1e-12, atol=0.0)
    gain = expected.seized * prices[WETH] - expected.repaid * prices[ONE]
    assert_close(flows[Flow.DEPOSITOR_GAIN], gain, rtol=1e-7, atol=1e-3)
    assert got >= 0


@given(
    seed=st.integers(0, 2**32 - 1),
    fall=st.floats(0.0, 0.12),
    depeg=st.floats(-0.01, 0.06),
    deposits=st.floats(0.0, 0.8),
    thickness=st.floats(0.3, 2.0),
)
def test_a_round_with_penalties_and_rates_is_that_of_the_reference(
    seed, fall, depeg, deposits, thickness
):
    system = pool_systems.random_system(
        seed, fall=fall, depeg=depeg, depth=1e16, deposits=deposits, thickness=thickness
    )
    old, new, (collateral, debt), after = first_round(system, 1)
    venue, prices, accounts = old.venues[1], mid(old), system.venues[1].accounts
    branch, rate = np.asarray(accounts.category), np.asarray(accounts.rate)
    left, owed, unbacked, shut = collateral.copy(), debt.copy(), [], []
    terms = ((1.1, 1.1, 0.05, 0.1), (1.2, 1.2, 0.05, 0.2))
    for b, (minimum, shutdown, pool_penalty, peer_penalty) in enumerate(terms):
        own, deposit = branch == b, float(venue.execution.deposits[b])
        result = reference.penalty_liquidations(
            collateral[own], debt[own], prices[b], max(deposit - 1.0, 0.0),
            minimum=minimum, pool_penalty=pool_penalty, peer_penalty=peer_penalty,
        )  # fmt: skip
        left[own], owed[own] = result.collateral, result.debt
        state = new.venues[1].execution
        assert_close(state.deposits[b], deposit - result.repaid, rtol=1e-9, atol=1e-6)
        assert_close(state.held[b], 0.5 * result.seized, rtol=1e-9, atol=1e-9)
        unbacked.append(max(result.debt.sum() - (deposit - result.repaid), 0.0))
        shut.append(result.collateral.sum() * prices[b] < shutdown * result.debt.sum())
    assert new.venues[1].execution.shut.tolist() == shut
    if any(shut):
        return
    supply = float(venue.pool[Pool.DEBT][0])
    caps = np.array(unbacked) if sum(unbacked) > 0 else [owed[branch == b].sum() for b in (0, 1)]
    covered = left * prices[branch] >= owed
    caps = np.minimum(caps, [owed[(branch == b) & covered].sum() for b in (0, 1)])
    amount = reference.redemption_amount(
        prices[TWO], 5e6, 0.1, worth=1.0, floor=0.005, slope=1.0 / supply, most=sum(caps)
    )
    fee = 0.005 + amount / supply
    for b in (0, 1):
        own = branch == b
        left[own], owed[own], _ = reference.redeem(
            left[own], owed[own], rate[own].tolist(), amount * caps[b] / max(sum(caps), 1e-300),
            price=prices[b], lowest=1.0, paid_out=1.0 - fee, fee_leaves=0.0, closes=False,
        )  # fmt: skip
    assert_close(after[0], left, rtol=1e-7, atol=1e-7 * collateral.max())
    assert_close(after[1], owed, rtol=1e-7, atol=1e-7 * debt.max())


@pytest.mark.slow
@pytest.mark.parametrize(("v", "dtype"), [(0, np.float64), (1, np.float32)])
def test_derivatives_are_finite_and_the_type_is_kept(v, dtype):
    system = pool_systems.random_system(3, fall=0.25, depeg=0.04, dtype=dtype)
    system = dataclasses.replace(system, venues=(system.venues[v],))
    plan = Plan(steps=systems.STEPS, rounds=1, health_groups=1, differentiable=True)
    layout, rules = layouts(system, plan), systems.rules_of(system, rounds=1, differentiable=True)

    def total(system):
        books = cut_books(system, layout)
        end = final_state(plan, system, books, rules, root_key(1), jnp.zeros((), jnp.uint32))
        return sum(jnp.sum(v.flows) for v in end.venues), end

    (value, end), slopes = jax.jit(jax.value_and_grad(total, has_aux=True, allow_int=True))(system)
    assert np.isfinite(value)
    for leaf in jax.tree.leaves(end.venues):
        assert leaf.dtype in (dtype, bool)
    floating = [s for s in jax.tree.leaves(slopes) if s.dtype == dtype]
    assert all(np.isfinite(s).all() for s in floating)
    assert any((s != 0).any() for s in floating)
    assert end.venues[0].flows[Flow.DEPOSITOR_GAIN] != 0
    assert end.venues[0].flows[Flow.REDEEMED] > 0


def test_deeper_pools_leave_less_to_other_borrowers():
    losses = []
    for deposits in (0.0, 0.2, 0.5, 1.0):
        system = pool_systems.random_system(8, fall=0.6, deposits=deposits, depeg=0.0)
        round_1 = dict(systems.played_verb_by_verb(system)[:4])["round 1"]
        losses.append(float(round_1.venues[1].flows[Flow.BORROWER_LOSS]))
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1]


def test_time_brings_interest_to_depositors_and_fades_the_fee():
    system = pool_systems.random_system(4, fall=0.0, depeg=0.03, thickness=3.0)
    stages = systems.played_verb_by_verb(system)
    names = [verb for verb, _ in stages]
    last = len(names) - 1 - names[::-1].index("accrue")
    before, after = stages[last - 1][1], stages[last][1]
    for v, half_life in ((0, 12.0), (1, 6.0)):
        old, new = before.venues[v].execution, after.venues[v].execution
        assert old.base_rate > 0
        # A step is an hour.
        assert_close(new.base_rate, old.base_rate * 0.5 ** (1 / half_life), rtol=1e-6, atol=0.0)
    accounts, old, new = system.venues[1].accounts, before.venues[1], after.venues[1]
    grown = new.debt[0][0] / np.where(old.debt[0][0] > 0, old.debt[0][0], 1.0)
    rates = np.asarray(accounts.rate)[np.asarray(accounts.category) == 0]
    expected = np.where(old.debt[0][0] > 0, np.exp(rates * systems.STEP_YEARS), 0.0)
    assert_close(grown, expected, rtol=1e-12, atol=0.0)
    interest = (new.pool - old.pool)[Pool.DEBT].sum()
    paid = (new.execution.deposits - old.execution.deposits).sum()
    assert_close(paid, 0.75 * interest, rtol=1e-6, atol=0.0)


def test_a_branch_below_its_shutdown_ratio_is_redeemed_with_a_bonus_and_pays_no_interest():
    system = pool_systems.random_system(6, fall=0.9, depeg=0.05, deposits=0.0, depth=1e12)
    stages = systems.played_verb_by_verb(system)
    state = dict(stages[:4])["round 1"].venues[1]
    assert state.execution.shut.all()
    assert state.flows[Flow.REDEEMED] > 0
    ratio = state.flows[Flow.LIQUIDATED] / state.flows[Flow.REDEEMED]
    price = mid(stages[2][1])[TWO]
    # Callers' pay is small beside it: the pools are empty, and only their part is paid for.
    assert_close(ratio * price, 1.02, rtol=1e-6, atol=0.0)
    interest = [s.venues[1].flows[Flow.INTEREST] for verb, s in stages if verb == "accrue"]
    assert interest[0] > 0
    assert interest[1] == interest[2] == interest[0]


NUMBERS = st.lists(st.floats(0.5, 3.0), min_size=6, max_size=6)


@given(ratio=NUMBERS, rate=NUMBERS, share=st.floats(0.0, 1.2), shut=st.booleans())
def test_a_queue_is_served_as_by_the_exact_rule(ratio, rate, share, shut):
    debt = jnp.array([3e3, 1e4, 2e3, 5e4, 8e3, 6e3])
    price, fee = jnp.array(2000.0), jnp.array(0.01)
    collateral = jnp.asarray(ratio) * debt / price
    ones = jnp.ones(6)
    branch = Branch(
        collateral_units=collateral, debt_units=debt, held=ones, owed=ones, rate=jnp.asarray(rate)
    )
    rules = slot_of(pool_systems.random_system(0).venues[1]).redemption
    assert rules is not None
    flag, amount = jnp.array(shut), share * jnp.sum(debt)
    queue = queue_of(rules, branch, price, flag)
    ours = redeemed(rules, branch, queue, amount, price=price, fee_rate=fee, shut=flag)
    if shut:
        exact = redeem_urgently(
            amount, collateral=collateral, debt=debt, order=jnp.asarray(ratio), price=price,
            bonus=jnp.array(0.02), shut_down=flag, least=jnp.array(0.0),
        )  # fmt: skip
    else:
        line = RedemptionQueue(
            collateral=collateral, debt=debt, rate=branch.rate,
            listed=jnp.ones(6, bool), first=jnp.zeros(6, bool),
        )  # fmt: skip
        exact = redeem(
            line, amount, price=price, fee_rate=fee, minimum_debt=jnp.array(0.0),
            limit=jnp.array(jnp.inf), largest_fee=jnp.array(1.0),
        )  # fmt: skip
    assert_close(ours.repaid, exact.repaid, rtol=1e-9, atol=1e-9)
    assert_close(ours.seized, exact.seized, rtol=1e-9, atol=1e-9)
    assert (ours.fee == 0).all()


@pytest.mark.slow
def test_what_accounts_leave_and_lose_adds_up_to_the_flows():
    system = pool_systems.random_system(8, fall=0.35, depeg=0.03)
    plan = Plan(steps=systems.STEPS, rounds=systems.ROUNDS)
    trace = tracer(plan, keep_steps=False)
    rules = systems.rules_of(system)
    ids = np.arange(1)
    traced = trace(system, rules, root_key(1), ids)
    end = simulator(plan)(system, cut_books(system, layouts(system, plan)), rules, root_key(1), ids)
    for v in ISSUERS:
        flows, accounts = end.flows[0, :, v], traced.accounts[v]
        bad, refund = flows[Flow.BAD_DEBT], flows[Flow.REFUND]
        assert bad > 0
        assert_close(accounts.written_off.sum(), bad, rtol=1e-9, atol=1e-6)
        taken = flows[Flow.LIQUIDATED] - refund
        assert_close(accounts.seized.sum(), taken, rtol=1e-9, atol=1e-3)
        assert_close(accounts.repaid.sum() + bad, flows[Flow.REPAID], rtol=1e-9, atol=1e-3)
