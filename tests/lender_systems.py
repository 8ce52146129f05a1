"""Small systems with a venue that auctions loans between its lenders, alone or beside others."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrisk.system.system import State, System
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.presets.ajna import ajna
from jaxrisk.venue.venue import Venue
from tests import systems

HOURS = 6.0
"""Length of a step: auctions come to the neutral price after six hours."""
STEP_YEARS = HOURS / 8760.0
LOANS, BUCKETS = 6, 5
LENT = 0


def random_system(
    seed: int,
    *,
    policy: str = "pro_rata",
    has_cost: bool = False,
    beside: bool = False,
    fall: float = 0.15,
    depth: float = 1e8,
    ladder: float = 0.9,
    idle: float = 0.3,
    reserves: float = 1e4,
    leaving: float = 1.0,
    dtype: Any = np.float64,
) -> System:
    """Return a pool of staked ether against dollars, the first venue, on the market of `systems`.

    Args:
        seed: of every value drawn here.
        policy: a key of `systems.POLICIES`.
        has_cost: whether a kick or a take costs something.
        beside: whether the venues of `systems` stand on the same market.
        fall: typical log fall of ether in a step.
        depth: calm depth of ether, numeraire.
        ladder: highest price of a bucket over the market's.
        idle: deposits beyond what is owed, as a share of it.
        reserves: of the pool, in dollars.
        leaving: see the preset.
        dtype: of every leaf.
    """
    system = systems.random_system(
        seed, policy=policy, has_cost=has_cost, fall=fall, depth=depth, dtype=dtype
    )
    pool = lender_venue(
        seed, ladder=ladder, idle=idle, reserves=reserves, leaving=leaving, dtype=dtype
    )
    return dataclasses.replace(system, venues=(pool, *system.venues) if beside else (pool,))


def lender_venue(
    seed: int,
    *,
    ladder: float = 0.9,
    idle: float = 0.3,
    reserves: float = 1e4,
    leaving: float = 1.0,
    dtype: Any = np.float64,
) -> Venue:
    """Return the pool alone."""
    rng = np.random.default_rng([seed, 2])
    held = 10 ** rng.uniform(3.5, 6.5, LOANS) / 3600.0
    owed = 3600.0 * held * ladder / 1.04 * rng.uniform(0.6, 1.0, LOANS)
    prices = 3600.0 * ladder * np.exp(-np.cumsum(np.append(0.0, rng.uniform(0.01, 0.1, 4))))
    parts = rng.dirichlet(np.ones(BUCKETS)) * owed.sum() * (1.0 + idle)
    accounts = Accounts(
        collateral=jnp.asarray(held[None], dtype),
        debt=jnp.asarray(owed[None], dtype),
        category=jnp.zeros(LOANS, jnp.int32),
        collateral_assets=(1,),
        debt_assets=(2,),
    )
    return ajna(
        accounts,
        systems.ASSETS,
        deposits=dict(zip(prices.tolist(), parts.tolist(), strict=True)),
        borrow_rate=0.08,
        reserves=reserves,
        leaving=leaving,
    )


def played(system: System) -> list[tuple[str, State]]:
    """Return the states after every verb, as `systems.played_verb_by_verb` does."""
    return systems.played_verb_by_verb(system, step_years=STEP_YEARS)
