"""Claims in the step: what a unit is worth, how losses go up and unwinding down, what is kept."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.oracle_overlay import LateRateOracle
from jaxrisk.market.paths import GivenMoves
from jaxrisk.market.state import Market
from jaxrisk.numerics.keys import root_key
from jaxrisk.system.act import act
from jaxrisk.system.backing import AccountEquity, Deposits
from jaxrisk.system.claim_prices import Claim, Exit, opening_books
from jaxrisk.system.claim_scope import with_claims
from jaxrisk.system.owner_policy import Deleverage
from jaxrisk.system.owners import Owners, VenueOwners
from jaxrisk.system.simulate import simulate
from jaxrisk.system.system import Flow, State, System, opening_state
from jaxrisk.venue.venue import Pool
from tests import claim_systems, systems
from tests.claim_systems import MARKET, POOL, RECEIPT, SECOND, SHARE, USDC, VAULT, WETH, WSTETH
from tests.helpers import assert_close
from tests.test_step import check_conservation, collateral_units, mid

on_both_exits = pytest.mark.parametrize("redeemed", [False, True])


def equity_of_the_vault(system: System, state: State) -> float:
    """Return what the vault has, numeraire, from its own fractions and today's prices."""
    pool, own = system.venues[POOL].accounts, state.venues[POOL]
    held = float(pool.collateral[0, VAULT]) * own.collateral[0][0, VAULT] * mid(state)[WSTETH]
    owed = float(pool.debt[0, VAULT]) * own.debt[0][0, VAULT] * np.exp(own.log_index[0])
    return max(held - owed * mid(state)[WETH], 0.0)


def issued_of(market: Market) -> np.ndarray:
    """Return units outstanding of each claim."""
    assert market.issued is not None
    return np.asarray(market.issued)


def issued_in(state: State) -> np.ndarray:
    return issued_of(state.market)


def check_claims(system: System, played: list[tuple[str, State]]) -> None:
    """Fail where a claim is not worth what is behind it, or units of one come or go unseen."""
    opening = played[0][1]
    for verb, state in played:
        if verb == "move":
            continue
        price, issued = mid(state), issued_in(state)
        rate = np.exp(np.asarray(state.market.log_ratio))
        shares = issued[SHARE] * rate[SHARE] * price[WETH]
        scale = 1e-9 * issued_of(system.market)[SHARE] * mid(opening)[SHARE]
        assert_close(shares, equity_of_the_vault(system, state), rtol=1e-9, atol=scale)
        receipts = issued[RECEIPT] * rate[RECEIPT]
        supplied = state.venues[MARKET].pool[Pool.SUPPLIED, 0]
        assert_close(receipts, supplied, rtol=1e-9, atol=1e-3)
        for claim, v in ((SHARE, MARKET), (RECEIPT, SECOND)):
            posted = collateral_units(system, state, v)[0]
            assert posted <= issued[claim] * (1.0 + 1e-9)
            gone = collateral_units(system, opening, v)[0] - posted
            redeemed = issued_in(opening)[claim] - issued[claim]
            # Whatever keepers seize of a claim that can be redeemed they redeem, and nothing else.
            kept = gone if system.claims[0].exit is Exit.REDEEMED else 0.0
            assert_close(redeemed, kept, rtol=1e-9, atol=1e-9 * issued.max())


@on_both_exits
@given(
    seed=st.integers(0, 2**32 - 1),
    fall=st.floats(0.0, 0.35),
    log_depth=st.floats(6.0, 9.0),
)
def test_every_verb_keeps_balance_sheets_and_every_claim_is_worth_what_is_behind_it(
    redeemed, seed, fall, log_depth
):
    system = claim_systems.layered_system(seed, fall=fall, depth=10**log_depth, redeemed=redeemed)
    played = systems.played_verb_by_verb(system)
    check_conservation(system, played)
    check_claims(system, played)


