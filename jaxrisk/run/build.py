"""From a configuration to a system: book, venues, market, and what is worth knowing about them."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrisk.errors import ConfigError, DataError
from jaxrisk.market.state import Market
from jaxrisk.measure.exposure import volatile_assets
from jaxrisk.measure.vault import Vault
from jaxrisk.run.assumptions import assumptions
from jaxrisk.run.build_behaviour import build_halts, with_owners
from jaxrisk.run.build_claims import put_claims
from jaxrisk.run.build_market import (
    HOURS_A_YEAR,
    build_liquidity,
    build_paths,
    read_history,
    volatilities,
)
from jaxrisk.run.build_oracle import build_oracle
from jaxrisk.run.config import Config, RunSection, VaultSection, VenueSection
from jaxrisk.run.contract_book import contract_accounts
from jaxrisk.run.generate import generate_positions
from jaxrisk.run.hints import expected_one_of
from jaxrisk.run.margin_tiers import read_margin_tiers
from jaxrisk.run.real_book import read_user_totals
from jaxrisk.run.tables import PositionTable, read_positions
from jaxrisk.system.engine import Choice, choices
from jaxrisk.system.policy import BestPair, Capital, Keeper, ProRata
from jaxrisk.system.system import System
from jaxrisk.venue.account import Accounts, account_ids
from jaxrisk.venue.lender_auctions import LenderAuctions
from jaxrisk.venue.margin_accounts import MarginAccounts
from jaxrisk.venue.presets import PRESETS, Terms
from jaxrisk.venue.presets.instruments import underlying_of
from jaxrisk.venue.vault_share import VaultLoss, VaultShare
from jaxrisk.venue.venue import Pool, Venue


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
        engines: what plays each venue.
        books: names of the accounts, one entry a venue.
        volatile: `(asset,)` assets that move in a joint fall: pegged to or as volatile as them.
        synthetic: the book is generated.
        data_quality: findings about the inputs, for report and summary.
        assumptions: what the model takes for granted.
        vaults: over the system's venues.
    """

    system: System
    engines: tuple[Choice, ...]
    books: tuple[VenueBook, ...]
    volatile: np.ndarray
    synthetic: bool
    data_quality: tuple[str, ...]
    assumptions: tuple[str, ...]
    vaults: tuple[Vault, ...] = ()


# Options of presets that stand in [venues.NAME] itself; all others in its table of options.
_SECTION_OPTIONS = ("deployment", "collateral", "loan", "liquidation_loan_to_value")


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
    history = read_history(config, notes)
    market = Market.opening(
        prices,
        volatility=volatilities(config, history).tolist(),
        pegs={a: s.peg for a, s in config.assets.items() if s.peg is not None},
        dtype=dtype,
    )
    venues, books = [], []
    for name, section in config.venues.items():
        accounts, book, more = _accounts(name, section, positions, prices, terms[name], dtype)
        venues.append(_venue(name, section, accounts, market, config.run, more))
        books.append(book)
        _note_liquidity(name, section, venues[-1], market.assets, notes)
    system = System(
        market=market,
        paths=build_paths(config, history, dtype, notes),
        liquidity=build_liquidity(config, history, dtype),
        venues=tuple(venues),
        keeper=_keeper(config, dtype),
        halts=build_halts(config.halts, tuple(config.venues), dtype),
    )
    system = put_claims(config, system, [book.account_id for book in books])
    system = with_owners(system, [book.owner for book in books], config.owners, config.policies)
    return Built(
        system=system,
        engines=_engines(config, system),
        books=tuple(books),
        volatile=volatile_assets(market),
        synthetic=positions.synthetic,
        data_quality=tuple(notes),
        assumptions=assumptions(config, system.venues),
        vaults=tuple(
            _vault(name, section, config, venues, dtype) for name, section in config.vaults.items()
        ),
    )


def _engines(config: Config, system: System) -> tuple[Choice, ...]:
    try:
        return choices(system, config.run.engine)
    except ValueError as error:
        raise ConfigError(f'run.engine: {error}; expected "auto" or "dense"') from error


def _vault(
    name: str, section: VaultSection, config: Config, venues: Sequence[Venue], dtype: np.dtype
) -> Vault:
    number = lambda x: jnp.asarray(x, dtype)
    lent = {venue.accounts.debt_assets for venue in venues if venue.name in section.markets}
    if len(lent) > 1 or any(len(assets) != 1 for assets in lent):
        raise ConfigError(
            f"vaults.{name}.markets: expected venues that lend one asset, the same on all of them"
        )
    return Vault(
        name=name,
        weights=tuple(section.markets.get(venue, 0.0) for venue in config.venues),
        rule=VaultShare(
            fee=number(section.fee),
            virtual_assets=number(0.0),
            virtual_shares=number(0.0),
            loss=VaultLoss.HELD if section.loss == "held" else VaultLoss.RECOGNISED,
        ),
    )


