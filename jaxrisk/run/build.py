"""From a configuration to a system: book, venues, market, and what is worth knowing about them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
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
from jaxrisk.market.impact import DepthCurveImpact, ImpactLaw, LinearImpact, SquareRootImpact
from jaxrisk.market.liquidity import Liquidity, RespondingDepth
from jaxrisk.market.oracle import DelayedOracle, ExchangeRateOracle, Oracle, SpotOracle
from jaxrisk.market.paths import Gbm, JumpDiffusion, Pegged
from jaxrisk.market.shock import ParametrisedShock
from jaxrisk.market.state import Market
from jaxrisk.run.config import Config, VenueSection
from jaxrisk.run.generate import generate_positions
from jaxrisk.run.hints import expected_one_of
from jaxrisk.run.prices import PriceTable, read_prices
from jaxrisk.run.real_book import read_user_totals
from jaxrisk.run.tables import PositionTable, read_positions
from jaxrisk.system.policy import BestPair, Keeper, ProRata
from jaxrisk.system.system import System
from jaxrisk.venue.account import Accounts, account_ids
from jaxrisk.venue.presets import PRESETS, Terms

HOURS_A_YEAR = 8760.0

# Eigenvalues of a valid correlation matrix may be this negative by rounding of its entries.
_EIGENVALUE_ROUNDING = -1e-9

# Half-life over which realised volatility is learnt, for depth that responds to it.
_VARIANCE_HALF_LIFE_HOURS = 24.0


@dataclasses.dataclass(frozen=True)
class VenueBook:
    """Names behind the account axis of one venue.

    Attributes:
        account_id: in the order of the account axis.
        category: of each account, "" for none.
        owner: of each account, "" where unknown.
    """

    account_id: tuple[str, ...]
    category: tuple[str, ...]
    owner: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Built:
    """A system and what its inputs deserve to have said about them.

    Attributes:
        system: ready to simulate.
        books: names of the accounts, one entry a venue.
        volatile: `(asset,)` assets that move in a joint fall: pegged to or as volatile as them.
        synthetic: the book is generated.
        data_quality: findings about the inputs, for report and summary.
        assumptions: what the model takes for granted.
    """

    system: System
    books: tuple[VenueBook, ...]
    volatile: np.ndarray
    synthetic: bool
    data_quality: tuple[str, ...]
    assumptions: tuple[str, ...]


def build(config: Config) -> Built:
    """Return the system a configuration describes.

    Raises:
        ConfigError: options do not fit together.
        DataError: a table cannot be used.
    """
    dtype = np.dtype(config.run.precision)
    notes: list[str] = []
    prices = _prices(config)
    terms = {name: _terms(name, section) for name, section in config.venues.items()}
    positions = _positions(config, prices, terms, notes)
    history = _history(config, notes)
    market = Market.opening(
        prices,
        volatility=_volatilities(config, history).tolist(),
        pegs={a: s.peg for a, s in config.assets.items() if s.peg is not None},
        dtype=dtype,
    )
    venues, books = [], []
    for name, section in config.venues.items():
        accounts, book = _accounts(name, positions, market.assets, terms[name], dtype)
        venues.append(_venue(name, section, accounts, market.assets, config.run.step_hours))
        books.append(book)
        _note_liquidity(name, section, venues[-1].accounts, market.assets, notes)
    system = System(
        market=market,
        paths=_paths(config, history, dtype, notes),
        liquidity=_liquidity(config, history, dtype),
        venues=tuple(venues),
        keeper=_keeper(config, dtype),
    )
    return Built(
        system=system,
        books=tuple(books),
        volatile=_volatile(config),
        synthetic=positions.synthetic,
        data_quality=tuple(notes),
        assumptions=_assumptions(config),
    )


def _prices(config: Config) -> dict[str, float]:
    prices = {a: s.price for a, s in config.assets.items() if s.price is not None}
    for name, section in config.assets.items():
        if section.price is None and section.peg is not None and section.ratio is not None:
            prices[name] = prices[section.peg] * section.ratio
    return {name: prices[name] for name in config.assets}


def _overrides(section: VenueSection) -> dict[str, dict[str, float]]:
    return {a: s.model_dump(exclude_none=True) for a, s in section.assets.items()}


def _options(name: str, section: VenueSection) -> dict[str, Any]:
    """Return the options a venue's preset takes, refusing those it does not know."""
    preset = PRESETS[section.preset]
    given = {
        key: getattr(section, key)
        for key in ("deployment", "collateral", "loan", "liquidation_loan_to_value")
        if getattr(section, key) is not None
    }
    problems = [
        f"venues.{name}.{key}: not an option of preset {section.preset}; drop it"
        for key in given
        if key not in preset.options
    ]
    problems += [
        f"venues.{name}.{key}: missing; preset {section.preset} needs it"
        for key in preset.required
        if key not in given
    ]
    known = preset.deployments
    if section.deployment is not None and known and section.deployment not in known:
        problems.append(f"venues.{name}.deployment: {expected_one_of(section.deployment, known)}")
    if problems:
        raise ConfigError(problems)
    return given


