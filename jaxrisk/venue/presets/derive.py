"""Derive v2: margins, cash rate, funding and portfolio auctions of an options exchange.

Parameters are those of the mainnet configuration of June 2025. Source: derivexyz/v2-core 7736900d,
scripts/config-mainnet.sol.
"""

from enum import IntEnum
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.gate import smaller
from jaxrisk.venue.auction_price import TwoPhaseDecrease
from jaxrisk.venue.contingency import ConfidenceCharge, PegCharge
from jaxrisk.venue.expiry_payoff import PayoffMargin
from jaxrisk.venue.funding import PremiumFunding
from jaxrisk.venue.interest import utilisation
from jaxrisk.venue.portfolio_auction import PortfolioAuctionTerms
from jaxrisk.venue.short_option import ShortOptionMargin
from jaxrisk.venue.slope_rate import SlopeRate
from jaxrisk.venue.standard_margin import StandardTerms


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

SMALLEST = 1e-18
"""Smallest number the contracts compute with."""
HOURS_PER_YEAR = 8760.0


class GrowthRefusal(IntEnum):
    """Why the interest of a time cannot be computed."""

    NONE = 0
    NO_TIME = 1
    UNDERFLOW = 2


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
