"""Whole-account absorption: the protocol takes all collateral and extinguishes all debt at once.

No liquidator repays. Every collateral is credited at a stated share of its value; what the credit
exceeds the debt by is the borrower's, what it falls short by is the reserves' loss.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to
from jaxrisk.venue.settlement import Refusal, Settlement, first_reason, settled


@pytree
class Absorption:
    """When an account is absorbed, and what its collateral is credited at.

    Source: Compound III, Comet `isLiquidatable` and `absorbInternal`.

    Attributes:
        liquidation_threshold: `(collateral_asset, account)` weight that keeps an account from
            absorption (liquidateCollateralFactor).
        liquidation_factor: `(collateral_asset, account)` share of its value that collateral is
            credited at (liquidationFactor).
    """

    liquidation_threshold: Float[Array, "collateral_asset #account"]
    liquidation_factor: Float[Array, "collateral_asset #account"]

    def absorb(
        self,
        collateral: Float[Array, "collateral_asset account"],
        debt: Float[Array, " account"],
        *,
        value_unit: Float[Array, ""] | None = None,
        debt_unit: Float[Array, " account"] | None = None,
    ) -> Settlement:
        """Return the absorption of whole accounts.

        `credit = sum LF_c C_c`; `repaid = min(credit, D)`, `refund = credit - repaid`,
        `bad_debt = D - repaid`, `seized = sum C_c`, `fee = seized - credit`. Hence
        `seized = repaid + refund + fee` and `D = repaid + bad_debt`. The fee is inventory at
        today's price, not income: it first makes good `bad_debt`, and its worth is what the
        inventory sells for.

        Args:
            collateral: value of each collateral posted, numeraire.
            debt: value owed, numeraire.
            value_unit: smallest value the contract computes with; `None` for real values.
            debt_unit: value of the smallest unit of the debt; `None` for real amounts.
        """
        held = floor_to(collateral, value_unit)
        surplus = backing_surplus(held, self.liquidation_threshold, debt, value_unit=value_unit)
        credit = jnp.sum(floor_to(held * self.liquidation_factor, value_unit), axis=0)
        credit = floor_to(credit, debt_unit)
        seized = jnp.sum(held, axis=0)
        repaid = smaller(credit, debt)
        return settled(
            first_reason((surplus >= 0, Refusal.HEALTHY)),
            repaid=repaid,
            seized=seized,
            fee=seized - credit,
            refund=credit - repaid,
            bad_debt=debt - repaid,
        )


def backing_surplus(
    collateral: Float[Array, "collateral_asset account"],
    weight: Float[Array, "collateral_asset #account"],
    debt: Float[Array, " account"],
    *,
    value_unit: Float[Array, ""] | None = None,
) -> Float[Array, " account"]:
    """Return weighted collateral less debt, in the numeraire.

    With borrow factors as weights an account may borrow while it is not negative; with
    liquidation factors it is absorbed once it is.

    Source: Compound III, Comet `isBorrowCollateralized` and `isLiquidatable`.
    """
    backing = floor_to(floor_to(collateral, value_unit) * weight, value_unit)
    return jnp.sum(backing, axis=0) - floor_to(debt, value_unit)


def reserves_paid(absorbed: Settlement) -> Float[Array, " account"]:
    """Return by how much claims on the reserves grow in an absorption: max(debt, credit).

    The reserves fall by it at once, and hold the seized collateral in exchange.
    """
    return absorbed.repaid + absorbed.bad_debt + absorbed.refund
