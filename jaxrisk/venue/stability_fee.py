"""A borrow rate that governance sets, compounded every second."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree

SECONDS_PER_YEAR = 365.0 * 86_400.0


@pytree
class StabilityFee:
    """Debt grows by `(1 + per_second) ^ seconds`, whatever the utilisation.

    The rate is kept as the excess over one: `1 + per_second` loses ten of float64's sixteen
    digits, and all of float32's.

    Source: Maker dss jug.sol drip (`per_second = base + duty - 1`).

    Attributes:
        per_second: `(debt_asset,)` growth per second less one.
    """

    per_second: Float[Array, " debt_asset"]

    def borrow_rate(self, utilisation: Float[Array, " debt_asset"]) -> Float[Array, " debt_asset"]:
        """Return the continuously compounded borrow rate per year; utilisation plays no part."""
        del utilisation
        return jnp.log1p(self.per_second) * SECONDS_PER_YEAR

    def growth(self, seconds: Float[Array, " debt_asset"]) -> Float[Array, " debt_asset"]:
        """Return the factor by which debt grows in `seconds`."""
        return jnp.exp(jnp.log1p(self.per_second) * seconds)
