"""Whole runs on ladders are those of the dense engine, and what ladders cannot play is said."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.market.liquidity import RespondingDepth
from jaxrisk.market.oracle import DelayedOracle
from jaxrisk.numerics.keys import root_key
from jaxrisk.system import engine as engines
from jaxrisk.system.cohorts import Cohorts, after, cut, debt_standing
from jaxrisk.system.engine import choices, ladder_applies, on_ladders
from jaxrisk.system.ladder_calls import LadderCalls
from jaxrisk.system.policy import BestPair
from jaxrisk.system.simulate import Plan, player, simulate, step_rules
from jaxrisk.venue.close import FractionClose
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.incentive import AssetBonus
from jaxrisk.venue.interest import KinkedRate
from jaxrisk.venue.recognition import NeverRecognised
from tests import ladders
from tests.helpers import assert_close

array = ladders.array
PLAY = {"steps": ladders.STEPS, "step_years": ladders.STEP_YEARS, "rounds": 12}
# A close may take the last collateral of an account; that is not equal to a rounding.
SLACK = 1e-12


def part_closed(share, full_below_health=0.95):
    return FractionClose(
        fraction=array(share),
        full_below_health=array(full_below_health),
        small_position=None,
        minimum_leftover=None,
    )


def with_interest(system):
    rate = array([0.05])
    interest = KinkedRate(
        base=rate,
        slope1=rate,
        slope2=rate * 10.0,
        optimal_utilisation=array([0.9]),
        reserve_factor=array([0.1]),
    )
    return ladders.with_venue(system, interest=interest)


def with_delay(system):
    return ladders.with_venue(system, oracle=DelayedOracle(steps=1))


def with_categories(system):
    accounts = system.venues[0].accounts
    category = jnp.asarray(np.arange(accounts.count) % 2, jnp.int32)
    thresholds = array([[0.82], [0.9]])
    return ladders.with_venue(
        system,
        accounts=dataclasses.replace(accounts, category=category),
        collateral=CollateralWeights(
            liquidation_threshold=thresholds, loan_to_value=thresholds - 0.05
        ),
        incentive=AssetBonus(bonus=array([[0.07], [0.02]]), fee_share=array([0.1])),
        categories=("", "tight"),
    )


def with_two_venues(system):
    venue = system.venues[0]
    other = dataclasses.replace(venue, name="other", close=part_closed(0.4))
    return dataclasses.replace(system, venues=(venue, other))


def with_responding_depth(system):
    depth = RespondingDepth(
        depth=system.liquidity.depth.depth,
        calm_volatility=array([0.5, 0.5, 0.5]),
        volatility_sensitivity=array(0.5),
        flow_sensitivity=array(0.5),
    )
    return dataclasses.replace(system, liquidity=dataclasses.replace(system.liquidity, depth=depth))


CHANGES = {
    "as it is": lambda system: system,
    "interest": with_interest,
    "a delayed oracle": with_delay,
    "categories": with_categories,
    "two venues": with_two_venues,
    "responding depth": with_responding_depth,
}


def check_equal(one, other, *, rtol, size):
    for field in dataclasses.fields(one):
        if field.name in ("conservation_error", "overrun"):
            continue
        # What no owner and no claim brings about is `None` on both.
        if getattr(other, field.name) is None:
            assert getattr(one, field.name) is None
        else:
            assert_close(
                getattr(one, field.name), getattr(other, field.name), rtol=rtol, atol=rtol * size
            )


def book_value(system):
    return float(jnp.sum(system.venues[0].accounts.collateral)) * ladders.PRICE["ether"]


def check_against_dense(system, seed):
    dense = simulate(system, root_key(0), scenarios=1, engine="dense", **PLAY)
    ladder = on_ladders(system, choices(system, "ladder"), 64)
    played = simulate(ladder, root_key(0), scenarios=1, engine="dense", **PLAY)
    assert float(played.overrun[0]) == 0.0
    assert float(dense.liquidated.sum()) > 0.0, seed
    check_equal(played, dense, rtol=SLACK, size=book_value(system))
    assert float(played.conservation_error[0]) < 1e-13


def random_system(seed, share, minimum_return=0.0):
    system = ladders.system_of(
        seed, strength=2.0, fall=0.1, minimum_return=minimum_return, thinnest=0.9
    )
    return system if share is None else ladders.with_venue(system, close=part_closed(share))


def test_a_run_is_that_of_the_dense_engine():
    check_against_dense(random_system(2, 0.5), 2)


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("minimum_return", [-1e3, 0.0])
def test_runs_of_every_kind_are_those_of_the_dense_engine(change, minimum_return):
    for seed, share in ((1, None), (2, 0.5), (4, 0.25)):
        check_against_dense(CHANGES[change](random_system(seed, share, minimum_return)), seed)


def test_scenarios_that_overrun_a_ladder_are_played_again():
    system = ladders.system_of(3, strength=1.0, fall=0.05, minimum_return=0.0)
    system = ladders.with_venue(system, close=part_closed(0.25, 0.0))
    dense = simulate(system, root_key(0), scenarios=1, engine="dense", **PLAY)
    small = on_ladders(system, choices(system, "ladder"), 2)
    cut_off = simulate(small, root_key(0), scenarios=1, engine="dense", **PLAY)
    assert float(cut_off.overrun[0]) == 1.0
    assert float(cut_off.liquidated[0, 0]) != pytest.approx(float(dense.liquidated[0, 0]), rel=1e-6)
    plan = Plan(steps=ladders.STEPS, rounds=PLAY["rounds"])
    rules = step_rules(system, plan, ladders.STEP_YEARS)
    play = player(system, plan, rules, root_key(0), choices(system, "ladder"))
    whole = play(np.array([0, 0, 0]))
    assert whole.liquidated.shape == (3, 1)
    check_equal(jax.tree.map(lambda x: x[2:], whole), dense, rtol=SLACK, size=book_value(system))


def test_float32_is_close_and_conserves():
    system = ladders.system_of(2, strength=2.0, fall=0.1, minimum_return=0.0)
    narrow = jax.tree.map(lambda x: x.astype(jnp.float32) if x.dtype == jnp.float64 else x, system)
    wide = simulate(system, root_key(0), scenarios=1, engine="ladder", **PLAY)
    single = simulate(narrow, root_key(0), scenarios=1, engine="ladder", **PLAY)
    assert single.flows.dtype == jnp.float32
    assert_close(single.liquidated, wide.liquidated, rtol=1e-4, atol=0.0)
    assert float(single.conservation_error[0]) < 1e-5


def test_who_keeps_cohorts_apart():
    # Two of three accounts called for a half, then all three: ranges (2, 1), then what is left.
    system = ladders.system_of(1)
    held, owed = array([1.0, 1.2, 2.0]), array([1.0, 1.0, 1.0])
    ladder = on_ladders(
        ladders.with_venue(
            system,
            close=part_closed(0.5, 0.0),
            accounts=dataclasses.replace(
                system.venues[0].accounts,
                collateral=held[None],
                debt=owed[None],
                category=jnp.zeros(3, jnp.int32),
            ),
        ),
        choices(system, "ladder"),
        4,
    )
    slot = ladder.venues[0].execution
    assert isinstance(slot, LadderCalls)
    book, whole = slot.ladders[0], Cohorts.whole(slot.ladders[0], 4)
    price = array(1.0)
    parts = cut(book, slot.rule, whole, price)
    # Health is 0.82, 0.98 and 1.64: the first two are called, and both can pay for half.
    assert np.asarray(parts.end[0]).tolist() == [0, 0, 2, 3]
    next_ = after(book, whole, parts, price, array(1.0))
    assert np.asarray(next_.end).tolist() == [2, 3, 3, 3]
    assert_close(next_.owed[:2], [0.5, 1.0], rtol=1e-15, atol=0.0)
    assert_close(next_.taken[:2], [0.5 * 1.07, 0.0], rtol=1e-15, atol=0.0)
    assert_close(debt_standing(book, next_), 2.0, rtol=1e-15, atol=0.0)


NUMBER = array(0.5)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {
                "close": FractionClose(
                    fraction=NUMBER,
                    full_below_health=NUMBER,
                    small_position=NUMBER,
                    minimum_leftover=None,
                )
            },
            "more or less than a fixed share",
        ),
        ({"recognition": NeverRecognised()}, "not written off at once"),
    ],
)
def test_what_a_ladder_cannot_play_is_said(changes, text):
    system = ladders.with_venue(ladders.system_of(0), **changes)
    applies, reason = ladder_applies(system.venues[0], system.keeper)
    assert not applies
    assert text in reason
    with pytest.raises(ValueError, match=f"venue pool: no ladder, for .*{text}"):
        simulate(system, root_key(0), scenarios=1, engine="ladder", **PLAY)
    (choice,) = choices(system, "auto")
    assert (choice.engine, choice.reason) == ("dense", reason)


def test_calls_that_cost_something_are_not_played_on_ladders():
    system = ladders.system_of(0)
    keeper = dataclasses.replace(system.keeper, cost=array(30.0), choice=BestPair())
    assert ladder_applies(system.venues[0], keeper) == (False, "calls cost keepers something")


def test_auto_takes_the_ladder_for_large_books(monkeypatch):
    system = ladders.system_of(0)
    (choice,) = choices(system, "auto")
    assert choice.engine == "dense"
    assert "fewer than" in choice.reason
    monkeypatch.setattr(engines, "PAYS_FROM", 24)
    (choice,) = choices(system, "auto")
    assert (choice.engine, choice.reason) == ("ladder", engines.APPLIES)
    (choice,) = choices(system, "dense")
    assert choice.engine == "dense"
