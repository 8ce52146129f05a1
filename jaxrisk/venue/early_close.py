"""Early calls: a band below the threshold in which an account may be closed a little."""

import dataclasses
from typing import ClassVar, Self

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import ceil_to, floor_to
from jaxrisk.venue.call import exact_call
from jaxrisk.venue.incentive import PerAccount, WithoutFee
from jaxrisk.venue.position import Position
from jaxrisk.venue.settlement import Refusal, Settlement, settled


@pytree
class EarlyClose:
    """Close factor and incentive that rise linearly in loan-to-value across a band.

    With `theta = (LTV - lower) / (upper - lower)`, calls are allowed for `lower < LTV <= upper`; a
    call repays at most `close_factor = CF1 + theta (CF2 - CF1)` of the debt and is paid
    `credit = I1 + theta (I2 - I1)` of collateral value per unit of debt. Linear in loan-to-value,
    not in health. Above `upper` the market's own liquidation applies.

    Source: Morpho PreLiquidation `preLiquidate`.

    Attributes:
        lower: loan-to-value above which calls are allowed.
        upper: loan-to-value up to which they are: the liquidation threshold of the market.
        close_factor_lower: share of the debt one call may repay at `lower`.
        close_factor_upper: the same at `upper`; may exceed 1.
        credit_lower: collateral value handed over per unit of debt repaid at `lower`, 1 + bonus.
        credit_upper: the same at `upper`.
    """

    lower: Float[Array, "*account"]
    upper: Float[Array, "*account"]
    close_factor_lower: Float[Array, "*account"]
    close_factor_upper: Float[Array, "*account"]
    credit_lower: Float[Array, "*account"]
    credit_upper: Float[Array, "*account"]

    def progress(
        self, collateral: Float[Array, " account"], debt: Float[Array, " account"]
    ) -> Float[Array, " account"]:
        """Return theta in [0, 1]: where in the band an account stands."""
        loan_to_value = debt / positive_or_one(collateral)
        return jnp.clip((loan_to_value - self.lower) / (self.upper - self.lower), 0.0, 1.0)

    def close_factor(self, progress: Float[Array, " account"]) -> Float[Array, " account"]:
        """Return the share of the debt one call may repay."""
        rise = self.close_factor_upper - self.close_factor_lower
        return self.close_factor_lower + progress * rise

    def credit(self, progress: Float[Array, " account"]) -> Float[Array, " account"]:
        """Return the collateral value handed over per unit of debt value repaid."""
        return self.credit_lower + progress * (self.credit_upper - self.credit_lower)


def early_call(
    rule: EarlyClose,
    collateral: Float[Array, " account"],
    debt: Float[Array, " account"],
    repay: Float[Array, " account"],
    seize: Float[Array, " account"],
    *,
    collateral_unit: Float[Array, " account"] | None = None,
    debt_unit: Float[Array, " account"] | None = None,
) -> Settlement:
    """Return the call of a liquidator who names exactly one amount, and why it is refused.

    Args:
        rule: band, close factors and incentives.
        collateral: value of the account's collateral.
        debt: value of its debt.
        repay: debt value offered; zero where `seize` is named.
        seize: collateral value asked for; zero where `repay` is named.
        collateral_unit: value of the smallest unit of collateral; `None` for real amounts.
        debt_unit: value of the smallest unit of debt; `None` for real amounts.

    Nothing is lowered: an offer above the allowance, or above what the account holds, is refused.
    """
    owed = ceil_to(debt, debt_unit)
    quoted = floor_to(collateral, debt_unit)
    progress = rule.progress(quoted, owed)
    position = Position(
        collateral=collateral,
        debt=debt,
        total_collateral=collateral,
        total_debt=owed,
        backing=floor_to(quoted * rule.lower, debt_unit),
        credit=rule.credit(progress),
        fee_share=jnp.zeros_like(debt),
        collateral_unit=collateral_unit,
        debt_unit=debt_unit,
    )
    call, refusal = exact_call(position, repay, seize)
    # An offer by repayment counts as it is made; the amount paid for it is rounded up.
    offered = jnp.where(seize > 0, call.repaid, repay)
    too_large = offered > rule.close_factor(progress) * debt
    refusal = jnp.where(
        too_large & (refusal != Refusal.HEALTHY), Refusal.EXCEEDS_ALLOWANCE, refusal
    )
    above = owed > floor_to(quoted * rule.upper, debt_unit)
    refusal = jnp.where(above, Refusal.ABOVE_BAND, refusal)
    return settled(refusal, repaid=call.repaid, seized=call.seized, fee=call.fee)


@pytree
class EarlyThenFullClose:
    """A part within the band, everything above it.

    The threshold that a venue's accounts stand under is then the lower end of the band.

    Source: Morpho PreLiquidation `preLiquidate`, Morpho Blue `liquidate`.

    Attributes:
        band: where and how much early calls may repay.
    """

    band: EarlyClose
    whole: ClassVar[bool] = False

    def largest(
        self, position: Position, width: Float[Array, ""] | None
    ) -> Float[Array, " account"]:
        """Return the largest repayment."""
        del width
        collateral, debt = position.collateral, position.debt
        factor = self.band.close_factor(self.band.progress(collateral, debt))
        part = smaller(factor * debt, debt)
        return jnp.where(debt > self.band.upper * collateral, debt, part)


@pytree
class EarlyThenFullBonus(WithoutFee):
    """The credit of the band within it, and the market's own above it.

    Attributes:
        band: credits of early calls.
        bonus: of calls above the band, as a fraction of debt repaid.
    """

    band: EarlyClose
    bonus: Float[Array, ""]

    def credit(
        self, category: int, backing: PerAccount, debt: PerAccount, collateral: PerAccount
    ) -> Float[Array, "1 account"]:
        """Return collateral value per unit of debt of each account."""
        del category, backing
        early = self.band.credit(self.band.progress(collateral, debt))
        return jnp.where(debt > self.band.upper * collateral, 1.0 + self.bonus, early)[None, :]

    def largest_credit(
        self, categories: int, held: int
    ) -> Float[Array, "category collateral_asset"]:
        """Return the largest of the credits."""
        early = jnp.maximum(self.band.credit_lower, self.band.credit_upper)
        largest = jnp.maximum(early, 1.0 + self.bonus)
        return jnp.broadcast_to(largest[None, None], (categories, held))

    def scaled(self, factor: Float[Array, ""]) -> Self:
        """Return the incentive with all its bonuses times `factor`."""
        scaled = lambda credit: 1.0 + (credit - 1.0) * factor
        band = dataclasses.replace(
            self.band,
            credit_lower=scaled(self.band.credit_lower),
            credit_upper=scaled(self.band.credit_upper),
        )
        return dataclasses.replace(self, band=band, bonus=self.bonus * factor)
