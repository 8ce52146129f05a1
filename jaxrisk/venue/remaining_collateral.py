"""Whether a position would keep enough collateral if it were closed now."""

from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.pytree import pytree

Positions = Float[Array, "*position"]


class LiquidationReason(IntEnum):
    """Why a position may be liquidated; data, not an exception."""

    NONE = 0
    BELOW_MINIMUM = 1
    EXHAUSTED = 2
    BELOW_MARGIN = 3


@pytree
class ClosingTest:
    """The result of the test; every leaf is `(*position,)`.

    Attributes:
        remaining: collateral after profit, impact and fees, numeraire.
        margin: least of it for the position's size, numeraire.
        reason: `LiquidationReason` numbers.
    """

    remaining: Positions
    margin: Positions
    reason: Int[Array, "*position"]


@pytree
class RemainingCollateral:
    """A position may be liquidated if closing it would leave too little collateral.

    `remaining = collateral + profit + impact - fees`; too little is less than `minimum` where that
    is tested, nothing or less, or less than `margin_rate x size`. Impact counts only where it is
    negative, and at most `impact_cap x size` of it: a crowded market does not liquidate itself.

    Source: GMX v2, PositionUtils `isPositionLiquidatable`.

    Attributes:
        minimum: least collateral of any position, numeraire (MIN_COLLATERAL_USD).
        margin_rate: least collateral as a fraction of size (minCollateralFactor).
        impact_cap: largest loss by impact as a fraction of size.
    """

    minimum: Positions
    margin_rate: Positions
    impact_cap: Positions

    def test(
        self,
        size: Positions,
        *,
        collateral: Positions,
        profit: Positions,
        impact: Positions,
        fees: Positions,
        with_minimum: Bool[Array, "*position"],
    ) -> ClosingTest:
        """Return what remains, and why the position may be liquidated.

        Args:
            size: of the positions, numeraire.
            collateral: at its lower price, numeraire.
            profit: as it would be paid, numeraire.
            impact: of closing, with what is still due from opening, numeraire.
            fees: of closing, without the liquidation fee, numeraire.
            with_minimum: whether the least collateral of any position is tested.
        """
        floor = -self.impact_cap * size
        loss = jnp.where(impact < floor, floor, impact)
        loss = jnp.where(impact < 0, loss, jnp.zeros_like(loss))
        remaining = collateral + profit + loss - fees
        margin = self.margin_rate * size
        number = lambda reason: jnp.asarray(reason.value, jnp.int32)
        below = jnp.where(
            remaining < margin,
            number(LiquidationReason.BELOW_MARGIN),
            number(LiquidationReason.NONE),
        )
        reason = jnp.where(remaining <= 0, number(LiquidationReason.EXHAUSTED), below)
        least = with_minimum & (remaining < self.minimum)
        reason = jnp.where(least, number(LiquidationReason.BELOW_MINIMUM), reason)
        return ClosingTest(remaining=remaining, margin=margin, reason=reason)


def pending_impact(amount: Positions, low: Positions, high: Positions) -> Positions:
    """Return impact of opening that is settled at closing, at the price that favours the pool.

    Source: GMX v2, PositionUtils `isPositionLiquidatable` (pendingImpactAmount).

    Args:
        amount: units of the index, negative where the trader owes.
        low: lower price of the index.
        high: higher price of the index.
    """
    return amount * jnp.where(amount > 0, low, high)
