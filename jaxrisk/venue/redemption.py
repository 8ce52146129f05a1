"""Redemptions: anyone may pay an account's debt at face value and take collateral for it.

The cheapest borrowers are redeemed first, so who is redeemed is decided by the rate an account pays
and not by how well it is covered. A fee, which rises with the amount redeemed, stays with the
account. After a branch is shut down anyone may choose the accounts, and is paid a bonus instead.
"""

from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.prefix import served
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.stability_pool import collateral_ratio


class RedemptionRefusal(IntEnum):
    """Why a redemption does not go through; data, not an exception."""

    NONE = 0
    FEE_ABOVE_LIMIT = 1
    NOT_SHUT_DOWN = 2
    TOO_LITTLE = 3


@pytree
class RedemptionFee:
    """A fee rate that jumps with what is redeemed and fades with time; every leaf is a scalar.

    Source: Liquity v2 CollateralRegistry.

    Attributes:
        floor: smallest fee rate.
        sensitivity: by how much the base rate rises per fraction of the supply redeemed.
        decay: what is left of the base rate after one whole minute.
    """

    floor: Float[Array, ""]
    sensitivity: Float[Array, ""]
    decay: Float[Array, ""]

    def decayed(
        self, base_rate: Float[Array, ""], seconds: Float[Array, ""]
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """Return the base rate after `seconds`, and the part of them that was counted.

        Only whole minutes count; what is left of the last is counted next time.
        """
        minutes = jnp.floor(seconds / 60.0)
        return base_rate * self.decay**minutes, 60.0 * minutes

    def raised(
        self, base_rate: Float[Array, ""], redeemed_share: Float[Array, ""]
    ) -> Float[Array, ""]:
        """Return the base rate after a share of the supply is redeemed: at most 1."""
        rate = base_rate + self.sensitivity * redeemed_share
        return smaller(rate, jnp.ones_like(rate))

    def rate(self, base_rate: Float[Array, ""]) -> Float[Array, ""]:
        """Return the fee as a fraction of the collateral redeemed: at most 1."""
        rate = self.floor + base_rate
        return smaller(rate, jnp.ones_like(rate))


def split_by_unbacked(
    amount: Float[Array, ""],
    *,
    unbacked: Float[Array, " branch"],
    debt: Float[Array, " branch"],
    redeemable: Bool[Array, " branch"],
) -> Float[Array, " branch"]:
    """Return how much of a redemption each branch takes, in proportion to its unbacked debt.

    `amount` is lowered to the sum of unbacked debt. Where no branch has any, it is split in
    proportion to all debt instead, and not lowered.

    Source: Liquity v2 CollateralRegistry.redeemCollateral.

    Args:
        amount: offered, in the stablecoin.
        unbacked: debt of each branch less its pool's deposits, at least 0.
        debt: all debt of each branch.
        redeemable: branches sufficiently covered and not shut down.
    """
    zero = jnp.zeros_like(debt)
    unbacked = jnp.where(redeemable, unbacked, zero)
    total = jnp.sum(unbacked)
    weight = jnp.where(total > 0, unbacked, jnp.where(redeemable, debt, zero))
    capped = jnp.where(total > 0, smaller(amount, total), amount)
    return capped * weight / positive_or_one(jnp.sum(weight))


@pytree
class RedemptionQueue:
    """The accounts of one branch; every leaf is `(account,)`.

    Attributes:
        collateral: collateral, in units.
        debt: debt, in the stablecoin.
        rate: interest rate the account pays: lowest first, equal ones by position.
        listed: whether it is in the queue: open and not dormant.
        first: the one dormant account, at most, that goes before all others: dormant ones are too
            small for the queue, but the last to become so may still owe.
    """

    collateral: Float[Array, " account"]
    debt: Float[Array, " account"]
    rate: Float[Array, " account"]
    listed: Bool[Array, " account"]
    first: Bool[Array, " account"]


@pytree
class Redemption:
    """What a redemption moves; every leaf is `(account,)` unless said.

    Attributes:
        repaid: debt taken off the account, burnt by the redeemer.
        seized: collateral the redeemer gets, in units.
        fee: collateral the redeemer forgoes, in units: it stays in the account.
        listed: as in the queue, afterwards.
        first: as in the queue, afterwards.
        refusal: `(account,)` why nothing happens, as `RedemptionRefusal` numbers.
    """

    repaid: Float[Array, " account"]
    seized: Float[Array, " account"]
    fee: Float[Array, " account"]
    listed: Bool[Array, " account"]
    first: Bool[Array, " account"]
    refusal: Int[Array, " account"]


def redeem(
    queue: RedemptionQueue,
    amount: Float[Array, ""],
    *,
    price: Float[Array, ""],
    fee_rate: Float[Array, ""],
    minimum_debt: Float[Array, ""],
    limit: Float[Array, ""],
    largest_fee: Float[Array, ""],
) -> Redemption:
    """Return what redeeming up to `amount` from one branch moves.

    Down the queue, each account that is covered by its collateral gives up `x` of debt and
    `x (1 - fee_rate) / price` of collateral; the others are passed over. An account left below
    `minimum_debt` becomes dormant and leaves the queue.

    Source: Liquity v2 TroveManager.redeemCollateral, _redeemCollateralFromTrove.

    Args:
        queue: the accounts.
        amount: offered, in the stablecoin.
        price: of one unit of collateral, in the stablecoin.
        fee_rate: see `RedemptionFee`.
        minimum_debt: below which an account becomes dormant.
        limit: most accounts looked at, passed over or not; infinite for no limit.
        largest_fee: highest `fee_rate` the redeemer accepts.
    """
    infinity = jnp.full_like(queue.rate, jnp.inf)
    order = jnp.where(queue.first, -infinity, jnp.where(queue.listed, queue.rate, infinity))
    place = jnp.argsort(jnp.argsort(order, stable=True), stable=True)
    within = (queue.first | queue.listed) & (place.astype(limit.dtype) < limit)
    covered = collateral_ratio(
        queue.collateral, queue.debt, jnp.broadcast_to(price, queue.debt.shape)
    )
    eligible = within & (covered >= 1) & (fee_rate <= largest_fee)
    repaid = served(jnp.where(eligible, queue.debt, jnp.zeros_like(queue.debt)), order, amount)
    bought = repaid / positive_or_one(price)
    fee = bought * fee_rate
    left = queue.debt - repaid
    becomes_dormant = queue.listed & (repaid > 0) & (left < minimum_debt)
    still_owing = becomes_dormant & (left > 0)
    refusal = jnp.where(
        fee_rate <= largest_fee, RedemptionRefusal.NONE, RedemptionRefusal.FEE_ABOVE_LIMIT
    )
    return Redemption(
        repaid=repaid,
        seized=bought - fee,
        fee=fee,
        listed=queue.listed & ~becomes_dormant,
        first=jnp.where(jnp.any(still_owing), still_owing, queue.first & (left > 0)),
        refusal=jnp.broadcast_to(refusal, repaid.shape),
    )


@pytree
class UrgentRedemption:
    """What a redemption after shutdown moves; every leaf is `(account,)`.

    Attributes:
        repaid: debt taken off the account, burnt by the redeemer.
        seized: collateral the redeemer gets, bonus included, in units.
        fee: none is taken: zero.
        refusal: why nothing happens, as `RedemptionRefusal` numbers.
    """

    repaid: Float[Array, " account"]
    seized: Float[Array, " account"]
    fee: Float[Array, " account"]
    refusal: Int[Array, " account"]


def redeem_urgently(
    amount: Float[Array, ""],
    *,
    collateral: Float[Array, " account"],
    debt: Float[Array, " account"],
    order: Float[Array, " account"],
    price: Float[Array, ""],
    bonus: Float[Array, ""],
    shut_down: Bool[Array, ""],
    least: Float[Array, ""],
) -> UrgentRedemption:
    """Return what redeeming up to `amount` from chosen accounts of a branch shut down moves.

    Each account in turn gives `x (1 + bonus) / price` of collateral for `x` of debt, and no more
    than it has: then `x = collateral * price / (1 + bonus)` and the rest of its debt stays.

    Source: Liquity v2 TroveManager.urgentRedemption, _urgentRedeemCollateralFromTrove.

    Args:
        amount: offered, in the stablecoin.
        collateral: of each account, in units; zero where closed.
        debt: of each account; zero where closed.
        order: position in the redeemer's list; infinite where not in it.
        price: of one unit of collateral, in the stablecoin.
        bonus: paid on top, as a fraction.
        shut_down: whether the branch is.
        least: collateral that the redeemer insists on, in units.
    """
    zero = jnp.zeros_like(debt)
    worth = collateral * price / (1.0 + bonus)
    payable = jnp.where(jnp.isfinite(order), smaller(worth, debt), zero)
    repaid = served(payable, order, amount)
    # All of it where all of it is paid for: a division and a product would leave a speck.
    emptied = (repaid >= worth) & (repaid > 0)
    seized = jnp.where(emptied, collateral, repaid * (1.0 + bonus) / positive_or_one(price))
    refusal = jnp.where(
        jnp.sum(seized) >= least, RedemptionRefusal.NONE, RedemptionRefusal.TOO_LITTLE
    )
    refusal = jnp.where(shut_down, refusal, RedemptionRefusal.NOT_SHUT_DOWN)
    goes = refusal == RedemptionRefusal.NONE
    return UrgentRedemption(
        repaid=jnp.where(goes, repaid, zero),
        seized=jnp.where(goes, seized, zero),
        fee=zero,
        refusal=jnp.broadcast_to(refusal, repaid.shape),
    )
