"""Drift v2: perpetuals and spot margin in one account, closed just as far as restores it.

Source: drift-labs/protocol-v2 @0ae3e3b, programs/drift/src: math/liquidation.rs, math/margin.rs,
math/constants.rs, state/state.rs, controller/liquidation.rs. Times are in slots of about 0.4 s.
"""

import jax.numpy as jnp
from jaxtyping import ArrayLike, DTypeLike

from jaxrisk.venue.margin_call import FreedMarginThrottle, GrowingFee, MarginCall
from jaxrisk.venue.size_margin import SquareRootWeight

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
