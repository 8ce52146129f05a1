"""Derive v2: margins, cash rate, funding and portfolio auctions of an options exchange.

Parameters are those of the mainnet configuration of June 2025. Source: derivexyz/v2-core 7736900d,
scripts/config-mainnet.sol.
"""

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.gate import smaller
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.auction_orders import AuctionOrders
from jaxrisk.venue.auction_price import TwoPhaseDecrease
from jaxrisk.venue.chain_requirement import (
    ChainPortfolioMargin,
    ChainStandardMargin,
    SumOfMargins,
)
from jaxrisk.venue.contingency import ConfidenceCharge, PegCharge
from jaxrisk.venue.contract_chain import ChainPlaces
from jaxrisk.venue.deleverage_ranking import LeveredGain
from jaxrisk.venue.expiry_payoff import PayoffMargin
from jaxrisk.venue.funding import PremiumFunding
from jaxrisk.venue.interest import utilisation
from jaxrisk.venue.margin_accounts import Behind, Requirement
from jaxrisk.venue.portfolio_auction import PortfolioAuctionTerms
from jaxrisk.venue.portfolio_margin import BasisCharge, PortfolioTerms, TimeDiscount
from jaxrisk.venue.presets.implied import SMILE, implied
from jaxrisk.venue.presets.listing import (
    POSTED,
    POSTED_OPTIONS,
    Listing,
    MarginOptions,
    listed,
)
from jaxrisk.venue.presets.margin_venue import no_terms
from jaxrisk.venue.presets.preset import Preset
from jaxrisk.venue.scenario_grid import ScenarioGrid, Scenarios, SmileShock, VolatilityShock
from jaxrisk.venue.short_option import ShortOptionMargin
from jaxrisk.venue.slope_rate import SlopeRate
from jaxrisk.venue.standard_margin import StandardTerms
from jaxrisk.venue.venue import Venue


class Market(NamedTuple):
    """Standard margin of one market, as fractions.

    Attributes:
        perpetual: initial and maintenance margin of a perpetual.
        collateral: initial and maintenance weight of the underlying as collateral.
        highest: initial share of spot of a short option at the money.
        lowest: initial share of spot of a short option far out of the money.
        maintenance: share of spot, and of the mark price of puts.
        unpaired: initial and maintenance charge on an uncovered short call, times the forward.
    """

    perpetual: tuple[float, float]
    collateral: tuple[float, float]
    highest: float
    lowest: float
    maintenance: float
    unpaired: tuple[float, float]


_MAJOR = (0.15, 0.13, 0.09, (1.2, 1.1))
_MINOR = (0.25, 0.225, 0.15, (1.4, 1.3))
MARKETS: dict[str, Market] = {
    "ETH": Market((0.1, 0.065), (0.8 * 0.9375, 0.8), *_MAJOR),
    "BTC": Market((0.1, 0.065), (0.75 * 0.93, 0.75), *_MAJOR),
    "SNX": Market((0.1, 0.065), (0.7 * 0.65, 0.7), *_MINOR),
}
"""Markets with options of their own in the standard configuration."""


class Row(NamedTuple):
    """One scenario, with the fields of `jaxrisk.venue.scenario_grid.Scenarios`."""

    move: float
    volatility: float = 0.0
    tilt: float = 0.0
    wings: float = 0.0
    weight: float = 1.0


# What counts of a move beyond 18 % is what would count of 13.86 %, which is 0.77 x 18 %.
_TAILS = tuple(
    Row(move, volatility=1.0, weight=0.1386 / abs(move))
    for move in (-0.66, -0.33, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0)
)
_SMILES = (Row(0.0, tilt=1.0), Row(0.0, wings=1.0))

SMALLEST = 1e-18
"""Smallest number the contracts compute with."""
HOURS_PER_YEAR = 8760.0


class GrowthRefusal(IntEnum):
    """Why the interest of a time cannot be computed."""

    NONE = 0
    NO_TIME = 1
    UNDERFLOW = 2


MARGINS = ("standard", "portfolio_1", "portfolio_2")


def derive(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    margin: str = "standard",
    market: str = "ETH",
    stickiness: float = 0.5,
    **options: Unpack[MarginOptions],
) -> Venue:
    """Return a venue of options and perpetuals in one currency, liquidated by auctions.

    Portfolios below their maintenance margin are auctioned; the insurance fund is the security
    module, and what it does not pay is missing from what the venue holds for its accounts.

    Args:
        accounts: collateral in the settlement currency and positions.
        assets: the system's assets, in order.
        margin: of all accounts, one of `MARGINS`.
        market: whose standard margin all underlyings have, a key of `MARKETS`.
        stickiness: of the smile to the forward, in [0, 1].
        **options: of every venue of contracts, see `MarginOptions`; `overrides` give what `implied`
            reads.

    Raises:
        ValueError: an instrument is unknown or a future, or a parameter out of range.
    """
    listing = listed("derive", accounts, assets, options)
    for name, value, known in (("margin", margin, MARGINS), ("market", market, tuple(MARKETS))):
        if value not in known:
            expected = f"expected one of {', '.join(known)}"
            raise ValueError(f"{listing.name}: {name} {value!r}: {expected}")
    for name, row in zip(listing.instruments, listing.rows, strict=True):
        if not row.is_option and float(row.terms.expiry[0]) != 0:
            raise ValueError(f"{listing.name}: {name}: a future; it has options and perpetuals")
    smile, rule = implied(listing, stickiness), perpetual_funding(listing.dtype)
    return listing.venue(
        volatility=smile.volatility,
        requirement=_requirement(listing, margin, market),
        close=AuctionOrders(terms=auction_terms(listing.dtype)),
        ranking=LeveredGain(),
        behind=Behind.NOBODY,
        funding=jax.tree.map(lambda x: jnp.broadcast_to(x, len(listing.rows)), rule),
        moves=smile.moves,
    )


