"""A liquidation call: what is repaid, seized and charged, or why it is refused.

The call is the venue's rule. Who calls, when and for how much is a keeper's policy.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.gate import gate, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import ceil_to, floor_to
from jaxrisk.venue.close import Allowance
from jaxrisk.venue.position import Position
from jaxrisk.venue.settlement import Refusal


@pytree
class Call:
    """The outcome of calls, in the numeraire; every leaf is `(account,)`.

    Amounts are those of a call that goes through; `weight` says how far it does.

    Attributes:
        repaid: debt value repaid.
        seized: collateral value taken, the protocol's fee included.
        fee: part of `seized` kept by the protocol.
        exhausts: whether the account is left without any collateral.
        weight: 1 where the call goes through, 0 where refused (in between for a smooth gate).
    """

    repaid: Float[Array, " account"]
    seized: Float[Array, " account"]
    fee: Float[Array, " account"]
    exhausts: Bool[Array, " account"]
    weight: Float[Array, " account"]


def repay_call(
    close: Allowance,
    position: Position,
    repay: Float[Array, " account"],
    *,
    width: Float[Array, ""] | None = None,
) -> Call:
    """Return the call of a liquidator who offers to repay up to `repay`.

    The venue lowers the offer to its allowance and to what the collateral pays for:
    `x = min(repay, allowance)`, `s = x * credit`, and if `s` exceeds the collateral then
    `s = collateral`, `x = collateral / credit`.

    Source: Aave v3 `executeLiquidationCall` and `_calculateAvailableCollateralToLiquidate`.
    """
    offered = smaller(repay, close.allowance(position, width))
    wanted = _seized_for(position, offered)
    short = wanted > position.collateral
    seized = jnp.where(short, position.collateral, wanted)
    repaid = jnp.where(short, position.affordable, offered)
    weight = gate(position.total_debt - position.backing, position.total_debt, width)
    refused = close.refuses(position, repaid, seized)
    if refused is not None:
        weight = jnp.where(refused, jnp.zeros_like(weight), weight)
    return _call(position, repaid, seized, weight)


def exact_call(
    position: Position,
    repay: Float[Array, " account"],
    seize: Float[Array, " account"],
) -> tuple[Call, Int[Array, " account"]]:
    """Return the call of a liquidator who names exactly one amount, and why it is refused.

    Either `repay` or `seize` is positive. Nothing is lowered: asking for more than the position
    holds is refused. Repayments round up and seizures down, in the venue's favour.

    Source: Morpho Blue `liquidate`.
    """
    by_seizure = seize > 0
    quoted = ceil_to(ceil_to(seize, position.debt_unit) / position.credit, position.debt_unit)
    granted = floor_to(floor_to(repay, position.debt_unit) * position.credit, position.debt_unit)
    repaid = jnp.where(by_seizure, quoted, ceil_to(repay, position.debt_unit))
    seized = jnp.where(by_seizure, seize, floor_to(granted, position.collateral_unit))
    owed = ceil_to(position.debt, position.debt_unit)
    refusal = jnp.where(
        (repaid > owed) | (seized > position.collateral), Refusal.EXCEEDS_POSITION, Refusal.NONE
    )
    refusal = jnp.where(position.backing >= position.total_debt, Refusal.HEALTHY, refusal)
    weight = (refusal == Refusal.NONE).astype(repaid.dtype)
    return _call(position, repaid, seized, weight), refusal


def call_refusal(close: Allowance, position: Position, call: Call) -> Int[Array, " account"]:
    """Return why `repay_call` was refused, as `Refusal` numbers."""
    refused = close.refuses(position, call.repaid, call.seized)
    dust = jnp.zeros(call.repaid.shape, bool) if refused is None else refused
    healthy = position.backing >= position.total_debt
    return jnp.where(healthy, Refusal.HEALTHY, jnp.where(dust, Refusal.DUST, Refusal.NONE))


def _seized_for(position: Position, repaid: Array) -> Array:
    quoted = floor_to(repaid, position.collateral_unit)
    return floor_to(quoted * position.credit, position.collateral_unit)


def _call(position: Position, repaid: Array, seized: Array, weight: Array) -> Call:
    unit = position.collateral_unit
    bonus = seized - floor_to(seized / position.credit, unit)
    share = position.fee_share
    return Call(
        repaid=repaid,
        seized=seized,
        fee=jnp.zeros_like(bonus) if share is None else floor_to(share * bonus, unit),
        exhausts=seized >= position.total_collateral,
        weight=weight,
    )
