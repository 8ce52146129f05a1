"""Drift v2: perpetuals and spot margin in one account, closed just as far as restores it.

Source: drift-labs/protocol-v2 @0ae3e3b, programs/drift/src: math/liquidation.rs, math/margin.rs,
math/constants.rs, state/state.rs, controller/liquidation.rs. Times are in slots of about 0.4 s.
"""

import math
from collections.abc import Sequence
from typing import Unpack

import jax.numpy as jnp
from jaxtyping import ArrayLike, DTypeLike

from jaxrisk.venue.account import Accounts
from jaxrisk.venue.buffered_orders import BufferedOrders, SquareRootMargin
from jaxrisk.venue.deleverage_ranking import LeveredGain
from jaxrisk.venue.funding import PremiumFunding
from jaxrisk.venue.margin_accounts import Behind
from jaxrisk.venue.margin_call import FreedMarginThrottle, GrowingFee, MarginCall
from jaxrisk.venue.notional_margin import NotionalMargin
from jaxrisk.venue.presets.exchange import HOURS_A_YEAR
from jaxrisk.venue.presets.listing import (
    POSTED,
    POSTED_OPTIONS,
    Listing,
    MarginOptions,
    check_bounds,
    listed,
)
from jaxrisk.venue.presets.margin_venue import no_terms
from jaxrisk.venue.presets.preset import Preset
from jaxrisk.venue.size_margin import SquareRootWeight
from jaxrisk.venue.venue import Venue

SLOTS_A_YEAR = 365.0 * 86_400.0 / 0.4
ASSET_OPTIONS = ("maintenance_margin", "initial_margin", "size_factor")
FUNDING_OFFSET, FUNDING_BOUND = 1.0 / 5000.0, 1.0 / 33.0
"""Added to the premium, and its bound in the strictest tier of markets; a 24th is paid an hour."""

MARGIN_BUFFER = 0.02
"""Added to maintenance margin while an account is in liquidation:
`DEFAULT_LIQUIDATION_MARGIN_BUFFER_RATIO`."""

FEE_GRACE_SLOTS = 1_500.0
"""Slots before a liquidator's fee grows: `LIQUIDATION_FEE_ADJUST_GRACE_PERIOD_SLOTS`."""

FEE_GROWTH = 1e-6
"""What it grows by in a slot: `LIQUIDATION_FEE_INCREASE_PER_SLOT`."""

SMALL = 50.0
"""Shortages and positions below this many USD are closed at once."""

INSURANCE_KEPT = 0.95
"""Part of what is to spare that the insurance fund may take: `calculate_perp_if_fee`."""


def size_weight(factor: ArrayLike, dtype: DTypeLike) -> SquareRootWeight:
    """Return how weights change with size.

    Args:
        factor: imf_factor of the market, a fraction.
        dtype: of the coefficients.
    """
    number = lambda x: jnp.asarray(x, dtype)
    return SquareRootWeight(factor=number(factor), kept=number(0.8), start=number(1.1))


def liquidator_fee(base: ArrayLike, maximum: ArrayLike, dtype: DTypeLike) -> GrowingFee:
    """Return the fee of a market's liquidators, in slots.

    Args:
        base: liquidator_fee of the market.
        maximum: largest fee of the market.
        dtype: of the coefficients.
    """
    number = lambda x: jnp.asarray(x, dtype)
    return GrowingFee(
        base=number(base),
        growth=number(FEE_GROWTH),
        grace=number(FEE_GRACE_SLOTS),
        maximum=number(maximum),
    )


def throttle(initial: ArrayLike, slots: ArrayLike, dtype: DTypeLike) -> FreedMarginThrottle:
    """Return how fast accounts may be liquidated, in slots.

    Args:
        initial: share at once (initial_pct_to_liquidate).
        slots: until all may be (liquidation_duration).
        dtype: of the coefficients.
    """
    number = lambda x: jnp.asarray(x, dtype)
    return FreedMarginThrottle(initial=number(initial), duration=number(slots), small=number(SMALL))


