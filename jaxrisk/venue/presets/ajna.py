"""Ajna: the constants of its pools, which governance cannot change.

Source: ajna-finance/ajna-core, src/libraries/helpers/PoolHelper.sol.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.venue.half_life_auction import HalfLifePrice, KickerBond
from jaxrisk.venue.lender_price import LenderPriceTest

MINUTE = 1.0 / (365.0 * 24.0 * 60.0)
PRICE_STEP = 1.005
HIGHEST_BUCKET = 4156
LOWEST_PRICE = 99_836_282_890e-18
DEPOSIT_BUFFER = 1e-9
RESERVE_AUCTION_START = 1e9
"""Price of a reserve auction at its start, in pool tokens for the whole of what is sold."""


def loan_auction(dtype: jnp.dtype | type) -> HalfLifePrice:
    """Return the price of a loan auction: 256 times reference, 20 min, 2 h, then 1 h a halving."""
    return HalfLifePrice(
        multiple=jnp.asarray(256.0, dtype),
        half_life=jnp.asarray([20.0 * MINUTE, 120.0 * MINUTE, 60.0 * MINUTE], dtype),
        duration=jnp.asarray([120.0 * MINUTE, 720.0 * MINUTE, jnp.inf], dtype),
    )


def reserve_auction(dtype: jnp.dtype | type) -> HalfLifePrice:
    """Return the price of a reserve auction: halving every hour, in steps of a minute.

    The reference is one over the reserves auctioned.
    """
    return HalfLifePrice(
        multiple=jnp.asarray(RESERVE_AUCTION_START, dtype),
        half_life=jnp.asarray([60.0 * MINUTE], dtype),
        duration=jnp.asarray([jnp.inf], dtype),
        step=jnp.asarray(MINUTE, dtype),
    )


def kicker_bond(dtype: jnp.dtype | type) -> KickerBond:
    """Return the bond rule: a tenth of the neutral price's margin, between 0.5 % and 3 %."""
    return KickerBond(
        slope=jnp.asarray(0.1, dtype),
        minimum=jnp.asarray(0.005, dtype),
        maximum=jnp.asarray(0.03, dtype),
    )


def lender_price_test(
    dtype: jnp.dtype | type, *, whole: Float[Array, "*loan"] | None = None
) -> LenderPriceTest:
    """Return the test of collateral: 104 % of debt at the lowest price in use.

    Args:
        dtype: of the coefficients.
        whole: unit in which collateral counts: 1 for pools of collectibles, else `None`.
    """
    return LenderPriceTest(
        factor=jnp.asarray(1.04, dtype),
        minimum_price=jnp.asarray(LOWEST_PRICE, dtype),
        whole=whole,
    )


def bucket_price(index: Float[Array, " bucket"]) -> Float[Array, " bucket"]:
    """Return the price of a bucket: `1.005^(4156 - index)`, so index 0 is the highest.

    Args:
        index: whole numbers, 0 to 7388.
    """
    log_step = jnp.log(jnp.full_like(index, PRICE_STEP))
    return jnp.exp((HIGHEST_BUCKET - index) * log_step)
