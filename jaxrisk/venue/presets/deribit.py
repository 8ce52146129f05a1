"""Deribit: standard margin of futures by size, and portfolio margin of books settled in coins.

Source: docs.deribit.com, contract specifications (until August 2026, when the standard margin was
replaced) and the example of `private/pme/simulate` of June 2024, whose model parameters these are.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Unpack

import jax
import jax.numpy as jnp
from jaxtyping import DTypeLike

from jaxrisk.market.contract import Contracts, perpetual
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.chain_requirement import CoinPortfolioMargin
from jaxrisk.venue.coin_margin import CoinTerms, RollCharge
from jaxrisk.venue.contract_chain import ChainPlaces
from jaxrisk.venue.funding import DeadBandFunding
from jaxrisk.venue.margin_accounts import Requirement
from jaxrisk.venue.option_requirement import FormulaMargin
from jaxrisk.venue.presets.implied import SMILE, implied
from jaxrisk.venue.presets.instruments import Instrument
from jaxrisk.venue.presets.listing import (
    CLOSING,
    POSTED,
    POSTED_OPTIONS,
    ClosingOptions,
    Listing,
    check_bounds,
    listed,
)
from jaxrisk.venue.presets.margin_venue import no_terms
from jaxrisk.venue.presets.preset import Preset
from jaxrisk.venue.scenario_grid import ScenarioGrid, Scenarios, VolatilityShock
from jaxrisk.venue.short_option import ShortOptionMargin
from jaxrisk.venue.size_margin import LinearSizeMargin
from jaxrisk.venue.venue import Venue

FUTURES: dict[str, tuple[float, float, float]] = {
    "BTC": (0.02, 0.01, 0.00005),
    "ETH": (0.02, 0.01, 0.000004),
    "SOL_USDC": (0.04, 0.02, 0.000005),
}
"""Initial and maintenance rate of a vanishing position, and what a unit held adds to both."""

FACE = {"BTC": 10.0, "ETH": 1.0}
"""Dollars that an inverse future or perpetual is about."""

MARGINS = ("portfolio", "standard")

_CLOSING: dict[str, Any] = {"target": 1.05, "fee": 0.002, "behind": "gainers"}

HOURS_PER_YEAR = 8760.0

BAND = 0.00025
"""Premium within which no funding is paid, in 8 h; 0.05 % in earlier years."""

_BUCKETS = 4


def deribit(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    margin: str = "portfolio",
    futures: str = "BTC",
    funding_cap: float = 0.005,
    stickiness: float = 0.5,
    **options: Unpack[ClosingOptions],
) -> Venue:
    """Return a venue of options, futures and perpetuals on one coin, settled in it.

    An account is closed round by round, all of its positions alike, until it meets its maintenance
    margin again. What the fund does not pay is spread over the accounts that have gained.

    Args:
        accounts: collateral in the coin and positions: options on one coin each, others of `FACE`
            dollars each.
        assets: the system's assets, in order.
        margin: of all accounts, one of `MARGINS`; the portfolio margin is that of bitcoin.
        futures: whose standard margin and face futures and perpetuals have, a key of `FACE`.
        funding_cap: largest rate of 8 h.
        stickiness: of the smile to the forward, in [0, 1].
        **options: of every venue of contracts, see `MarginOptions` and `Closing`; `overrides` give
            what `implied` reads. Closing restores 1.05 of the margin and costs 0.2 %, the fee of
            options, where nothing else is given; the venue aims at the margin itself, step by step.

    Raises:
        ValueError: an instrument is unknown or on another asset, or a parameter out of range.
    """
    listing = listed("deribit", accounts, assets, options, ClosingOptions)
    for name, value, known in (("margin", margin, MARGINS), ("futures", futures, tuple(FACE))):
        if value not in known:
            raise ValueError(
                f"{listing.name}: {name} {value!r}: expected one of {', '.join(known)}"
            )
    check_bounds(listing.name, funding_cap=(funding_cap, 0.0, 1.0))
    listing = listing.with_contracts([_in_coins(row, FACE[futures]) for row in listing.rows])
    smile = implied(listing, stickiness)
    rule = funding(funding_cap, listing.dtype)
    closing: Any = {**_CLOSING, **options}
    return listing.closed_by(
        closing,
        volatility=smile.volatility,
        requirement=_requirement(listing, margin, futures),
        funding=jax.tree.map(lambda x: jnp.broadcast_to(x, len(listing.rows)), rule),
        moves=smile.moves,
    )


def _in_coins(row: Instrument, face: float) -> Contracts:
    """Return a contract as it is settled in its underlying."""
    one = jnp.ones_like(row.terms.strike)
    if row.is_option:
        return dataclasses.replace(row.terms, coin_quoted=one)
    return dataclasses.replace(row.terms, inverse=one, multiplier=face * one)


def _requirement(listing: Listing, kind: str, futures: str) -> Requirement:
    if kind == "portfolio":
        places = ChainPlaces.of(listing.contracts, range(len(listing.rows)))
        return CoinPortfolioMargin(terms=coin_terms(listing.dtype), places=places)
    return FormulaMargin(
        short=short_options(listing.dtype),
        futures=margin((futures,) * len(listing.rows), listing.dtype),
    )


def short_options(dtype: DTypeLike) -> ShortOptionMargin:
    """Return the standard margin of a short option, as a share of its coin.

    Source: Deribit, options: initial max(0.15 - otm, 0.1) and the price, maintenance 0.075 and the
    price; of puts no less than 0.075 of the price, initially no less than maintenance.
    """
    number = lambda x: jnp.asarray(x, dtype)
    return ShortOptionMargin(
        highest=number(0.15),
        lowest=number(0.1),
        call=number(0.075),
        put=number(0.075),
        put_of_mark=number(0.075),
        put_cover=number(1.0),
    )


def futures_margin(contract: str, dtype: jnp.dtype | type) -> LinearSizeMargin:
    """Return the standard margin of a future or perpetual.

    Args:
        contract: one of `FUTURES`.
        dtype: of the coefficients.

    Raises:
        ValueError: the contract is not among them.
    """
    _check_known([contract])
    initial, maintenance, slope = FUTURES[contract]
    return LinearSizeMargin(
        base=jnp.asarray([initial, maintenance], dtype), slope=jnp.asarray([slope, slope], dtype)
    )


def margin(contracts: Sequence[str] = ("BTC",), dtype: DTypeLike | None = None) -> LinearSizeMargin:
    """Return the standard margin of a book in contracts among `FUTURES`, in this order.

    Raises:
        ValueError: a contract is not among them.
    """
    _check_known(contracts)
    rates = jnp.asarray([FUTURES[name] for name in contracts], dtype or float).T[:, :, None]
    return LinearSizeMargin(base=rates[:2], slope=jnp.stack([rates[2], rates[2]]))


def _check_known(contracts: Sequence[str]) -> None:
    if unknown := [name for name in contracts if name not in FUTURES]:
        raise ValueError(f"contract {', '.join(unknown)}: expected one of {', '.join(FUTURES)}")


def contract(*, linear: bool) -> Contracts:
    """Return the perpetual on BTC: of one BTC against USDC, or of 10 dollars settled in BTC."""
    return perpetual(1.0) if linear else perpetual(10.0, inverse=True)


def funding(cap: float, dtype: DTypeLike | None = None) -> DeadBandFunding:
    """Return the funding of a perpetual, paid continuously.

    Args:
        cap: largest rate of 8 h, which the venue sets by contract.
        dtype: of the coefficients; JAX's default float if not given.
    """
    number = lambda x: jnp.asarray(x, dtype or float)
    return DeadBandFunding(
        period=number(8.0 / HOURS_PER_YEAR),
        band=number(BAND),
        cap=number(cap * HOURS_PER_YEAR / 8.0),
    )


def coin_terms(dtype: jnp.dtype | type) -> CoinTerms:
    """Return the portfolio margin of bitcoin: nine prices within 16 %, three volatilities each.

    The published parameters name no shortest time to expiry; the floor of a day is this library's.
    Extended moves and the charge on large deltas are left out: their formulas are not published.
    """
    number = lambda x: jnp.asarray(x, dtype)
    moves = [0.16 * k / _BUCKETS for k in range(-_BUCKETS, _BUCKETS + 1) for _ in range(3)]
    return CoinTerms(
        grid=ScenarioGrid(
            scenarios=Scenarios.checked(
                move=moves, volatility=[1.0, 0.0, -1.0] * (len(moves) // 3), dtype=dtype
            ),
            volatility=VolatilityShock(
                up=number(0.5),
                down=number(0.25),
                short_power=number(0.3),
                long_power=number(0.13),
                pivot=number(30.0 / 365.0),
                floor=number(1.0 / 365.0),
                minimum=number(0.5),
            ),
        ),
        roll=RollCharge(per_year=number(0.075), least=number(0.01)),
        maintenance=number(0.8),
    )


PRESET = Preset(
    build=deribit,
    required=("settlement",),
    terms=no_terms,
    optional=("haircut", "margin", "futures", "funding_cap", "stickiness", *CLOSING, *POSTED),
    asset_options=(*SMILE, *POSTED_OPTIONS),
    contracts=True,
)
