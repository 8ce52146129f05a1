"""How much of an account may be closed in one call, and which calls are refused."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import gate, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to
from jaxrisk.venue.position import Position


@pytree
class FractionClose:
    """A fraction of the account's total debt, or everything when it is weak or small.

    The called debt may be closed whole if health is at most `full_below_health`, or if the called
    collateral or the called debt is worth less than `small_position`. Otherwise a call repays at
    most `fraction` of the account's *total* debt. A call that empties neither side must leave at
    least `minimum_leftover` on both, or it is refused.

    Source: Aave v3.3+ LiquidationLogic (close factor, MIN_BASE_MAX_CLOSE_FACTOR_THRESHOLD,
    MIN_LEFTOVER_BASE).

    Attributes:
        fraction: close factor in (0, 1].
        full_below_health: health factor at or below which everything may be closed.
        small_position: numeraire value below which everything may be closed.
        minimum_leftover: numeraire value that must remain on both sides of a partial call.
    """

    fraction: Float[Array, ""]
    full_below_health: Float[Array, ""]
    small_position: Float[Array, ""]
    minimum_leftover: Float[Array, ""]

    def allowance(
        self, position: Position, width: Float[Array, ""] | None
    ) -> Float[Array, " account"]:
        """Return the largest debt value one call may repay."""
        share_of_total = floor_to(self.fraction * position.total_debt, position.debt_unit)
        capped = smaller(position.debt, share_of_total)
        small = (position.collateral < self.small_position) | (
            position.debt < self.small_position
        )
        if width is None:
            strong = position.backing > self.full_below_health * position.total_debt
            return jnp.where(strong & ~small, capped, position.debt)
        strong = gate(
            position.backing - self.full_below_health * position.total_debt,
            position.total_debt,
            width,
        )
        mixed = position.debt + strong * (capped - position.debt)
        return jnp.where(small, position.debt, mixed)

    def refuses(
        self,
        position: Position,
        repaid: Float[Array, " account"],
        seized: Float[Array, " account"],
    ) -> Bool[Array, " account"]:
        """Return whether the call would leave dust on either side."""
        partial = (repaid < position.debt) & (seized < position.collateral)
        dust = (position.debt - repaid < self.minimum_leftover) | (
            position.collateral - seized < self.minimum_leftover
        )
        return partial & dust

    def without_dust(
        self, position: Position, repay: Float[Array, " account"]
    ) -> Float[Array, " account"]:
        """Return the request lowered, where needed, so that the call leaves no dust.

        Zero where no partial call is allowed at all.
        """
        whole = (repay >= position.debt) | (repay * position.credit >= position.collateral)
        debt_limit = position.debt - self.minimum_leftover
        collateral_limit = (position.collateral - self.minimum_leftover) / position.credit
        limit = smaller(debt_limit, collateral_limit)
        limit = jnp.where(limit > 0, limit, jnp.zeros_like(limit))
        return jnp.where(whole, repay, smaller(repay, limit))


@pytree
class FullClose:
    """Any amount up to everything; asking for more than the position holds is refused.

    Source: Morpho Blue `liquidate` (no close factor, no dust rule, no clamping).
    """

    def allowance(
        self, position: Position, width: Float[Array, ""] | None
    ) -> Float[Array, " account"]:
        """Return the largest debt value one call may repay."""
        del width
        return position.debt

    def refuses(
        self,
        position: Position,
        repaid: Float[Array, " account"],
        seized: Float[Array, " account"],
    ) -> Bool[Array, " account"]:
        """Return whether the call leaves dust: never."""
        del repaid, seized
        return jnp.zeros(position.debt.shape, bool)

    def without_dust(
        self, position: Position, repay: Float[Array, " account"]
    ) -> Float[Array, " account"]:
        """Return the request unchanged."""
        del position
        return repay


CloseRule = FractionClose | FullClose
