"""Liquidation of whole accounts at a penalty; the owner keeps what the penalty leaves."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.prefix import served
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.stability_pool import PoolCall, PoolRefusal, collateral_ratio, only_where


@pytree
class PenaltyRules:
    """What governs liquidations of one branch; every leaf is a scalar.

    Attributes:
        minimum_ratio: collateral over debt, below which an account can be liquidated.
        pool_penalty: collateral the pool gets over and above the debt it pays, as a fraction.
        peer_penalty: the same for the other accounts, where the pool does not suffice.
        fee_share: part of the pool's collateral that is paid to the caller.
        fee_cap: most collateral the caller gets from one account, in units.
    """

    minimum_ratio: Float[Array, ""]
    pool_penalty: Float[Array, ""]
    peer_penalty: Float[Array, ""]
    fee_share: Float[Array, ""]
    fee_cap: Float[Array, ""]


@pytree
class Branch:
    """The accounts of one collateral branch; every leaf is `(account,)`.

    Attributes:
        collateral: collateral, in units.
        debt: debt, in the stablecoin.
        is_open: whether the account exists; one without debt may.
    """

    collateral: Float[Array, " account"]
    debt: Float[Array, " account"]
    is_open: Bool[Array, " account"]


def penalty_calls(
    rules: PenaltyRules,
    branch: Branch,
    *,
    order: Float[Array, " account"],
    price: Float[Array, ""],
    pool: Float[Array, ""],
) -> PoolCall:
    """Return what one call on a list of accounts moves.

    Accounts below `minimum_ratio` are closed whole, in order. Of each, with debt `D` and
    collateral `C`:

    - the pool pays `x = min(D, what is left of it)`; the collateral of that part is `C x / D`, off
      which the caller gets `min(fee_share * C x / D, fee_cap)`. The pool gets at most
      `x (1 + pool_penalty) / price` of the rest.
    - the other accounts take `D - x` and, of what remains, at most
      `(D - x)(1 + peer_penalty) / price`.
    - the owner may claim the rest.

    A call that would close the last account is refused as a whole.

    Source: Liquity v2 TroveManager.batchLiquidateTroves, _getOffsetAndRedistributionVals.

    Args:
        rules: of the branch.
        branch: its accounts.
        order: position in the list; infinite where not in it.
        price: of one unit of collateral, in the stablecoin.
        pool: what the pool may pay, see `spendable`.
    """
    debt, collateral = branch.debt, branch.collateral
    price = jnp.broadcast_to(price, debt.shape)
    called = jnp.isfinite(order) & branch.is_open
    below = collateral_ratio(collateral, debt, price) < rules.minimum_ratio
    closed = called & below
    refusal = jnp.where(below, PoolRefusal.NONE, PoolRefusal.HEALTHY)
    refusal = jnp.where(called, refusal, PoolRefusal.NOT_CALLED)
    nobody_left = jnp.sum(branch.is_open) == jnp.sum(closed)
    refusal = jnp.where(closed & nobody_left, PoolRefusal.LAST_ACCOUNT, refusal)
    zero = jnp.zeros_like(debt)
    repaid = served(jnp.where(closed, debt, zero), order, pool)
    share = jnp.where(repaid < debt, repaid / positive_or_one(debt), jnp.ones_like(debt))
    pooled = collateral * share
    fee = smaller(rules.fee_share * pooled, jnp.broadcast_to(rules.fee_cap, debt.shape))
    most = repaid * (1.0 + rules.pool_penalty) / positive_or_one(price)
    seized = smaller(pooled - fee, most)
    # What the pool's penalty leaves is first used up by the penalty of the other part.
    rest = collateral - fee - seized
    handed_on = debt - repaid
    most = handed_on * (1.0 + rules.peer_penalty) / positive_or_one(price)
    redistributed = jnp.where(handed_on > 0, smaller(rest, most), zero)
    call = PoolCall(
        repaid=repaid,
        seized=seized,
        fee=fee,
        refund=rest - redistributed,
        redistributed_debt=handed_on,
        redistributed_collateral=redistributed,
        refusal=refusal,
    )
    return only_where(refusal == PoolRefusal.NONE, call)
