"""A liquidation bonus that rises as health falls, up to a maximum."""

import dataclasses
from typing import Self

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to
from jaxrisk.venue.incentive import FeeByAsset, PerAccount


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


@pytree
class AssetHealthBonus(FeeByAsset):
    """A bonus per risk category and collateral asset that rises as the account's health falls.

    Attributes:
        maximum_bonus: `(category, collateral_asset)` fraction of debt repaid at or below
            `health_for_maximum`.
        minimum_share: share of it granted at health 1, in [0, 1].
        health_for_maximum: health factor at or below which the maximum is granted, < 1.
        fee_share: `(collateral_asset,)` protocol's share of the bonus.
    """

    maximum_bonus: Float[Array, "category collateral_asset"]
    minimum_share: Float[Array, ""]
    health_for_maximum: Float[Array, ""]
    fee_share: Float[Array, " collateral_asset"]

    def credit(
        self, category: int, backing: PerAccount, debt: PerAccount, collateral: PerAccount
    ) -> Float[Array, "collateral_asset account"]:
        """Return 1 + bonus of each asset at each account's health."""
        del collateral
        rule = HealthLinearBonus(
            maximum_bonus=self.maximum_bonus[category][:, None],
            minimum_share=self.minimum_share,
            health_for_maximum=self.health_for_maximum,
        )
        return 1.0 + rule.bonus((backing / positive_or_one(debt))[None, :])

    def largest_credit(
        self, categories: int, held: int
    ) -> Float[Array, "category collateral_asset"]:
        """Return 1 + the maximum bonus."""
        del categories, held
        return 1.0 + self.maximum_bonus

    def scaled(self, factor: Float[Array, ""]) -> Self:
        """Return the incentive with its bonuses times `factor`."""
        return dataclasses.replace(self, maximum_bonus=self.maximum_bonus * factor)
