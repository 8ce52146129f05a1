"""The engine's systems as the scalar references take them, and the comparison of their states."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrisk.market.impact import SquareRootImpact
from jaxrisk.market.liquidity import RespondingDepth
from jaxrisk.market.oracle import DeviationOracle, ExchangeRateOracle
from jaxrisk.system.system import Flow, State, System
from jaxrisk.venue.interest import KinkedRate
from jaxrisk.venue.venue import Pool
from jaxrisk.venue.venue import Venue as EngineVenue
from jaxrisk.venue.waterfall import Residual
from tests.helpers import assert_close
from tests.reference_calls import Protocol
from tests.reference_cascade import Venue
from tests.reference_market import World


class Terms(NamedTuple):
    """Terms of a venue's collateral: `threshold` and stated `bonus` by category and asset."""

    threshold: Sequence[Sequence[float]]
    bonus: Sequence[Sequence[float]]
    fee_share: Sequence[float]


def reference_world(system: System, policy: str, venues: list[Venue]) -> World:
    """Return the reference's market and keepers, of which `venues` are the venues.

    Args:
        system: the engine's, with the markets of `tests.systems`.
        policy: a key of `tests.systems.POLICIES`.
        venues: the reference's venues.
    """
    market, liquidity, keeper = system.market, system.liquidity, system.keeper
    assert isinstance(liquidity.law, SquareRootImpact)
    assert isinstance(liquidity.depth, RespondingDepth)
    price = np.array(market.price)
    return World(
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
        venues=venues,
        capital=None if keeper.capital is None else float(keeper.capital.amount),
        capital_rate=0.0 if keeper.capital is None else float(keeper.capital.recovery_rate),
        latency=None if keeper.latency is None else float(keeper.latency),
        congestion=0.0 if keeper.congestion is None else float(keeper.congestion),
        free=0.0 if keeper.capital is None else float(keeper.capital.amount),
    )


def reference_venue(
    venue: EngineVenue, opening_price: np.ndarray, protocol: Protocol, terms: Terms
) -> Venue:
    """Return the reference's venue: the engine's book and curve, under rules given apart.

    Args:
        venue: the engine's.
        opening_price: `(asset,)`.
        protocol: what a call does.
        terms: of its collateral.
    """
    accounts, oracle, interest = venue.accounts, venue.oracle, venue.interest
    assert isinstance(interest, KinkedRate)
    category = np.asarray(accounts.category)
    return Venue(
        name=venue.name,
        held_assets=accounts.collateral_assets,
        owed_assets=accounts.debt_assets,
        category=category.tolist(),
        collateral=np.array(accounts.collateral),
        debt=np.array(accounts.debt),
        threshold=np.array(terms.threshold)[category].T,
        bonus=np.array(terms.bonus)[category].T,
        fee_share=np.array(terms.fee_share),
        protocol=protocol,
        deviation=np.asarray(oracle.deviation) if isinstance(oracle, DeviationOracle) else None,
        follows_ratio=isinstance(oracle, ExchangeRateOracle),
        rate={
            "base": np.asarray(interest.base),
            "slope1": np.asarray(interest.slope1),
            "slope2": np.asarray(interest.slope2),
            "optimal": np.asarray(interest.optimal_utilisation),
            "reserve_factor": np.asarray(interest.reserve_factor),
        },
        carried=venue.residual is Residual.CARRIED,
        treasury_pays=venue.treasury_pays,
        funds=np.asarray(venue.funds).tolist(),
        cash=np.array(venue.pool[Pool.CASH]),
        supplied=np.array(venue.pool[Pool.SUPPLIED]),
        treasury=np.array(venue.pool[Pool.TREASURY]),
        published=opening_price.copy(),
    )


def compare(state: State, world: World, *, rtol: float) -> None:
    """Fail unless markets, balance sheets, funds and flows are those of the reference."""
    check_market(state, world, rtol=rtol)
    assert_close(state.market.recent_sales, world.recent_sales, rtol=rtol, atol=1e-6)
    for venue, expected in zip(state.venues, world.venues, strict=True):
        size = expected.cash.shape
        pool = {**_pool(expected), "debt": expected.debt.sum(axis=1)}
        rows = [pool.get(row.name.lower(), np.zeros(size)) for row in Pool]
        assert_close(venue.pool, rows, rtol=rtol, atol=1e-6)
        assert_close(venue.funds, expected.funds, rtol=rtol, atol=1e-6)
        check_flows(venue.flows, expected.flows, rtol=rtol, atol=1e-6)


def check_market(state: State, world: World, *, rtol: float) -> None:
    """Fail unless the mids are those of the reference."""
    mid = state.market.price * np.exp(-state.market.displacement)
    assert_close(mid, [world.mid(a) for a in range(len(world.price))], rtol=rtol, atol=0.0)


def check_flows(flows: Any, expected: Mapping[str, float], *, rtol: float, atol: float) -> None:
    """Fail unless every cumulated flow is that of the reference; what it lacks is zero."""
    values = [expected.get(entry.name.lower(), 0.0) for entry in Flow]
    assert_close(flows, values, rtol=rtol, atol=atol)


def _pool(venue: Venue) -> dict[str, np.ndarray]:
    names = ("cash", "unsettled", "deficit", "supplied", "treasury")
    return {name: getattr(venue, name) for name in names}
