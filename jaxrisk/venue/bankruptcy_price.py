"""At what price closing a block of positions uses up its share of equity, and what follows.

A block is all or part of one position. Its closing brings a signed amount of the numeraire: what a
long's sale brings, less what a short's purchase costs.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree

Blocks = Float[Array, "*block"]


def liquidatable(equity: Blocks, requirement: Blocks) -> Bool[Array, "*block"]:
    """Return whether an account may be liquidated: it has a requirement, and less equity than that.

    Source: dYdX v4, lib/margin `IsLiquidatable`.
    """
    return (requirement > 0) & (requirement > equity)


def bankruptcy_value(
    value: Blocks, requirement: Blocks, *, equity: Blocks, total_requirement: Blocks
) -> Blocks:
    """Return what closing a block must bring so that its share of equity is gone: `V - E r / R`.

    Equity is split among positions in proportion to their maintenance margin. If every position is
    closed at this value, the account ends with exactly nothing.

    Source: dYdX v4, clob/keeper/liquidations.go `GetBankruptcyPriceInQuoteQuantums`.

    Args:
        value: signed notional of the block at the oracle's price, negative for a short.
        requirement: maintenance margin that closing the block frees, >= 0.
        equity: of the account, may be negative.
        total_requirement: maintenance margin of the account, positive.
    """
    return value - equity * requirement / positive_or_one(total_requirement)


@pytree
class FillablePrice:
    """The worst price a liquidation may be filled at: from the oracle's towards bankruptcy.

    `(V - b spread r) / q` with `b = clip(adjustment (1 - E / R), 0, 1)`: zero when the account has
    just become liquidatable, 1 when it has nothing left.

    Source: dYdX v4, clob/keeper/liquidations.go `GetFillablePrice`.

    Attributes:
        adjustment: how fast the price gives way, >= 1 (bankruptcyAdjustment).
        spread: largest concession as a multiple of maintenance margin
            (spreadToMaintenanceMarginRatio).
    """

    adjustment: Blocks
    spread: Blocks

    def price(
        self,
        size: Blocks,
        price: Blocks,
        requirement: Blocks,
        *,
        equity: Blocks,
        total_requirement: Blocks,
    ) -> Blocks:
        """Return the price per unit.

        Args:
            size: signed size of the whole position.
            price: of the oracle.
            requirement: maintenance margin of the whole position.
            equity: of the account.
            total_requirement: maintenance margin of the account, positive.
        """
        health = equity / positive_or_one(total_requirement)
        given = jnp.clip(self.adjustment * (1.0 - health), 0.0, 1.0)
        safe = jnp.where(size != 0, size, jnp.ones_like(size))
        return price - given * self.spread * requirement / safe


def insurance_change(proceeds: Blocks, bankruptcy: Blocks, maximum_fee: Blocks) -> Blocks:
    """Return what the insurance fund gets from a fill, negative where it pays.

    What a fill brings beyond bankruptcy is taken as the liquidation fee, up to `maximum_fee` of
    what is traded; what it lacks the fund adds.

    Source: dYdX v4, clob/keeper/liquidations.go `GetLiquidationInsuranceFundDelta`.

    Args:
        proceeds: signed amount the fill brings, negative for a purchase.
        bankruptcy: see `bankruptcy_value`.
        maximum_fee: fraction of the traded amount.
    """
    beyond = proceeds - bankruptcy
    return jnp.where(beyond > 0, smaller(beyond, maximum_fee * jnp.abs(proceeds)), beyond)


@pytree
class BlockLimits:
    """How much of a position, and of an account, may be liquidated at a time.

    A position may lose `max(min(minimum, N), portion x N)`, an account `account` in total.

    Source: dYdX v4, clob/keeper/liquidations.go `GetMaxAndMinPositionNotionalLiquidatable`,
    `GetSubaccountMaxNotionalLiquidatable`, `GetSubaccountMaxInsuranceLost`.

    Attributes:
        portion: of a position's notional, in (0, 1].
        minimum: notional that may always be liquidated, numeraire.
        account: notional of an account, numeraire.
        insurance: most an account may cost the insurance fund, numeraire.
    """

    portion: Blocks
    minimum: Blocks
    account: Blocks
    insurance: Blocks

    def largest(self, notional: Blocks, already: Blocks) -> Blocks:
        """Return the notional that may be liquidated now.

        Args:
            notional: of the position, >= 0.
            already: liquidated of the account at this time, numeraire.
        """
        of_position = jnp.maximum(smaller(self.minimum, notional), self.portion * notional)
        left = self.account - already
        left = jnp.where(left > 0, left, jnp.zeros_like(left))
        return smaller(smaller(of_position, left), notional)

    def covered(self, loss: Blocks, already: Blocks) -> Bool[Array, "*block"]:
        """Return whether the insurance fund may take a further loss of this account now.

        Args:
            loss: it would take, >= 0.
            already: taken at this time, numeraire.
        """
        return already + loss <= self.insurance
