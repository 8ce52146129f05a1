"""GMX v2: traders against a pool of two tokens, at the oracle's price with impact charged on top.

Rules: gmx-io/gmx-synthetics @a5c0c88, contracts. Parameters: the same commit (2026-03-13),
config/markets.ts and config/general.ts, Arbitrum.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, DTypeLike, Float

from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.adaptive_funding import AdaptiveFunding
from jaxrisk.venue.borrowing_fee import UsageFee
from jaxrisk.venue.pool_pnl import ProfitCap
from jaxrisk.venue.position_fees import PositionFees
from jaxrisk.venue.position_impact import PowerImpact
from jaxrisk.venue.remaining_collateral import RemainingCollateral
from jaxrisk.venue.slope_rate import SlopeRate

LEAST_IMBALANCE = 1.0
"""Imbalances below one USD have no impact: `Precision.applyExponentFactor`."""

FUNDING_UNIT = 1e-30
"""Smallest funding rate per second: rates have thirty digits."""

RECEIVER_SHARE = 0.37
"""Protocol's part of fees: `positionFeeReceiverFactor` and its siblings, config/general.ts."""

MINIMUM_COLLATERAL = 1.0
"""Least collateral of a position, USD: `minCollateralUsd`, config/general.ts."""

SECONDS_PER_YEAR = 365.0 * 86_400.0
HOURS_PER_YEAR = 365.0 * 24.0


class MarketTerms(NamedTuple):
    """Parameters of a market; rates per year.

    Attributes:
        impact_factor: of trades that worsen and that improve the balance.
        impact_exponent: of the two.
        impact_cap: largest gain by impact, fraction of size.
        liquidation_impact_cap: largest loss by impact in the liquidation test, fraction of size.
        fee: of trades that worsen and that improve the balance.
        liquidation_fee: fraction of size.
        minimum_collateral: least collateral, fraction of size.
        payable: profits over pool above which they are paid in proportion.
        deleverage_above: profits over pool above which winners may be closed.
        deleverage_to: profits over pool down to which they may be.
        funding_maximum: largest funding rate a year.
        funding_minimum: least funding rate a year.
        funding_rise_hours: time in which a full imbalance takes it from zero to the maximum.
        funding_fall_hours: time in which it falls from the maximum to zero.
        stable_above: imbalance above which it rises.
        decay_below: imbalance below which it falls.
        reservable: part of the pool that open interest may reserve.
        optimal_use: use of that part at the kink.
        base_borrowing: borrowing rate a year per unit of use below the kink.
        full_borrowing: borrowing rate a year that sets the slope above it.
    """

    impact_factor: tuple[float, float]
    impact_exponent: tuple[float, float]
    impact_cap: float
    liquidation_impact_cap: float
    fee: tuple[float, float]
    liquidation_fee: float
    minimum_collateral: float
    payable: float
    deleverage_above: float
    deleverage_to: float
    funding_maximum: float
    funding_minimum: float
    funding_rise_hours: float
    funding_fall_hours: float
    stable_above: float
    decay_below: float
    reservable: float
    optimal_use: float
    base_borrowing: float
    full_borrowing: float


@pytree
class PoolMarket:
    """The rules of a market, as slots.

    Attributes:
        impact: of positions on open interest.
        impact_cap: largest gain by it, fraction of size.
        funding: between longs and shorts.
        borrowing: paid to the pool.
        fees: of positions.
        profits: what the pool pays.
        liquidation: when a position may be liquidated.
    """

    impact: PowerImpact
    impact_cap: Float[Array, ""]
    funding: AdaptiveFunding
    borrowing: UsageFee
    fees: PositionFees
    profits: ProfitCap
    liquidation: RemainingCollateral


