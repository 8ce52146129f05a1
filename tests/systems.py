"""Small systems for tests: ten accounts on two venues, three assets, one set of shapes.

Values come from a generator; shapes and kinds of rule never do, so systems of one kind share a
compilation. The pool venue has several collaterals and debts, categories, dust rules and a carried
deficit; the isolated one has a single pair, no close factor and socialised losses.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxrisk.market.impact import SquareRootImpact
from jaxrisk.market.liquidity import Liquidity, RespondingDepth
from jaxrisk.market.oracle import DeviationOracle, ExchangeRateOracle
from jaxrisk.market.paths import Gbm, GivenMoves, JumpDiffusion, Pegged
from jaxrisk.market.state import Market
from jaxrisk.system.book import Layout
from jaxrisk.system.cascade import cascade_round
from jaxrisk.system.policy import BestPair, Keeper, ProRata
from jaxrisk.system.simulate import Plan, cut_books, layouts
from jaxrisk.system.step import StepRules, absorb, accrue, act, move, prepare, reprice, see
from jaxrisk.system.system import State, System, opening_state
from jaxrisk.venue.account import Accounts, take
from jaxrisk.venue.close import FractionClose
from jaxrisk.venue.presets.aave_v3 import aave_v3
from jaxrisk.venue.presets.morpho_blue import morpho_blue
from jaxrisk.venue.staked_coverage import StakedCoverage
from jaxrisk.venue.venue import Venue
from jaxrisk.venue.waterfall import Capacity

ASSETS = ("WETH", "wstETH", "USDC")
PRICE = {"WETH": 3000.0, "wstETH": 3600.0, "USDC": 1.0}
PEGS = {"wstETH": "WETH"}
POOL_CATEGORIES = (0, 0, 0, 0, 1, 1)
ISOLATED_LTV = 0.86
STEPS, ROUNDS = 3, 3
STEP_YEARS = 1.0 / (365.0 * 24.0)

POLICIES = {"pro_rata": ProRata(), "best_pair": BestPair()}


def random_system(
    seed: int,
    *,
    policy: str = "pro_rata",
    has_cost: bool = False,
    fall: float = 0.3,
    depth: float = 1e7,
    funds: float = 1e4,
    dtype: Any = np.float64,
) -> System:
    """Return a system whose prices follow a given table of `STEPS` steps of scenario 0.

    Args:
        seed: of every value drawn here.
        policy: a key of `POLICIES`.
        has_cost: whether a call costs keepers something.
        fall: typical log fall of ether in a step.
        depth: calm depth of ether, numeraire.
        funds: insurance of each venue, numeraire.
        dtype: of every leaf.
    """
    rng = np.random.default_rng(seed)
    ether = rng.normal(-fall, 0.3 * fall, STEPS)
    basis = rng.normal(0.0, 0.05, STEPS)
    moves = np.stack([ether, ether + basis, rng.normal(0.0, 0.005, STEPS)], axis=1)
    return _assembled(
        rng,
        GivenMoves(log_return=jnp.asarray(moves[None], dtype)),
        policy=policy,
        cost=10 ** rng.uniform(0.0, 2.5) if has_cost else None,
        depth=depth,
        funds=funds,
        repeat=1,
        dtype=dtype,
    )


def stochastic_system(
    seed: int, *, policy: str = "pro_rata", repeat: int = 1, dtype: Any = np.float64
) -> System:
    """Return a system under jump diffusion with a pegged asset; accounts `repeat` times as many."""
    array = lambda x: jnp.asarray(x, dtype)
    correlation = np.array([[1.0, 0.8, 0.1], [0.8, 1.0, 0.1], [0.1, 0.1, 1.0]])
    jumps = JumpDiffusion(
        diffusion=Gbm(
            drift=array(np.zeros(3)),
            volatility=array([2.0, 2.0, 0.02]),
            factor=array(np.linalg.cholesky(correlation)),
        ),
        jump_intensity=array(900.0),
        jump_mean=array(-0.12),
        jump_volatility=array(0.08),
        jump_loading=array([1.0, 1.0, 0.0]),
    )
    paths = Pegged(
        base=jumps,
        underlying=(-1, 0, -1),
        ratio_growth=array([0.0, 0.03, 0.0]),
        basis_volatility=array([0.0, 0.3, 0.0]),
        basis_half_life_years=array([1.0, 24 * STEP_YEARS, 1.0]),
    )
    rng = np.random.default_rng(seed)
    return _assembled(
        rng, paths, policy=policy, cost=20.0, depth=3e7, funds=1e4, repeat=repeat, dtype=dtype
    )


def _assembled(
    rng: np.random.Generator,
    paths: Any,
    *,
    policy: str,
    cost: float | None,
    depth: float,
    funds: float,
    repeat: int,
    dtype: Any,
) -> System:
    array = lambda x: jnp.asarray(np.asarray(x, np.float64), dtype)
    return System(
        market=Market.opening(PRICE, volatility=[0.75, 0.75, 0.02], pegs=PEGS, dtype=dtype),
        paths=paths,
        liquidity=Liquidity(
            law=SquareRootImpact(coefficient=array([0.1, 0.15, 0.02])),
            depth=RespondingDepth(
                depth=array([depth, 0.3 * depth, 10 * depth]),
                calm_volatility=array([0.75, 0.75, 0.02]),
                volatility_sensitivity=array(0.01),
                flow_sensitivity=array(0.5),
            ),
            permanent_share=array(0.3),
            recovery_rate=array(np.log(2.0) / (6 * STEP_YEARS)),
            variance_rate=array(np.log(2.0) / (24 * STEP_YEARS)),
        ),
        venues=(
            _pool_venue(rng, funds, repeat, dtype),
            _isolated_venue(rng, funds, repeat, dtype),
        ),
        keeper=Keeper(
            minimum_return=array(0.0),
            choice=POLICIES[policy],
            cost=None if cost is None else array(cost),
        ),
    )


def _pool_venue(rng: np.random.Generator, funds: float, repeat: int, dtype: Any) -> Venue:
    """Ether and staked ether against ether and dollars; the last third of accounts are loops."""
    category = np.tile(POOL_CATEGORIES, repeat)
    loop = category == 1
    size = 10 ** rng.uniform(3.3, 6.5, len(category))
    mix = rng.dirichlet([1.0, 1.0], len(category)).T
    mix[0, loop] *= 0.1
    held = size * mix
    threshold = np.where(loop, 0.95, np.array([[0.83], [0.81]]))
    owed = (held * threshold).sum(axis=0) / rng.uniform(0.99, 1.35, len(category))
    share = np.where(loop, 1.0, rng.uniform(0.0, 1.0, len(category)))
    debt = owed * np.stack([share, 1.0 - share])
    accounts = Accounts(
        collateral=jnp.asarray(held / np.array([[3000.0], [3600.0]]), dtype),
        debt=jnp.asarray(debt / np.array([[3000.0], [1.0]]), dtype),
        category=jnp.asarray(category, jnp.int32),
        collateral_assets=(0, 1),
        debt_assets=(0, 2),
    )
    array = lambda x: jnp.asarray(x, dtype)
    return aave_v3(
        accounts,
        ASSETS,
        name="pool",
        overrides={a: {"available_liquidity": float(x)} for a, x in (("WETH", 1e3), ("USDC", 1e6))},
        oracle=DeviationOracle(deviation=array([0.005, 0.005, 0.001])),
        reserve=0.3 * funds,
        insurance=funds,
    )


def _isolated_venue(rng: np.random.Generator, funds: float, repeat: int, dtype: Any) -> Venue:
    """Staked ether against dollars, seen at its exchange rate."""
    held = 10 ** rng.uniform(3.3, 6.5, 4 * repeat)
    debt = held * ISOLATED_LTV / rng.uniform(0.99, 1.35, 4 * repeat)
    accounts = Accounts(
        collateral=jnp.asarray(held[None] / 3600.0, dtype),
        debt=jnp.asarray(debt[None], dtype),
        category=jnp.zeros(4 * repeat, jnp.int32),
        collateral_assets=(1,),
        debt_assets=(2,),
    )
    return morpho_blue(
        accounts,
        ASSETS,
        liquidation_loan_to_value=ISOLATED_LTV,
        name="isolated",
        overrides={"USDC": {"available_liquidity": 1e6}},
        oracle=ExchangeRateOracle(),
        insurance=funds,
    )


def with_venues(system: System, change: Any) -> System:
    """Return the system with `change(venue)` in place of each venue."""
    return dataclasses.replace(system, venues=tuple(change(v) for v in system.venues))


def covered(system: System) -> System:
    """Return the system with stakes behind its debts, sized by each venue's insurance.

    On the pool deposits of dollars and staked ether, on the isolated venue ether; a part of each
    is kept, and what stakes do not cover is carried or written down.
    """

    def change(venue: Venue) -> Venue:
        reserve, insurance = venue.funds
        number = lambda x: jnp.asarray(x, insurance.dtype)
        terms = (
            [(2, 2, True, 0.5), (0, 1, False, 0.3)]
            if venue.name == "pool"
            else [(2, 0, False, 2.0)]
        )
        prices = [PRICE[asset] for asset in ASSETS]
        stakes = [
            StakedCoverage(
                offset=number(0.1 * size * insurance / prices[debt]),
                fee=number(0.1),
                kept=number(0.2 * size * insurance / prices[staked]),
                row=venue.accounts.debt_assets.index(debt),
                covered=debt,
                staked=staked,
                pool_share=pool_share,
            )
            for debt, staked, pool_share, size in terms
        ]
        units = [size * insurance / prices[staked] for _, staked, _, size in terms]
        return dataclasses.replace(
            venue,
            funds=jnp.stack([0.0 * reserve, *units, 0.1 * insurance]),
            fund_rules=(Capacity(), *stakes, Capacity()),
            fund_names=("reserve", *(f"stake {i}" for i in range(len(stakes))), "insurance"),
        )

    return with_venues(system, change)


def permuted(system: System, seed: int) -> System:
    """Return the system with each venue's accounts in another order, categories kept in place."""
    rng = np.random.default_rng(seed)

    def change(venue: Venue) -> Venue:
        category = np.asarray(venue.accounts.category)
        order = np.arange(len(category))
        for c in np.unique(category):
            order[category == c] = rng.permutation(order[category == c])
        return dataclasses.replace(venue, accounts=take(venue.accounts, jnp.asarray(order)))

    return with_venues(system, change)


