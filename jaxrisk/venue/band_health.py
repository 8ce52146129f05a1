"""Health of loans whose collateral is converted in bands."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.band_grid import BandGrid, Bands, curve
from jaxrisk.venue.band_shares import Holdings, Shares


def converted_down(
    grid: BandGrid, bands: Bands, shares: Shares, oracle_price: Float[Array, ""]
) -> Float[Array, " account"]:
    """Return the borrowed coin each account ends with if prices fall slowly through its bands.

    First every band is traded to the oracle price at no cost: to `x_o` and `y_o`. Then `y_o` is
    sold adiabatically, at the geometric mean of where it stands and the lower edge of the band:
    `x_o + y_o sqrt(p_o p_down)` inside the band, `y_o p_up sqrt((A-1)/A)` above it, `x_o` below.

    Source: crvUSD AMM `get_x_down`.
    """
    per_band = adiabatic_sale(grid, bands, oracle_price)
    return jnp.sum(shares.fraction() * per_band[:, None], axis=0)


def adiabatic_sale(
    grid: BandGrid, bands: Bands, oracle_price: Float[Array, ""]
) -> Float[Array, " band"]:
    """Return the borrowed coin every band ends with if prices fall slowly through all of them."""
    balanced = _at_oracle(grid, bands, oracle_price)
    sale = jnp.sqrt(balanced.price * balanced.lower)
    return balanced.borrowed + balanced.collateral * sale


def converted_up(
    grid: BandGrid, bands: Bands, shares: Shares, oracle_price: Float[Array, ""]
) -> Float[Array, " account"]:
    """Return the collateral each account ends with if prices rise slowly through its bands.

    The mirror of `converted_down`: `y_o + x_o / sqrt(p_o p_up)`.

    Source: crvUSD AMM `get_y_up`.
    """
    balanced = _at_oracle(grid, bands, oracle_price)
    purchase = jnp.sqrt(balanced.price * balanced.upper)
    per_band = balanced.collateral + balanced.borrowed / purchase
    return jnp.sum(shares.fraction() * per_band[:, None], axis=0)


def band_health(
    converted: Float[Array, " account"],
    debt: Float[Array, " account"],
    liquidation_discount: Float[Array, "*account"],
) -> Float[Array, " account"]:
    """Return `converted (1 - discount) / debt - 1`; below zero a loan may be liquidated.

    A fall of the price alone does not lower it: `converted` already assumes the fall. Losses of
    the bands to traders, and interest, do. Infinite without debt.

    Source: crvUSD Controller `health` (not full).
    """
    ratio = converted * (1.0 - liquidation_discount) / positive_or_one(debt)
    return jnp.where(debt > 0, ratio - 1.0, jnp.full_like(ratio, jnp.inf))


def headroom(
    grid: BandGrid,
    bands: Bands,
    shares: Shares,
    held: Holdings,
    debt: Float[Array, " account"],
    oracle_price: Float[Array, ""],
) -> Float[Array, " account"]:
    """Return what full health adds for a price above the bands: `(p_o - p_up) collateral / debt`.

    Zero once conversion has begun, that is where the first band is not beyond the active one.

    Source: crvUSD Controller `health` (full).
    """
    above = oracle_price - grid.upper_price(shares.first)
    counts = (shares.first > bands.active) & (above > 0) & (debt > 0)
    return jnp.where(counts, above * held.collateral / positive_or_one(debt), jnp.zeros_like(debt))


@pytree
class _Balanced:
    """Bands traded to the oracle price, with the oracle price moved to their nearer edge.

    Every leaf is `(band,)`.
    """

    borrowed: Float[Array, " band"]
    collateral: Float[Array, " band"]
    lower: Float[Array, " band"]
    upper: Float[Array, " band"]
    price: Float[Array, " band"]


def _at_oracle(grid: BandGrid, bands: Bands, oracle_price: Float[Array, ""]) -> _Balanced:
    """Return what every band holds once its quote equals the oracle price.

    Inside a band `y_o = A y0 (p_o - p_down) / p_o` and `x_o = A y0 p_o (p_up - p_o) / p_up`; beyond
    its edges it is all collateral, `y + x (g + y) / f`, or all borrowed coin, `x + y (f + x) / g`.
    """
    c = curve(grid, bands, oracle_price)
    lower = grid.upper_price(grid.numbers() + 1)
    size = grid.amplification * c.anchor
    x, y = bands.borrowed, bands.collateral
    f, g = c.borrowed_offset, c.collateral_offset
    over, under = oracle_price > c.upper, oracle_price < lower
    nothing = jnp.zeros_like(x)
    all_collateral = y + x * (g + y) / positive_or_one(f)
    all_borrowed = x + y * (f + x) / positive_or_one(g)
    collateral = jnp.where(over, all_collateral, size * (oracle_price - lower) / oracle_price)
    borrowed = jnp.where(
        under, all_borrowed, size * (c.upper - oracle_price) * (oracle_price / c.upper)
    )
    clipped = jnp.where(over, c.upper, jnp.where(under, lower, oracle_price))
    return _Balanced(
        borrowed=jnp.where(over, nothing, borrowed),
        collateral=jnp.where(under, nothing, collateral),
        lower=lower,
        upper=c.upper,
        price=clipped,
    )
