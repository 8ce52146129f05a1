"""Aave v3 (3.3 and later): a shared pool with e-modes, a size-aware close factor and deficits.

health = sum LT_c C_c / D; a call repays up to 50 % of the total debt, or everything when
health <= 0.95 or either side of the pair is worth less than 2,000 USD; 1,000 USD must remain on
both sides of a partial call; seized = repaid (1 + bonus); debt left without any collateral becomes
a deficit that is carried while suppliers stay whole on paper.

Source: aave-dao/aave-v3-origin, LiquidationLogic, GenericLogic, ReserveLogic.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxrisk.market.oracle import Oracle, SpotOracle
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.close import FractionClose
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.incentive import AssetBonus
from jaxrisk.venue.interest import KinkedRate
from jaxrisk.venue.limits import Limit
from jaxrisk.venue.presets.aave_v3_ethereum import CATEGORIES, RESERVES, Category, Reserve
from jaxrisk.venue.presets.asset_terms import problems_of
from jaxrisk.venue.presets.preset import Preset, Terms
from jaxrisk.venue.presets.umbrella import coverage_funds
from jaxrisk.venue.recognition import AtZeroCollateral
from jaxrisk.venue.venue import Pool, Venue, opening_pool
from jaxrisk.venue.waterfall import Capacity, Residual

DEPLOYMENTS = {"ethereum_core_2025_12": (RESERVES, CATEGORIES)}
DEFAULT_DEPLOYMENT = "ethereum_core_2025_12"


def close_rule(dtype: np.dtype | type | None = None) -> FractionClose:
    """Return the close-factor and dust rule with its contract constants."""
    number = lambda x: jnp.asarray(x, dtype or float)
    return FractionClose(
        fraction=number(0.5),
        full_below_health=number(0.95),
        small_position=number(2000.0),
        minimum_leftover=number(1000.0),
    )


def aave_v3(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    name: str = "aave_v3",
    deployment: str = DEFAULT_DEPLOYMENT,
    overrides: Mapping[str, Mapping[str, float]] | None = None,
    oracle: Oracle | None = None,
    reserve: float = 0.0,
    insurance: float = 0.0,
    coverage: Mapping[str, Mapping[str, Any]] | None = None,
) -> Venue:
    """Return an Aave v3 pool holding `accounts`.

    Args:
        accounts: the book; its categories index the base category and then the deployment's
            e-modes, in order.
        assets: the system's assets, in order.
        name: of the venue.
        deployment: which shipped parameter table to start from.
        overrides: parameters by asset that replace or add to the table (names as in `Reserve`).
        oracle: which price the pool sees; the market's mid where not given.
        reserve: protocol reserve that pays first, numeraire.
        insurance: capacity that pays last, numeraire.
        coverage: stakes that are slashed between the two, by covered asset, with terms as in
            `umbrella.Stake`.

    Raises:
        ValueError: an asset with a position has no parameters, an override has no such name, or a
            value or a stake makes no sense.
    """
    dtype = accounts.collateral.dtype
    reserves, modes = DEPLOYMENTS[deployment]
    collateral = [assets[i] for i in accounts.collateral_assets]
    debt = [assets[i] for i in accounts.debt_assets]
    table = {a: _reserve(a, reserves, (overrides or {}).get(a, {})) for a in (*collateral, *debt)}
    held = [table[a] for a in collateral]
    owed = [table[a] for a in debt]
    cash = _opening_cash(owed, np.asarray(accounts.debt.sum(axis=1), np.float64))
    array = lambda values: jnp.asarray(np.asarray(list(values), np.float64), dtype)
    by_mode = lambda field: array(_by_mode(field, collateral, held, modes))
    pool = opening_pool(accounts, array(cash))
    stakers, stakes, slashing = coverage_funds(
        coverage or {},
        assets,
        accounts.debt_assets,
        np.asarray(pool[Pool.SUPPLIED]).tolist(),
        dtype,
    )
    return Venue(
        accounts=accounts,
        oracle=oracle or SpotOracle(),
        collateral=CollateralWeights(
            liquidation_threshold=by_mode("liquidation_threshold"),
            loan_to_value=by_mode("loan_to_value"),
        ),
        close=close_rule(dtype),
        incentive=AssetBonus(
            bonus=by_mode("liquidation_bonus"), fee_share=array(r.protocol_fee for r in held)
        ),
        recognition=AtZeroCollateral(),
        interest=KinkedRate(
            base=array(r.base_rate for r in owed),
            slope1=array(r.slope1 for r in owed),
            slope2=array(r.slope2 for r in owed),
            optimal_utilisation=array(r.optimal_utilisation for r in owed),
            reserve_factor=array(r.reserve_factor for r in owed),
        ),
        pool=pool,
        funds=array([reserve, *stakes, insurance]),
        fund_rules=(Capacity(), *slashing, Capacity()),
        name=name,
        fund_names=("reserve", *stakers, "insurance"),
        residual=Residual.CARRIED,
        categories=("", *modes),
        limits=_limits(held, owed, lambda units: jnp.asarray(units, dtype)),
    )


def _limits(
    held: list[Reserve], owed: list[Reserve], array: Callable[[float], Array]
) -> tuple[Limit, ...]:
    """Return the caps of the reserves in the book, as far as they are known."""
    caps = [("supply cap", False, row, r.supply_cap) for row, r in enumerate(held)]
    caps += [("borrow cap", True, row, r.borrow_cap) for row, r in enumerate(owed)]
    return tuple(
        Limit(name=name, most=array(most), is_debt=is_debt, row=row)
        for name, is_debt, row, most in caps
        if most is not None
    )


def _reserve(asset: str, reserves: Mapping[str, Reserve], override: Mapping[str, float]) -> Reserve:
    unknown = sorted(set(override) - set(Reserve._fields))
    if unknown:
        raise ValueError(f"{asset}: no such parameter {', '.join(unknown)}")
    if asset in reserves:
        return _sensible(asset, reserves[asset]._replace(**override))
    missing = [f for f in Reserve._fields if f not in override and f not in Reserve._field_defaults]
    if missing:
        raise ValueError(f"{asset}: not in the deployment; also give {', '.join(missing)}")
    return _sensible(asset, Reserve(**override))  # pyright: ignore[reportArgumentType]


def _sensible(asset: str, reserve: Reserve) -> Reserve:
    problems = problems_of({k: v for k, v in reserve._asdict().items() if v is not None})
    if problems:
        raise ValueError(f"{asset}: {'; '.join(problems)}")
    return reserve


def _by_mode(
    field: str, assets: list[str], held: list[Reserve], modes: Mapping[str, Category]
) -> list[list[float]]:
    base = [getattr(r, field) for r in held]
    rows = [
        [getattr(m, field) if a in m.collateral else b for a, b in zip(assets, base, strict=True)]
        for m in modes.values()
    ]
    return [base, *rows]


def _opening_cash(owed: list[Reserve], debt: np.ndarray) -> list[float]:
    """Cash as stated, or what puts the pool at its optimal utilisation where nothing is stated."""
    return [
        d * (1.0 / r.optimal_utilisation - 1.0)
        if r.available_liquidity is None
        else r.available_liquidity
        for r, d in zip(owed, debt, strict=True)
    ]


def _terms(
    overrides: Mapping[str, Mapping[str, float]], *, deployment: str = DEFAULT_DEPLOYMENT
) -> Terms:
    reserves, modes = DEPLOYMENTS[deployment]
    thresholds = {asset: r.liquidation_threshold for asset, r in reserves.items()}
    for asset, override in overrides.items():
        if "liquidation_threshold" in override:
            thresholds[asset] = override["liquidation_threshold"]
    return Terms(thresholds, {name: mode.liquidation_threshold for name, mode in modes.items()})


PRESET = Preset(
    build=aave_v3,
    required=(),
    terms=_terms,
    deployments=tuple(DEPLOYMENTS),
    asset_options=("supply_cap", "borrow_cap"),
    coverage=True,
)
