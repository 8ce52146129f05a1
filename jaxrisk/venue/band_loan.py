"""Opening a loan against bands: how much may be borrowed, and which bands it stands on."""

from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.venue.band_grid import BandGrid, Bands


class LoanRefusal(IntEnum):
    """Why a loan is not given."""

    NONE = 0
    DEBT_TOO_HIGH = 1
    NO_DEBT = 2


def effective_collateral(
    amplification: Float[Array, ""],
    collateral: Float[Array, " account"],
    bands: Int[Array, " account"],
    loan_discount: Float[Array, "*account"],
) -> Float[Array, " account"]:
    """Return collateral in units of the first band's upper price, as a lender counts it.

    Spread over `N` bands and sold at the geometric mean of each:
    `y (1 - discount) / N sqrt((A-1)/A) sum_{k<N} ((A-1)/A)^k`. Times the upper price of the first
    band it is the most that may be owed there.

    Source: crvUSD Controller `get_y_effective`.
    """
    log_ratio = -jnp.log1p(-1.0 / amplification)
    count = bands.astype(collateral.dtype)
    # The geometric sum as (1 - q^N) / (1 - q), with 1 - q = 1/A.
    series = -jnp.expm1(-log_ratio * count) * amplification
    return collateral * (1.0 - loan_discount) / count * jnp.exp(-0.5 * log_ratio) * series


def first_band(
    grid: BandGrid,
    state: Bands,
    collateral: Float[Array, " account"],
    debt: Float[Array, " account"],
    bands: Int[Array, " account"],
    loan_discount: Float[Array, "*account"],
    oracle_price: Float[Array, ""],
) -> tuple[Int[Array, " account"], Int[Array, " account"]]:
    """Return the first band a loan stands on, and `LoanRefusal` numbers.

    The band with the lowest prices that still backs the debt:
    `n = floor(ln(effective collateral * base price / debt) / ln(A / (A-1)))`. The loan is refused
    where that band reaches up to the oracle price, or where borrowed coin stands in its way.

    Source: crvUSD Controller `_calculate_debt_n1`.
    """
    backing = effective_collateral(grid.amplification, collateral, bands, loan_discount)
    active_price = grid.upper_price(state.active)
    ratio = backing * active_price / positive_or_one(debt)
    steps = jnp.floor(jnp.log(positive_or_one(ratio)) / grid.log_ratio())
    number = steps.astype(state.active.dtype) + state.active
    numbers = grid.numbers()[:, None]
    between = (numbers >= number[None, :]) & (numbers <= state.active)
    blocked = jnp.any(between & (state.borrowed > 0)[:, None], axis=0)
    too_high = blocked | (grid.upper_price(number) >= oracle_price) | (ratio <= 0)
    refusal = jnp.where(too_high, LoanRefusal.DEBT_TOO_HIGH, LoanRefusal.NONE)
    return number, jnp.where(debt > 0, refusal, LoanRefusal.NO_DEBT)
