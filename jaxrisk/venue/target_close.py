"""Closing an account down to a target loan to value, or whole where that leaves too little."""

import dataclasses
from typing import ClassVar, Self

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import ceil_to, floor_to
from jaxrisk.venue.incentive import PerAccount, WithoutFee
from jaxrisk.venue.position import Position
from jaxrisk.venue.settlement import Refusal, Settlement, first_reason, settled


@pytree
class Limit:
    """The largest repayment of each account, in the numeraire; every leaf is `(account,)`.

    Attributes:
        repaid: debt value a call may repay.
        seized: collateral value it then takes.
        whole: whether a call must close all of the debt.
    """

    repaid: Float[Array, " account"]
    seized: Float[Array, " account"]
    whole: Bool[Array, " account"]


@pytree
class TargetClose:
    """Repay as much as brings the loan to value down to a target, and no more.

    An account may be called while its debt exceeds its backing. With credit `1 + fee` the target
    `t` is reached at `x = (D - t C) / (1 - t credit)`. A call must close *all* of the debt if `x`
    exceeds `whole_above` of it, if the target is zero, or if no partial call reaches it. An account
    whose debt is worth its collateral or more may be called for any amount.

    Source: Silo v2, PartialLiquidationLib `liquidationPreview` and `estimateMaxRepayValue`,
    PartialLiquidationExecLib `liquidationPreview`, PartialLiquidation `liquidationCall`.

    Attributes:
        target: `(account,)` or `()` loan to value after a call (liquidationTargetLtv).
        whole_above: `(account,)` or `()` share of the debt above which a call must close all of it.
    """

    target: Float[Array, "*account"]
    whole_above: Float[Array, "*account"]
    whole: ClassVar[bool] = False

    def largest(
        self, position: Position, width: Float[Array, ""] | None
    ) -> Float[Array, " account"]:
        """Return the largest repayment: that of `limit`, or all where debt exceeds collateral."""
        del width
        return self.limit(position).repaid

    def limit(self, position: Position, *, value_unit: Float[Array, ""] | None = None) -> Limit:
        """Return the largest call, whether or not the account may be called.

        Args:
            position: accounts; `credit` is 1 + the liquidation fee.
            value_unit: smallest value the contract computes with; `None` for real values.
        """
        debt, target = position.debt, jnp.broadcast_to(self.target, position.debt.shape)
        excess = debt - target * position.collateral
        room = 1.0 - target * position.credit
        partial = floor_to(excess / positive_or_one(room), value_unit)
        whole = (debt >= position.collateral) | (target <= 0)
        reachable = (room > 0) & (partial <= self.whole_above * debt)
        # A debt below the target needs no call: unless one has to be whole, none is allowed.
        whole = (whole | ((excess > 0) & ~reachable)) & (debt > 0)
        within = jnp.where(excess > 0, partial, jnp.zeros_like(partial))
        value = jnp.where(whole, debt, within)
        # Where all is repaid, nothing is lost to the units of the debt.
        repaid = jnp.where(whole, debt, floor_to(value, position.debt_unit))
        return Limit(repaid=repaid, seized=_seized(position, value, value_unit), whole=whole)

    def preview(
        self,
        position: Position,
        request: Float[Array, " account"],
        *,
        value_unit: Float[Array, ""] | None = None,
    ) -> Settlement:
        """Return what a call would do if the liquidator paid whatever it takes.

        `repaid` exceeds `request` where the debt must be closed whole. Where there is no
        collateral at all, the preview repays and takes nothing.

        Args:
            position: accounts under call.
            request: debt value offered, numeraire; may be infinite.
            value_unit: smallest value the contract computes with; `None` for real values.
        """
        asked = smaller(floor_to(request, position.debt_unit), position.debt)
        limit = self.limit(position, value_unit=value_unit)
        underwater = position.debt >= position.collateral
        capped = jnp.where(limit.whole, position.debt, smaller(asked, limit.repaid))
        repaid = jnp.where(underwater, asked, capped)
        seized = _seized(position, floor_to(repaid, value_unit), value_unit)
        bare = position.collateral <= 0
        return settled(
            first_reason(
                ((position.debt <= 0) | (request <= 0), Refusal.NOTHING_ASKED),
                (~bare & (position.backing >= position.total_debt), Refusal.HEALTHY),
                (~bare & ((repaid <= 0) | (seized <= 0)), Refusal.NOTHING_REPAID),
            ),
            repaid=repaid,
            seized=seized,
        )

    def call(
        self,
        position: Position,
        request: Float[Array, " account"],
        *,
        value_unit: Float[Array, ""] | None = None,
    ) -> Settlement:
        """Return the call of a liquidator who repays at most `request`.

        Unlike the preview, a call is refused where the debt must be closed whole and the request
        is less, and where there is no collateral. Debt left without collateral is not written
        off: `bad_debt` is zero.

        Args:
            position: accounts under call.
            request: debt value offered, numeraire; may be infinite.
            value_unit: smallest value the contract computes with; `None` for real values.
        """
        seen = self.preview(position, request, value_unit=value_unit)
        none = jnp.asarray(Refusal.NONE.value, seen.refusal.dtype)
        further = first_reason(
            (seen.repaid > request, Refusal.WHOLE_REQUIRED),
            (position.collateral <= 0, Refusal.NO_COLLATERAL),
        )
        refusal = jnp.where(seen.refusal == none, further, seen.refusal)
        return settled(refusal, repaid=seen.repaid, seized=seen.seized)


