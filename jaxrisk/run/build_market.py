"""The market of a configuration: price paths, correlation, liquidity."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrisk.errors import ConfigError, DataError
from jaxrisk.market.correlation import (
    correlation_factor,
    nearest_correlation,
    smallest_eigenvalue,
    uniform_correlation,
)
from jaxrisk.market.history import Bootstrap, Replay, log_returns, realised_volatility
from jaxrisk.market.impact import (
    DepthCurveImpact,
    ExponentialImpact,
    ImpactLaw,
    LinearImpact,
    SquareRootImpact,
)
from jaxrisk.market.liquidity import Liquidity, RespondingDepth
from jaxrisk.market.paths import Gbm, JumpDiffusion, Pegged
from jaxrisk.market.pool_impact import PoolImpact
from jaxrisk.market.shock import ParametrisedShock
from jaxrisk.run.config import Config
from jaxrisk.run.prices import PriceTable, read_prices

HOURS_A_YEAR = 8760.0

# Eigenvalues of a valid correlation matrix may be this negative by rounding of its entries.
_EIGENVALUE_ROUNDING = -1e-9

# Half-life over which realised volatility is learnt, for depth that responds to it.
_VARIANCE_HALF_LIFE_HOURS = 24.0


def read_history(config: Config, notes: list[str]) -> PriceTable | None:
    """Return recorded prices of the free assets, one step apart; constants need no record."""
    market = config.market
    if market.model not in ("bootstrap", "replay"):
        return None
    assert market.history is not None
    columns = market.history_columns
    free = [a for a, s in config.assets.items() if s.peg is None and s.volatility != 0]
    table = read_prices(
        market.history,
        free,
        time_column=columns.time,
        asset_column=columns.asset,
        price_column=columns.price,
        rename=columns.rename,
        step_hours=config.run.step_hours,
    )
    notes.append(
        f"price history: {table.source}, {len(table.times)} steps from {table.times[0]} to "
        f"{table.times[-1]}"
    )
    if filled := {a: n for a, n in table.carried.items() if n}:
        filled_text = ", ".join(f"{n} of {a}" for a, n in filled.items())
        notes.append(f"price history: {filled_text} filled with the price before")
    return table


def volatilities(config: Config, history: PriceTable | None) -> np.ndarray:
    """Return `(asset,)` volatility per year; a pegged asset has its underlying's."""
    stated = {a: s.volatility or 0.0 for a, s in config.assets.items()}
    if history is not None:
        step_years = config.run.step_hours / HOURS_A_YEAR
        realised = realised_volatility(log_returns(history.prices), step_years)
        stated |= dict(zip(history.assets, map(float, realised), strict=True))
    for name, section in config.assets.items():
        if section.peg is not None:
            stated[name] = stated[section.peg]
    return np.array(list(stated.values()))


def build_paths(
    config: Config, history: PriceTable | None, dtype: np.dtype, notes: list[str]
) -> Any:
    """Return the path model over all assets, pegged ones wrapped around the rest.

    Raises:
        ConfigError: the correlation matrix is not valid and repair is off.
        DataError: the history is too short.
    """
    array = lambda x: jnp.asarray(np.asarray(x, np.float64), dtype)
    sections = list(config.assets.values())
    if history is not None:
        table = _history_returns(config, history)
        base = _recorded_paths(config, history, table, dtype)
    else:
        volatility = np.array([s.volatility or 0.0 for s in sections])
        diffusion = Gbm(
            drift=array(np.zeros(len(sections))),
            volatility=array(volatility),
            factor=array(np.asarray(correlation_factor(jnp.asarray(_correlation(config, notes))))),
        )
        base = _diffusion_paths(config, diffusion, array)
    names = list(config.assets)
    if all(s.peg is None for s in sections):
        return base
    return Pegged(
        base=base,
        underlying=tuple(names.index(s.peg) if s.peg is not None else -1 for s in sections),
        ratio_growth=array([s.ratio_growth for s in sections]),
        basis_volatility=array([s.basis_volatility for s in sections]),
        basis_half_life_years=array([s.basis_half_life_hours / HOURS_A_YEAR for s in sections]),
    )


def build_liquidity(config: Config, history: PriceTable | None, dtype: np.dtype) -> Liquidity:
    """Return impact law, depth that responds to stress, and recovery."""
    array = lambda x: jnp.asarray(np.asarray(x, np.float64), dtype)
    impact, sections = config.impact, list(config.assets.values())
    return Liquidity(
        law=_impact_law(config, array),
        depth=RespondingDepth(
            depth=array([s.depth_usd for s in sections]),
            calm_volatility=array(volatilities(config, history)),
            volatility_sensitivity=array(impact.depth_volatility_sensitivity),
            flow_sensitivity=array(impact.depth_flow_sensitivity),
        ),
        permanent_share=array(impact.permanent_share),
        recovery_rate=array(math.log(2.0) * HOURS_A_YEAR / impact.half_life_hours),
        variance_rate=array(math.log(2.0) * HOURS_A_YEAR / _VARIANCE_HALF_LIFE_HOURS),
    )


