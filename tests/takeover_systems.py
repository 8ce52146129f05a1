"""Small systems in which two venues take accounts over, beside a pool whose keepers call."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.oracle import DelayedOracle
from jaxrisk.system.system import System
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.presets.compound_v3 import compound_v3
from jaxrisk.venue.presets.sky import sky
from jaxrisk.venue.venue import Venue
from tests import systems

POOL, STOCK, VAULTS = range(3)
CATEGORIES = (0, 0, 0, 0, 1, 1)
"""Of the vaults: the last two are of a further type of ether."""


def random_system(
    seed: int,
    *,
    policy: str = "pro_rata",
    has_cost: bool = False,
    fall: float = 0.3,
    depth: float = 1e7,
    funds: float = 1e4,
    target_reserves: float = 1e6,
    ceiling: float = 1e6,
    debt_auctions: str = "carried",
    dtype: Any = np.float64,
) -> System:
    """Return a pool, an absorbing market and a book of vaults on the markets of `systems`.

    Args:
        seed: of every value drawn here.
        policy: a key of `systems.POLICIES`.
        has_cost: whether a call or a purchase costs keepers something.
        fall: typical log fall of ether in a step.
        depth: calm depth of ether, numeraire.
        funds: insurance of each venue, numeraire; a third of it is its reserve.
        target_reserves: of the absorbing market.
        ceiling: of auctions of ether vaults, and a third more for all of them.
        debt_auctions: who bears what the surplus does not cover.
        dtype: of every leaf.
    """
    system = systems.random_system(
        seed, policy=policy, has_cost=has_cost, fall=fall, depth=depth, funds=funds, dtype=dtype
    )
    rng = np.random.default_rng([seed, 1])
    stock = compound_v3(
        _mixed_book(rng, dtype),
        systems.ASSETS,
        name="stock",
        overrides={"USDC": {"available_liquidity": 1e6}},
        reserve=0.3 * funds,
        insurance=funds,
        target_reserves=target_reserves,
    )
    vaults = sky(
        _vault_book(rng, dtype),
        systems.ASSETS,
        name="vaults",
        stability_fee=0.08,
        overrides={"WETH": {"ceiling": ceiling, "minimum_debt": 2e3, "maximum_duration": 5400.0}},
        oracle=DelayedOracle(steps=1),
        reserve=0.3 * funds,
        insurance=funds,
        global_ceiling=4.0 / 3.0 * ceiling,
        debt_auctions=debt_auctions,
        cohorts=3,
    )
    return dataclasses.replace(system, venues=(system.venues[0], stock, vaults))


def _mixed_book(rng: np.random.Generator, dtype: Any) -> Accounts:
    """Ether and staked ether against dollars."""
    held = 10 ** rng.uniform(3.3, 6.5, 6) * rng.dirichlet([1.0, 1.0], 6).T
    owed = (held * np.array([[0.895], [0.87]])).sum(axis=0) / rng.uniform(0.99, 1.35, 6)
    return _accounts(held, owed, np.zeros(6), dtype)


def _vault_book(rng: np.random.Generator, dtype: Any) -> Accounts:
    """One collateral an account, of three vault types."""
    size = 10 ** rng.uniform(4.0, 6.5, 6)
    held = size * np.array([[1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 0, 0]])
    ratio = np.array([1.45, 1.45, 1.5, 1.5, 1.3, 1.3])
    return _accounts(held, size / ratio / rng.uniform(0.99, 1.5, 6), np.array(CATEGORIES), dtype)


def _accounts(held: np.ndarray, owed: np.ndarray, category: np.ndarray, dtype: Any) -> Accounts:
    return Accounts(
        collateral=jnp.asarray(held / np.array([[3000.0], [3600.0]]), dtype),
        debt=jnp.asarray(owed[None], dtype),
        category=jnp.asarray(category, jnp.int32),
        collateral_assets=(0, 1),
        debt_assets=(2,),
    )


def only(system: System, venue: Venue) -> System:
    """Return the system with one venue alone."""
    return dataclasses.replace(system, venues=(venue,))
