"""Margin rates that rise with the size of a position, or with the open interest of its market.

A requirement has two rows, initial and maintenance. Positions are `(contract, account)`, size is
signed, coefficients are scalars or `(contract, 1)`.
"""

from collections.abc import Sequence
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.smooth import safe_sqrt
from jaxrisk.venue.requirement import MAINTENANCE, Exposure, Lines

Positions = Float[Array, "*position"]
Rows = Float[Array, "2 *position"]


@pytree
class SkewShareMargin:
    """A rate linear in the share of the market's skew scale that a position takes up.

    `initial rate = slope |q| / scale + floor`, `maintenance rate = share x initial rate`, and both
    requirements are `N x rate + fixed` with notional `N = |q| P`. An account without a position has
    no requirement. Without the fixed amount a requirement is quadratic in the size.

    Source: Synthetix v3, PerpsMarketConfiguration `calculateRequiredMargins`.

    Attributes:
        slope: initial rate added by a position as large as the scale (initialMarginRatio).
        scale: size, in units of the contract, at which the market's premium is 100 % (skewScale);
            zero for a rate that does not depend on size.
        floor: initial rate of a vanishing position (minimumInitialMarginRatio).
        maintenance_share: maintenance rate over initial rate (maintenanceMarginScalar).
        fixed: added to both requirements of an open position, numeraire (minimumPositionMargin).
    """

    slope: Positions
    scale: Positions
    floor: Positions
    maintenance_share: Positions
    fixed: Positions

    def rates(self, size: Positions) -> Rows:
        """Return initial and maintenance margin per unit of notional, zero without a position."""
        share = jnp.abs(size) / positive_or_one(self.scale)
        share = jnp.where(self.scale > 0, share, jnp.zeros_like(share))
        initial = self.slope * share + self.floor
        initial = jnp.where(size != 0, initial, jnp.zeros_like(initial))
        return jnp.stack([initial, initial * self.maintenance_share])

    def required(self, size: Positions, price: Positions) -> Rows:
        """Return initial and maintenance margin of each position, in the numeraire.

        Args:
            size: signed sizes, in units of the contract.
            price: numeraire per unit.
        """
        initial, maintenance = self.rates(size)
        notional = jnp.abs(size) * price
        fixed = jnp.where(size != 0, self.fixed, jnp.zeros_like(notional))
        return jnp.stack([notional * initial + fixed, notional * maintenance + fixed])


@pytree
class LinearSizeMargin:
    """Rates that rise by the same amount per unit held, so that the requirement is quadratic.

    `rate = base + slope |q|`, `requirement = N x rate` with notional `N = |q| P`. In contracts
    settled in their underlying `P` is 1 and so is the unit.

    Source: Deribit, Linear Perpetual and Inverse Perpetual contract specifications.

    Attributes:
        base: `(2, ...)` initial and maintenance rate of a vanishing position; in a book of
            positions `(2, contract, 1)`.
        slope: added per unit of the underlying held, as `base`.
    """

    base: Rows
    slope: Rows

    def required(self, size: Positions, price: Positions) -> Rows:
        """Return initial and maintenance margin of each position, in the unit of `price`.

        Args:
            size: signed sizes, in units of the underlying.
            price: of a unit.
        """
        units = jnp.abs(size)
        row = lambda n: units * price * (self.base[n] + self.slope[n] * units)
        return jnp.stack([row(0), row(1)])

    def of(self, rows: Sequence[int]) -> Self:
        """Return the rates of the contracts at `rows`, one for each; leaves `(2, contract, 1)`."""
        return jax.tree.map(lambda leaf: leaf[:, np.asarray(rows)], self)

    def charge(
        self, held: Exposure
    ) -> tuple[Float[Array, "contract account"], Int[Array, "contract account"]]:
        """Return maintenance margin of positions, and 0: there are no tiers."""
        rate = self.base[MAINTENANCE] + self.slope[MAINTENANCE] * held.units
        return held.notional * rate, jnp.zeros(rate.shape, jnp.int32)

    def lines(self, held: Exposure) -> Lines:
        """Return maintenance margin as a function of price, quadratic where a contract is inverse.

        A linear contract has a size that prices leave alone; that of an inverse one grows as its
        price falls.
        """
        base, slope, zero = (
            self.base[MAINTENANCE],
            self.slope[MAINTENANCE],
            jnp.zeros_like(held.face),
        )
        rate = base + slope * jnp.where(held.inverse, zero, held.face)
        bend = jnp.where(held.inverse, slope * held.face**2, zero)
        return Lines(rate=rate[None], deduction=jnp.zeros_like(rate)[None], curvature=bend)


