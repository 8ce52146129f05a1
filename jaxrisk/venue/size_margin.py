"""Margin requirements of positions that rise with the size of the position.

A requirement has two rows, initial and maintenance. Positions are `(contract, account)`, size is
signed, coefficients are scalars or `(contract, 1)`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree

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
        scale: size, in units of the contract, at which the market's premium is 100 % (skewScale).
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
        initial = self.slope * jnp.abs(size) / self.scale + self.floor
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
