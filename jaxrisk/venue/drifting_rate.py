"""A rate whose slope is a state: it drifts up while utilisation is high, down while it is low."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to


@pytree
class SlopePath:
    """What the slope does in an interval of constant utilisation; leaves are `(debt_asset,)`.

    Attributes:
        end: slope at the end of the interval, within its bounds.
        integral: slope integrated over the interval.
    """

    end: Float[Array, " debt_asset"]
    integral: Float[Array, " debt_asset"]


@pytree
class DriftingRate:
    """A kinked rate with a slope k that follows utilisation u, held constant between updates.

    The rate is `minimum_rate + k e(u)` with the excess
    `e = max(u - low, 0) + steepening (u - critical)` (the second term for `u >= critical`).
    The slope moves at `-(fall + fall_gain (calm_below - u))` per unit of time below `calm_below`,
    at `min(rise + rise_gain (u - calm_above), maximum_rise)` above `calm_above` and not at all
    between, and stops at its bounds. Interest is `exp(minimum_rate t + e(u) integral of k) - 1`.
    If it exceeds `growth_cap t`, it is cut to that and the slope falls to its minimum.

    Source: Silo v2, DynamicKinkModel `compoundInterestRate` and `currentInterestRate`.

    Attributes:
        low: `(debt_asset,)` utilisation up to which only the minimum rate is paid (ulow).
        calm_below: `(debt_asset,)` utilisation below which the slope falls (u1).
        calm_above: `(debt_asset,)` utilisation above which it rises (u2).
        critical: `(debt_asset,)` utilisation above which the rate is steeper (ucrit).
        minimum_rate: `(debt_asset,)` rate at low utilisation, per unit of time (rmin).
        minimum_slope: `(debt_asset,)` lower bound of the slope (kmin).
        maximum_slope: `(debt_asset,)` upper bound of the slope (kmax).
        steepening: `(debt_asset,)` further slope above critical, as a multiple of k (alpha).
        fall: `(debt_asset,)` least speed at which the slope falls, per unit of time (c1).
        fall_gain: `(debt_asset,)` further speed per unit of utilisation (cminus).
        rise: `(debt_asset,)` least speed at which the slope rises (c2).
        rise_gain: `(debt_asset,)` further speed per unit of utilisation (cplus).
        maximum_rise: `(debt_asset,)` largest speed at which it rises (dmax).
        growth_cap: `(debt_asset,)` largest interest per unit of time.
        rate_cap: `(debt_asset,)` largest rate that is quoted, per unit of time.
        speed_unit: smallest speed the contract computes with; `None` for real speeds.
    """

    low: Float[Array, " debt_asset"]
    calm_below: Float[Array, " debt_asset"]
    calm_above: Float[Array, " debt_asset"]
    critical: Float[Array, " debt_asset"]
    minimum_rate: Float[Array, " debt_asset"]
    minimum_slope: Float[Array, " debt_asset"]
    maximum_slope: Float[Array, " debt_asset"]
    steepening: Float[Array, " debt_asset"]
    fall: Float[Array, " debt_asset"]
    fall_gain: Float[Array, " debt_asset"]
    rise: Float[Array, " debt_asset"]
    rise_gain: Float[Array, " debt_asset"]
    maximum_rise: Float[Array, " debt_asset"]
    growth_cap: Float[Array, " debt_asset"]
    rate_cap: Float[Array, " debt_asset"]
    speed_unit: Float[Array, ""] | None = None

    def borrow_rate(
        self,
        utilisation: Float[Array, " debt_asset"],
        slope: Float[Array, " debt_asset"],
        elapsed: Float[Array, " debt_asset"] | None = None,
        *,
        owes: Bool[Array, " debt_asset"] | None = None,
    ) -> Float[Array, " debt_asset"]:
        """Return the instantaneous rate, per unit of time of the coefficients.

        Args:
            utilisation: since the last update, in [0, 1].
            slope: state of the slope at the last update.
            elapsed: time since then; `None` for none.
            owes: whether anything is owed; where not, the rate is zero.
        """
        if elapsed is not None:
            slope = self._path(utilisation, slope, elapsed).end
        rate = self.minimum_rate + self._excess(utilisation) * slope
        rate = smaller(rate, self.rate_cap)
        return rate if owes is None else jnp.where(owes, rate, jnp.zeros_like(rate))

    def advance(
        self,
        utilisation: Float[Array, " debt_asset"],
        slope: Float[Array, " debt_asset"],
        elapsed: Float[Array, " debt_asset"],
        *,
        owes: Bool[Array, " debt_asset"] | None = None,
    ) -> tuple[Float[Array, " debt_asset"], Float[Array, " debt_asset"]]:
        """Return the interest of an interval, as a share of the debt, and the slope at its end.

        Args:
            utilisation: constant over the interval, in [0, 1].
            slope: state of the slope when it begins, within its bounds.
            elapsed: length of the interval.
            owes: whether anything is owed; where not, nothing accrues, yet the slope moves as if.
        """
        path = self._path(utilisation, slope, elapsed)
        exponent = self.minimum_rate * elapsed + self._excess(utilisation) * path.integral
        growth, cap = jnp.expm1(exponent), self.growth_cap * elapsed
        # Over no time both are zero, and the slope stays.
        cut = growth > cap
        growth = jnp.where(cut, cap, growth)
        if owes is not None:
            growth = jnp.where(owes, growth, jnp.zeros_like(growth))
        return growth, jnp.where(cut, self.minimum_slope, path.end)

    def _excess(self, utilisation: Array) -> Array:
        above = jnp.where(utilisation >= self.low, utilisation - self.low, jnp.zeros_like(self.low))
        beyond = self.steepening * (utilisation - self.critical)
        return above + jnp.where(utilisation >= self.critical, beyond, jnp.zeros_like(beyond))

    def speed(self, utilisation: Float[Array, " debt_asset"]) -> Float[Array, " debt_asset"]:
        """Return how fast the slope moves, per unit of time, signed."""
        unit = self.speed_unit
        falls = self.fall + floor_to(self.fall_gain * (self.calm_below - utilisation), unit)
        rises = self.rise + floor_to(self.rise_gain * (utilisation - self.calm_above), unit)
        rises = smaller(rises, self.maximum_rise)
        calm = jnp.zeros_like(rises)
        above = jnp.where(utilisation > self.calm_above, rises, calm)
        return jnp.where(utilisation < self.calm_below, -falls, above)

    def _path(self, utilisation: Array, slope: Array, elapsed: Array) -> SlopePath:
        """Integrate the slope: linear until it meets a bound, constant from there."""
        speed = self.speed(utilisation)
        bound = jnp.where(speed > 0, self.maximum_slope, self.minimum_slope)
        free = slope + speed * elapsed
        stopped = jnp.where(speed > 0, free > bound, free < bound) & (speed != 0)
        safe = jnp.where(speed == 0, jnp.ones_like(speed), speed)
        # The bound throughout, less the triangle of the way to it.
        met = bound * elapsed - (bound - slope) ** 2 / (2.0 * safe)
        return SlopePath(
            end=jnp.where(stopped, bound, free),
            integral=jnp.where(stopped, met, 0.5 * (slope + free) * elapsed),
        )