@on_both_exits
@given(seed=st.integers(0, 2**32 - 1), fall=st.floats(0.1, 0.35))
def test_what_is_redeemed_is_paid_by_the_issuer_to_the_last_unit(redeemed, seed, fall):
    """Deposits leave as cash, unit for unit; a vault's shares leave its leverage as it is."""
    system = claim_systems.layered_system(seed, fall=fall, redeemed=redeemed)
    for (_, old), (verb, new) in itertools.pairwise(systems.played_verb_by_verb(system)):
        if not verb.startswith("round"):
            continue
        before, after = old.venues[MARKET], new.venues[MARKET]
        repaid = after.flows[Flow.REPAID] - before.flows[Flow.REPAID]
        cash, supplied = (after.pool - before.pool)[[Pool.CASH, Pool.SUPPLIED], 0]
        assert_close(cash - repaid, supplied, rtol=1e-9, atol=1e-3)
        units = issued_in(old)[RECEIPT] - issued_in(new)[RECEIPT]
        rate = np.exp(np.asarray(old.market.log_ratio))[RECEIPT]
        assert_close(-supplied, units * rate, rtol=1e-9, atol=1e-3)
        paid = after.flows[Flow.CLAIMS_REDEEMED] - before.flows[Flow.CLAIMS_REDEEMED]
        assert_close(paid, units * rate, rtol=1e-9, atol=1e-3)


def crash(system: System, moves: dict[int, float], *, steps: int = systems.STEPS) -> System:
    """Return the system whose assets move in the first step only, shares with ether."""
    table = np.zeros((1, steps, len(claim_systems.ASSETS)))
    for asset, move in moves.items():
        table[0, 0, asset] = move
    return dataclasses.replace(system, paths=GivenMoves(log_return=jnp.asarray(table)))


def liquidated(played: list[tuple[str, State]], verb: str, step: int) -> list[float]:
    """Return what had been liquidated on each venue after a verb of a step."""
    found = [state for name, state in played if name == verb][step]
    return [float(venue.flows[Flow.LIQUIDATED]) for venue in found.venues]


def test_a_vaults_loss_calls_its_holders_in_the_same_step_and_a_pools_loss_in_the_next():
    together = {WETH: -0.3, SHARE: -0.3}
    system = crash(claim_systems.layered_system(3, redeemed=False), {WSTETH: -0.42, **together})
    played = systems.played_verb_by_verb(system)
    first = liquidated(played, "absorb", 0)
    assert first[MARKET] > 0
    assert first[SECOND] == 0.0
    lost = played[-1][1].venues[MARKET].flows[Flow.BAD_DEBT]
    assert lost > 1e4
    assert liquidated(played, "absorb", 1)[SECOND] > 0
    # Had the vault not been leveraged, its shares would have fallen as ether did.
    plain = claim_systems.without_claims(system)
    rateless = systems.played_verb_by_verb(plain)[-1][1]
    assert rateless.venues[MARKET].flows[Flow.BAD_DEBT] < lost
    assert rateless.venues[SECOND].flows[Flow.LIQUIDATED] == 0.0


def test_a_rate_that_arrives_late_calls_late():
    base = claim_systems.layered_system(3)
    market = base.venues[MARKET]
    late = LateRateOracle(others=market.oracle, steps=1)
    venues = (base.venues[POOL], dataclasses.replace(market, oracle=late), base.venues[SECOND])
    # The staked token loses a part of its rate; ether stays where it is.
    table = np.zeros((1, systems.STEPS, len(claim_systems.ASSETS)))
    table[0, 0, WSTETH] = -0.09
    paths = GivenMoves(log_return=jnp.asarray(table))
    in_time = dataclasses.replace(base, paths=paths)
    played = systems.played_verb_by_verb(in_time)
    behind_a_bridge = systems.played_verb_by_verb(dataclasses.replace(in_time, venues=venues))
    assert liquidated(played, "absorb", 0)[MARKET] > 1e5
    assert liquidated(behind_a_bridge, "absorb", 0)[MARKET] == 0.0
    assert liquidated(behind_a_bridge, "absorb", 1)[MARKET] > 1e5


def test_a_share_follows_what_the_owner_of_its_vault_does():
    """He sells collateral and repays: the account changes, and its shares with its equity."""
    system = claim_systems.layered_system(3)
    number = lambda x: jnp.asarray(float(x))
    policy = Deleverage(below=number(1.45), target=number(1.6), largest_discount=number(0.5))
    idle = VenueOwners(policies=((),), givers=(None,))
    owners = Owners(
        wallet=jnp.zeros(3),
        venues=(VenueOwners(policies=((policy,),), givers=(None,)), idle, idle),
    )
    venues = tuple(
        dataclasses.replace(v, accounts=dataclasses.replace(v.accounts, owner=jnp.arange(3)))
        for v in system.venues
    )
    system = dataclasses.replace(system, venues=venues, owners=owners)
    books, rules = opening_books(system), systems.rules_of(system)

    @jax.jit
    def acted(system: System) -> tuple[State, State]:
        state = opening_state(system, books)
        return state, act(system, books, rules, state)

    before, after = jax.device_get(acted(system))
    assert after.venues[POOL].collateral[0][0, VAULT] < before.venues[POOL].collateral[0][0, VAULT]
    shares = issued_in(after)[SHARE] * np.exp(after.market.log_ratio[SHARE]) * mid(after)[WETH]
    assert_close(shares, equity_of_the_vault(system, after), rtol=1e-12, atol=0.0)
    assert after.market.log_ratio[SHARE] < before.market.log_ratio[SHARE]