def borrowing_curve(base: ArrayLike, full: ArrayLike, kink: ArrayLike) -> SlopeRate:
    """Return `base u`, and above the kink `(full - base)+ (u - kink) / (1 - kink)` on top of it.

    A kink at full use or beyond is none. Source: MarketUtils `getKinkBorrowingFactor`.

    Args:
        base: `(side,)` rate per unit of use.
        full: `(side,)` rate that sets the slope above the kink.
        kink: `(side,)` use, positive.
    """
    base, full, kink = jnp.asarray(base), jnp.asarray(full), jnp.asarray(kink)
    none = jnp.zeros_like(base)
    kinked = (kink < 1.0) & (full > base)
    room = jnp.where(kink < 1.0, 1.0 - kink, jnp.ones_like(kink))
    return SlopeRate(
        base=none,
        slope_below=base,
        slope_above=base + jnp.where(kinked, (full - base) / room, none),
        kink=kink,
    )


def pool_market(terms: MarketTerms, dtype: DTypeLike) -> PoolMarket:
    """Return the rules of a market, rates per year.

    Args:
        terms: parameters.
        dtype: of the coefficients.
    """
    number = lambda x: jnp.asarray(x, dtype)
    per_hour = terms.funding_maximum * HOURS_PER_YEAR
    row = lambda x: jnp.asarray([x], dtype)
    return PoolMarket(
        impact=PowerImpact(
            positive_factor=number(terms.impact_factor[1]),
            negative_factor=number(terms.impact_factor[0]),
            positive_exponent=number(terms.impact_exponent[1]),
            negative_exponent=number(terms.impact_exponent[0]),
            least=number(LEAST_IMBALANCE),
        ),
        impact_cap=number(terms.impact_cap),
        funding=AdaptiveFunding(
            increase=number(per_hour / terms.funding_rise_hours),
            decrease=number(per_hour / terms.funding_fall_hours),
            stable_above=number(terms.stable_above),
            decay_below=number(terms.decay_below),
            minimum=number(terms.funding_minimum),
            maximum=number(terms.funding_maximum),
            exponent=number(1.0),
            unit=number(FUNDING_UNIT * SECONDS_PER_YEAR),
        ),
        borrowing=UsageFee(
            reservable=number(terms.reservable),
            curve=borrowing_curve(
                row(terms.base_borrowing), row(terms.full_borrowing), row(terms.optimal_use)
            ),
        ),
        fees=PositionFees(
            improving=number(terms.fee[1]),
            worsening=number(terms.fee[0]),
            liquidation=number(terms.liquidation_fee),
            receiver_share=number(RECEIVER_SHARE),
        ),
        profits=ProfitCap(
            payable=number(terms.payable),
            deleverage_above=number(terms.deleverage_above),
            deleverage_to=number(terms.deleverage_to),
        ),
        liquidation=RemainingCollateral(
            minimum=number(MINIMUM_COLLATERAL),
            margin_rate=number(terms.minimum_collateral),
            impact_cap=number(terms.liquidation_impact_cap),
        ),
    )


_BTC = MarketTerms(
    impact_factor=(9e-11, 3e-11),
    impact_exponent=(2.0, 1.0),
    impact_cap=0.004,
    liquidation_impact_cap=0.0,
    fee=(0.0006, 0.0004),
    liquidation_fee=0.002,
    minimum_collateral=0.005,
    payable=0.9,
    deleverage_above=0.85,
    deleverage_to=0.77,
    funding_maximum=0.75,
    funding_minimum=0.01,
    funding_rise_hours=3.0,
    funding_fall_hours=48.0,
    stable_above=0.04,
    decay_below=0.0,
    reservable=3.45,
    optimal_use=0.85,
    base_borrowing=0.45,
    full_borrowing=0.9,
)

MARKETS = {"BTC": _BTC, "ETH": _BTC._replace(reservable=2.7)}
"""Arbitrum, BTC/USD [WBTC-USDC] and ETH/USD [WETH-USDC], config/markets.ts: the markets' own values
over fundingRateConfig_Low, borrowingRateConfig_LowerMax_WithHigherOptimal and baseMarketConfig."""