def in_other_numeraire(system: System, factor: float) -> System:
    """Return the system with every price and every amount of money times `factor`."""
    market, liquidity, keeper = system.market, system.liquidity, system.keeper
    assert isinstance(liquidity.depth, RespondingDepth)

    def change(venue: Venue) -> Venue:
        close = venue.close
        if isinstance(close, FractionClose):
            assert close.small_position is not None
            assert close.minimum_leftover is not None
            close = dataclasses.replace(
                close,
                small_position=close.small_position * factor,
                minimum_leftover=close.minimum_leftover * factor,
            )
        return dataclasses.replace(venue, close=close, funds=venue.funds * factor)

    system = with_venues(system, change)
    return dataclasses.replace(
        system,
        market=dataclasses.replace(market, price=market.price * factor),
        liquidity=dataclasses.replace(
            liquidity,
            depth=dataclasses.replace(liquidity.depth, depth=liquidity.depth.depth * factor),
        ),
        keeper=dataclasses.replace(
            keeper, cost=None if keeper.cost is None else keeper.cost * factor
        ),
    )


def rules_of(
    system: System,
    *,
    rounds: int = ROUNDS,
    differentiable: bool = False,
    step_years: float = STEP_YEARS,
) -> StepRules:
    """Return the rules of a step as the tests play it."""
    return StepRules(
        step_years=jnp.asarray(step_years, system.market.price.dtype),
        rounds=rounds,
        differentiable=differentiable,
    )


