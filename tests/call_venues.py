"""Small venues of every preset whose accounts are closed by keepers' calls."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.impact import SquareRootImpact
from jaxrisk.market.liquidity import ConstantDepth, Liquidity
from jaxrisk.system.system import System
from jaxrisk.venue import presets
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.venue import Venue
from tests import systems

CURVE = {"base_rate": 0.01, "slope1": 0.04, "slope2": 0.6, "optimal_utilisation": 0.8}
LENT = {"USDC": {**CURVE, "reserve_factor": 0.1, "available_liquidity": 1e6}}
CASH = {"USDC": {"available_liquidity": 1e6}}
WEIGHTS = {"WETH": 0.82, "wstETH": 0.79}
HELD = {asset: {"liquidation_threshold": weight} for asset, weight in WEIGHTS.items()}

LOG_SIZES = (3.3, 6.5)
"""Of accounts, base 10 of the value of their collateral."""

PAIR = ("wstETH",)
SEVERAL = ("WETH", "wstETH")

PRE_LIQUIDATION = {
    "pre_liquidation_loan_to_value": 0.80,
    "pre_liquidation_close_factor_lower": 0.05,
    "pre_liquidation_close_factor_upper": 0.5,
    "pre_liquidation_credit_lower": 1.01,
    "pre_liquidation_credit_upper": 1.04,
}

# By preset: whether accounts may hold several collaterals, and the options of its builder.
OPTIONS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "aave_v3": (SEVERAL, {"overrides": CASH}),
    "aave_v3_legacy": (SEVERAL, {"overrides": CASH}),
    "aave_v4": (SEVERAL, {"overrides": CASH}),
    "compound_v2": (SEVERAL, {"overrides": {**LENT, **HELD}}),
    "euler_v2": (SEVERAL, {"overrides": CASH, "minimum_socialised": 5e3}),
    "gearbox_v3": (
        SEVERAL,
        {"overrides": {**LENT, **HELD}, "liquidation_premium": 0.04, "liquidation_fee": 0.015},
    ),
    "silo_v2": (
        PAIR,
        {
            "overrides": LENT,
            "liquidation_loan_to_value": 0.85,
            "target_loan_to_value": 0.765,
            "liquidation_fee": 0.05,
        },
    ),
    "fluid": (PAIR, {"overrides": LENT, "deployment": "ether_stable"}),
    "morpho_blue": (PAIR, {"overrides": CASH, "liquidation_loan_to_value": 0.86}),
    "morpho_pre_liquidation": (
        PAIR,
        {"overrides": CASH, "liquidation_loan_to_value": 0.86, **PRE_LIQUIDATION},
    ),
}


def built(
    kind: str,
    collateral: np.ndarray,
    debt: np.ndarray,
    held: Sequence[str],
    *,
    owed: Sequence[str] = ("USDC",),
    funds: float = 0.0,
    dtype: Any = np.float64,
    **options: Any,
) -> Venue:
    """Return a venue of a preset whose accounts hold and owe these values at `systems.PRICE`.

    Args:
        kind: a key of `OPTIONS`.
        collateral: `(asset, account)` values held.
        debt: `(account,)` values owed, or `(asset, account)` of several assets.
        held: names of the collateral.
        owed: names of the debts.
        funds: insurance, numeraire.
        dtype: of every leaf.
        **options: replace those of `OPTIONS`.
    """
    price = lambda assets: np.array([systems.PRICE[asset] for asset in assets])[:, None]
    index = lambda assets: tuple(systems.ASSETS.index(asset) for asset in assets)
    debts = np.atleast_2d(debt)
    accounts = Accounts(
        collateral=jnp.asarray(collateral / price(held), dtype),
        debt=jnp.asarray(debts / price(owed), dtype),
        category=jnp.zeros(debts.shape[1], jnp.int32),
        collateral_assets=index(held),
        debt_assets=index(owed),
    )
    build = presets.PRESETS["morpho_blue" if kind.startswith("morpho") else kind].build
    given = {"name": kind, "insurance": funds, **OPTIONS[kind][1], **options}
    return build(accounts, systems.ASSETS, **given)


def random_venue(
    kind: str,
    rng: np.random.Generator,
    *,
    accounts: int = 3,
    owed: Sequence[str] = ("USDC",),
    log_sizes: tuple[float, float] = LOG_SIZES,
    funds: float,
    dtype: Any = np.float64,
    **options: Any,
) -> Venue:
    """Return a venue of a preset with accounts a little above their thresholds."""
    held = OPTIONS[kind][0]
    size = 10 ** rng.uniform(*log_sizes, accounts)
    collateral = size * rng.dirichlet(np.ones(len(held)), accounts).T
    venue = built(kind, collateral, size, held, dtype=dtype, **options)
    threshold = np.asarray(venue.collateral.liquidation_threshold, np.float64)[0]
    debt = (collateral * threshold[:, None]).sum(axis=0) / rng.uniform(0.99, 1.35, accounts)
    if len(owed) > 1:
        debt = debt * rng.dirichlet(np.ones(len(owed)), accounts).T
    return built(kind, collateral, debt, held, owed=owed, funds=funds, dtype=dtype, **options)


def every_venue(
    seed: int,
    *,
    log_sizes: tuple[float, float] = LOG_SIZES,
    funds: float,
    dtype: Any = np.float64,
) -> tuple[Venue, ...]:
    """Return one venue of each preset."""
    rng = np.random.default_rng(seed)
    return tuple(
        random_venue(kind, rng, log_sizes=log_sizes, funds=funds, dtype=dtype) for kind in OPTIONS
    )


def without_impact(venues: tuple[Venue, ...], policy: str = "pro_rata") -> System:
    """Return a system of `venues` in a market that takes any amount at one price."""
    system = systems.random_system(1, policy=policy)
    array = jnp.asarray
    liquidity = Liquidity(
        law=SquareRootImpact(coefficient=array(np.full(3, 1e-3))),
        depth=ConstantDepth(depth=array(np.full(3, 1e40))),
        permanent_share=array(0.3),
        recovery_rate=array(1e3),
        variance_rate=array(1e2),
    )
    return dataclasses.replace(system, venues=venues, liquidity=liquidity)
