"""A liquidation bonus that rises as health falls, up to a maximum."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to


@pytree
class HealthLinearBonus:
    """A bonus that is linear in health between a minimum at health 1 and a maximum below.

    `h <= h_max`: `b = b_max`; `h > h_max`: `b = m + (b_max - m) (1 - h) / (1 - h_max)` with
    `m = minimum_share * b_max`. Health above 1 counts as 1.

    Source: Aave v4 LiquidationLogic `calculateLiquidationBonus`.

    Attributes:
        maximum_bonus: `b_max`, discount granted at or below `health_for_maximum`, as a fraction of
            debt repaid.
        minimum_share: share of `b_max` granted at health 1, in [0, 1].
        health_for_maximum: `h_max`, health factor at or below which the maximum is granted, < 1.
    """

    maximum_bonus: Float[Array, "*account"]
    minimum_share: Float[Array, "*account"]
    health_for_maximum: Float[Array, "*account"]

    def bonus(
        self,
        health: Float[Array, " account"],
        *,
        unit: Float[Array, ""] | None = None,
    ) -> Float[Array, " account"]:
        """Return the bonus at `health`, `(account,)`.

        Args:
            health: backing over debt; infinite where nothing is owed.
            unit: the bonus and its minimum are rounded down to multiples of it (basis points in
                the contract); `None` for real values.
        """
        least = floor_to(self.minimum_share * self.maximum_bonus, unit)
        # Clipped before it is divided, so that an infinite health leaves no NaN in derivatives.
        capped = smaller(health, jnp.ones_like(health))
        depth = (1.0 - capped) / positive_or_one(1.0 - self.health_for_maximum)
        between = least + floor_to((self.maximum_bonus - least) * depth, unit)
        return jnp.where(health <= self.health_for_maximum, self.maximum_bonus, between)
