"""What a liquidation call looks at: one account, one collateral, one debt."""

from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree


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
        credit: collateral value handed over per unit of debt value repaid (1 + bonus).
        fee_share: protocol's share of the bonus.
        collateral_unit: value of the smallest unit of the collateral; `None` for real amounts.
        debt_unit: value of the smallest unit of the debt; `None` for real amounts.
    """

    collateral: Float[Array, " account"]
    debt: Float[Array, " account"]
    total_collateral: Float[Array, " account"]
    total_debt: Float[Array, " account"]
    backing: Float[Array, " account"]
    credit: Float[Array, "*account"]
    fee_share: Float[Array, "*account"]
    collateral_unit: Float[Array, " account"] | None = None
    debt_unit: Float[Array, " account"] | None = None
