"""Liquidation rules that tighten while the whole system is thinly covered."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.stability_pool import PoolCall, PoolRefusal, collateral_ratio, only_where


@pytree
class RecoveryRules:
    """Ratios of collateral to debt; every leaf is a scalar.

    Attributes:
        minimum_ratio: below it an account can always be liquidated.
        critical_ratio: below it, for the system as a whole, recovery mode begins.
        fee_share: part of the taken collateral that is paid to the caller.
    """

    minimum_ratio: Float[Array, ""]
    critical_ratio: Float[Array, ""]
    fee_share: Float[Array, ""]


@pytree
class Borrowers:
    """All accounts of a system; every leaf is `(account,)`, with no debt where closed.

    Attributes:
        collateral: collateral, in units.
        debt: debt, in the stablecoin.
    """

    collateral: Float[Array, " account"]
    debt: Float[Array, " account"]


def system_ratio(borrowers: Borrowers, price: Float[Array, ""]) -> Float[Array, ""]:
    """Return all collateral over all debt."""
    return collateral_ratio(jnp.sum(borrowers.collateral), jnp.sum(borrowers.debt), price)


def recovery_mode(
    rules: RecoveryRules, borrowers: Borrowers, price: Float[Array, ""]
) -> Bool[Array, ""]:
    """Return whether the system as a whole is covered by less than the critical ratio.

    Source: Liquity v1 LiquityBase._checkRecoveryMode.
    """
    return system_ratio(borrowers, price) < rules.critical_ratio


def recovery_call(
    rules: RecoveryRules,
    borrowers: Borrowers,
    *,
    price: Float[Array, ""],
    pool: Float[Array, ""],
) -> PoolCall:
    """Return what liquidating each account alone would move.

    With `r` an account's collateral ratio and `R` the system's:

    - `r < minimum_ratio`: the pool pays what it can, `x = min(debt, pool)`, and gets the same share
      of the collateral; the other accounts get the rest. All collateral goes.
    - in recovery mode and `r <= 1`: the same with `x = 0`.
    - in recovery mode and `minimum_ratio <= r < R`: only if the pool pays everything; it gets
      collateral worth `minimum_ratio * debt`, and the owner keeps the rest.

    The caller's fee comes off the collateral first. The last account stays.

    Source: Liquity v1 TroveManager._liquidateNormalMode, _liquidateRecoveryMode.

    Args:
        rules: of the system.
        borrowers: all accounts.
        price: of one unit of collateral, in the stablecoin.
        pool: what the pool may pay, see `spendable`.
    """
    debt, collateral = borrowers.debt, borrowers.collateral
    price = jnp.broadcast_to(price, debt.shape)
    ratio = collateral_ratio(collateral, debt, price)
    system = system_ratio(borrowers, price[0])
    recovering = system < rules.critical_ratio
    below = ratio < rules.minimum_ratio
    capped = recovering & ~below & (ratio < system) & (debt <= pool)
    owed = rules.minimum_ratio * debt / positive_or_one(price)
    taken = jnp.where(capped, smaller(owed, collateral), collateral)
    fee = rules.fee_share * taken
    repaid = smaller(debt, jnp.broadcast_to(pool, debt.shape))
    repaid = jnp.where(recovering & (ratio <= 1), jnp.zeros_like(debt), repaid)
    seized = (taken - fee) * jnp.where(
        repaid < debt, repaid / positive_or_one(debt), jnp.ones_like(debt)
    )
    refusal = jnp.where(below | capped, PoolRefusal.NONE, PoolRefusal.HEALTHY)
    open_accounts = jnp.sum(debt > 0)
    refusal = jnp.where((open_accounts <= 1) & (debt > 0), PoolRefusal.LAST_ACCOUNT, refusal)
    call = PoolCall(
        repaid=repaid,
        seized=seized,
        fee=fee,
        refund=collateral - taken,
        redistributed_debt=debt - repaid,
        redistributed_collateral=taken - fee - seized,
        refusal=refusal,
    )
    return only_where(refusal == PoolRefusal.NONE, call)
