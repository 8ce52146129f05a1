"""Which systems a ladder may play, why not the others, and their simulation on it."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Key

from jaxrisk.market.liquidity import ConstantDepth, Liquidity
from jaxrisk.market.oracle import SpotOracle
from jaxrisk.numerics.mapping import over_scenarios
from jaxrisk.system.engine import in_category
from jaxrisk.system.ladder import (
    Ladder,
    LadderMarket,
    LadderOutcome,
    LadderRules,
    SortedBook,
    Transient,
    play_ladder,
)
from jaxrisk.system.ladder_table import LadderTable
from jaxrisk.system.simulate import Plan, scenario_noise
from jaxrisk.system.system import System
from jaxrisk.venue.close import CloseRule, FractionClose, FullClose
from jaxrisk.venue.execution import KeeperCalls
from jaxrisk.venue.incentive import AssetBonus, SeizureFeeBonus, UniformBonus
from jaxrisk.venue.interest import KinkedRate
from jaxrisk.venue.recognition import AtZeroCollateral
from jaxrisk.venue.venue import Venue

# Scenarios side by side: enough to amortise each operation, few enough to stay in the cache.
_SIDE_BY_SIDE = 512


def prefix_applies(system: System) -> tuple[bool, str]:
    """Return whether the ladder means the same as the dense engine on a system, and why (not).

    Where it does, prices and flows of calls are equal to rounding in every scenario in which
    `LadderOutcome.rationed` is 0: a call that keepers leave because selling it would lose money is
    part of an account to the dense engine, and a ladder only closes whole ones. Both engines must
    be given the same bound on rounds. What funds pay is not on the ladder.

    Args:
        system: with concrete numbers, for it looks at them.
    """
    if len(system.venues) != 1:
        return False, f"{len(system.venues)} venues share the market; a ladder plays one"
    venue, accounts = system.venues[0], system.venues[0].accounts
    market = system.market
    reasons = {
        "accounts hold several collaterals or owe several debts": (
            len(accounts.collateral_assets) != 1 or len(accounts.debt_assets) != 1
        ),
        "collateral and debt are one asset": accounts.collateral_assets == accounts.debt_assets,
        "accounts are in several risk categories": np.unique(accounts.category).size > 1,
        "accounts are not called by keepers": not isinstance(venue.execution, KeeperCalls),
        "calls may close a part of an account": not _closes_whole(venue.close),
        "the bonus is not one number": not isinstance(
            venue.incentive, UniformBonus | SeizureFeeBonus | AssetBonus
        ),
        "debt without collateral is not written off at once": (
            not isinstance(venue.recognition, AtZeroCollateral)
            or venue.recognition.minimum is not None
        ),
        "the venue does not see the market's mid": not isinstance(venue.oracle, SpotOracle),
        "debts grow with interest": not _is_free(venue),
        "depth reacts": not isinstance(system.liquidity.depth, ConstantDepth),
        "assets are pegged": market.underlying is not None,
        "transient impact stands at the opening": bool(np.any(np.asarray(market.displacement))),
        "calls cost keepers something": system.keeper.cost is not None,
        "keepers have limits of their own": system.keeper.limited,
        "owners act": system.owners is not None,
        "trading may stop": system.halts is not None,
    }
    for reason, holds in reasons.items():
        if holds:
            return False, reason
    return True, "one collateral, one debt, and calls that close whole accounts"


def _closes_whole(close: CloseRule) -> bool:
    if isinstance(close, FractionClose):
        return float(close.fraction) >= 1.0 and close.minimum_leftover is None
    return isinstance(close, FullClose)


def _is_free(venue: Venue) -> bool:
    interest = venue.interest
    if not isinstance(interest, KinkedRate) or venue.accounts.rate is not None:
        return False
    rates = (interest.base, interest.slope1, interest.slope2)
    return not any(np.any(np.asarray(rate)) for rate in rates)


def ladder_of(system: System, step_years: float) -> tuple[Ladder, LadderMarket]:
    """Return the ladder of a system's book, and its market.

    Args:
        system: one that `prefix_applies` to.
        step_years: length of a step, over which the transient part of impact fades.

    Raises:
        ValueError: the ladder does not apply; the message says why.
    """
    applies, reason = prefix_applies(system)
    if not applies:
        raise ValueError(f"no ladder for this system: {reason}")
    venue, liquidity = system.venues[0], system.liquidity
    held, owed = venue.accounts.collateral_assets[0], venue.accounts.debt_assets[0]
    category = int(venue.accounts.category[0])
    assert isinstance(liquidity.depth, ConstantDepth)
    ladder = Ladder.of(
        venue.accounts.collateral[0],
        venue.accounts.debt[0],
        venue.collateral.liquidation_threshold[category, 0],
        in_category(venue.incentive, category),
    )
    market = LadderMarket(
        price=system.market.price[held],
        debt_price=system.market.price[owed],
        law=liquidity.law.of(held),
        depth=liquidity.depth.depth[held],
        transient=_transient(liquidity, step_years),
        minimum_return=system.keeper.minimum_return,
    )
    return ladder, market


def _transient(liquidity: Liquidity, step_years: float) -> Transient | None:
    if np.all(np.asarray(liquidity.permanent_share) == 1.0):
        return None
    kept = jnp.exp(-liquidity.recovery_rate * step_years)
    return Transient(permanent_share=liquidity.permanent_share, kept=kept)


def simulate_ladder(
    system: System,
    key: Key[Array, ""],
    *,
    scenarios: int | Sequence[int] | np.ndarray,
    steps: int,
    step_years: float,
    rounds: int = 3,
    nodes: int | None = None,
) -> LadderOutcome:
    """Return the outcome of scenarios on the system's ladder, leading axis scenario.

    The draws are those of `jaxrisk.simulate` with the same key and ids.

    Args:
        system: one that `prefix_applies` to.
        key: from `root_key`.
        scenarios: how many (ids from 0), or which ids.
        steps: number of steps.
        step_years: length of a step, in years.
        rounds: largest number of cascade rounds in a step.
        nodes: of a table to read off instead, an approximation (`LadderTable`); `None` for the
            exact ladder.

    Raises:
        ValueError: the ladder does not apply; the message says why.
    """
    ladder, market = ladder_of(system, step_years)
    ids = np.arange(scenarios) if isinstance(scenarios, int) else np.asarray(scenarios)
    book = ladder.indexed() if nodes is None else LadderTable.of(ladder, nodes)
    run = ladder_simulator(Plan(steps=steps, rounds=rounds))
    years = jnp.asarray(step_years, system.market.price.dtype)
    return run((book, market, system, years, key), ids)


@functools.lru_cache(maxsize=16)
def ladder_simulator(plan: Plan) -> Callable[[tuple, np.ndarray], LadderOutcome]:
    """Return the function `((book, market, system, step_years, key), ids) -> LadderOutcome`.

    One function a plan, so that equal shapes are compiled once.
    """
    return over_scenarios(functools.partial(playing_ladder, plan), _SIDE_BY_SIDE)


def playing_ladder(
    plan: Plan,
    book: SortedBook,
    market: LadderMarket,
    system: System,
    step_years: Float[Array, ""],
    key: Key[Array, ""],
) -> Callable[[Int[Array, ""]], LadderOutcome]:
    """Return the function from a scenario's id to its outcome; only prices are the system's."""
    accounts = system.venues[0].accounts
    held, owed = accounts.collateral_assets[0], accounts.debt_assets[0]
    rules = LadderRules(rounds=plan.rounds, differentiable=plan.differentiable)

    def moved(state: Any, noise: Any) -> tuple[Any, Float[Array, " asset"]]:
        state, shift = system.paths.advance(state, noise, step_years)
        return state, shift.log_return

    def play(scenario: Int[Array, ""]) -> LadderOutcome:
        draws = scenario_noise(plan, system, key, scenario)
        _, moves = lax.scan(moved, system.paths.init(), draws, length=plan.steps)
        return play_ladder(book, market, moves[:, held], moves[:, owed], rules=rules)

    return play
