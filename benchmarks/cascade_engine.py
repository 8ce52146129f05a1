"""The dense cascade through jaxrisk: rule slots, keepers' gate and rationing, ledger and all."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import cascade_peers
import jax
import jax.numpy as jnp
import numpy as np
from cascade_workload import Losses, Workload
from harness import Implementation, Prepared, compile_ahead

from jaxrisk.market.impact import SquareRootImpact
from jaxrisk.market.liquidity import ConstantDepth, Liquidity
from jaxrisk.market.oracle import SpotOracle
from jaxrisk.market.paths import GivenMoves
from jaxrisk.market.state import Market
from jaxrisk.numerics.keys import root_key
from jaxrisk.numerics.mapping import mapped
from jaxrisk.system.policy import Keeper, ProRata
from jaxrisk.system.simulate import (
    Books,
    Plan,
    cut_books,
    layouts,
    playing,
    step_rules,
)
from jaxrisk.system.system import System
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.close import FractionClose
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.incentive import UniformBonus
from jaxrisk.venue.interest import KinkedRate
from jaxrisk.venue.recognition import AtZeroCollateral
from jaxrisk.venue.venue import Venue, opening_pool
from jaxrisk.venue.waterfall import Residual

ENGINE = "jaxrisk float32"
GRADIENT = "jaxrisk gradient in 8 parameters"


def build_system(workload: Workload, dtype: np.dtype | type) -> System:
    """Return the workload as a system: one venue, one round of calls a step."""
    array = lambda x: jnp.asarray(np.asarray(x, np.float64), dtype)
    accounts = Accounts(
        collateral=array(workload.collateral.T),
        debt=array(workload.debt.T),
        category=jnp.zeros(workload.accounts, jnp.int32),
        collateral_assets=(0, 1, 2, 3),
        debt_assets=(4, 5),
    )
    threshold = array(workload.liquidation_threshold)[None, :]
    flat = array([0.0, 0.0])
    venue = Venue(
        accounts=accounts,
        oracle=SpotOracle(),
        collateral=CollateralWeights(liquidation_threshold=threshold, loan_to_value=threshold),
        close=FractionClose(
            fraction=array(workload.close_factor),
            full_below_health=array(workload.full_close_below),
            small_position=None,
            minimum_leftover=None,
        ),
        incentive=UniformBonus(bonus=array(workload.liquidation_bonus), fee_share=array(0.0)),
        recognition=AtZeroCollateral(),
        interest=KinkedRate(
            base=flat, slope1=flat, slope2=flat, optimal_utilisation=flat + 0.9, reserve_factor=flat
        ),
        pool=opening_pool(accounts, jnp.sum(accounts.debt, axis=1)),
        funds=array([1e5, 1e6]),
        name="pool",
        fund_names=("reserve", "insurance"),
        residual=Residual.SOCIALISED,
        categories=("",),
    )
    volume = np.concatenate([workload.daily_volume_usd, [1e9, 1e9]])
    impact = np.concatenate([workload.impact_coefficient, [0.1, 0.1]])
    return System(
        market=Market.opening({f"asset{i}": 1.0 for i in range(6)}, dtype=dtype),
        paths=GivenMoves(log_return=array(np.log(workload.growth))),
        liquidity=Liquidity(
            law=SquareRootImpact(coefficient=array(impact)),
            depth=ConstantDepth(depth=array(volume)),
            permanent_share=array(1.0),
            recovery_rate=array(0.0),
            variance_rate=array(0.0),
        ),
        venues=(venue,),
        # The workload's liquidators always act; the gate and the rationing are played all the same.
        keeper=Keeper(minimum_return=array(-1e3), choice=ProRata()),
    )


def implementations(workload: Workload) -> list[Implementation]:
    """Return the value run and the gradient run."""
    dtype = np.float32
    plan = Plan(steps=workload.steps, rounds=1)
    parts = lambda system, plan: (
        system,
        cut_books(system, layouts(system, plan)),
        step_rules(system, plan, workload.step_years),
        root_key(0),
    )
    ids = jnp.arange(workload.scenarios, dtype=jnp.uint32)

    def prepare_value() -> Prepared:
        run = mapped(functools.partial(playing, plan), plan.side_by_side)
        arguments = parts(build_system(workload, dtype), plan)
        return compile_ahead(run, arguments, ids, live_scenarios=1)

    def prepare_gradient() -> Prepared:
        backwards = dataclasses.replace(plan, differentiable=True)
        run = mapped(gradient_of_losses(backwards), 1)
        arguments = parts(build_system(workload, dtype), backwards)
        return compile_ahead(run, arguments, ids, live_scenarios=1)

    return [
        Implementation(
            name=ENGINE,
            prepare=prepare_value,
            outputs=lambda o: cascade_peers.losses(
                (o.bad_debt[:, 0], o.liquidated[:, 0], o.price[:, :4])
            ),
            work=workload.updates(),
        ),
        Implementation(
            name=GRADIENT,
            prepare=prepare_gradient,
            outputs=lambda _: None,
            work=workload.updates(),
            relative_to=ENGINE,
        ),
    ]


def gradient_of_losses(plan: Plan) -> Callable[..., Callable[[jax.Array], Any]]:
    """Return the binder of a scenario's loss and gradient in 4 thresholds and 4 impacts.

    For timing only: across hard triggers this derivative is biased, see docs/gradients.md.
    """

    def bind(system: System, books: Books, rules: Any, key: jax.Array) -> Callable:
        def loss(parameters: tuple[jax.Array, jax.Array], scenario: jax.Array) -> jax.Array:
            changed = with_parameters(system, *parameters)
            return jnp.sum(playing(plan, changed, books, rules, key)(scenario).borrower_loss)

        parameters = (
            system.venues[0].collateral.liquidation_threshold[0],
            system.liquidity.law.coefficient[:4],
        )
        return lambda scenario: jax.value_and_grad(loss)(parameters, scenario)

    return bind


def with_parameters(system: System, threshold: jax.Array, impact: jax.Array) -> System:
    """Return the system with other thresholds and impact coefficients of the collaterals."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: _replaced(jax.tree_util.keystr(path), leaf, threshold, impact), system
    )


def _replaced(path: str, leaf: jax.Array, threshold: jax.Array, impact: jax.Array) -> jax.Array:
    if path.endswith(".collateral.liquidation_threshold"):
        return threshold[None, :]
    if path.endswith(".law.coefficient"):
        return jnp.concatenate([impact, leaf[4:]])
    return leaf


__all__ = ["ENGINE", "GRADIENT", "Losses", "build_system", "implementations"]
