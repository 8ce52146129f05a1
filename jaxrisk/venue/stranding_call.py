"""Liquidation calls of a venue that never recognises bad debt.

What an account still owes after its last collateral is gone stays on the books as if it were
owed by someone: it counts as supplied, accrues interest, and nobody has a reason to repay it.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.call import repay_call
from jaxrisk.venue.position import Position
from jaxrisk.venue.recognition import NeverRecognised
from jaxrisk.venue.reserve_close import ReserveFractionClose
from jaxrisk.venue.settlement import Refusal


@pytree
class StrandingCall:
    """The outcome of calls, in the numeraire; every leaf is `(account,)`, 0 where refused.

    Attributes:
        repaid: debt value repaid.
        seized: collateral value taken, the protocol's fee included.
        fee: part of `seized` kept by the protocol.
        refund: collateral value returned to the borrower beyond what stays: none in this rule.
        bad_debt: debt written off: none in this rule.
        stranded: debt of the account, in all assets, that is left without any collateral.
        exhausts: whether the account is left without any collateral.
        refusal: a `Refusal`.
    """

    repaid: Float[Array, " account"]
    seized: Float[Array, " account"]
    fee: Float[Array, " account"]
    refund: Float[Array, " account"]
    bad_debt: Float[Array, " account"]
    stranded: Float[Array, " account"]
    exhausts: Bool[Array, " account"]
    refusal: Int[Array, " account"]


def stranding_call(
    close: ReserveFractionClose,
    position: Position,
    backs: Bool[Array, " account"],
    repay: Float[Array, " account"],
) -> StrandingCall:
    """Return the call of a liquidator who offers to repay up to `repay`.

    `x = min(repay, allowance)`, `s = x credit`; `s = C`, `x = C / credit` where `s > C`.

    Source: Aave v3.0 LiquidationLogic `executeLiquidationCall`, ValidationLogic
    `validateLiquidationCall`.

    Args:
        close: the close factor.
        position: the called pair and the account.
        backs: whether the called collateral counts as such; an asset that a call has emptied no
            longer does, even where rounding left a unit of it.
        repay: value offered.
    """
    refusal = jnp.where(position.debt > 0, int(Refusal.NONE), Refusal.NOTHING_OWED)
    refusal = jnp.where(backs, refusal, int(Refusal.NOT_COLLATERAL))
    healthy = position.backing >= position.total_debt
    refusal = jnp.where(healthy, int(Refusal.HEALTHY), refusal)
    done = refusal == Refusal.NONE
    kept = lambda amount: jnp.where(done, amount, jnp.zeros_like(amount))
    call = repay_call(close, position, repay)
    repaid, exhausts = kept(call.repaid), done & call.exhausts
    left = position.total_debt - repaid
    return StrandingCall(
        repaid=repaid,
        seized=kept(call.seized),
        fee=kept(call.fee),
        refund=jnp.zeros_like(repaid),
        bad_debt=NeverRecognised().write_off(exhausts, left),
        stranded=jnp.where(exhausts, left, jnp.zeros_like(left)),
        exhausts=exhausts,
        refusal=refusal,
    )