def _requirement(listing: Listing, kind: str, market: str) -> Requirement:
    """Return the margin of every underlying, added up."""
    about, dtype = np.asarray(listing.underlying), listing.dtype
    parts: list[Requirement] = []
    for own in dict.fromkeys(listing.underlying):
        rows = np.flatnonzero(about == own).tolist()
        places = ChainPlaces.of(listing.contracts, rows)
        if kind == "standard":
            terms = standard_terms(market, dtype)
            parts.append(ChainStandardMargin(terms=terms, places=places))
        else:
            version = portfolio_terms_1 if kind == "portfolio_1" else portfolio_terms_2
            parts.append(ChainPortfolioMargin(terms=version(dtype), places=places))
    return SumOfMargins(parts=tuple(parts))


def standard_terms(market: str, dtype: jnp.dtype | type) -> StandardTerms:
    """Return the standard margin of a market.

    Source: StandardManager.sol, `getSRMParams` of the configuration.

    Args:
        market: one of `MARKETS`.
        dtype: of the coefficients.
    """
    row = MARKETS[market]
    number = lambda x: jnp.asarray(x, dtype)
    unsure = ConfidenceCharge(threshold=number(0.55), factor=number(1.0))
    return StandardTerms(
        option=ShortOptionMargin(
            highest=number(row.highest),
            lowest=number(row.lowest),
            call=number(row.maintenance),
            put=number(row.maintenance),
            put_of_mark=number(row.maintenance),
            put_cover=number(1.05),
        ),
        payoff=PayoffMargin(unpaired=number(row.unpaired)),
        perpetual=number(row.perpetual),
        collateral=number(row.collateral),
        perpetual_confidence=unsure,
        option_confidence=unsure,
        collateral_confidence=unsure,
        peg=PegCharge(threshold=number(0.99), factor=number(2.0)),
    )


def portfolio_terms_1(dtype: jnp.dtype | type) -> PortfolioTerms:
    """Return the first portfolio margin: 23 scenarios within 20 % of the spot.

    Source: PMRM.sol, PMRMLib.sol, `getDefaultScenarios` and `getPMRMParams` of the configuration.
    """
    number = lambda x: jnp.asarray(x, dtype)
    return PortfolioTerms(
        grid=ScenarioGrid(
            scenarios=_scenarios(_rungs(0.2, 0.05), dtype),
            volatility=_volatility_shock(0.6, 0.3, 0.0, dtype),
        ),
        basis=BasisCharge(
            up=number(0.05), down=number(-0.05), flat=number(1.0), per_year=number(1.2)
        ),
        discount=TimeDiscount(
            long=number(0.95),
            long_rate=number(1.0),
            long_spread=number(0.12),
            short=number(1.0),
            short_rate=number(0.0),
            short_spread=number(0.0),
        ),
        loss_factor=number([1.25, 1.0]),
        peg=PegCharge(threshold=number(0.99), factor=number(4.0)),
        perpetual=number([0.03, 0.03]),
        naked=number([0.02, 0.02]),
        multiplied=jnp.asarray(True),
        confidence=ConfidenceCharge(threshold=number(0.55), factor=number(1.0)),
    )


def portfolio_terms_2(dtype: jnp.dtype | type) -> PortfolioTerms:
    """Return the second portfolio margin: 33 scenarios, with damped tails and moves of the smile.

    Bases of the discount are as configured, 1.05 where an expiry is worth something and 0.95 where
    it is worth less than nothing; the contract's own tests have them the other way round, 0.95 and
    1.04, which is the prudent one.

    Source: PMRM_2.sol, PMRMLib_2.sol, `getDefaultPM2Scenarios` and `getPMRM2Params` of the
    configuration.
    """
    number = lambda x: jnp.asarray(x, dtype)
    return PortfolioTerms(
        grid=ScenarioGrid(
            scenarios=_scenarios((*_rungs(0.18, 0.045), *_TAILS, *_SMILES), dtype),
            volatility=_volatility_shock(0.5, 0.3, 0.4, dtype),
            smile=SmileShock(
                tilt=number(0.25),
                tilt_slope=number(-0.1),
                wings=number(0.25),
                wings_slope=number(-0.1),
                nearest=number(0.01),
                width=number(4.0),
                level=number(0.6),
                level_slope=number(0.0),
            ),
        ),
        basis=BasisCharge(
            up=number(0.045), down=number(-0.045), flat=number(0.5), per_year=number(2.0)
        ),
        discount=TimeDiscount(
            long=number(1.05),
            long_rate=number(0.0),
            long_spread=number(0.16),
            short=number(0.95),
            short_rate=number(0.0),
            short_spread=number(0.16),
        ),
        loss_factor=number([1.0, 0.8]),
        peg=PegCharge(threshold=number(0.99), factor=number(4.0)),
        perpetual=number([0.04, 0.03]),
        naked=number([0.005, 0.003]),
        multiplied=jnp.asarray(False),
        confidence=ConfidenceCharge(threshold=number(0.55), factor=number(1.0)),
    )


