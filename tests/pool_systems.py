"""Systems with a deposit pool for tests: both issuers beside a lending pool, one set of shapes."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.impact import SquareRootImpact
from jaxrisk.market.liquidity import ConstantDepth, Liquidity
from jaxrisk.market.paths import GivenMoves
from jaxrisk.market.state import Market
from jaxrisk.system.policy import Keeper
from jaxrisk.system.system import System
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.presets.aave_v3 import aave_v3
from jaxrisk.venue.presets.liquity_v1 import liquity_v1
from jaxrisk.venue.presets.liquity_v2 import liquity_v2
from tests.systems import POLICIES, STEP_YEARS, STEPS

ASSETS = ("WETH", "wstETH", "ONE", "TWO", "USDC")
WETH, WSTETH, ONE, TWO, USDC = range(5)
PRICE = {"WETH": 3000.0, "wstETH": 3600.0, "ONE": 1.0, "TWO": 1.0, "USDC": 1.0}
ACCOUNTS = 8
BRANCHES = np.array([0, 0, 0, 0, 1, 1, 1, 1])
RATES = "low: 0.01, middle: 0.04, high: 0.07"


def random_system(
    seed: int,
    *,
    policy: str = "pro_rata",
    fall: float = 0.2,
    depeg: float = 0.02,
    depth: float = 1e8,
    stable_depth: float = 5e6,
    deposits: float = 0.3,
    thickness: float = 0.6,
    sale_share: float = 0.5,
    dtype: Any = np.float64,
) -> System:
    """Return a system whose prices follow a given table of `STEPS` steps of scenario 0.

    Args:
        seed: of every value drawn here.
        policy: a key of `POLICIES`.
        fall: typical log fall of ether in a step.
        depeg: log fall of both stablecoins in the first step.
        depth: of ether, numeraire.
        stable_depth: of each stablecoin, numeraire.
        deposits: in the pools, as a share of debt.
        thickness: width of the range of collateral ratios, from just above the minimum on.
        sale_share: of what depositors get.
        dtype: of every leaf.
    """
    rng = np.random.default_rng(seed)
    array = lambda x: jnp.asarray(np.asarray(x, np.float64), dtype)
    ether = rng.normal(-fall, 0.3 * fall, STEPS)
    moves = np.stack([ether, ether, np.zeros(STEPS), np.zeros(STEPS), np.zeros(STEPS)], axis=1)
    moves[0, [ONE, TWO]] = -depeg
    first = _holdings(rng, np.zeros(ACCOUNTS, int), 1.11, thickness, array)
    second = _holdings(rng, BRANCHES, 1.21, thickness, array)
    third = Accounts(
        collateral=array(rng.uniform(1e2, 1e3, (1, ACCOUNTS))),
        debt=array(3000.0 * rng.uniform(50.0, 90.0, (1, ACCOUNTS))),
        category=jnp.zeros(ACCOUNTS, jnp.int32),
        collateral_assets=(WETH,),
        debt_assets=(USDC,),
    )
    owed = np.asarray(second.debt, np.float64)[0]
    pools = {
        name: {"deposits": deposits * float(owed[branch == BRANCHES].sum())}
        for branch, name in enumerate(("WETH", "wstETH"))
    }
    venues = (
        liquity_v1(
            first,
            ASSETS,
            deposits=deposits * float(np.asarray(first.debt).sum()),
            name="one",
            sale_share=sale_share,
        ),
        liquity_v2(second, ASSETS, rates=RATES, overrides=pools, name="two", sale_share=sale_share),
        aave_v3(third, ASSETS, name="pool", insurance=1e4),
    )
    return System(
        market=Market.opening(PRICE, pegs={"wstETH": "WETH"}, dtype=dtype),
        paths=GivenMoves(log_return=array(moves[None])),
        liquidity=Liquidity(
            law=SquareRootImpact(coefficient=array(np.full(5, 0.1))),
            depth=ConstantDepth(
                depth=array([depth, 0.5 * depth, stable_depth, stable_depth, depth])
            ),
            permanent_share=array(0.3),
            recovery_rate=array(np.log(2.0) / (6 * STEP_YEARS)),
            variance_rate=array(np.log(2.0) / (24 * STEP_YEARS)),
        ),
        venues=venues,
        keeper=Keeper(minimum_return=array(0.0), choice=POLICIES[policy], cost=array(20.0)),
    )


def _holdings(
    rng: np.random.Generator, branch: np.ndarray, lowest: float, thickness: float, array: Any
) -> Accounts:
    """Return accounts of one collateral each, that of `branch`, with ratios from `lowest` on."""
    count = int(branch.max()) + 1
    worth = 10 ** rng.uniform(4.0, 6.5, ACCOUNTS)
    units = worth / np.array([3000.0, 3600.0])[branch]
    collateral = np.zeros((count, ACCOUNTS))
    collateral[branch, np.arange(ACCOUNTS)] = units
    return Accounts(
        collateral=array(collateral),
        debt=array(worth / (lowest + rng.uniform(0.0, thickness, ACCOUNTS)))[None],
        category=jnp.asarray(rng.integers(0, 1 if count == 1 else 4, ACCOUNTS), jnp.int32),
        collateral_assets=tuple(range(count)),
        debt_assets=(ONE if count == 1 else TWO,),
    )