def _terms(name: str, section: VenueSection) -> Terms:
    return PRESETS[section.preset].terms(_overrides(section), **_options(name, section))


def _positions(
    config: Config, prices: Mapping[str, float], terms: Mapping[str, Terms], notes: list[str]
) -> PositionTable:
    """Return the book, with a note on where it comes from."""
    book = config.book
    if book.positions is not None:
        every = {c for t in terms.values() for c in t.categories if c}
        table = read_positions(
            book.positions, venues=tuple(config.venues), assets=tuple(prices), categories=every
        )
        notes.append(f"book: {table.source}, {len(table)} positions")
    elif book.synthetic is not None:
        own = terms[book.synthetic.venue]
        table = generate_positions(
            book.synthetic,
            prices=prices,
            thresholds=own.thresholds,
            category_thresholds=own.category_thresholds,
        )
        notes.append(f"book: {table.source}")
    else:
        assert book.user_totals is not None
        own = terms[book.user_totals.venue]
        table, report = read_user_totals(
            book.user_totals,
            prices=prices,
            thresholds=own.thresholds,
            category_thresholds=own.category_thresholds,
        )
        notes.append(f"book: {table.source}")
        notes.extend(report.lines())
    if table.synthetic and not any("synthetic" in note for note in notes):
        notes.append("book: synthetic, not observed positions")
    return table


def _accounts(
    name: str, table: PositionTable, assets: Sequence[str], terms: Terms, dtype: np.dtype
) -> tuple[Accounts, VenueBook]:
    here = table.venue == name
    if not here.any():
        raise DataError(f"{table.source}: no position on venue {name}; add some or drop the venue")
    own = {
        "account_id": table.account_id[here],
        "asset": table.asset[here],
        "side": table.side[here],
        "amount": table.amount[here],
        "category": table.category[here],
    }
    try:
        accounts = Accounts.from_table(own, assets=assets, categories=terms.categories, dtype=dtype)
    except ValueError as error:
        raise DataError(
            [f"{table.source}: venue {name}: {p}" for p in str(error).split("\n")]
        ) from error
    ids = account_ids(own)
    category = dict(zip(map(str, own["account_id"]), map(str, own["category"]), strict=True))
    owner = dict(zip(map(str, own["account_id"]), map(str, table.owner[here]), strict=True))
    return accounts, VenueBook(
        account_id=tuple(ids),
        category=tuple(category[i] for i in ids),
        owner=tuple(owner[i] for i in ids),
    )


def _venue(
    name: str, section: VenueSection, accounts: Accounts, assets: Sequence[str], step_hours: float
) -> Any:
    try:
        return PRESETS[section.preset].build(
            accounts,
            assets,
            name=name,
            overrides=_overrides(section),
            oracle=_oracle(section, step_hours),
            reserve=section.reserve_usd,
            insurance=section.insurance_usd,
            **_options(name, section),
        )
    except ValueError as error:
        raise ConfigError(f"venues.{name}: {error}") from error


def _oracle(section: VenueSection, step_hours: float) -> Oracle:
    if section.oracle == "exchange_rate":
        return ExchangeRateOracle()
    if section.oracle == "delayed":
        assert section.oracle_delay_hours is not None
        return DelayedOracle(steps=max(1, math.ceil(section.oracle_delay_hours / step_hours)))
    return SpotOracle()


def _note_liquidity(
    name: str, section: VenueSection, accounts: Accounts, assets: Sequence[str], notes: list[str]
) -> None:
    unstated = [
        assets[i]
        for i in accounts.debt_assets
        if assets[i] not in section.assets or section.assets[assets[i]].available_liquidity is None
    ]
    if unstated:
        notes.append(
            f"venue {name}: available liquidity of {', '.join(unstated)} is not configured; taken "
            "from the preset, or such that the pool stands at its optimal utilisation"
        )


