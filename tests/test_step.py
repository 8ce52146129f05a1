"""The step on random systems: what is conserved, who bears what, and what cannot happen."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxrisk.system import keeper_calls, step
from jaxrisk.system.calls import Calls
from jaxrisk.system.system import Flow, State, System
from jaxrisk.venue.staked_coverage import StakedCoverage
from jaxrisk.venue.venue import Pool, changed_pool, imbalance
from jaxrisk.venue.waterfall import Residual
from tests import reference, systems
from tests.helpers import assert_close

EPS = np.finfo(np.float64).eps
KINDS = [(policy, has_cost) for policy in systems.POLICIES for has_cost in (False, True)]

on_every_kind = pytest.mark.parametrize(("policy", "has_cost"), KINDS)
on_random_systems = given(
    seed=st.integers(0, 2**32 - 1),
    fall=st.floats(0.0, 0.5),
    log_depth=st.floats(5.0, 9.0),
    log_funds=st.floats(0.0, 7.0),
)


def random_system(policy, has_cost, seed, fall, log_depth, log_funds):
    return systems.random_system(
        seed, policy=policy, has_cost=has_cost, fall=fall, depth=10**log_depth, funds=10**log_funds
    )


def debt_units(system: System, state: State, v: int) -> np.ndarray:
    """Return the units owed on venue `v`, added up account by account."""
    fraction = np.concatenate([np.asarray(f) for f in state.venues[v].debt], axis=1)
    units = (np.asarray(system.venues[v].accounts.debt) * fraction).sum(axis=1)
    return units * np.exp(state.venues[v].log_index)


def collateral_units(system: System, state: State, v: int) -> np.ndarray:
    """Return the units posted on venue `v`, added up account by account."""
    fraction = np.concatenate([np.asarray(f) for f in state.venues[v].collateral], axis=1)
    return (np.asarray(system.venues[v].accounts.collateral) * fraction).sum(axis=1)


def mid(state: State) -> np.ndarray:
    return np.asarray(state.market.price) * np.exp(-np.asarray(state.market.displacement))


def check_conservation(system: System, played: list[tuple[str, State]]) -> None:
    """Fail at the first verb after which a balance sheet does not add up."""
    gross = [np.zeros(venue.pool.shape[1]) for venue in system.venues]
    for (_, before), (verb, after) in itertools.pairwise(played):
        for v, (old, new) in enumerate(zip(before.venues, after.venues, strict=True)):
            gross[v] += np.abs(new.pool - old.pool).sum(axis=0)
            allowed = 1e-9 * gross[v] + 64 * EPS * np.abs(new.pool).sum(axis=0)
            error = np.abs(imbalance(new.pool))
            assert (error <= allowed).all(), f"{verb}: venue {v} is out of balance by {error}"
            error = np.abs(debt_units(system, after, v) - new.pool[Pool.DEBT])
            assert (error <= allowed).all(), f"{verb}: venue {v} books another debt, {error}"


@on_every_kind
@on_random_systems
def test_every_verb_keeps_every_balance_sheet(policy, has_cost, seed, fall, log_depth, log_funds):
    system = random_system(policy, has_cost, seed, fall, log_depth, log_funds)
    check_conservation(system, systems.played_verb_by_verb(system))


@on_random_systems
@example(seed=17, fall=0.3, log_depth=5.0, log_funds=3.0)
def test_stakes_are_slashed_for_what_the_reference_says_and_books_balance(
    seed, fall, log_depth, log_funds
):
    system = systems.covered(random_system("pro_rata", False, seed, fall, log_depth, log_funds))
    played = systems.played_verb_by_verb(system)
    check_conservation(system, played)
    absorbed = [
        (old, new) for (_, old), (verb, new) in itertools.pairwise(played) if verb == "absorb"
    ]
    for v, rules in enumerate(system.venues):
        venues = [(old.venues[v], new.venues[v]) for old, new in absorbed]
        seen = [
            np.asarray(rules.oracle.seen(new.venues[v].oracle, new.market)) for _, new in absorbed
        ]
        covered = np.zeros((len(absorbed), rules.pool.shape[1]))
        fees, given_up = np.zeros_like(covered), np.zeros_like(covered)
        for k, rule in enumerate(rules.waterfall):
            if not isinstance(rule, StakedCoverage):
                continue
            outcomes = reference.staked_coverage(
                # Nothing is in the reserve in front, so that every deficit reaches the stakes.
                [float(old.pool[Pool.UNSETTLED, rule.row]) for old, _ in venues],
                [p[rule.covered] / p[rule.staked] for p in seen],
                stake=float(rules.funds[k]),
                offset=float(rule.offset),
                fee=float(rule.fee),
                kept=float(rule.kept),
            )
            for t, (paid, fee, slashed) in enumerate(outcomes):
                covered[t, rule.row], fees[t, rule.row] = paid, fee
                given_up[t, rule.row] = (paid + fee) if rule.pool_share else 0.0
                old, new = venues[t]
                size = float(rules.funds[k])
                assert_close(old.funds[k] - new.funds[k], slashed, rtol=1e-9, atol=1e-12 * size)
                assert new.funds[k] >= rule.kept * (1.0 - 1e-12)
        for t, (old, new) in enumerate(venues):
            change, units = new.pool - old.pool, old.pool[Pool.UNSETTLED]
            slack = {"rtol": 1e-9, "atol": 64 * EPS * np.abs(new.pool).sum()}
            claims = np.where(given_up[t] > 0, fees[t], 0.0)
            assert_close(change[Pool.TREASURY], claims, **slack)
            carried = rules.residual is Residual.CARRIED
            borne = change[Pool.DEFICIT] if carried else -change[Pool.SUPPLIED]
            if carried:
                assert_close(-change[Pool.SUPPLIED], given_up[t], **slack)
            # Stakes, insurance and whoever is left: together they bear every unit.
            insured = change[Pool.CASH] - np.where(given_up[t] > 0, 0.0, covered[t])
            assert (insured >= -slack["atol"]).all()
            assert_close(covered[t] + insured + borne, units, **slack)
            flows, price = (
                new.flows - old.flows,
                mid(absorbed[t][1])[list(rules.accounts.debt_assets)],
            )
            assert_close(flows[Flow.SLASH_FEE], fees[t] @ price, rtol=1e-9, atol=1e-9)
        flows = venues[-1][1].flows
        borne = venues[-1][1].paid.sum() + flows[Flow.RESIDUAL]
        assert_close(borne, flows[Flow.BAD_DEBT], rtol=1e-12, atol=1e-9)


def test_stakes_are_slashed_at_all():
    """One of the systems above has deficits beyond every offset, and two stakes too small."""
    system = systems.covered(systems.random_system(17, fall=0.3, depth=1e5, funds=1e3))
    _, end = systems.played_verb_by_verb(system)[-1]
    for venue in end.venues:
        assert (venue.paid[1:-1] > 0).all()
        assert venue.flows[Flow.SLASH_FEE] > 0


def test_a_flow_booked_on_one_side_only_is_caught(monkeypatch):
    def forgetful(**rows):
        return changed_pool(**{row: rows[row] for row in rows if row != "cash"})

    monkeypatch.setattr(step, "changed_pool", forgetful)
    monkeypatch.setattr(keeper_calls, "changed_pool", forgetful)
    system = systems.random_system(1)
    played = systems.played_verb_by_verb(system, afresh=True)
    with pytest.raises(AssertionError, match=r"^round 1: venue 0 is out"):
        check_conservation(system, played)


def test_a_call_that_does_not_reach_the_accounts_is_caught(monkeypatch):
    monkeypatch.setattr(Calls, "gone_through", lambda self, standing, ration: standing)
    system = systems.random_system(1)
    played = systems.played_verb_by_verb(system, afresh=True)
    with pytest.raises(AssertionError, match=r"^round \d: venue 0 books another debt"):
        check_conservation(system, played)


def rounds_of(played):
    """Return (before, after) of every cascade round."""
    pairs = itertools.pairwise(played)
    return [(old, new) for (_, old), (verb, new) in pairs if verb.startswith("round")]


def values(system, state, prices, v):
    """Return collateral and debt of venue `v` at given prices."""
    accounts = system.venues[v].accounts
    held = collateral_units(system, state, v) @ prices[list(accounts.collateral_assets)]
    return held, debt_units(system, state, v) @ prices[list(accounts.debt_assets)]


@on_every_kind
@on_random_systems
def test_what_borrowers_lose_others_gain(policy, has_cost, seed, fall, log_depth, log_funds):
    system = random_system(policy, has_cost, seed, fall, log_depth, log_funds)
    for old, new in rounds_of(systems.played_verb_by_verb(system)):
        prices = mid(old)
        sold = (np.asarray(new.market.recent_sales) - old.market.recent_sales).sum()
        borrowers = suppliers = size = paid = received = fees = 0.0
        for v, venue in enumerate(system.venues):
            (held, owed), (held_after, owed_after) = (
                values(system, state, prices, v) for state in (old, new)
            )
            flows = new.venues[v].flows - old.venues[v].flows
            change = (new.venues[v].pool - old.venues[v].pool) @ np.diag(
                prices[list(venue.accounts.debt_assets)]
            )
            slack = {"rtol": 1e-9, "atol": 64 * EPS * (held + owed)}
            assert_close(flows[Flow.LIQUIDATED], held - held_after, **slack)
            assert_close(flows[Flow.REPAID], change[Pool.CASH].sum(), **slack)
            borrowers += (held_after - owed_after) - (held - owed)
            # What is written off is the suppliers' until funds and residual bearer are named.
            suppliers -= change[Pool.UNSETTLED].sum()
            paid += change[Pool.CASH].sum()
            fees += flows[Flow.FEE]
            received += flows[Flow.PROCEEDS]
            size += held + owed
        keepers = sold - paid
        total = borrowers + keepers + fees + suppliers
        assert_close(total, 0.0, rtol=0.0, atol=1e-9 * sold + 256 * EPS * size)
        # Slippage is what the buyers gain.
        assert received <= sold * (1.0 + 1e-12)


@on_every_kind
@on_random_systems
def test_losses_end_on_named_bearers(policy, has_cost, seed, fall, log_depth, log_funds):
    system = random_system(policy, has_cost, seed, fall, log_depth, log_funds)
    played = systems.played_verb_by_verb(system)
    for (verb, _), (_, state) in zip(played, played, strict=True):
        for rules, venue in zip(system.venues, state.venues, strict=True):
            assert (venue.funds >= 0).all()
            for fraction in (*venue.collateral, *venue.debt):
                assert fraction.min() >= -1e-12
                assert fraction.max() <= 1.0
            if verb != "absorb":
                continue
            flows = venue.flows
            borne = venue.paid.sum() + flows[Flow.RESIDUAL]
            assert_close(borne, flows[Flow.BAD_DEBT], rtol=1e-12, atol=1e-9)
            assert_close(venue.funds + venue.paid, rules.funds, rtol=1e-12, atol=1e-9)
            assert (venue.pool[Pool.UNSETTLED] == 0).all()
            carried = rules.residual is Residual.CARRIED
            assert carried or (venue.pool[Pool.DEFICIT] == 0).all()
            size = np.abs(flows).sum()
            assert (flows >= -1e-12 * size).all()


@on_every_kind
@on_random_systems
def test_larger_funds_never_raise_the_loss_of_suppliers(
    policy, has_cost, seed, fall, log_depth, log_funds
):
    system = random_system(policy, has_cost, seed, fall, log_depth, log_funds)
    insured = systems.with_venues(system, lambda v: dataclasses.replace(v, funds=3.0 * v.funds))
    before, after = (systems.played_verb_by_verb(s)[-1][1] for s in (system, insured))
    for old, new in zip(before.venues, after.venues, strict=True):
        bad_debt = old.flows[Flow.BAD_DEBT]
        assert new.flows[Flow.RESIDUAL] <= old.flows[Flow.RESIDUAL] + 1e-12 * bad_debt
        # Not to rounding: what a fund pays in lowers utilisation, and with it a step's interest.
        assert new.flows[Flow.LIQUIDATED] == pytest.approx(old.flows[Flow.LIQUIDATED], rel=1e-6)


def assert_same_end(actual: State, expected: State, *, factor: float = 1.0) -> None:
    # The market first: of accounts only flows and pools compare, in units and in money.
    assert_close(mid(actual), factor * mid(expected), rtol=1e-9, atol=0.0)
    for new, old in zip(actual.venues, expected.venues, strict=True):
        size = factor * np.abs(old.flows).sum()
        assert_close(new.flows, factor * old.flows, rtol=1e-9, atol=1e-11 * size)
        assert_close(new.pool, old.pool, rtol=1e-9, atol=1e-9)


@on_every_kind
@on_random_systems
def test_the_order_of_accounts_does_not_matter(policy, has_cost, seed, fall, log_depth, log_funds):
    system = random_system(policy, has_cost, seed, fall, log_depth, log_funds)
    ends = [systems.played_verb_by_verb(s)[-1][1] for s in (systems.permuted(system, seed), system)]
    assert_same_end(*ends)


@on_every_kind
@on_random_systems
def test_the_numeraire_does_not_matter(policy, has_cost, seed, fall, log_depth, log_funds):
    system = random_system(policy, has_cost, seed, fall, log_depth, log_funds)
    ends = [
        systems.played_verb_by_verb(s)[-1][1]
        for s in (systems.in_other_numeraire(system, 10.0), system)
    ]
    assert_same_end(*ends, factor=10.0)


@pytest.mark.parametrize("policy", systems.POLICIES)
@on_random_systems
# The oracle lags on the debt that is repaid, not only on the collateral.
@example(seed=205, fall=0.45409280754848186, log_depth=5.912241176264718, log_funds=4.0)
def test_keepers_call_only_for_what_they_can_sell_at_a_profit(
    policy, seed, fall, log_depth, log_funds
):
    system = random_system(policy, False, seed, fall, log_depth, log_funds)
    for old, new in rounds_of(systems.played_verb_by_verb(system)):
        for v in range(len(system.venues)):
            flows = new.venues[v].flows - old.venues[v].flows
            profit, repaid = flows[Flow.PROCEEDS] - flows[Flow.REPAID], flows[Flow.REPAID]
            assert profit >= -1e-9 * repaid, f"venue {v} loses {-profit / repaid:.2%} of {repaid}"


@pytest.mark.parametrize("policy", systems.POLICIES)
def test_nothing_happens_to_healthy_accounts_in_a_calm_market(policy):
    system = systems.random_system(3, policy=policy, fall=0.0)
    safe = systems.with_venues(
        system,
        lambda v: dataclasses.replace(
            v, accounts=dataclasses.replace(v.accounts, debt=0.1 * v.accounts.debt)
        ),
    )
    end = systems.played_verb_by_verb(safe)[-1][1]
    for venue in end.venues:
        moved = [Flow.LIQUIDATED, Flow.REPAID, Flow.BAD_DEBT, Flow.PROCEEDS, Flow.RESIDUAL]
        assert (venue.flows[moved] == 0).all()
        assert all((f == 1).all() for f in (*venue.collateral, *venue.debt))