def loan_to_value_after(
    position: Position, call: Settlement, unit: Float[Array, ""] | None = None
) -> Float[Array, " account"]:
    """Return debt over collateral after a call, zero where either is used up.

    Args:
        position: accounts before the call.
        call: what is repaid and seized.
        unit: step to which the contract rounds the ratio up; `None` for a real ratio.
    """
    debt, collateral = position.debt - call.repaid, position.collateral - call.seized
    ratio = ceil_to(debt / positive_or_one(collateral), unit)
    return jnp.where((debt > 0) & (collateral > 0), ratio, jnp.zeros_like(ratio))


def segregated_first(
    seized: Float[Array, " account"], segregated: Float[Array, " account"]
) -> tuple[Float[Array, " account"], Float[Array, " account"]]:
    """Return how much is taken from collateral kept apart, and then from collateral that is lent.

    Source: Silo v2, PartialLiquidationLib `splitReceiveCollateralToLiquidate`.
    """
    apart = smaller(seized, segregated)
    return apart, seized - apart


def _seized(position: Position, value: Array, value_unit: Array | None) -> Array:
    """Collateral for a repaid value: `min(C, x credit)`, the bonus rounded on its own."""
    bonus = floor_to(value * (position.credit - 1.0), value_unit)
    wanted = value + bonus
    short = wanted >= position.collateral
    return jnp.where(short, position.collateral, floor_to(wanted, position.collateral_unit))


@pytree
class CoveredBonus(WithoutFee):
    """A bonus on debts that must be closed whole while collateral covers them.

    The liquidator takes `min(C, D (1 + bonus))` for all of the debt. Where `D < C < D (1 + bonus)`
    no part of it may be repaid alone, so the whole debt is repaid for what there is: the bonus
    shrinks to `C / D - 1`. Once `D >= C` any part may be repaid, at the full bonus.

    Source: Silo v2, PartialLiquidationLib `liquidationPreview`, `maxLiquidation`.

    Attributes:
        bonus: liquidation fee, as a fraction of debt repaid.
    """

    bonus: Float[Array, ""]

    def credit(
        self, category: int, backing: PerAccount, debt: PerAccount, collateral: PerAccount
    ) -> Float[Array, "1 account"]:
        """Return collateral value per unit of debt of each account."""
        del category, backing
        full = jnp.broadcast_to(1.0 + self.bonus, debt.shape)
        cover = collateral / positive_or_one(debt)
        return jnp.where((cover > 1.0) & (cover < full), cover, full)[None, :]

    def largest_credit(
        self, categories: int, held: int
    ) -> Float[Array, "category collateral_asset"]:
        """Return 1 + bonus."""
        return jnp.broadcast_to(1.0 + self.bonus[None, None], (categories, held))

    def scaled(self, factor: Float[Array, ""]) -> Self:
        """Return the incentive with its bonus times `factor`."""
        return dataclasses.replace(self, bonus=self.bonus * factor)
