"""At what price the borrower is closed, and the protocol's share of it.

An incentive answers three questions: how much collateral value a unit of debt value takes
(`credit`), the most it can ever take (`largest_credit`), and which part the protocol keeps (`fee`).
"""

import dataclasses
from typing import Protocol, Self

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree

PerAccount = Float[Array, " account"]


class Incentive(Protocol):
    """What every kind of incentive answers."""

    def credit(
        self, category: int, backing: PerAccount, debt: PerAccount, collateral: PerAccount
    ) -> Float[Array, "#collateral_asset #account"]:
        """Return collateral value handed over per unit of debt value repaid (1 + bonus).

        Args:
            category: risk category of the accounts.
            backing: `(account,)` weighted collateral value.
            debt: `(account,)` debt value.
            collateral: `(account,)` collateral value.
        """
        ...

    def largest_credit(
        self, categories: int, held: int
    ) -> Float[Array, "category collateral_asset"]:
        """Return the most a unit of debt value can take, at any health.

        Args:
            categories: number of risk categories.
            held: number of collateral assets.
        """
        ...

    def fee(
        self, seized: Float[Array, " asset"], bonus_share: Float[Array, ""]
    ) -> Float[Array, " asset"]:
        """Return the part of `seized` that the protocol keeps, in its units.

        Args:
            seized: `(collateral_asset,)` amounts taken.
            bonus_share: part of the value taken that exceeds the debt repaid.
        """
        ...

    def mean_fee(self, seized: PerAccount, repaid: PerAccount) -> PerAccount:
        """Return the value the protocol keeps of calls, with the mean share over assets."""
        ...

    def scaled(self, factor: Float[Array, ""]) -> Self:
        """Return the incentive with its bonus times `factor`, for sensitivities."""
        ...


class WithoutFee:
    """What kinds share of which the protocol keeps nothing."""

    def fee(
        self, seized: Float[Array, " asset"], bonus_share: Float[Array, ""]
    ) -> Float[Array, " asset"]:
        """Return zero: the liquidator keeps all that is handed over."""
        del bonus_share
        return jnp.zeros_like(seized)

    def mean_fee(self, seized: PerAccount, repaid: PerAccount) -> PerAccount:
        """Return zero."""
        del repaid
        return jnp.zeros_like(seized)


class FeeByAsset:
    """What kinds share of which the protocol keeps a part of the bonus, by collateral asset.

    Attributes:
        fee_share: `(collateral_asset,)` protocol's share of the bonus, in [0, 1].
    """

    fee_share: Float[Array, " collateral_asset"]

    def fee(
        self, seized: Float[Array, " asset"], bonus_share: Float[Array, ""]
    ) -> Float[Array, " asset"]:
        """Return each asset's share of the bonus."""
        return seized * bonus_share * self.fee_share

    def mean_fee(self, seized: PerAccount, repaid: PerAccount) -> PerAccount:
        """Return the mean share of the bonus."""
        return jnp.mean(self.fee_share) * (seized - repaid)


@pytree
class OneBonus:
    """What kinds share that grant one bonus for all collateral at any health; they add the fee.

    Attributes:
        bonus: collateral handed over beyond the debt repaid, as a fraction of it.
    """

    bonus: Float[Array, ""]

    def credit(
        self, category: int, backing: PerAccount, debt: PerAccount, collateral: PerAccount
    ) -> Float[Array, "1 1"]:
        """Return 1 + bonus."""
        del category, backing, debt, collateral
        return 1.0 + self.bonus[None, None]

    def largest_credit(
        self, categories: int, held: int
    ) -> Float[Array, "category collateral_asset"]:
        """Return 1 + bonus."""
        return jnp.broadcast_to(1.0 + self.bonus[None, None], (categories, held))

    def scaled(self, factor: Float[Array, ""]) -> Self:
        """Return the incentive with its bonus times `factor`; a fee stays as it is."""
        return dataclasses.replace(self, bonus=self.bonus * factor)


@pytree
class UniformBonus(OneBonus):
    """One bonus for all collateral, of which the protocol keeps a share.

    Attributes:
        bonus: discount granted to the liquidator, as a fraction of debt repaid.
        fee_share: protocol's share of the bonus, in [0, 1].
    """

    fee_share: Float[Array, ""]

    def fee(
        self, seized: Float[Array, " asset"], bonus_share: Float[Array, ""]
    ) -> Float[Array, " asset"]:
        """Return the protocol's share of the bonus."""
        return seized * (bonus_share * self.fee_share)

    def mean_fee(self, seized: PerAccount, repaid: PerAccount) -> PerAccount:
        """Return the protocol's share of the bonus."""
        return self.fee_share * (seized - repaid)


@pytree
class AssetBonus(FeeByAsset):
    """A bonus per risk category and collateral asset.

    Attributes:
        bonus: `(category, collateral_asset)` fraction of debt repaid.
        fee_share: `(collateral_asset,)` protocol's share of the bonus.
    """

    bonus: Float[Array, "category collateral_asset"]
    fee_share: Float[Array, " collateral_asset"]

    def credit(
        self, category: int, backing: PerAccount, debt: PerAccount, collateral: PerAccount
    ) -> Float[Array, "collateral_asset 1"]:
        """Return 1 + bonus of each asset in the category."""
        del backing, debt, collateral
        return 1.0 + self.bonus[category][:, None]

    def largest_credit(
        self, categories: int, held: int
    ) -> Float[Array, "category collateral_asset"]:
        """Return 1 + bonus."""
        del categories, held
        return 1.0 + self.bonus

    def scaled(self, factor: Float[Array, ""]) -> Self:
        """Return the incentive with its bonuses times `factor`."""
        return dataclasses.replace(self, bonus=self.bonus * factor)


@pytree
class SeizureFeeBonus(OneBonus):
    """One bonus for all collateral, of which the protocol keeps a share of all that is seized.

    Source: Compound v2 CToken `seizeInternal` (protocolSeizeShare).

    Attributes:
        bonus: collateral handed over beyond the debt repaid, as a fraction of it.
        seizure_fee: protocol's share of what is seized, in [0, 1).
    """

    seizure_fee: Float[Array, ""]

    def fee(
        self, seized: Float[Array, " asset"], bonus_share: Float[Array, ""]
    ) -> Float[Array, " asset"]:
        """Return the protocol's share of what is seized."""
        del bonus_share
        return seized * self.seizure_fee

    def mean_fee(self, seized: PerAccount, repaid: PerAccount) -> PerAccount:
        """Return the protocol's share of what is seized."""
        del repaid
        return seized * self.seizure_fee


def bonus_share(taken: Float[Array, "..."], given: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return the part of the value taken that exceeds the value given, 0 where there is none."""
    excess = jnp.where(taken > given, taken - given, jnp.zeros_like(taken))
    return excess / positive_or_one(taken)


def incentive_factor(
    loan_to_value: Float[Array, "..."], *, cursor: float, maximum: float
) -> Float[Array, "..."]:
    """Return `min(maximum, 1 / (1 - cursor * (1 - loan_to_value)))`: 1 + bonus.

    Source: Morpho Blue `liquidationIncentiveFactor` (cursor 0.3, maximum 1.15).
    """
    factor = 1.0 / (1.0 - cursor * (1.0 - loan_to_value))
    return smaller(factor, jnp.full_like(factor, maximum))