def margin_call(insurance_fee: ArrayLike, dtype: DTypeLike) -> MarginCall:
    """Return the call on a market's positions.

    Args:
        insurance_fee: if_liquidation_fee of the market, a fraction.
        dtype: of the coefficients.
    """
    number = lambda x: jnp.asarray(x, dtype)
    return MarginCall(
        insurance_fee=number(insurance_fee), kept=number(INSURANCE_KEPT), small=number(SMALL)
    )


def drift_v2(
    accounts: Accounts,
    assets: Sequence[str],
    *,
    liquidator_fee: float,
    insurance_fee: float,
    initial_share: float = 0.1,
    duration_slots: float = 150.0,
    **options: Unpack[MarginOptions],
) -> Venue:
    """Return the venue: perpetuals, all collateral of an account behind all of them.

    Args:
        accounts: collateral and positions in perpetuals.
        assets: the system's assets, in order.
        liquidator_fee: of notional, to those who take positions over.
        insurance_fee: of notional, the most that the insurance fund takes.
        initial_share: of what is missing that may be freed at once.
        duration_slots: in which the rest is added.
        **options: of every venue of contracts, see `MarginOptions`; `overrides` give by underlying
            `maintenance_margin`, `initial_margin` (twice that where not given) and `size_factor`
            (0), the imf_factor of the market.

    Raises:
        ValueError: a contract is no perpetual, or a parameter missing or out of range.
    """
    listing = listed("drift_v2", accounts, assets, options)
    listing.check_perpetuals()
    check_bounds(
        listing.name,
        liquidator_fee=(liquidator_fee, 0.0, 0.5),
        insurance_fee=(insurance_fee, 0.0, 0.5),
        initial_share=(initial_share, 0.0, 1.0),
        duration_slots=(duration_slots, 0.0, math.inf),
    )
    margin = _margin(listing)
    return listing.venue(
        requirement=NotionalMargin(tiers=margin),
        close=BufferedOrders(
            margin=margin,
            call=margin_call(insurance_fee, listing.dtype),
            throttle=throttle(initial_share, duration_slots / SLOTS_A_YEAR, listing.dtype),
            buffer=listing.array(MARGIN_BUFFER),
            taker_fee=listing.array(liquidator_fee),
        ),
        taker_fee=listing.array(liquidator_fee),
        ranking=LeveredGain(),
        behind=Behind.POSITIONS,
        funding=PremiumFunding(
            period=listing.array(24.0 / HOURS_A_YEAR),
            interest=listing.array(FUNDING_OFFSET / 24.0 * HOURS_A_YEAR),
            cap=listing.array(FUNDING_BOUND / 24.0 * HOURS_A_YEAR),
        ),
    )


def _margin(listing: Listing) -> SquareRootMargin:
    """Return margin rates of all contracts, checked."""
    given = listing.parameters(ASSET_OPTIONS)
    maintenance = [own["maintenance_margin"] for own in given]
    initial = [own.get("initial_margin", 2.0 * own["maintenance_margin"]) for own in given]
    for row, low, high in zip(listing.rows, maintenance, initial, strict=True):
        key = f"{listing.name}: assets.{row.underlying}.options."
        if not 0 < low < 1:
            raise ValueError(f"{key}maintenance_margin: {low:g}, expected a fraction in (0, 1)")
        if not high >= low:
            raise ValueError(f"{key}initial_margin: {high:g}, expected at least {low:g}")
    column = lambda values: listing.array(values)[:, None]
    return SquareRootMargin(
        initial=column(initial),
        maintenance=column(maintenance),
        weight=size_weight(column([own.get("size_factor", 0.0) for own in given]), listing.dtype),
    )


PRESET = Preset(
    build=drift_v2,
    required=("settlement", "liquidator_fee", "insurance_fee"),
    terms=no_terms,
    optional=("haircut", "initial_share", "duration_slots", *POSTED),
    asset_options=(*ASSET_OPTIONS, *POSTED_OPTIONS),
    contracts=True,
)