def _prices(config: Config) -> dict[str, float]:
    prices = {a: s.price for a, s in config.assets.items() if s.price is not None}
    for name, section in config.assets.items():
        if section.price is None and section.peg is not None and section.ratio is not None:
            prices[name] = prices[section.peg] * section.ratio
    return {name: prices[name] for name in config.assets}


def _overrides(section: VenueSection) -> dict[str, dict[str, float]]:
    common = lambda s: s.model_dump(exclude_none=True, exclude={"options", "symbol"})
    return {asset: common(s) | s.options for asset, s in section.assets.items()}


def _options(name: str, section: VenueSection) -> dict[str, Any]:
    """Return the options a venue's preset takes, refusing those it does not know."""
    preset = PRESETS[section.preset]
    given = {
        key: getattr(section, key) for key in _SECTION_OPTIONS if getattr(section, key) is not None
    }
    problems = [
        f"venues.{name}.{key}: not an option of preset {section.preset}; drop it"
        for key in given
        if key not in preset.options
    ]
    problems += [
        f"venues.{name}.options.{key}: {expected_one_of(key, preset.options)}"
        for key in section.options
        if key not in preset.options
    ]
    problems += [
        f"venues.{name}.options.{key}: expected {'a number' if text else 'text'}, got {value!r}"
        for key, value in section.options.items()
        for text in [isinstance(value, str)]
        if key in preset.options and not preset.accepts(key, value)
    ]
    problems += [
        f"venues.{name}.assets.{asset}.options.{key}: {expected_one_of(key, preset.asset_options)}"
        for asset, own in section.assets.items()
        for key in own.options
        if key not in preset.asset_options
    ]
    if not preset.tiers:
        tables = {"margin_tiers": section.margin_tiers}
        tables |= {f"assets.{a}.symbol": own.symbol for a, own in section.assets.items()}
        problems += [
            f"venues.{name}.{key}: preset {section.preset} has no table of margin tiers; drop it"
            for key, value in tables.items()
            if value is not None
        ]
    if section.coverage and not preset.coverage:
        problems.append(
            f"venues.{name}.coverage: preset {section.preset} has no staked coverage; drop it"
        )
    given |= section.options
    problems += [
        f"venues.{name}.{'' if key in _SECTION_OPTIONS else 'options.'}{key}: missing; "
        f"preset {section.preset} needs it"
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
    options = _options(name, section)
    try:
        return PRESETS[section.preset].terms(_overrides(section), **options)
    except ValueError as error:
        raise ConfigError(_in_venue(name, error)) from error


def _in_venue(name: str, error: ValueError) -> list[str]:
    """Return what a preset refuses, each problem with its key as far as the preset names it."""
    problems = [line.removeprefix(f"{name}: ") for line in str(error).split("\n")]
    nested = ("assets.", "coverage.")
    return [f"venues.{name}{'.' if p.startswith(nested) else ': '}{p}" for p in problems]


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
    name: str,
    section: VenueSection,
    table: PositionTable,
    prices: Mapping[str, float],
    terms: Terms,
    dtype: np.dtype,
) -> tuple[Accounts, VenueBook, dict[str, Any]]:
    """Return a venue's accounts, their names, and what else its preset has to know."""
    here, source = table.venue == name, table.file or table.source
    if not here.any():
        raise DataError(f"{source}: no position on venue {name}; add some or drop the venue")
    preset = PRESETS[section.preset]
    contracts = preset.contracts
    if preset.debts and not (contracts or (table.amount[here & (table.side == "debt")] > 0).any()):
        raise DataError(f"{source}: nobody on venue {name} owes; add debts or drop the venue")
    own = {
        "account_id": table.account_id[here],
        "asset": table.asset[here],
        "side": table.side[here],
        "amount": table.amount[here],
        "category": table.category[here],
        "entry": np.full(here.sum(), np.nan) if table.entry is None else table.entry[here],
    }
    assets, more = tuple(prices), {}
    try:
        if contracts:
            accounts, held = contract_accounts(
                own, settlement=str(section.options["settlement"]), assets=assets, dtype=dtype
            )
            more = {"instruments": held, "prices": prices, **_tables(section, held)}
        else:
            accounts = Accounts.from_table(
                own, assets=assets, categories=terms.categories, dtype=dtype
            )
    except ValueError as error:
        raise DataError([f"{source}: venue {name}: {p}" for p in str(error).split("\n")]) from error
    ids = account_ids(own)
    category = dict(zip(map(str, own["account_id"]), map(str, own["category"]), strict=True))
    owner = dict(zip(map(str, own["account_id"]), map(str, table.owner[here]), strict=True))
    names = VenueBook(
        account_id=tuple(ids),
        category=tuple(category[i] for i in ids),
        owner=tuple(owner[i] for i in ids),
    )
    return accounts, names, more


