"""Borrow rates without a kink: log-linear, hyperbolic, and steered by a peg."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree

Rates = Float[Array, " debt_asset"]


@pytree
class LogLinearRate:
    """A rate whose logarithm is linear in utilisation: `minimum^(1-u) maximum^u`.

    Source: LlamaLend SemilogMonetaryPolicy `calculate_rate`.

    Attributes:
        minimum: `(debt_asset,)` rate at zero utilisation, per year, above zero.
        maximum: `(debt_asset,)` rate at full utilisation, per year.
    """

    minimum: Rates
    maximum: Rates

    def borrow_rate(self, utilisation: Rates) -> Rates:
        """Return the borrow rate per year."""
        return self.minimum * jnp.exp(utilisation * jnp.log(self.maximum / self.minimum))


@pytree
class HyperbolicRate:
    """A multiple of another market's rate, rising like a hyperbola towards full utilisation.

    `r = reference (c + a / (v - u)) + shift`, with `a`, `c`, `v` such that without the shift the
    multiple is `lowest` at zero, one at the target and `highest` at full utilisation.

    Source: LlamaLend SecondaryMonetaryPolicy `get_params`, `calculate_rate`.

    Attributes:
        reference: `(debt_asset,)` rate of the other market, per year.
        target: `(debt_asset,)` utilisation at which the rate is the reference's, in (0, 1).
        lowest: `(debt_asset,)` multiple at zero utilisation, below 1.
        highest: `(debt_asset,)` multiple at full utilisation, above 1.
        shift: `(debt_asset,)` added at every utilisation, per year.
    """

    reference: Rates
    target: Rates
    lowest: Rates
    highest: Rates
    shift: Rates

    def borrow_rate(self, utilisation: Rates) -> Rates:
        """Return the borrow rate per year.

        Convex where `(highest - 1) target > (1 - target) (1 - lowest)`, which is required.
        """
        rise, fall = (self.highest - 1.0) * self.target, (1.0 - self.target) * (1.0 - self.lowest)
        pole = rise / (rise - fall)
        slope = (1.0 - self.lowest) * pole * (pole - self.target) / self.target
        multiple = self.lowest - slope / pole + slope / (pole - utilisation)
        return self.reference * multiple + self.shift


@pytree
class PegRate:
    """The rate of a minted coin: higher while it trades below its peg, lower while it is backed.

    `r = base exp((1 - price) / sensitivity - (reserve / debt) / target)`, times
    `0.9 + 0.1 / (1 - u)` where `u` is the part of the ceiling in use.

    Source: crvUSD AggMonetaryPolicy3 `calculate_rate`.

    Attributes:
        base: `(debt_asset,)` rate at the peg without a reserve, per year.
        sensitivity: `(debt_asset,)` price fall that multiplies the rate by e.
        target: `(debt_asset,)` share of debt bought back by the peg's keepers that divides it by e.
        maximum: `(debt_asset,)` cap on the rate, per year.
        price: `(debt_asset,)` price of the coin in its peg.
        reserve_share: `(debt_asset,)` debt of the peg's keepers over all debt.
    """

    base: Rates
    sensitivity: Rates
    target: Rates
    maximum: Rates
    price: Rates
    reserve_share: Rates

    def borrow_rate(self, utilisation: Rates) -> Rates:
        """Return the borrow rate per year.

        Args:
            utilisation: debt over the ceiling; 0 where there is none.
        """
        power = (1.0 - self.price) / self.sensitivity - self.reserve_share / self.target
        power = jnp.where(power < _LARGEST_POWER, power, jnp.full_like(power, _LARGEST_POWER))
        in_use = jnp.where(utilisation < _FULL, utilisation, jnp.full_like(utilisation, _FULL))
        scarcity = (1.0 - _REMAINDER) + _REMAINDER / positive_or_one(1.0 - in_use)
        rate = self.base * jnp.exp(power) * scarcity
        return jnp.where(rate < self.maximum, rate, self.maximum)


_REMAINDER = 0.1
"""Part of the ceiling left at which scarcity has added `1 - 0.1` of the rate."""
_FULL = 1.0 - _REMAINDER / 1000.0
_LARGEST_POWER = 6.907755278982137
"""The exponential is capped at 1000."""
