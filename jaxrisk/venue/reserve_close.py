"""A close factor on the called debt alone, whatever else the account owes."""

from typing import ClassVar

from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to
from jaxrisk.venue.close import part_of_strong, strength
from jaxrisk.venue.position import Position


@pytree
class ReserveFractionClose:
    """A fraction of the called debt, or all of it when health is weak; nothing guards from dust.

    A call repays at most `fraction` of the debt in the called asset, and all of it where health is
    at most `full_below_health`. Small positions have no rule of their own, and a call may leave
    any remainder on either side.

    Source: Aave v3.0 to v3.2 LiquidationLogic `_calculateDebt` (close factor rounded half up).

    Attributes:
        fraction: close factor in (0, 1].
        full_below_health: health factor at or below which all of the called debt may be closed.
    """

    fraction: Float[Array, ""]
    full_below_health: Float[Array, ""]
    whole: ClassVar[bool] = False

    def largest(
        self, position: Position, width: Float[Array, ""] | None
    ) -> Float[Array, " account"]:
        """Return the allowance: nothing else limits a call."""
        return self.allowance(position, width)

    def allowance(
        self, position: Position, width: Float[Array, ""] | None
    ) -> Float[Array, " account"]:
        """Return the largest debt value one call may repay, `(account,)`."""
        part = self.fraction * position.debt
        if position.debt_unit is not None:
            part = floor_to(part + 0.5 * position.debt_unit, position.debt_unit)
        strong = strength(position, self.full_below_health, width)
        return part_of_strong(strong, part, position.debt, width)

    def refuses(
        self,
        position: Position,
        repaid: Float[Array, " account"],
        seized: Float[Array, " account"],
    ) -> None:
        """Return `None`: no call is refused for what it leaves."""
        del position, repaid, seized
