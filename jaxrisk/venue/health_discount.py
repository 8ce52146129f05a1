"""Liquidation at a discount that is the account's own shortfall of health, up to a maximum.

The weaker the account, the cheaper its collateral: a reverse auction in health instead of in time.
"""

import dataclasses
from typing import Self

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to
from jaxrisk.venue.incentive import PerAccount, WithoutFee
from jaxrisk.venue.position import Position
from jaxrisk.venue.settlement import Refusal, Settlement, first_reason, settled


@pytree
class Limit:
    """The largest call of each account, in the numeraire; every leaf is `(account,)`.

    Attributes:
        repaid: debt value that the call repays.
        seized: collateral value that it takes.
        healthy: whether the account may not be called at all; both amounts are then zero.
    """

    repaid: Float[Array, " account"]
    seized: Float[Array, " account"]
    healthy: Bool[Array, " account"]


@pytree
class HealthDiscount:
    """Discount of 1 - health, capped; debt left without collateral may be socialised at once.

    An account may be called while its backing does not exceed its debt: at health exactly 1 too,
    where the discount is zero. There is no close factor and no dust rule.

    Source: Euler v2, EVK Liquidation `calculateLiquidation` and `executeLiquidation`.

    Attributes:
        maximum_discount: `(account,)` or `()` largest discount, in [0, 1).
        socialises: `(account,)` or `()` whether the venue writes off debt left without collateral.
        minimum_socialised: `(account,)` or `()` value of the whole debt, numeraire, below which
            nothing is written off.
        cool_off: `(account,)` or `()` time after an account's last successful check in which it
            cannot be called; `None` for no such rule.
    """

    maximum_discount: Float[Array, "*account"]
    socialises: Bool[Array, "*account"]
    minimum_socialised: Float[Array, "*account"]
    cool_off: Float[Array, "*account"] | None = None

    def price_factor(self, position: Position) -> Float[Array, " account"]:
        """Return debt repaid per collateral seized: `max(health, 1 - maximum_discount)`."""
        return price_factor(position.backing, position.total_debt, self.maximum_discount)

    def limit(self, position: Position) -> Limit:
        """Return the largest call: all of the debt, or what the called collateral pays for.

        `repaid = min(D, C f)`, `seized = min(C, D / f)` with f the price factor.
        """
        factor = self.price_factor(position)
        wanted = position.debt / factor
        short = position.collateral < wanted
        repaid = jnp.where(short, position.collateral * factor, position.debt)
        wanted = floor_to(wanted, position.collateral_unit)
        seized = jnp.where(short, position.collateral, wanted)
        healthy = (position.backing > position.total_debt) | (position.total_debt <= 0)
        none = jnp.zeros_like(repaid)
        return Limit(
            repaid=jnp.where(healthy, none, floor_to(repaid, position.debt_unit)),
            seized=jnp.where(healthy, none, seized),
            healthy=healthy,
        )

    def call(
        self,
        position: Position,
        repay: Float[Array, " account"],
        *,
        since_check: Float[Array, " account"] | None = None,
    ) -> Settlement:
        """Return the call of a liquidator who takes over `repay` of the debt.

        A request above the limit is refused, not lowered; an infinite one asks for the limit. The
        liquidator assumes the debt rather than paying it in, so that `repaid` is still owed to the
        venue, by somebody else. Where no collateral is left, the rest of the debt is socialised.

        Args:
            position: accounts under call; `credit` and `fee_share` are not used, and
                `total_collateral` counts recognised collateral only.
            repay: debt value to take over, numeraire, or infinity.
            since_check: time since the account's last successful check, in the unit of `cool_off`;
                `None` for long ago.
        """
        limit = self.limit(position)
        open_ended = jnp.isinf(repay)
        repaid = smaller(jnp.where(open_ended, limit.repaid, repay), limit.repaid)
        share = repaid / positive_or_one(limit.repaid)
        scaled = floor_to(limit.seized * share, position.collateral_unit)
        seized = jnp.where(repaid >= limit.repaid, limit.seized, scaled)
        return settled(
            first_reason(
                (self._cooling_off(since_check, limit.healthy), Refusal.COOLING_OFF),
                (~open_ended & (repay > limit.repaid), Refusal.EXCEEDS_ALLOWANCE),
                (limit.healthy, Refusal.HEALTHY),
            ),
            repaid=repaid,
            seized=seized,
            bad_debt=self._socialised(position, repaid, seized),
        )

    def _cooling_off(
        self, since_check: Array | None, healthy: Bool[Array, " account"]
    ) -> Bool[Array, " account"]:
        if self.cool_off is None or since_check is None:
            return jnp.zeros_like(healthy)
        return since_check < self.cool_off

    def _socialised(self, position: Position, repaid: Array, seized: Array) -> Array:
        exhausted = (seized >= position.collateral) & (
            position.total_collateral <= position.collateral
        )
        large = position.debt >= self.minimum_socialised
        left = position.debt - repaid
        return jnp.where(exhausted & large & self.socialises, left, jnp.zeros_like(left))


@pytree
class ShortfallDiscount(WithoutFee):
    """The discount of `HealthDiscount` as an incentive: a bonus of `1 / price factor - 1`.

    Attributes:
        maximum_discount: largest discount, in [0, 1).
    """

    maximum_discount: Float[Array, ""]

    def credit(
        self, category: int, backing: PerAccount, debt: PerAccount, collateral: PerAccount
    ) -> Float[Array, "1 account"]:
        """Return collateral value per unit of debt at each account's health."""
        del category, collateral
        return 1.0 / price_factor(backing, debt, self.maximum_discount)[None, :]

    def largest_credit(
        self, categories: int, held: int
    ) -> Float[Array, "category collateral_asset"]:
        """Return `1 / (1 - maximum_discount)`."""
        return jnp.broadcast_to(1.0 / (1.0 - self.maximum_discount[None, None]), (categories, held))

    def scaled(self, factor: Float[Array, ""]) -> Self:
        """Return the incentive with its largest discount times `factor`."""
        return dataclasses.replace(self, maximum_discount=self.maximum_discount * factor)


def price_factor(
    backing: Float[Array, " account"],
    debt: Float[Array, " account"],
    maximum_discount: Float[Array, "*account"],
) -> Float[Array, " account"]:
    """Return debt repaid per collateral seized: `max(health, 1 - maximum_discount)`."""
    health = backing / positive_or_one(debt)
    floor = jnp.broadcast_to(1.0 - maximum_discount, health.shape)
    return jnp.where(health > floor, health, floor)
