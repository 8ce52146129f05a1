"""Rates linear in utilisation on either side of a kink, stated as slopes per unit of it."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to


@pytree
class SlopeRate:
    """A rate that rises by one slope up to a kink and by another beyond it.

    `base + slope_below min(u, kink) + slope_above max(u - kink, 0)`. Utilisation may exceed 1, and
    nothing is capped. `jaxrisk.venue.interest.KinkedRate` states the same shape by the rate *at*
    the kink and at full utilisation.

    Source: Compound III, Comet `getBorrowRate`; Compound v2, BaseJumpRateModelV2
    `getBorrowRateInternal`; Euler v2, IRMLinearKink `computeInterestRateInternal`.

    Attributes:
        base: `(debt_asset,)` rate at zero utilisation, per unit of time.
        slope_below: `(debt_asset,)` rate per unit of utilisation up to the kink.
        slope_above: `(debt_asset,)` rate per unit of utilisation beyond it.
        kink: `(debt_asset,)` utilisation at which the slope changes.
        rate_unit: smallest rate the contract computes with; `None` for real rates.
        utilisation_unit: smallest utilisation it computes with; `None` for real ones.
    """

    base: Float[Array, " debt_asset"]
    slope_below: Float[Array, " debt_asset"]
    slope_above: Float[Array, " debt_asset"]
    kink: Float[Array, " debt_asset"]
    rate_unit: Float[Array, ""] | None = None
    utilisation_unit: Float[Array, ""] | None = None

    def borrow_rate(self, utilisation: Float[Array, " debt_asset"]) -> Float[Array, " debt_asset"]:
        """Return the rate at `utilisation`, per unit of time of the coefficients."""
        use = floor_to(utilisation, self.utilisation_unit)
        beyond = jnp.where(use > self.kink, use - self.kink, jnp.zeros_like(use))
        # In this order the slope at the kink itself is the one below it, not zero.
        below = floor_to(self.slope_below * smaller(self.kink, use), self.rate_unit)
        return self.base + below + floor_to(self.slope_above * beyond, self.rate_unit)


@pytree
class TwoSlopeRates:
    """Borrow and supply rates as two curves of their own; the spread is what the protocol earns.

    Nothing ties the two: at some utilisations suppliers may be promised more than borrowers pay.

    Source: Compound III, Comet `getBorrowRate` and `getSupplyRate`.

    Attributes:
        borrow: curve of the rate that borrowers pay.
        supply: curve of the rate that suppliers earn.
    """

    borrow: SlopeRate
    supply: SlopeRate

    def borrow_rate(self, utilisation: Float[Array, " debt_asset"]) -> Float[Array, " debt_asset"]:
        """Return the borrow rate, per unit of time of the coefficients."""
        return self.borrow.borrow_rate(utilisation)

    def supply_rate(self, utilisation: Float[Array, " debt_asset"]) -> Float[Array, " debt_asset"]:
        """Return the supply rate, per unit of time of the coefficients."""
        return self.supply.borrow_rate(utilisation)


@pytree
class SharedSlopeRate:
    """Borrowers pay one curve; suppliers share what they pay, less the reserves' part.

    `supply = borrow (1 - reserve_factor) utilisation`.

    Source: Compound v2, BaseJumpRateModelV2 `getSupplyRate`.

    Attributes:
        borrow: curve of the rate that borrowers pay.
        reserve_factor: `(debt_asset,)` share of interest kept by the protocol.
    """

    borrow: SlopeRate
    reserve_factor: Float[Array, " debt_asset"]

    def borrow_rate(self, utilisation: Float[Array, " debt_asset"]) -> Float[Array, " debt_asset"]:
        """Return the borrow rate, per unit of time of the coefficients."""
        return self.borrow.borrow_rate(utilisation)

    def supply_rate(self, utilisation: Float[Array, " debt_asset"]) -> Float[Array, " debt_asset"]:
        """Return the supply rate, per unit of time of the coefficients."""
        unit = self.borrow.rate_unit
        passed_on = floor_to(self.borrow_rate(utilisation) * (1.0 - self.reserve_factor), unit)
        return floor_to(passed_on * utilisation, unit)


def per_period(
    rate: Float[Array, "..."],
    periods: Float[Array, "..."],
    unit: Float[Array, ""] | None = None,
) -> Float[Array, "..."]:
    """Return a rate per year as a rate per period, rounded down where a contract stores it so.

    Args:
        rate: rate or slope per year.
        periods: periods in a year (seconds, blocks).
        unit: smallest rate that is stored; `None` for real rates.
    """
    return floor_to(rate / periods, unit)
