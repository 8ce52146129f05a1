"""Liquidation by a pool of deposits, and by other borrowers where the pool is too small.

Nobody buys: depositors pay an account's debt and get its collateral; what they cannot pay is handed
to the other accounts, debt and collateral, in proportion to their stakes. No debt is ever written
off here. The loss, if any, is the depositors' or the other borrowers'.
"""

from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree


class PoolRefusal(IntEnum):
    """Why an account is not liquidated; data, not an exception."""

    NONE = 0
    HEALTHY = 1
    LAST_ACCOUNT = 2
    NOT_CALLED = 3


@pytree
class PoolCall:
    """What liquidations move; zero where refused. Every leaf is `(account,)`.

    `repaid + redistributed_debt` is the account's debt, and `seized + redistributed_collateral +
    fee + refund` its collateral.

    Attributes:
        repaid: debt paid by the pool, in the stablecoin.
        seized: collateral the pool gets, in units.
        fee: collateral paid to the caller, in units.
        refund: collateral the owner may claim, in units.
        redistributed_debt: debt handed to the other accounts.
        redistributed_collateral: collateral handed to the other accounts, in units.
        refusal: why nothing happens, as `PoolRefusal` numbers.
    """

    repaid: Float[Array, " account"]
    seized: Float[Array, " account"]
    fee: Float[Array, " account"]
    refund: Float[Array, " account"]
    redistributed_debt: Float[Array, " account"]
    redistributed_collateral: Float[Array, " account"]
    refusal: Int[Array, " account"]


def spendable(
    deposits: Float[Array, "*pool"], minimum: Float[Array, "*pool"]
) -> Float[Array, "*pool"]:
    """Return what a pool may pay: all but `minimum`, which stays whatever happens.

    Source: Liquity v2 TroveManager.batchLiquidateTroves (1 unit stays); Liquity v1 StabilityPool,
    as deployed (0) and at the head of its repository (1 unit).
    """
    left = deposits - minimum
    return jnp.where(left > 0, left, jnp.zeros_like(left))


def deposits_after(
    deposits: Float[Array, " depositor"],
    *,
    total: Float[Array, ""],
    repaid: Float[Array, ""],
    seized: Float[Array, ""],
) -> tuple[Float[Array, " depositor"], Float[Array, " depositor"]]:
    """Return what is left of each deposit, and the collateral each gains.

    Both in proportion to the deposit: `d (D - repaid) / D` and `seized d / D`.

    Source: Liquity v1 and v2 StabilityPool.offset (product P and sum S).

    Args:
        deposits: before the liquidation.
        total: of all deposits, `D`: a pool that pays all of it leaves exactly nothing.
        repaid: debt the pool pays.
        seized: collateral the pool gets, in units.
    """
    share = deposits / positive_or_one(total)
    return share * (total - repaid), share * seized


def redistribute(
    amount: Float[Array, ""], stake: Float[Array, " account"], receives: Bool[Array, " account"]
) -> Float[Array, " account"]:
    """Return what each account gets of `amount`: its share of the receivers' stakes.

    Source: Liquity v1 and v2 TroveManager._redistributeDebtAndColl.

    Args:
        amount: debt or collateral to hand out.
        stake: weight of each account (its collateral, at the time it was last touched).
        receives: accounts that take part: those that are open and not liquidated now.
    """
    weight = jnp.where(receives, stake, jnp.zeros_like(stake))
    return amount * weight / positive_or_one(jnp.sum(weight))


def collateral_ratio(
    collateral: Float[Array, "*account"],
    debt: Float[Array, "*account"],
    price: Float[Array, "*account"],
) -> Float[Array, "*account"]:
    """Return collateral value over debt; infinite where nothing is owed."""
    ratio = collateral * price / positive_or_one(debt)
    return jnp.where(debt > 0, ratio, jnp.full_like(ratio, jnp.inf))


def only_where(goes: Bool[Array, " account"], call: PoolCall) -> PoolCall:
    """Return the call with all amounts zero where it does not go through."""
    keep = lambda x: jnp.where(goes, x, jnp.zeros_like(x))
    return PoolCall(
        repaid=keep(call.repaid),
        seized=keep(call.seized),
        fee=keep(call.fee),
        refund=keep(call.refund),
        redistributed_debt=keep(call.redistributed_debt),
        redistributed_collateral=keep(call.redistributed_collateral),
        refusal=call.refusal,
    )