def _rungs(reach: float, step: float) -> tuple[Row, ...]:
    """Return moves from `reach` down to minus it: three of volatility each, one at the ends."""
    count = round(reach / step)
    rows: list[Row] = []
    for k in range(count, -count - 1, -1):
        directions = (1.0,) if abs(k) == count else (1.0, 0.0, -1.0)
        rows += [Row(k * step, volatility=direction) for direction in directions]
    return tuple(rows)


def _scenarios(rows: Sequence[Row], dtype: jnp.dtype | type) -> Scenarios:
    columns = zip(*rows, strict=True)
    return Scenarios.checked(**dict(zip(Row._fields, columns, strict=True)), dtype=dtype)


def _volatility_shock(
    up: float, down: float, minimum: float, dtype: jnp.dtype | type
) -> VolatilityShock:
    number = lambda x: jnp.asarray(x, dtype)
    return VolatilityShock(
        up=number(up),
        down=number(down),
        short_power=number(0.3),
        long_power=number(0.13),
        pivot=number(30.0 / 365.0),
        floor=number(1.0 / 365.0),
        minimum=number(minimum),
    )


def cash_rate(dtype: jnp.dtype | type) -> SlopeRate:
    """Return the borrow rate of cash: 2 %, plus 8 % of utilisation up to 85 %, then 90 %."""
    one = lambda x: jnp.asarray([x], dtype)
    return SlopeRate(base=one(0.02), slope_below=one(0.08), slope_above=one(0.9), kink=one(0.85))


def cash_utilisation(
    supply: Float[Array, " debt_asset"], borrowed: Float[Array, " debt_asset"]
) -> Float[Array, " debt_asset"]:
    """Return borrowed over supplied cash, at most 1, and 0 where either is nothing.

    Source: InterestRateModel.sol `_getUtilRate`.
    """
    use = utilisation(borrowed, supply - borrowed)
    use = jnp.where(supply > 0, use, jnp.zeros_like(use))
    return smaller(use, jnp.ones_like(use))


def cash_growth(
    rate: Float[Array, " debt_asset"], years: Float[Array, " debt_asset"]
) -> tuple[Float[Array, " debt_asset"], Int[Array, " debt_asset"]]:
    """Return the interest on a unit of debt, `e^(rate years) - 1`, and `GrowthRefusal` numbers.

    The contract's exponential of zero lies just below one, so that the interest at a rate of zero
    cannot be computed and the call fails.

    Source: InterestRateModel.sol `getBorrowInterestFactor`.
    """
    power = rate * years
    refusal = jnp.where(power >= SMALLEST, GrowthRefusal.NONE, GrowthRefusal.UNDERFLOW)
    refusal = jnp.where(years > 0, refusal, GrowthRefusal.NO_TIME)
    growth = jnp.expm1(power)
    return jnp.where(refusal == GrowthRefusal.NONE, growth, jnp.zeros_like(growth)), refusal


def perpetual_funding(dtype: jnp.dtype | type) -> PremiumFunding:
    """Return the funding rule: premium over 8 h, plus 0.00125 % an hour, within 0.4 % an hour."""
    number = lambda x: jnp.asarray(x, dtype)
    return PremiumFunding(
        period=number(8.0 / HOURS_PER_YEAR),
        interest=number(0.0000125 * HOURS_PER_YEAR),
        cap=number(0.004 * HOURS_PER_YEAR),
    )


def auction_terms(dtype: jnp.dtype | type) -> PortfolioAuctionTerms:
    """Return the auctions: 95 % to 70 % in 15 min, to nothing in 12 h; 60 min where insolvent.

    The value below which a portfolio may be bought whole is not part of the configuration; it is
    zero where nobody has set it.
    """
    number = lambda x: jnp.asarray(x, dtype)
    return PortfolioAuctionTerms(
        price=TwoPhaseDecrease(
            start=number(0.95), turn=number(0.7), fast=number(900.0), slow=number(43_200.0)
        ),
        insolvent_duration=number(3600.0),
        fee=number(0.1),
        buffer=number(0.15),
        whole_below=number(0.0),
    )


PRESET = Preset(
    build=derive,
    required=("settlement",),
    terms=no_terms,
    optional=("haircut", "margin", "market", "stickiness", *POSTED),
    asset_options=(*SMILE, *POSTED_OPTIONS),
    contracts=True,
)
