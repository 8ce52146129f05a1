"""The ladder plays what a loop over accounts plays, and what the dense engine plays."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.impact import SquareRootImpact
from jaxrisk.market.liquidity import RespondingDepth
from jaxrisk.market.oracle import DelayedOracle
from jaxrisk.numerics.keys import root_key
from jaxrisk.system.ladder import Ladder, LadderRules, play_ladder
from jaxrisk.system.ladder_scope import ladder_of, prefix_applies, simulate_ladder
from jaxrisk.system.simulate import simulate
from jaxrisk.venue.close import FractionClose
from jaxrisk.venue.incentive import UniformBonus
from jaxrisk.venue.recognition import NeverRecognised
from tests import ladders
from tests.helpers import assert_close

SEEDS = st.integers(0, 2**32 - 1)
ROUNDS = 30
PLAY = {"steps": ladders.STEPS, "step_years": ladders.STEP_YEARS, "rounds": ROUNDS}


@functools.partial(jax.jit, static_argnames="rounds")
def play(ladder, market, moves, rounds=ROUNDS):
    return play_ladder(ladder, market, moves[:, 0], moves[:, 1], rules=LadderRules(rounds=rounds))


def on_ladder(system):
    ladder, market = ladder_of(system, ladders.STEP_YEARS)
    return play(ladder, market, ladders.moves_of(system))


@pytest.mark.parametrize("kind", ["linear", "root", "curve"])
@given(
    seed=SEEDS,
    strength=st.floats(0.1, 6.0),
    fall=st.floats(0.0, 0.4),
    permanent=st.floats(0.0, 1.0),
    thinnest=st.sampled_from([0.8, 1.0]),
)
def test_a_scenario_is_that_of_a_loop_over_accounts(
    kind, seed, strength, fall, permanent, thinnest
):
    system = ladders.system_of(
        seed, kind=kind, strength=strength, fall=fall, permanent=permanent, thinnest=thinnest
    )
    expected = ladders.played(system, kind, strength, ROUNDS)
    outcome = on_ladder(system)
    book = float(jnp.sum(system.venues[0].accounts.collateral)) * ladders.PRICE["ether"]
    for name in ("liquidated", "repaid", "bad_debt", "fee"):
        assert_close(getattr(outcome, name), getattr(expected, name), rtol=1e-12, atol=1e-12 * book)
    assert_close(outcome.price, expected.price, rtol=1e-12, atol=0.0)
    assert float(outcome.rounds) * ladders.STEPS == expected.rounds
    assert float(outcome.unconverged) == 0.0


@pytest.mark.parametrize("kind", ["linear", "root", "curve"])
@pytest.mark.parametrize("rounds", [1, ROUNDS])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_scenario_is_that_of_the_dense_engine(kind, rounds, seed):
    system = ladders.system_of(seed, kind=kind, strength=3.0, fall=0.15)
    assert prefix_applies(system)[0]
    dense = simulate(system, root_key(0), scenarios=1, **(PLAY | {"rounds": rounds}))
    outcome = simulate_ladder(system, root_key(0), scenarios=1, **(PLAY | {"rounds": rounds}))
    assert float(outcome.bad_debt[0]) > 0.0
    for name in ("liquidated", "repaid", "bad_debt"):
        expected = getattr(dense, name)[:, 0]
        assert_close(getattr(outcome, name), expected, rtol=1e-12, atol=0.0)
    assert_close(outcome.fee, dense.protocol_fee[:, 0], rtol=1e-12, atol=0.0)
    assert_close(outcome.price, dense.price[:, 0], rtol=1e-12, atol=0.0)
    assert_close(outcome.rounds, dense.rounds, rtol=0.0, atol=0.0)
    assert_close(outcome.unconverged, dense.unconverged, rtol=0.0, atol=0.0)
    assert float(outcome.rationed[0]) == 0.0


@pytest.mark.parametrize("depth", [1e5, 1e6, 1e7, 1e8])
@pytest.mark.parametrize("seed", [4, 5])
def test_where_keepers_leave_calls_the_ladder_says_so(seed, depth):
    system = ladders.system_of(seed, depth=depth, minimum_return=0.0, fall=0.05)
    dense = simulate(system, root_key(0), scenarios=1, **PLAY)
    outcome = simulate_ladder(system, root_key(0), scenarios=1, **PLAY)
    same = np.allclose(outcome.liquidated, dense.liquidated[:, 0], rtol=1e-12, atol=0.0)
    assert same == (float(outcome.rationed[0]) == 0.0)
    assert same == (depth > 1e5)


def test_the_order_of_accounts_does_not_matter():
    rng = np.random.default_rng(0)
    held, owed = rng.uniform(1.0, 2.0, (2, 50))
    incentive = UniformBonus(bonus=ladders.array(0.05), fee_share=ladders.array(0.0))
    build = lambda order: Ladder.of(
        ladders.array(held[order]), ladders.array(owed[order]), ladders.array(0.8), incentive
    )
    first, second = build(np.arange(50)), build(rng.permutation(50))
    assert (np.diff(first.log_trigger) <= 0.0).all()
    for price in (0.3, 0.9, 1.3, 5.0):
        one, other = (
            ladder.close(ladders.UNTOUCHED, jnp.log(ladders.array(price)))
            for ladder in (first, second)
        )
        called = owed > held * price * 0.8
        for reached in (one[0], other[0]):
            assert_close(reached.held, held[called].sum(), rtol=1e-14, atol=0.0)
            assert_close(reached.owed, owed[called].sum(), rtol=1e-14, atol=0.0)
        paid = np.minimum(owed, held * price / 1.05)[called].sum()
        for closed in (one[1], other[1]):
            assert_close(closed.repaid, paid, rtol=1e-12, atol=0.0)
            assert_close(closed.written_off, owed[called].sum() - paid, rtol=0.0, atol=1e-12)


def test_what_is_closed_stays_closed():
    system = ladders.system_of(7)
    ladder, _ = ladder_of(system, ladders.STEP_YEARS)
    reached, _ = ladder.close(ladders.UNTOUCHED, jnp.log(ladders.array(1200.0)))
    again, closed = ladder.close(reached, jnp.log(ladders.array(1900.0)))
    assert (float(again.held), float(again.owed)) == (float(reached.held), float(reached.owed))
    assert float(reached.owed) > 0.0
    assert (float(closed.seized), float(closed.repaid), float(closed.written_off)) == (0, 0, 0)


def test_derivatives_of_amounts_are_those_of_bumps_while_no_account_changes_sides():
    system = ladders.system_of(8, kind="root", strength=2.0, fall=0.15)
    ladder, market = ladder_of(system, ladders.STEP_YEARS)
    moves, incentive, law = ladders.moves_of(system), ladder.incentive, market.law
    assert isinstance(incentive, UniformBonus)
    assert isinstance(law, SquareRootImpact)

    def losses(coefficient, depth, bonus):
        sloped = dataclasses.replace(law, coefficient=coefficient)
        own = dataclasses.replace(market, law=sloped, depth=depth)
        book = dataclasses.replace(ladder, incentive=dataclasses.replace(incentive, bonus=bonus))
        rules = LadderRules(rounds=8, differentiable=True)
        outcome = play_ladder(book, own, moves[:, 0], moves[:, 1], rules=rules)
        return outcome.liquidated + outcome.bad_debt + outcome.price

    at = (law.coefficient, market.depth, incentive.bonus)
    losses = jax.jit(losses)
    slopes = jax.grad(losses, argnums=(0, 1, 2))(*at)
    for k, slope in enumerate(slopes):
        bump = 1e-7 * at[k]
        up, down = (
            losses(*(x + sign * bump if i == k else x for i, x in enumerate(at)))
            for sign in (1.0, -1.0)
        )
        slope = jnp.sum(slope)
        assert abs(float(slope)) > 0.0
        assert_close(slope, (up - down) / (2.0 * jnp.sum(bump)), rtol=1e-5, atol=0.0)


NUMBER = ladders.array(0.5)
REFUSED = {
    "part of an account": lambda s: ladders.with_venue(
        s,
        close=FractionClose(
            fraction=NUMBER, full_below_health=NUMBER, small_position=None, minimum_leftover=None
        ),
    ),
    "not written off at once": lambda s: ladders.with_venue(s, recognition=NeverRecognised()),
    "market's mid": lambda s: ladders.with_venue(s, oracle=DelayedOracle(steps=1)),
    "interest": lambda s: ladders.with_venue(
        s, interest=dataclasses.replace(s.venues[0].interest, base=ladders.array([0.1]))
    ),
    "categories": lambda s: ladders.with_venue(
        s,
        accounts=dataclasses.replace(
            s.venues[0].accounts, category=jnp.arange(ladders.ACCOUNTS, dtype=jnp.int32) % 2
        ),
    ),
    "2 venues": lambda s: dataclasses.replace(s, venues=s.venues * 2),
    "depth reacts": lambda s: dataclasses.replace(
        s,
        liquidity=dataclasses.replace(
            s.liquidity,
            depth=RespondingDepth(
                depth=s.liquidity.depth.depth,
                calm_volatility=s.liquidity.depth.depth,
                volatility_sensitivity=NUMBER,
                flow_sensitivity=NUMBER,
            ),
        ),
    ),
    "cost": lambda s: dataclasses.replace(s, keeper=dataclasses.replace(s.keeper, cost=NUMBER)),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_system_that_is_no_ladder_is_refused_with_the_reason(reason):
    system = REFUSED[reason](ladders.system_of(0))
    applies, why = prefix_applies(system)
    assert not applies
    assert reason in why
    with pytest.raises(ValueError, match="no ladder for this system"):
        simulate_ladder(system, root_key(0), scenarios=1, **PLAY)
