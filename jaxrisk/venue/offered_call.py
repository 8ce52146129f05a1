"""A liquidation whose liquidator names one repayment, and the venue takes it or refuses it."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to
from jaxrisk.venue.position import Position
from jaxrisk.venue.settlement import Refusal, Settlement, first_reason, settled


@pytree
class OfferedClose:
    """A named repayment up to a fraction of the called debt; nothing is lowered.

    An account may be called while its backing is below its debts. The liquidator repays `x` and
    takes `s = credit x`; the protocol keeps a share of *all* that is seized, where other rules keep
    a share of the bonus. A call that would repay more than `close_factor` of the called debt, or
    seize more than the called collateral, is refused.

    Source: Compound v2, Comptroller `liquidateBorrowAllowed` and `liquidateCalculateSeizeTokens`,
    CToken `liquidateBorrowFresh` and `seizeInternal`.

    Attributes:
        close_factor: `(account,)` or `()` fraction of the called debt that one call may repay.
        seizure_fee: `(account,)` or `()` protocol's share of the seized collateral
            (protocolSeizeShare).
    """

    close_factor: Float[Array, "*account"]
    seizure_fee: Float[Array, "*account"]
    whole: ClassVar[bool] = False

    def largest(
        self, position: Position, width: Float[Array, ""] | None
    ) -> Float[Array, " account"]:
        """Return the largest repayment that is taken as it is, `close_factor D`."""
        del width
        return floor_to(self.close_factor * position.debt, position.debt_unit)

    def call(
        self,
        position: Position,
        repay: Float[Array, " account"],
        *,
        ratio_unit: Float[Array, " account"] | None = None,
    ) -> Settlement:
        """Return the call of a liquidator who offers to repay exactly `repay`.

        Debt left without collateral is not written off: `bad_debt` is zero.

        Args:
            position: accounts under call; `fee_share` is not used.
            repay: debt value offered, numeraire.
            ratio_unit: smallest step of `credit`, where the contract rounds down the collateral
                units paid out per debt unit; `None` for a real ratio.
        """
        credit = floor_to(jnp.broadcast_to(position.credit, repay.shape), ratio_unit)
        seized = floor_to(repay * credit, position.collateral_unit)
        fee = floor_to(self.seizure_fee * seized, position.collateral_unit)
        allowance = self.largest(position, None)
        refusal = first_reason(
            (position.backing >= position.total_debt, Refusal.HEALTHY),
            (repay > allowance, Refusal.EXCEEDS_ALLOWANCE),
            (repay <= 0, Refusal.NOTHING_ASKED),
            (seized > position.collateral, Refusal.EXCEEDS_POSITION),
        )
        return settled(refusal, repaid=repay, seized=seized, fee=fee)
