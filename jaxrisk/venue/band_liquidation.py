"""Closing a loan whose collateral stands in bands: the last resort after conversion."""

from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to
from jaxrisk.venue.band_shares import Holdings


class BandRefusal(IntEnum):
    """Why a liquidation does not go through."""

    NONE = 0
    HEALTHY = 1
    NOTHING_OWED = 2


@pytree
class BandCall:
    """The outcome of liquidations in coins; every leaf is `(account,)`, zero where refused.

    Attributes:
        repaid: debt cleared, in the borrowed coin.
        released: borrowed coin taken from the account's bands, which pays first.
        paid: what the liquidator adds in the borrowed coin; negative where the bands released more
            than was owed and the liquidator keeps the difference.
        seized: collateral that goes to the liquidator.
        fee: protocol's share of what is seized: none.
        refund: what goes back to the account: none.
        bad_debt: debt written off: none. A loan that nobody wants to close stays on the books.
        portion: part of the account's shares that is withdrawn from the bands.
        refusal: `BandRefusal` numbers.
    """

    repaid: Float[Array, " account"]
    released: Float[Array, " account"]
    paid: Float[Array, " account"]
    seized: Float[Array, " account"]
    fee: Float[Array, " account"]
    refund: Float[Array, " account"]
    bad_debt: Float[Array, " account"]
    portion: Float[Array, " account"]
    refusal: Int[Array, " account"]


def withdrawn_portion(
    fraction: Float[Array, " account"], liquidation_discount: Float[Array, "*account"]
) -> Float[Array, " account"]:
    """Return the part of the shares that clearing `fraction` of the debt withdraws.

    `f ((1 + d/2) / (1 + d) (1 - f) + f)`: a partial liquidator gets less than pro rata, which
    leaves the account healthier.

    Source: crvUSD Controller `_get_f_remove`.
    """
    d = liquidation_discount
    return fraction * ((1.0 + d / 2.0) / (1.0 + d) * (1.0 - fraction) + fraction)


def liquidate(
    held: Holdings,
    debt: Float[Array, " account"],
    full_health: Float[Array, " account"],
    fraction: Float[Array, " account"],
    liquidation_discount: Float[Array, "*account"],
    *,
    borrowed_unit: Float[Array, "*account"] | None = None,
    collateral_unit: Float[Array, "*account"] | None = None,
) -> BandCall:
    """Return the outcome of clearing a fraction of the debt of unhealthy loans.

    Args:
        held: what the account owns in the bands.
        debt: what it owes.
        full_health: health including the headroom above the bands; refused unless below zero.
        fraction: part of the debt to clear; more than 1 counts as 1.
        liquidation_discount: discount of the loan, a fraction.
        borrowed_unit: smallest amount of the borrowed coin; `None` for real amounts.
        collateral_unit: smallest amount of collateral; `None` for real amounts.

    Source: crvUSD Controller `liquidate_extended`, `tokens_to_liquidate`.
    """
    fraction = jnp.where(fraction < 1.0, fraction, jnp.ones_like(fraction))
    portion = withdrawn_portion(fraction, liquidation_discount)
    repaid = floor_to(debt * fraction, borrowed_unit)
    refusal = jnp.where(repaid > 0, BandRefusal.NONE, BandRefusal.NOTHING_OWED)
    refusal = jnp.where(full_health < 0, refusal, BandRefusal.HEALTHY)
    goes = refusal == BandRefusal.NONE
    kept = lambda value: jnp.where(goes, value, jnp.zeros_like(value))
    released = floor_to(held.borrowed * portion, borrowed_unit)
    nothing = jnp.zeros_like(debt)
    return BandCall(
        repaid=kept(repaid),
        released=kept(released),
        paid=kept(repaid - released),
        seized=kept(floor_to(held.collateral * portion, collateral_unit)),
        fee=nothing,
        refund=nothing,
        bad_debt=nothing,
        portion=kept(portion),
        refusal=refusal,
    )