def _tables(section: VenueSection, instruments: Sequence[str]) -> dict[str, Any]:
    """Return names in margin tables and brackets read from one, by underlying.

    What the configuration gives margins for itself is not looked up.
    """
    underlying = dict.fromkeys(underlying_of(each) for each in instruments)
    given = {asset: own.symbol or asset for asset, own in section.assets.items()}
    symbols = {asset: given.get(asset, asset) for asset in underlying}
    own = {a for a, s in section.assets.items() if "maintenance_margin" in s.options}
    asked = {asset: symbol for asset, symbol in symbols.items() if asset not in own}
    if section.margin_tiers is None or not asked:
        return {"symbols": symbols}
    found = read_margin_tiers(section.margin_tiers, list(asked.values()))
    return {"symbols": symbols, "brackets": {a: found[symbol] for a, symbol in asked.items()}}


def _venue(
    name: str,
    section: VenueSection,
    accounts: Accounts,
    market: Market,
    run: RunSection,
    more: Mapping[str, Any],
) -> Any:
    try:
        return PRESETS[section.preset].build(
            accounts,
            market.assets,
            name=name,
            overrides=_overrides(section),
            oracle=build_oracle(name, section, run, market),
            reserve=section.reserve_usd,
            insurance=section.insurance_usd,
            **_coverage(section),
            **_options(name, section),
            **more,
        )
    except ValueError as error:
        raise ConfigError(_in_venue(name, error)) from error


def _coverage(section: VenueSection) -> dict[str, Any]:
    """Return the stakes behind a venue as an argument of its preset, none where there are none."""
    stakes = {asset: own.model_dump(exclude_none=True) for asset, own in section.coverage.items()}
    return {"coverage": stakes} if stakes else {}


def _note_liquidity(
    name: str, section: VenueSection, venue: Venue, assets: Sequence[str], notes: list[str]
) -> None:
    """Note where available liquidity is the preset's; a venue that issues its coin holds none.

    Where lenders' deposits are stated, so is what is not lent out; margin is nobody's loan.
    """
    if isinstance(venue.execution, LenderAuctions | MarginAccounts):
        return
    held = np.asarray(venue.pool[Pool.CASH]) > 0
    unstated = [
        assets[i]
        for i, has_cash in zip(venue.accounts.debt_assets, held, strict=True)
        if has_cash
        and (
            assets[i] not in section.assets or section.assets[assets[i]].available_liquidity is None
        )
    ]
    if unstated:
        notes.append(
            f"venue {name}: available liquidity of {', '.join(unstated)} is not configured; taken "
            "from the preset, or such that the pool stands at its optimal utilisation"
        )


def _keeper(config: Config, dtype: np.dtype) -> Keeper:
    keeper, number = config.keeper, lambda x: jnp.asarray(x, dtype)
    capital = None
    if keeper.capital_usd is not None and keeper.capital_half_life_hours is not None:
        capital = Capital(
            amount=number(keeper.capital_usd),
            recovery_rate=number(math.log(2.0) * HOURS_A_YEAR / keeper.capital_half_life_hours),
        )
    return Keeper(
        minimum_return=number(keeper.minimum_return),
        choice=BestPair() if keeper.policy == "best_pair" else ProRata(),
        cost=number(keeper.cost_usd) if keeper.cost_usd > 0 else None,
        capital=capital,
        latency=number(keeper.latency_steps) if keeper.latency_steps else None,
        congestion=number(keeper.congestion) if keeper.congestion > 0 else None,
    )


def input_files(config: Config) -> list[Path]:
    """Return the data files a configuration reads."""
    files = [config.book.positions, config.market.history]
    if config.book.user_totals is not None:
        files += [config.book.user_totals.users, config.book.user_totals.debts]
    files += [venue.margin_tiers for venue in config.venues.values()]
    return [f for f in files if f is not None]