@pytree
class OpenInterestMargin:
    """An initial rate that rises to 100 % as a market's open interest nears its cap.

    `initial = min(1, base + (1 - base) clip((OI - lower) / (upper - lower), 0, 1))`, or what the
    account chose for itself if that is more. The maintenance rate is `base x share` whatever the
    open interest: a crowded market takes no new positions, but does not liquidate old ones.

    Source: dYdX v4, LiquidityTier `GetAdjustedInitialMarginPpm`, `GetMaintenanceMarginPpm`;
    perpetuals/lib `GetMarginRequirementsInQuoteQuantums`.

    Attributes:
        base: initial rate of a market with little open interest.
        maintenance_share: maintenance rate over `base`.
        lower: open interest up to which the rate does not rise, numeraire.
        upper: open interest at which it is 1, numeraire; zero for a rate that never rises.
    """

    base: Positions
    maintenance_share: Positions
    lower: Positions
    upper: Positions

    def rates(self, open_interest: Positions, chosen: Positions) -> Rows:
        """Return initial and maintenance margin per unit of notional.

        Args:
            open_interest: of the market, numeraire.
            chosen: least initial rate the account chose, zero for none.
        """
        room = self.upper - self.lower
        used = jnp.clip((open_interest - self.lower) / positive_or_one(room), 0.0, 1.0)
        full = jnp.where(open_interest > self.lower, jnp.ones_like(used), jnp.zeros_like(used))
        used = jnp.where(room > 0, used, full)
        used = jnp.where(self.upper > 0, used, jnp.zeros_like(used))
        initial = jnp.maximum(self.base + (1.0 - self.base) * used, chosen)
        maintenance = self.base * self.maintenance_share
        return jnp.stack([initial, jnp.broadcast_to(maintenance, initial.shape)])

    def required(
        self, size: Positions, price: Positions, open_interest: Positions, chosen: Positions
    ) -> Rows:
        """Return initial and maintenance margin of each position, in the numeraire.

        Args:
            size: signed sizes, in units of the contract.
            price: numeraire per unit.
            open_interest: of the market, numeraire.
            chosen: least initial rate the account chose, zero for none.
        """
        initial, maintenance = self.rates(open_interest, chosen)
        notional = jnp.abs(size) * price
        return jnp.stack([notional * initial, notional * maintenance])


@pytree
class SquareRootWeight:
    """Weights that grow worse with the square root of size.

    A liability, or the notional of a position, counts at `max(w, 0.8 w + factor sqrt(size))`; an
    asset at `min(w, 1.1 / (1 + factor sqrt(size)))`. A factor of zero leaves weights as they are.

    Source: Drift v2, math/margin.rs `calculate_size_premium_liability_weight`,
    `calculate_size_discount_asset_weight`; PerpMarket `get_margin_ratio`.

    Attributes:
        factor: per square root of a unit (imf_factor).
        kept: part of a liability's weight that size adds to, 0.8.
        start: numerator of an asset's weight, 1.1.
    """

    factor: Positions
    kept: Positions
    start: Positions

    def liability(self, weight: Positions, size: Positions) -> Positions:
        """Return the weight of a liability, or the margin rate of a position.

        Args:
            weight: of a small one.
            size: units, >= 0.
        """
        larger = weight * self.kept + self.factor * safe_sqrt(size)
        larger = jnp.where(self.factor > 0, larger, weight)
        return jnp.where(larger > weight, larger, weight)

    def asset(self, weight: Positions, size: Positions) -> Positions:
        """Return the weight of an asset.

        Args:
            weight: of a small holding.
            size: units, >= 0.
        """
        discounted = self.start / (1.0 + self.factor * safe_sqrt(size))
        return jnp.where(self.factor > 0, smaller(weight, discounted), weight)


def crowded_weight(weight: Positions, deposits: Positions, start: Positions) -> Positions:
    """Return the weight of an asset of which a venue holds much: `w min(1, start / deposits)`.

    Source: Drift v2, SpotMarket `get_scaled_initial_asset_weight`.

    Args:
        weight: of the asset.
        deposits: value of all deposits of it, numeraire.
        start: value above which the weight falls, numeraire; zero for never.
    """
    crowded = (start > 0) & (deposits > start)
    safe = jnp.where(crowded, deposits, jnp.ones_like(deposits))
    return jnp.where(crowded, weight * start / safe, weight)
