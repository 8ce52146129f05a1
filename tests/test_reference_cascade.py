"""The engine's step against the scalar reference, flow by flow and unit by unit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.impact import SquareRootImpact
from jaxrisk.market.liquidity import RespondingDepth
from jaxrisk.market.oracle import DeviationOracle
from jaxrisk.market.paths import GivenMoves
from jaxrisk.system.system import Flow, State, System
from jaxrisk.venue.close import FractionClose
from jaxrisk.venue.incentive import AssetBonus, UniformBonus
from jaxrisk.venue.interest import KinkedRate
from jaxrisk.venue.venue import Pool
from jaxrisk.venue.venue import Venue as EngineVenue
from jaxrisk.venue.waterfall import Residual
from tests import reference_cascade as reference
from tests import systems
from tests.helpers import assert_close

SEEDS = st.integers(0, 2**32 - 1)


def reference_venue(venue: EngineVenue, opening_price: np.ndarray) -> reference.Venue:
    accounts, close = venue.accounts, venue.close
    category = np.asarray(accounts.category)
    held = accounts.collateral.shape[0]
    has_factor = isinstance(close, FractionClose)
    incentive, interest = venue.incentive, venue.interest
    assert isinstance(interest, KinkedRate)
    assert isinstance(incentive, UniformBonus | AssetBonus)
    shape = (len(venue.categories), held)
    oracle = venue.oracle
    return reference.Venue(
        held_assets=accounts.collateral_assets,
        owed_assets=accounts.debt_assets,
        category=category.tolist(),
        collateral=np.array(accounts.collateral),
        debt=np.array(accounts.debt),
        threshold=np.asarray(venue.collateral.liquidation_threshold)[category].T,
        bonus=np.broadcast_to(incentive.bonus, shape)[category].T,
        fee_share=np.broadcast_to(incentive.fee_share, (held,)),
        deviation=np.asarray(oracle.deviation) if isinstance(oracle, DeviationOracle) else None,
        close_factor=0.5 if has_factor else None,
        full_below_health=0.95,
        small_position=2e3,
        minimum_leftover=1e3,
        rate={
            "base": np.asarray(interest.base),
            "slope1": np.asarray(interest.slope1),
            "slope2": np.asarray(interest.slope2),
            "optimal": np.asarray(interest.optimal_utilisation),
            "reserve_factor": np.asarray(interest.reserve_factor),
        },
        carried=venue.residual is Residual.CARRIED,
        funds=np.asarray(venue.funds).tolist(),
        cash=np.array(venue.pool[Pool.CASH]),
        supplied=np.array(venue.pool[Pool.SUPPLIED]),
        treasury=np.array(venue.pool[Pool.TREASURY]),
        published=opening_price.copy(),
    )


def reference_world(system: System, policy: str) -> reference.World:
    market, liquidity, keeper = system.market, system.liquidity, system.keeper
    assert isinstance(liquidity.law, SquareRootImpact)
    assert isinstance(liquidity.depth, RespondingDepth)
    price = np.array(market.price)
    return reference.World(
        price=price.copy(),
        displacement=np.zeros(3),
        log_ratio=np.array([0.0, np.log(price[1] / price[0]), 0.0]),
        variance=np.array(market.variance),
        recent_sales=np.zeros(3),
        underlying=[0, 0, 2],
        coefficient=np.asarray(liquidity.law.coefficient),
        depth=np.asarray(liquidity.depth.depth),
        calm_volatility=np.asarray(liquidity.depth.calm_volatility),
        volatility_sensitivity=float(liquidity.depth.volatility_sensitivity),
        flow_sensitivity=float(liquidity.depth.flow_sensitivity),
        permanent_share=float(liquidity.permanent_share),
        recovery_rate=float(liquidity.recovery_rate),
        variance_rate=float(liquidity.variance_rate),
        pro_rata=policy == "pro_rata",
        minimum_return=float(keeper.minimum_return),
        cost=None if keeper.cost is None else float(keeper.cost),
        venues=[reference_venue(venue, price) for venue in system.venues],
    )


def compare(state: State, world: reference.World, *, rtol: float) -> None:
    mid = [world.mid(a) for a in range(3)]
    assert_close(state.market.price * np.exp(-state.market.displacement), mid, rtol=rtol, atol=0.0)
    assert_close(state.market.recent_sales, world.recent_sales, rtol=rtol, atol=1e-6)
    for venue, expected in zip(state.venues, world.venues, strict=True):
        pool = [
            expected.cash,
            expected.debt.sum(axis=1),
            expected.unsettled,
            expected.deficit,
            expected.supplied,
            expected.treasury,
            np.zeros_like(expected.cash),
        ]
        rows = np.zeros(venue.pool.shape)
        rows[: len(pool)] = pool
        assert_close(venue.pool, rows, rtol=rtol, atol=1e-6)
        assert_close(venue.funds, expected.funds, rtol=rtol, atol=1e-6)
        flows = [expected.flows.get(entry.name.lower(), 0.0) for entry in Flow]
        assert_close(venue.flows, flows, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("policy", systems.POLICIES)
@pytest.mark.parametrize("has_cost", [False, True])
@given(
    seed=SEEDS,
    fall=st.floats(0.0, 0.5),
    log_depth=st.floats(5.0, 9.0),
    log_funds=st.floats(0.0, 7.0),
)
def test_a_step_is_that_of_the_scalar_reference(policy, has_cost, seed, fall, log_depth, log_funds):
    system = systems.random_system(
        seed, policy=policy, has_cost=has_cost, fall=fall, depth=10**log_depth, funds=10**log_funds
    )
    assert isinstance(system.paths, GivenMoves)
    absorbed = [s for verb, s in systems.played_verb_by_verb(system) if verb == "absorb"]
    world = reference_world(system, policy)
    for state, move in zip(absorbed, np.asarray(system.paths.log_return[0]), strict=True):
        reference.step(world, move, systems.STEP_YEARS, systems.ROUNDS)
        compare(state, world, rtol=1e-8)


def test_the_comparison_is_not_of_nothing():
    system = systems.random_system(5, depth=1e8)
    state = systems.played_verb_by_verb(system)[-1][1]
    for venue in state.venues:
        for entry in (Flow.LIQUIDATED, Flow.REPAID, Flow.BAD_DEBT, Flow.PROCEEDS, Flow.INTEREST):
            assert venue.flows[entry] > 0
    changed = reference_world(system, "pro_rata")
    changed.coefficient = changed.coefficient * 1.01
    assert isinstance(system.paths, GivenMoves)
    for move in np.asarray(system.paths.log_return[0]):
        reference.step(changed, move, systems.STEP_YEARS, systems.ROUNDS)
    with pytest.raises(AssertionError, match="values are off"):
        compare(state, changed, rtol=1e-8)
