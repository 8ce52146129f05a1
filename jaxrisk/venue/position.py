"""What a liquidation call looks at: one account, one collateral, one debt."""

from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import ceil_to, floor_to


@pytree
class Position:
    """Values of accounts under call, in the numeraire; every leaf is `(account,)`.

    A pro-rata call treats the whole account as one pair: then `collateral == total_collateral` and
    `debt == total_debt`.

    Attributes:
        collateral: value of the collateral that is called.
        debt: value of the debt that is called.
        total_collateral: value of all collateral of the account.
        total_debt: value of all debt of the account.
        backing: threshold-weighted value of all collateral.
        called_backing: part of `backing` that the called collateral gives; `None` for all of it.
        credit: collateral value handed over per unit of debt value repaid (1 + bonus).
        fee_share: protocol's share of the bonus; `None` for no fee.
        redeemable: debt value that all of the called collateral pays for, `collateral / credit`,
            where it is known without the division; `None` to divide.
        collateral_unit: value of the smallest unit of the collateral; `None` for real amounts.
        debt_unit: value of the smallest unit of the debt; `None` for real amounts.
    """

    collateral: Float[Array, " account"]
    debt: Float[Array, " account"]
    total_collateral: Float[Array, " account"]
    total_debt: Float[Array, " account"]
    backing: Float[Array, " account"]
    credit: Float[Array, "*account"]
    fee_share: Float[Array, "*account"] | None = None
    redeemable: Float[Array, " account"] | None = None
    called_backing: Float[Array, " account"] | None = None
    collateral_unit: Float[Array, " account"] | None = None
    debt_unit: Float[Array, " account"] | None = None

    @property
    def affordable(self) -> Float[Array, " account"]:
        """Debt value that all of the called collateral pays for, in whole units of the debt."""
        if self.redeemable is not None:
            return self.redeemable
        return ceil_to(floor_to(self.collateral, self.debt_unit) / self.credit, self.debt_unit)
