"""Systems with a market in price bands beside a shared pool: six loans, three assets, one shape."""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.paths import GivenMoves
from jaxrisk.system.policy import Keeper
from jaxrisk.system.system import System
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.band_conversion import BandConversion
from jaxrisk.venue.band_grid import BandGrid
from jaxrisk.venue.presets.crvusd import crvusd
from jaxrisk.venue.venue import Venue
from tests import systems

LOANS = 6
BANDS = 5
COUNT = 60


def band_venue(seed: int, *, admin_share: float = 0.0, fee: float = 0.006, dtype: Any) -> Venue:
    """Return staked ether against dollars on a grid of `COUNT` bands, healthy at the opening."""
    rng = np.random.default_rng(seed)
    held = 10 ** rng.uniform(4.0, 6.5, LOANS)
    # At most 52 bands below the first: the grid keeps one shape.
    debt = held * 0.88 / np.exp(rng.uniform(0.012, 0.5, LOANS))
    accounts = Accounts(
        collateral=jnp.asarray(held[None] / 3600.0, dtype),
        debt=jnp.asarray(debt[None], dtype),
        category=jnp.zeros(LOANS, jnp.int32),
        collateral_assets=(1,),
        debt_assets=(2,),
    )
    venue = crvusd(
        accounts,
        systems.ASSETS,
        name="bands",
        bands=BANDS,
        base_price=3600.0,
        overrides={
            "wstETH": {"fee": fee, "admin_share": admin_share},
            "USDC": {"base_rate": 0.3},
        },
    )
    rules = venue.execution
    assert isinstance(rules, BandConversion)
    grid = rules.grid
    wide = BandGrid(
        amplification=grid.amplification,
        base_price=grid.base_price,
        first=jnp.asarray(-1, jnp.int32),
        count=COUNT,
    )
    return dataclasses.replace(venue, execution=dataclasses.replace(rules, grid=wide))


def random_system(
    seed: int,
    *,
    fall: float = 0.05,
    swing: float = 0.3,
    depth: float = 1e7,
    cost: float | None = None,
    admin_share: float = 0.0,
    dtype: Any = np.float64,
) -> System:
    """Return a pool and a market in bands on one market of `systems.STEPS` given moves.

    Args:
        seed: of every value drawn here.
        fall: mean log fall of ether in a step.
        swing: standard deviation around it, as a multiple of it.
        depth: calm depth of ether, numeraire.
        cost: of a call or trade, numeraire; `None` for free ones.
        admin_share: part of the bands' fees that leaves them.
        dtype: of every leaf.
    """
    base = systems.random_system(seed, depth=depth, dtype=dtype)
    rng = np.random.default_rng(seed + 1)
    ether = rng.normal(-fall, swing * abs(fall), systems.STEPS)
    basis = rng.normal(0.0, 0.01, systems.STEPS)
    moves = np.stack([ether, ether + basis, rng.normal(0.0, 0.002, systems.STEPS)], axis=1)
    return dataclasses.replace(
        base,
        paths=GivenMoves(log_return=jnp.asarray(moves[None], dtype)),
        venues=(base.venues[0], band_venue(seed, admin_share=admin_share, dtype=dtype)),
        keeper=Keeper(
            minimum_return=jnp.asarray(0.0, dtype),
            choice=base.keeper.choice,
            cost=None if cost is None else jnp.asarray(cost, dtype),
        ),
    )
