"""Rules of interest made of a rate curve, what it remembers, and who gets what is paid."""

from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.adaptive_rate import AdaptiveRate
from jaxrisk.venue.drifting_rate import DriftingRate
from jaxrisk.venue.interest import Accrued, Balance, utilisation
from jaxrisk.venue.slope_rate import TwoSlopeRates

Assets = Float[Array, " debt_asset"]


class RateCurve(Protocol):
    """A borrow rate per year that depends on utilisation alone."""

    def borrow_rate(self, utilisation: Assets) -> Assets:
        """Return the borrow rate per year, compounded continuously."""
        ...


@pytree
class CurveInterest:
    """A curve without memory, of whose interest the protocol keeps a stated share.

    Attributes:
        curve: coefficients per year.
        reserve_factor: `(debt_asset,)` share kept by the protocol; 1 where there are no suppliers.
    """

    curve: RateCurve
    reserve_factor: Assets

    def opening(self) -> None:
        """Return `None`: the curve has no memory."""

    def advance(self, state: None, balance: Balance, years: Float[Array, ""]) -> Accrued:
        """Return the growth at the rate of the balance."""
        rate = self.curve.borrow_rate(utilisation(balance.debt, balance.cash))
        return Accrued(log_growth=rate * years, kept=self.reserve_factor, state=state)


@pytree
class SpreadInterest:
    """Suppliers earn a curve of their own; the protocol keeps what is left, or tops it up.

    Attributes:
        rates: coefficients per year.
    """

    rates: TwoSlopeRates

    def opening(self) -> None:
        """Return `None`: the curves have no memory."""

    def advance(self, state: None, balance: Balance, years: Float[Array, ""]) -> Accrued:
        """Return the growth at the borrow rate, and what the supply rate leaves of it.

        Utilisation is debt over what is supplied, and may exceed 1.
        """
        use = balance.debt / positive_or_one(balance.supplied)
        paid = jnp.expm1(self.rates.borrow_rate(use) * years) * balance.debt
        earned = jnp.expm1(self.rates.supply_rate(use) * years) * balance.supplied
        kept = jnp.where(paid > 0, 1.0 - earned / positive_or_one(paid), jnp.zeros_like(paid))
        return Accrued(log_growth=self.rates.borrow_rate(use) * years, kept=kept, state=state)


@pytree
class Summed:
    """A running sum, and what its last addition lost to rounding; leaves are `(debt_asset,)`.

    A year of hourly additions in float32 would drift without it.
    """

    total: Assets
    lost: Assets

    def plus(self, amount: Assets) -> "Summed":
        """Return the sum after an addition (Kahan)."""
        wanted = amount - self.lost
        total = self.total + wanted
        return Summed(total=total, lost=(total - self.total) - wanted)

    def within(self, lowest: Assets, highest: Assets) -> "Summed":
        """Return the sum kept within bounds; at a bound nothing is lost."""
        total = jnp.clip(self.total, lowest, highest)
        return Summed(
            total=total, lost=jnp.where(total == self.total, self.lost, jnp.zeros_like(total))
        )


@pytree
class AdaptiveInterest:
    """A rate at target that drifts with utilisation; its logarithm is the state.

    Attributes:
        curve: the adaptive curve.
        reserve_factor: `(debt_asset,)` share of interest kept by the protocol.
        rate_at_target: `(debt_asset,)` at the opening, per year.
    """

    curve: AdaptiveRate
    reserve_factor: Assets
    rate_at_target: Assets

    def opening(self) -> Summed:
        """Return the logarithm of the rate at target."""
        log_rate = jnp.log(self.rate_at_target)
        return Summed(total=log_rate, lost=jnp.zeros_like(log_rate))

    def advance(self, state: Summed, balance: Balance, years: Float[Array, ""]) -> Accrued:
        """Return the growth at the mean rate of the step, and the rate at target after it.

        The same two trapezoids as `AdaptiveRate.borrow_rate`, in log space.
        """
        curve = self.curve
        use = utilisation(balance.debt, balance.cash)
        drift = curve.speed * curve.distance(use) * years
        lowest, highest = jnp.log(curve.minimum_rate), jnp.log(curve.maximum_rate)
        middle = jnp.clip(state.total + drift / 2.0, lowest, highest)
        end = state.plus(drift).within(lowest, highest)
        mean = (jnp.exp(state.total) + 2.0 * jnp.exp(middle) + jnp.exp(end.total)) / 4.0
        return Accrued(
            log_growth=curve.curve(mean, use) * years, kept=self.reserve_factor, state=end
        )


@pytree
class DriftingInterest:
    """A kinked rate whose slope drifts with utilisation; the slope is the state.

    Attributes:
        curve: coefficients per year.
        reserve_factor: `(debt_asset,)` share of interest kept by the protocol.
        slope: `(debt_asset,)` at the opening.
    """

    curve: DriftingRate
    reserve_factor: Assets
    slope: Assets

    def opening(self) -> Summed:
        """Return the slope."""
        return Summed(total=self.slope, lost=jnp.zeros_like(self.slope))

    def advance(self, state: Summed, balance: Balance, years: Float[Array, ""]) -> Accrued:
        """Return the growth over the step, and the slope after it."""
        curve = self.curve
        use = utilisation(balance.debt, balance.cash)
        elapsed = jnp.broadcast_to(years, use.shape)
        growth, slope = curve.advance(use, state.total, elapsed, owes=balance.debt > 0)
        # At a bound, and where the cap on growth resets it, the slope is that bound exactly.
        stopped = (slope == curve.minimum_slope) | (slope == curve.maximum_slope)
        free = state.plus(curve.speed(use) * elapsed)
        after = Summed(
            total=jnp.where(stopped, slope, free.total),
            lost=jnp.where(stopped, jnp.zeros_like(slope), free.lost),
        )
        return Accrued(log_growth=jnp.log1p(growth), kept=self.reserve_factor, state=after)
