"""How much of an account may be closed in one call, and which calls are refused."""

from typing import ClassVar, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import gate, positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to
from jaxrisk.venue.position import Position


class CloseRule(Protocol):
    """What every kind of close answers."""

    whole: ClassVar[bool]
    """Whether a call takes the whole account and returns to the borrower what is left over."""

    def largest(
        self, position: Position, width: Float[Array, ""] | None
    ) -> Float[Array, " account"]:
        """Return the largest repayment that is not refused, numeraire; 0 where there is none.

        Whether the collateral pays for it is not its concern.

        Args:
            position: accounts under call; those that may not be called count too.
            width: of the smooth twin of the rule; `None` for the exact one.
        """
        ...


class WholeRule(CloseRule, Protocol):
    """What a close of whole accounts answers besides."""

    def charge(
        self, position: Position, surplus: Float[Array, " account"]
    ) -> Float[Array, " account"]:
        """Return what the protocol gets of the surplus; the borrower gets the rest.

        Args:
            position: accounts under call.
            surplus: `(account,)` what is paid for the account beyond its debt.
        """
        ...


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
        small_position: numeraire value below which everything may be closed; `None` for no such
            rule.
        minimum_leftover: numeraire value that must remain on both sides of a partial call; `None`
            for no such rule.
    """

    fraction: Float[Array, ""]
    full_below_health: Float[Array, ""]
    small_position: Float[Array, ""] | None
    minimum_leftover: Float[Array, ""] | None
    whole: ClassVar[bool] = False

    def largest(
        self, position: Position, width: Float[Array, ""] | None
    ) -> Float[Array, " account"]:
        """Return the allowance, lowered where needed so that a call leaves no dust."""
        return self.without_dust(position, self.allowance(position, width))

    def allowance(
        self, position: Position, width: Float[Array, ""] | None
    ) -> Float[Array, " account"]:
        """Return the largest debt value one call may repay."""
        share_of_total = floor_to(self.fraction * position.total_debt, position.debt_unit)
        capped = smaller(position.debt, share_of_total)
        strong = strength(position, self.full_below_health, width)
        if self.small_position is not None:
            large = (position.collateral >= self.small_position) & (
                position.debt >= self.small_position
            )
            strong = jnp.where(large, strong, jnp.zeros_like(strong))
        return part_of_strong(strong, capped, position.debt, width)

    def refuses(
        self,
        position: Position,
        repaid: Float[Array, " account"],
        seized: Float[Array, " account"],
    ) -> Bool[Array, " account"] | None:
        """Return whether the call would leave dust on either side; `None` without such a rule."""
        if self.minimum_leftover is None:
            return None
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
        if self.minimum_leftover is None:
            return repay
        affordable = position.affordable
        whole = (repay >= position.debt) | (repay >= affordable)
        # A little below the exact limit: what is left is computed again as a difference.
        less = 1.0 - 8.0 * jnp.finfo(repay.dtype).eps
        debt_limit = less * position.debt - self.minimum_leftover
        collateral_limit = less * position.collateral - self.minimum_leftover
        collateral_limit = collateral_limit * (affordable / positive_or_one(position.collateral))
        limit = smaller(debt_limit, collateral_limit)
        limit = jnp.where(limit > 0, limit, jnp.zeros_like(limit))
        return jnp.where(whole, repay, smaller(repay, limit))


def strength(
    position: Position, health: Float[Array, ""], width: Float[Array, ""] | None
) -> Float[Array, " account"]:
    """Return 1 for accounts above a health, 0 for the others, with a width something between."""
    return gate(position.backing - health * position.total_debt, position.total_debt, width)


def part_of_strong(
    strong: Float[Array, " account"],
    part: Float[Array, " account"],
    debt: Float[Array, " account"],
    width: Float[Array, ""] | None,
) -> Float[Array, " account"]:
    """Return a part of the debt of strong accounts, and all of it of the others."""
    if width is None:
        return jnp.where(strong > 0, part, debt)
    return debt + strong * (part - debt)


@pytree
class FullClose:
    """Any amount up to everything, in one call.

    Source: Morpho Blue `liquidate` (no close factor, no dust rule). The contract refuses to be
    asked for more than the position holds (`exact_call`); keepers here never ask for more.
    """

    whole: ClassVar[bool] = False

    def largest(
        self, position: Position, width: Float[Array, ""] | None
    ) -> Float[Array, " account"]:
        """Return all of the called debt."""
        del width
        return position.debt

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
    ) -> None:
        """Return `None`: no call leaves dust."""
        del position, repaid, seized


class Allowance(Protocol):
    """A close rule that lowers an offer to what it allows, and may refuse what that leaves."""

    def allowance(
        self, position: Position, width: Float[Array, ""] | None
    ) -> Float[Array, " account"]:
        """Return the largest debt value one call may repay."""
        ...

    def refuses(
        self,
        position: Position,
        repaid: Float[Array, " account"],
        seized: Float[Array, " account"],
    ) -> Bool[Array, " account"] | None:
        """Return whether a call is refused for what it would leave; `None` if never."""
        ...
