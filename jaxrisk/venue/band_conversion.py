"""Execution by bands: collateral stands in price bands that outsiders convert and convert back.

All loans stand on the same number of bands, evenly. Then loans that begin on the same band own
their bands in proportion to what they put in, and the shares of a book are one number a band: what
was deposited, and not withdrawn since, by the loans that begin there. Sums over a loan's bands are
sums over a window of fixed length.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.band_amm import BandFee, amount_to_price, band_fee
from jaxrisk.venue.band_grid import BandGrid, Bands, spot_price
from jaxrisk.venue.band_health import adiabatic_sale
from jaxrisk.venue.band_loan import first_band
from jaxrisk.venue.band_oracle import LimitedOracle, OracleState, SeenPrice

SMALLEST_MOVE = 1e-4
"""Outsiders leave the price of the bands where it is if they would move it by less than this."""

_LONG_AGO = 1.0
"""Years since the trade before the first one."""


@pytree
class BandState:
    """What changes in a scenario besides the accounts.

    Attributes:
        bands: what the bands hold.
        units: `(band,)` collateral put in, and not withdrawn since, by loans whose first band this
            is: their shares. An account's part is its deposit times the fraction of it that stands.
        oracle: what the last trade saw.
    """

    bands: Bands
    units: Float[Array, " band"]
    oracle: OracleState


@pytree
class PerUnit:
    """What a unit of collateral, once put in, stands for now; by first band, every leaf `(band,)`.

    Attributes:
        borrowed: borrowed coin in its bands.
        collateral: collateral in its bands.
        backing: borrowed coin that it backs: `converted (1 - discount)`, and above the bands the
            headroom. A loan is unhealthy where its debt is more than its units back.
    """

    borrowed: Float[Array, " band"]
    collateral: Float[Array, " band"]
    backing: Float[Array, " band"]


@pytree
class BandConversion:
    """Bands between the accounts and their keepers.

    Attributes:
        grid: where the bands lie, at the opening. It spans the bands of all loans and the empty one
            before them.
        fee: what trades pay.
        oracle: how the price of the bands is limited.
        loan_discount: that decides on which bands a loan stands.
        bands: how many bands a loan stands on.
    """

    grid: BandGrid
    fee: BandFee
    oracle: LimitedOracle
    loan_discount: Float[Array, ""]
    bands: int = static()

    def opening(self, accounts: Accounts) -> BandState:
        """Return bands that hold the collateral of all accounts, none of it converted.

        Args:
            accounts: the book: one collateral, one debt.
        """
        first, count = self.grid.first, self.grid.count
        units = self.by_first_band(self.first_position(accounts), accounts.collateral[0])
        return BandState(
            bands=Bands(
                borrowed=jnp.zeros_like(units),
                collateral=self._covering(units) / self.bands,
                active=first,
                lowest=first,
                highest=first + count - 1,
            ),
            units=units,
            oracle=OracleState(
                price=jnp.ones_like(self.grid.base_price),
                fee=jnp.zeros_like(self.grid.base_price),
                elapsed=jnp.full_like(self.grid.base_price, _LONG_AGO),
            ),
        )

    def grown(self, growth: Float[Array, ""]) -> BandGrid:
        """Return the grid once debts have grown by a factor: its base grows with them."""
        grid = self.grid
        return BandGrid(
            amplification=grid.amplification,
            base_price=grid.base_price * growth,
            first=grid.first,
            count=grid.count,
        )

    def first_position(self, accounts: Accounts) -> Int[Array, " account"]:
        """Return where on the band axis each account begins.

        Loans so small that they would begin beyond the axis stand at its end.
        """
        none = jnp.zeros_like(self.grid.numbers(), self.grid.base_price.dtype)
        start = jnp.zeros_like(self.grid.first)
        number, _ = first_band(
            self.grid,
            Bands(borrowed=none, collateral=none, active=start, lowest=start, highest=start),
            accounts.collateral[0],
            accounts.debt[0],
            jnp.full(accounts.count, self.bands, start.dtype),
            self.loan_discount,
            jnp.full_like(self.grid.base_price, jnp.inf),
        )
        return jnp.clip(number - self.grid.first, 1, self.grid.count - self.bands)

    def by_first_band(
        self, position: Int[Array, " account"], values: Float[Array, " account"]
    ) -> Float[Array, " band"]:
        """Return the sums of values over the accounts that begin on each band."""
        return jnp.zeros(self.grid.count, values.dtype).at[position].add(values)

    def per_unit(
        self,
        grid: BandGrid,
        state: BandState,
        oracle_price: Float[Array, ""],
        weight: Float[Array, ""],
    ) -> PerUnit:
        """Return what a unit put in stands for now.

        The rules of one account apply to it: `holdings`, `converted_down`, `headroom`.

        Args:
            grid: where the bands lie now.
            state: what they hold, and whose it is.
            oracle_price: limited price of collateral in the borrowed coin.
            weight: `1 - liquidation discount`.
        """
        bands, above = state.bands, oracle_price - grid.upper_price(grid.numbers())
        collateral = self._owned(state.units, bands.collateral)
        converted = self._owned(state.units, adiabatic_sale(grid, bands, oracle_price))
        begins = (grid.numbers() > bands.active) & (above > 0)
        headroom = jnp.where(begins, above * collateral, jnp.zeros_like(collateral))
        return PerUnit(
            borrowed=self._owned(state.units, bands.borrowed),
            collateral=collateral,
            backing=converted * weight + headroom,
        )

    def holdings(self, state: BandState) -> tuple[Float[Array, " band"], Float[Array, " band"]]:
        """Return the borrowed coin and the collateral behind a unit put in, by first band."""
        bands = state.bands
        return (
            self._owned(state.units, bands.borrowed),
            self._owned(state.units, bands.collateral),
        )

    def withdrawn(self, state: BandState, units: Float[Array, " band"]) -> Bands:
        """Return the bands once shares have gone out, and their part of every band with them.

        Args:
            state: before.
            units: shares that are left.
        """
        before, after = self._covering(state.units), self._covering(units)
        left = jnp.where(before > 0, after / positive_or_one(before), jnp.ones_like(before))
        bands = state.bands
        return Bands(
            borrowed=bands.borrowed * left,
            collateral=bands.collateral * left,
            active=bands.active,
            lowest=bands.lowest,
            highest=bands.highest,
        )

    def wanted_trade(
        self,
        grid: BandGrid,
        bands: Bands,
        seen: SeenPrice,
        market_price: Float[Array, ""],
        minimum_return: Float[Array, ""],
    ) -> tuple[Float[Array, ""], Bool[Array, ""]]:
        """Return what outsiders would pay into the bands, and whether they buy collateral.

        They trade until the price of the bands, fee included, is the market's: to `p (1 - fee)`
        from below and to `p / (1 - fee)` from above, with the fee of the band that quotes `p`.

        Args:
            grid: where the bands lie now.
            bands: what they hold.
            seen: oracle price and dynamic fee.
            market_price: of collateral in the borrowed coin.
            minimum_return: profit wanted, as a fraction of what is paid.
        """
        # A band quotes from p_o^3 / up^2, so this is the top of one that would begin at p.
        top = seen.price * jnp.sqrt(seen.price / market_price)
        number = jnp.floor(jnp.log(grid.base_price / top) / grid.log_ratio())
        fee = band_fee(grid, number.astype(grid.first.dtype), seen, self.fee.fee)
        keep = (1.0 - smaller(fee, jnp.full_like(fee, 0.999))) / (1.0 + minimum_return)
        spot = spot_price(grid, bands, seen.price)
        low, high = market_price * keep, market_price / keep
        rises, falls = low > spot * (1.0 + SMALLEST_MOVE), high < spot * (1.0 - SMALLEST_MOVE)
        target = jnp.where(rises, low, jnp.where(falls, high, spot))
        amount, buys = amount_to_price(grid, bands, seen, self.fee, target)
        return jnp.where(rises | falls, amount, jnp.zeros_like(amount)), buys

    def _covering(self, units: Float[Array, " band"]) -> Float[Array, " band"]:
        """Return, of every band, the sum over the first bands of loans that reach it."""
        return _window(units, self.bands, before=True)

    def _owned(
        self, units: Float[Array, " band"], held: Float[Array, " band"]
    ) -> Float[Array, " band"]:
        """Return what a unit of shares owns of what bands hold, by first band."""
        per_share = held / positive_or_one(self._covering(units))
        return _window(per_share, self.bands, before=False)


def _window(values: Float[Array, " band"], length: int, *, before: bool) -> Float[Array, " band"]:
    """Return sums over `length` bands that end, or begin, at each band."""
    padding = (length - 1, 0) if before else (0, length - 1)
    zero = np.zeros((), values.dtype)
    return lax.reduce_window(values, zero, lax.add, (length,), (1,), [padding])