def test_redeeming_shares_unwinds_the_vault_and_leaves_its_leverage():
    system = claim_systems.layered_system(3, depth=1e10, redeemed=True)
    fall = {WETH: -0.1, SHARE: -0.1, WSTETH: -0.1}
    system = crash(system, fall)
    played = systems.played_verb_by_verb(system)
    before, after = (next(s for n, s in played if n == verb) for verb in ("accrue", "round 1"))
    left = issued_in(after)[SHARE] / issued_in(before)[SHARE]
    assert 0.0 < left < 0.9
    for side in ("collateral", "debt"):
        was, now = (getattr(s.venues[POOL], side)[0][0, VAULT] for s in (before, after))
        assert_close(now / was, left, rtol=1e-12, atol=0.0)
    owed = float(system.venues[POOL].accounts.debt[0, VAULT])
    change = after.venues[POOL].pool - before.venues[POOL].pool
    assert_close(change[Pool.CASH, 0], (1.0 - left) * owed, rtol=1e-4, atol=0.0)
    assert after.venues[POOL].flows[Flow.LIQUIDATED] == 0.0
    # What the pool was paid is not lost to the vault: its shares fall only with what is sold.
    assert after.market.displacement[WSTETH] > after.market.displacement[WETH]


@pytest.mark.parametrize(("cash", "waits"), [(1e7, False), (1e4, True)])
def test_calls_wait_for_the_cash_of_the_issuer(cash, waits):
    rng = np.random.default_rng(5)
    venues = claim_systems.layers(rng, cash=cash, health=0.97)
    # Nobody on the middle layer can be called, so that no cash comes in.
    accounts = dataclasses.replace(venues[MARKET].accounts, debt=venues[MARKET].accounts.debt * 0.5)
    market = dataclasses.replace(venues[MARKET], accounts=accounts)
    debt = jnp.sum(accounts.debt)
    pool = market.pool.at[Pool.DEBT, 0].set(debt).at[Pool.SUPPLIED, 0].set(debt + cash)
    market = dataclasses.replace(market, pool=pool)
    receipts = venues[SECOND].accounts
    scale = 0.9 * float(debt + cash) / float(receipts.collateral.sum())
    second = dataclasses.replace(
        venues[SECOND],
        accounts=dataclasses.replace(
            receipts, collateral=receipts.collateral * scale, debt=receipts.debt * scale
        ),
        pool=venues[SECOND].pool * scale,
    )
    system = claim_systems.layered_system(
        5, fall=0.0, depth=1e12, redeemed=True, venues=(venues[POOL], market, second)
    )
    end = systems.played_verb_by_verb(system)[-1][1]
    assert issued_in(end)[RECEIPT] < issued_of(system.market)[RECEIPT]
    left = float(end.venues[MARKET].pool[Pool.CASH, 0])
    assert left >= -1e-6
    owed = end.venues[SECOND].pool[Pool.DEBT, 0] / second.pool[Pool.DEBT, 0]
    if waits:
        assert left < 1e-3 * cash
        assert 0.9 < owed < 1.0
    else:
        assert owed < 1e-9


def test_calls_on_a_claim_that_has_no_way_out_wait_however_deep_the_markets_are():
    fall = dict.fromkeys((WETH, WSTETH, SHARE), -0.2)
    system = crash(claim_systems.layered_system(3, depth=1e12), fall)
    shut = tuple(dataclasses.replace(claim, exit=Exit.SHUT) for claim in system.claims)
    ends = [
        systems.played_verb_by_verb(each)[-1][1].venues[MARKET]
        for each in (system, dataclasses.replace(system, claims=shut))
    ]
    sold, waiting = (float(end.flows[Flow.LIQUIDATED]) for end in ends)
    assert sold > 1e5
    assert waiting == 0.0
    assert ends[1].pool[Pool.DEBT, 0] > ends[0].pool[Pool.DEBT, 0]