def _history_returns(config: Config, history: PriceTable) -> np.ndarray:
    returns = log_returns(history.prices)
    table = np.zeros((returns.shape[0], len(config.assets)))
    for column, asset in enumerate(history.assets):
        table[:, list(config.assets).index(asset)] = returns[:, column]
    return table


def _correlation(config: Config, notes: list[str]) -> np.ndarray:
    """Return a valid matrix over all assets; rows of pegged assets are independent."""
    names = list(config.assets)
    free = [i for i, s in enumerate(config.assets.values()) if s.peg is None]
    given = config.market.correlation
    if given is None:
        matrix = np.asarray(uniform_correlation(len(free), config.market.correlation_default))
    else:
        matrix = np.array(given, np.float64)
        if len(matrix) == len(names):
            matrix = matrix[np.ix_(free, free)]
    smallest = smallest_eigenvalue(matrix)
    if smallest < _EIGENVALUE_ROUNDING:
        repaired, change = nearest_correlation(matrix)
        if not config.market.repair_correlation:
            raise ConfigError(
                f"market.correlation: not positive semidefinite (smallest eigenvalue "
                f"{smallest:.3g}). Nearest fix: set market.repair_correlation = true (changes "
                f"entries by at most {change:.2g})"
            )
        notes.append(f"correlation repaired: entries changed by at most {change:.2g}")
        matrix = repaired
    full = np.eye(len(names))
    full[np.ix_(free, free)] = matrix
    return full


def _diffusion_paths(config: Config, diffusion: Gbm, array: Any) -> Any:
    market, sections = config.market, config.assets
    if market.model == "jump_diffusion":
        return JumpDiffusion(
            diffusion=diffusion,
            jump_intensity=array(market.jump_intensity),
            jump_mean=array(market.jump_mean),
            jump_volatility=array(market.jump_volatility),
            jump_loading=array([s.jump_loading for s in sections.values()]),
        )
    if market.model == "shock":
        shock = market.shock
        assert shock is not None
        log_fall = lambda table: array([-math.log1p(-table.get(a, 0.0)) for a in sections])
        return ParametrisedShock(
            diffusion=diffusion,
            volatility_multiplier=array(shock.volatility_multiplier),
            fall=log_fall(shock.falls),
            basis_fall=log_fall(shock.basis),
            fall_years=array(shock.hours / HOURS_A_YEAR),
            recovery=array(shock.recovery),
            recovery_years=array(shock.recovery_hours / HOURS_A_YEAR),
            gap=array(shock.gap),
            gap_years=array((shock.gap_hours or shock.hours) / HOURS_A_YEAR),
        )
    return diffusion


def _recorded_paths(
    config: Config, history: PriceTable, returns: np.ndarray, dtype: np.dtype
) -> Bootstrap | Replay:
    market, run = config.market, config.run
    try:
        if market.model == "bootstrap":
            block = max(1.0, market.block_hours / run.step_hours)
            return Bootstrap.from_history(returns, mean_block_steps=block, dtype=dtype)
        start = np.datetime64(market.start.replace(tzinfo=None)) if market.start else None
        first = int(np.searchsorted(history.times, start)) if start is not None else 0
        last = len(history.times) - 1 - run.steps
        if start is not None and not (history.times[0] <= start and first <= last):
            raise ValueError(f"{run.steps} steps from market.start = {start} are not covered")
        return Replay.from_history(returns, start=first, steps=run.steps, dtype=dtype)
    except ValueError as error:
        raise DataError(
            f"market.history: {history.source} from {history.times[0]} to {history.times[-1]}: "
            f"{error}"
        ) from error


def _impact_law(config: Config, array: Any) -> ImpactLaw:
    impact, count = config.impact, len(config.assets)
    if impact.kind == "depth_curve":
        share = np.broadcast_to(np.asarray(impact.band_depths), (count, len(impact.bands)))
        return DepthCurveImpact(fall=array(impact.bands), share=array(share))
    pooled = impact.kind == "concentrated"
    if pooled or impact.kind == "constant_product":
        return PoolImpact(
            ends=array(impact.range_ends if pooled else ()),
            liquidity=array(np.tile(impact.range_liquidity if pooled else (1.0,), (count, 1))),
            fee=array(np.full(count, impact.pool_fee)),
        )
    coefficient = array(np.full(count, impact.coefficient))
    if impact.kind == "exponential":
        largest = array(np.full(count, impact.largest_fall))
        return ExponentialImpact(coefficient=coefficient, largest=largest)
    if impact.kind == "linear":
        return LinearImpact(coefficient=coefficient)
    return SquareRootImpact(coefficient=coefficient)