def _history(config: Config, notes: list[str]) -> PriceTable | None:
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


def _history_returns(config: Config, history: PriceTable) -> np.ndarray:
    returns = log_returns(history.prices)
    table = np.zeros((returns.shape[0], len(config.assets)))
    for column, asset in enumerate(history.assets):
        table[:, list(config.assets).index(asset)] = returns[:, column]
    return table


def _volatilities(config: Config, history: PriceTable | None) -> np.ndarray:
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


def _paths(config: Config, history: PriceTable | None, dtype: np.dtype, notes: list[str]) -> Any:
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
        return Replay.from_history(returns, start=first, steps=run.steps, dtype=dtype)
    except ValueError as error:
        raise DataError(
            f"market.history: {history.source} from {history.times[0]} to {history.times[-1]}: "
            f"{error}"
        ) from error


def _liquidity(config: Config, history: PriceTable | None, dtype: np.dtype) -> Liquidity:
    array = lambda x: jnp.asarray(np.asarray(x, np.float64), dtype)
    impact, sections = config.impact, list(config.assets.values())
    return Liquidity(
        law=_impact_law(config, array),
        depth=RespondingDepth(
            depth=array([s.depth_usd for s in sections]),
            calm_volatility=array(_volatilities(config, history)),
            volatility_sensitivity=array(impact.depth_volatility_sensitivity),
            flow_sensitivity=array(impact.depth_flow_sensitivity),
        ),
        permanent_share=array(impact.permanent_share),
        recovery_rate=array(math.log(2.0) * HOURS_A_YEAR / impact.half_life_hours),
        variance_rate=array(math.log(2.0) * HOURS_A_YEAR / _VARIANCE_HALF_LIFE_HOURS),
    )


def _impact_law(config: Config, array: Any) -> ImpactLaw:
    impact, count = config.impact, len(config.assets)
    if impact.kind == "depth_curve":
        share = np.broadcast_to(np.asarray(impact.band_depths), (count, len(impact.bands)))
        return DepthCurveImpact(fall=array(impact.bands), share=array(share))
    coefficient = array(np.full(count, impact.coefficient))
    if impact.kind == "linear":
        return LinearImpact(coefficient=coefficient)
    return SquareRootImpact(coefficient=coefficient)


def _keeper(config: Config, dtype: np.dtype) -> Keeper:
    keeper = config.keeper
    return Keeper(
        minimum_return=jnp.asarray(keeper.minimum_return, dtype),
        choice=BestPair() if keeper.policy == "best_pair" else ProRata(),
        cost=jnp.asarray(keeper.cost_usd, dtype) if keeper.cost_usd > 0 else None,
    )


def _volatile(config: Config) -> np.ndarray:
    """Return which assets fall together in a market-wide move: all but the stable ones."""
    names = list(config.assets)
    stable = np.array([s.peg is None and _is_stable(config, a) for a, s in config.assets.items()])
    for i, section in enumerate(config.assets.values()):
        if section.peg is not None:
            stable[i] = stable[names.index(section.peg)]
    return ~stable


def _is_stable(config: Config, asset: str) -> bool:
    section = config.assets[asset]
    if section.volatility is not None:
        return section.volatility < 0.1
    return section.price is not None and 0.5 < section.price < 2.0


def _assumptions(config: Config) -> tuple[str, ...]:
    impact = config.impact
    return (
        f"prices: {config.market.model.replace('_', ' ')}, steps of {config.run.step_hours:g} h; "
        "expected returns are zero",
        f"forced sales: {impact.kind.replace('_', ' ')} impact, {impact.permanent_share:.0%} of it "
        f"permanent, the rest fades with a half-life of {impact.half_life_hours:g} h; depth falls "
        "with volatility and with the forced flow",
        f"keepers: {config.keeper.policy.replace('_', ' ')}, {config.keeper.cost_usd:g} USD a "
        "call; calls are rationed to what can be sold without a loss",
        "borrowers do nothing: no top-ups, no repayments, no new positions",
        "suppliers do not withdraw; collateral earns no interest",
        "supply and borrow caps, frozen reserves and governance actions are not modelled",
    )


def input_files(config: Config) -> list[Path]:
    """Return the data files a configuration reads."""
    files = [config.book.positions, config.market.history]
    if config.book.user_totals is not None:
        files += [config.book.user_totals.users, config.book.user_totals.debts]
    return [f for f in files if f is not None]