def test_a_claim_with_nothing_behind_it_is_written_off_and_its_venue_bears_the_rest():
    for redeemed in (False, True):
        system = claim_systems.layered_system(3, redeemed=redeemed)
        system = crash(system, {WSTETH: -0.9, WETH: -0.2, SHARE: -0.2})
        end = systems.played_verb_by_verb(system)[-1][1]
        assert float(mid(end)[SHARE]) < 1e-5
        owed = float(system.venues[MARKET].accounts.debt.sum())
        assert_close(end.venues[MARKET].flows[Flow.BAD_DEBT], owed, rtol=1e-3, atol=0.0)


@pytest.mark.slow
def test_a_scenario_does_not_depend_on_which_others_are_played():
    system = claim_systems.layered_system(3, fall=0.2, redeemed=True)
    assert isinstance(system.paths, GivenMoves)
    many = jnp.concatenate([system.paths.log_return * s for s in (0.5, 1.0, 1.5, 0.1, 0.9)])
    system = dataclasses.replace(system, paths=GivenMoves(log_return=many))
    play = lambda ids: simulate(
        system, root_key(1), scenarios=ids, steps=3, step_years=systems.STEP_YEARS, rounds=3
    )
    whole = play([0, 1, 2, 3, 4])
    for i in range(5):
        alone = play([i])
        for one, all_of_them in zip(jax.tree.leaves(alone), jax.tree.leaves(whole), strict=True):
            np.testing.assert_array_equal(np.asarray(one)[0], np.asarray(all_of_them)[i])


def test_shares_that_hold_each_other_open_at_the_solution_and_follow_it():
    """x = (a + m y - d) / n and the same of y: two linear equations."""
    system, out = two_vaults(0.4), np.array([100.0, 200.0])
    price = np.asarray(system.market.price)[[3, 4]]
    own, owed = np.array([30.0, 20.0]) * 3000.0, np.array([20e3, 10e3])
    matrix = np.array([[out[0], -0.4 * out[1]], [-0.4 * out[0], out[1]]])
    assert_close(price, np.linalg.solve(matrix, own - owed), rtol=1e-9, atol=0.0)
    fallen = crash(system, {WETH: -0.1}, steps=12)
    end = simulate(
        fallen, root_key(0), scenarios=1, steps=12, step_years=systems.STEP_YEARS, rounds=2
    )
    own = own * np.exp(-0.1)
    expected = np.linalg.solve(matrix, own - owed)
    assert_close(end.price[0, 3:], expected, rtol=1e-9, atol=0.0)


def two_vaults(part: float, issued: tuple[float, float] = (100.0, 200.0)) -> System:
    """Return vaults of ether that each hold `part` of the shares of the other, against dollars."""
    accounts = lambda held, other, owed, name: claim_systems.vault_of_two(
        held, other, part * issued[1 if other == RECEIPT else 0], owed, name
    )
    venues = (accounts(30.0, RECEIPT, 20e3, "one"), accounts(20.0, SHARE, 10e3, "two"))
    plain = claim_systems.without_claims(claim_systems.layered_system(1, fall=0.0))
    system = dataclasses.replace(plain, venues=venues)
    claims = [
        Claim(backing=AccountEquity(venue=0, account=0), asset=SHARE),
        Claim(backing=AccountEquity(venue=1, account=0), asset=RECEIPT),
    ]
    return with_claims(system, claims, list(issued))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: [Claim(backing=AccountEquity(venue=0, account=9), asset=SHARE)], "no account 9"),
        (lambda s: [Claim(backing=AccountEquity(venue=0, account=1), asset=WETH)], "peg it"),
        (lambda s: [*claim_systems.claims_of(s, redeemed=True)] * 2, "2 claims at once"),
        (
            lambda s: [
                Claim(
                    backing=Deposits(
                        units=jnp.array([1e9]),
                        idle=jnp.zeros(()),
                        places=((MARKET, 0),),
                        idle_asset=USDC,
                    ),
                    asset=RECEIPT,
                )
            ],
            "are supplied",
        ),
    ],
)
def test_what_nothing_can_be_a_claim_on_is_refused_by_name(change, said):
    system = claim_systems.without_claims(claim_systems.layered_system(1))
    with pytest.raises(ValueError, match=said):
        with_claims(system, change(system))


def test_more_collateral_than_is_out_is_refused_over_all_venues_together():
    system = claim_systems.without_claims(claim_systems.layered_system(1))
    claims = claim_systems.claims_of(system, redeemed=False)
    with pytest.raises(ValueError, match=r"share: .* are collateral and only 10 are out"):
        with_claims(system, claims, [None, 10.0])


def test_shares_wholly_in_each_others_hands_are_refused_by_name():
    with pytest.raises(ValueError, match="share -> receipt -> share"):
        two_vaults(1.0)