def played_verb_by_verb(
    system: System, *, afresh: bool = False, step_years: float = STEP_YEARS
) -> list[tuple[str, State]]:
    """Return the opening state and the state after every verb of every step, as NumPy.

    Args:
        system: from `random_system`.
        afresh: compile again, for code that was changed under way.
        step_years: length of a step.
    """
    layout = layouts(system, Plan(steps=STEPS, health_groups=1))
    play = _verbs
    if afresh:
        # Another function object: JAX would find the trace of the same one.
        play = jax.jit(functools.partial(verb_states))
    stages = jax.device_get(play(system, layout, rules_of(system, step_years=step_years)))
    opening, moved, accrued, rounds, absorbed = stages
    at = lambda tree, *index: jax.tree.map(lambda x: x[index], tree)
    played = [("opening", opening)]
    for t in range(STEPS):
        played += [("move", at(moved, t)), ("accrue", at(accrued, t))]
        played += [(f"round {r + 1}", at(rounds, t, r)) for r in range(ROUNDS)]
        played.append(("absorb", at(absorbed, t)))
    return played


@jax.jit
def _verbs(system: System, layout: tuple[Layout, ...], rules: StepRules) -> tuple:
    return verb_states(system, layout, rules)


def verb_states(system: System, layout: tuple[Layout, ...], rules: StepRules) -> tuple:
    """Return the opening state and, stacked over steps (and rounds), those after each verb."""
    books = cut_books(system, layout)
    assert isinstance(system.paths, GivenMoves)

    def one_round(state: State, _: None) -> tuple[State, State]:
        state, _active = cascade_round(system, books, rules, state)
        return state, state

    def one_step(state: State, noise: jax.Array) -> tuple[State, tuple]:
        moved = move(system, rules, state, noise)
        accrued = reprice(system, books, accrue(system, books, rules, moved))
        acted = act(system, books, rules, see(system, accrued))
        ready = prepare(system, books, rules, acted)
        state, rounds = lax.scan(one_round, ready, None, length=ROUNDS)
        state = reprice(system, books, absorb(system, state))
        return state, (moved, accrued, rounds, state)

    opening = opening_state(system, books)
    _, stages = lax.scan(one_step, opening, system.paths.log_return[0])
    return (opening, *stages)
