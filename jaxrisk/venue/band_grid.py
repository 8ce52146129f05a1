"""Price bands that convert collateral on the way down and back on the way up: their geometry.

A band holds collateral while the oracle is above it, the borrowed coin once the oracle is below it,
and both in between. Each band is a small market maker whose quote moves with the cube of the oracle
price, so that outsiders are paid to convert it.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree, static

BANDS_PER_TRADE = 50
"""Most bands one trade may touch, and how many bands it may stray from the oracle price."""


@pytree
class BandGrid:
    """Where the bands lie. Band `n` spans oracle prices `base ((A-1)/A)^(n+1)` to `.. ^n`.

    Attributes:
        amplification: `A`; a band is `1/A` of its upper price wide.
        base_price: upper price of band 0 now; it grows with the interest of the loans.
        first: number of the first band on the band axis.
        count: length of the band axis. It must span every band that has ever been deposited into,
            and the active band.
    """

    amplification: Float[Array, ""]
    base_price: Float[Array, ""]
    first: Int[Array, ""]
    count: int = static()

    def numbers(self) -> Int[Array, " band"]:
        """Return the number of every band on the axis."""
        return self.first + jnp.arange(self.count, dtype=self.first.dtype)

    def log_ratio(self) -> Float[Array, ""]:
        """Return `ln(A / (A - 1))`, the log width of a band."""
        return -jnp.log1p(-1.0 / self.amplification)

    def upper_price(self, number: Int[Array, "..."]) -> Float[Array, "..."]:
        """Return the oracle price at the top of a band: `base ((A - 1) / A)^n`.

        Source: crvUSD AMM `p_oracle_up`.
        """
        return self.base_price * jnp.exp(-self.log_ratio() * number.astype(self.base_price.dtype))

    def quote_range(
        self, number: Int[Array, "..."], oracle_price: Float[Array, ""]
    ) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Return the lowest and highest price a band quotes at an oracle price.

        `p_o^3 / up^2` and that times `(A / (A - 1))^2`: both edges equal the oracle price when it
        stands at the edge itself, and move with its cube elsewhere.

        Source: crvUSD AMM `p_current_down`, `p_current_up`.
        """
        lowest = oracle_price * (oracle_price / self.upper_price(number)) ** 2
        return lowest, lowest * (self.amplification / (self.amplification - 1.0)) ** 2


@pytree
class Bands:
    """What the bands hold.

    Attributes:
        borrowed: `(band,)` borrowed coin.
        collateral: `(band,)` collateral.
        active: number of the band in which the next trade begins. Bands above it in number hold
            collateral only, bands below it the borrowed coin only.
        lowest: smallest band number in use, where trades that sell collateral stop.
        highest: largest band number in use, where trades that buy collateral stop.
    """

    borrowed: Float[Array, " band"]
    collateral: Float[Array, " band"]
    active: Int[Array, ""]
    lowest: Int[Array, ""]
    highest: Int[Array, ""]


@pytree
class Curve:
    """The bands' invariant `(borrowed + f)(collateral + g) = constant`; every leaf is `(band,)`.

    Attributes:
        upper: oracle price at the top of the band.
        anchor: `y0`, the collateral the band would hold if the oracle stood at its top.
        borrowed_offset: `f = A y0 p_o^2 / up`.
        collateral_offset: `g = (A - 1) y0 up / p_o`.
        empty: whether the band holds nothing.
    """

    upper: Float[Array, " band"]
    anchor: Float[Array, " band"]
    borrowed_offset: Float[Array, " band"]
    collateral_offset: Float[Array, " band"]
    empty: Bool[Array, " band"]


def curve(grid: BandGrid, bands: Bands, oracle_price: Float[Array, ""]) -> Curve:
    """Return the invariant of every band at an oracle price.

    `y0` is the positive root of `p_o A y0^2 - b y0 - x y = 0` with
    `b = (A - 1) x up / p_o + A y p_o^2 / up`.

    Source: crvUSD AMM `_get_y0`.
    """
    a, x, y = grid.amplification, bands.borrowed, bands.collateral
    upper = grid.upper_price(grid.numbers())
    tilt = oracle_price / upper
    linear = (a - 1.0) * x / tilt + a * y * oracle_price * tilt
    discriminant = linear**2 + 4.0 * a * oracle_price * x * y
    empty = (x <= 0) & (y <= 0)
    root = jnp.sqrt(jnp.where(empty, jnp.ones_like(linear), discriminant))
    anchor = jnp.where(empty, jnp.zeros_like(linear), linear + root) / (2.0 * a * oracle_price)
    return Curve(
        upper=upper,
        anchor=anchor,
        borrowed_offset=a * anchor * oracle_price * tilt,
        collateral_offset=(a - 1.0) * anchor / tilt,
        empty=empty,
    )


def spot_price(grid: BandGrid, bands: Bands, oracle_price: Float[Array, ""]) -> Float[Array, ""]:
    """Return the market maker's price of collateral in the active band.

    `(f + x) / (g + y)`; in an empty band, the geometric middle of what it quotes.

    Source: crvUSD AMM `get_p`.
    """
    c = curve(grid, bands, oracle_price)
    lowest, _ = grid.quote_range(grid.numbers(), oracle_price)
    middle = lowest * grid.amplification / (grid.amplification - 1.0)
    quote = (c.borrowed_offset + bands.borrowed) / positive_or_one(
        c.collateral_offset + bands.collateral
    )
    price = jnp.where(c.empty, middle, quote)
    here = grid.numbers() == bands.active
    return jnp.sum(jnp.where(here, price, jnp.zeros_like(price)))
