"""A vault drawn down to its level by a crowd of keepers, account by account.

A call on a vault draws its riskiest accounts down together. Keepers who call as long as anyone
stands above the liquidation threshold end where every account above it has been drawn down to it,
and that is a rule of each account alone: no level need be found.
"""

import dataclasses
from typing import ClassVar, Self

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.incentive import PerAccount, WithoutFee
from jaxrisk.venue.position import Position


@pytree
class LevelClose:
    """Close down to the liquidation threshold; accounts above another are taken over whole.

    With threshold `r = backing / C` and credit `c` an account repays `(D - r C) / (1 - c r)`. An
    account with `D > absorption_threshold C` is taken over by the vault, and all that is taken over
    at once is sold together, debt for collateral, if the collateral is worth more than the debt.
    While it is not, it stays as it is: nobody buys, and whoever governs the vault has the loss.

    Where everything goes through, that is `WaterLevel.call` with an unlimited offer and thresholds
    not rounded to ticks. Where markets cannot take everything, the rule shares what goes through
    among all accounts above the threshold, and the contract takes the riskiest first.

    Source: Fluid vault (T1) `_liquidate`, `absorb`.

    Attributes:
        absorption_threshold: debt value per collateral value above which accounts are taken over.
    """

    absorption_threshold: Float[Array, ""]
    whole: ClassVar[bool] = False

    def largest(
        self, position: Position, width: Float[Array, ""] | None
    ) -> Float[Array, " account"]:
        """Return the repayment that draws each account down, or all where it is taken over."""
        del width
        debt, collateral = position.debt, position.collateral
        nothing = jnp.zeros_like(debt)
        excess = debt - position.backing
        gained = 1.0 - position.credit * (position.backing / positive_or_one(collateral))
        drawn = jnp.where(excess > 0, excess, nothing) / positive_or_one(gained)
        absorbed = debt > self.absorption_threshold * collateral
        total = lambda value: jnp.sum(jnp.where(absorbed, value, nothing))
        sold = total(collateral) > total(debt)
        return jnp.where(absorbed, jnp.where(sold, debt, nothing), drawn)


@pytree
class LevelBonus(WithoutFee):
    """A penalty for accounts that are drawn down; those taken over are sold debt for collateral.

    Attributes:
        penalty: collateral value handed over beyond the debt repaid, as a fraction of it.
        absorption_threshold: debt value per collateral value above which accounts are taken over.
    """

    penalty: Float[Array, ""]
    absorption_threshold: Float[Array, ""]

    def credit(
        self, category: int, backing: PerAccount, debt: PerAccount, collateral: PerAccount
    ) -> Float[Array, "1 account"]:
        """Return collateral value per unit of debt of each account."""
        del category, backing
        absorbed = (debt > self.absorption_threshold * collateral) & (collateral > 0)
        own = jnp.where(absorbed, collateral, debt) / positive_or_one(debt)
        return jnp.where(absorbed, own, 1.0 + self.penalty)[None, :]

    def largest_credit(
        self, categories: int, held: int
    ) -> Float[Array, "category collateral_asset"]:
        """Return the larger of 1 + penalty and what an account at the upper threshold brings."""
        largest = jnp.maximum(1.0 + self.penalty, 1.0 / self.absorption_threshold)
        return jnp.broadcast_to(largest[None, None], (categories, held))

    def scaled(self, factor: Float[Array, ""]) -> Self:
        """Return the incentive with its penalty times `factor`."""
        return dataclasses.replace(self, penalty=self.penalty * factor)
