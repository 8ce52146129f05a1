"""Dutch auctions of seized collateral: when one starts, what a buyer pays, when it starts again.

Two prices matter: the borrower loses all collateral of the called debt, and gets back only what
the auction does not need. What the auction fails to raise is bad debt at its end, not before.
"""

from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to


class AuctionRefusal(IntEnum):
    """Why an auction does not start, sell or start again; data, not an exception."""

    NONE = 0
    HEALTHY = 1
    DUST = 2
    NO_ROOM = 3
    STALE = 4
    NOT_STALE = 5


@pytree
class AuctionTerms:
    """What governs auctions of one collateral type; every leaf is a scalar or `(auction,)`.

    Attributes:
        penalty: added to the debt that an auction must raise, as a fraction of it.
        minimum_debt: smallest debt an account, or an auction, may be left with.
        ceiling: most that auctions of this type may have outstanding, penalty included.
        opening_factor: opening price as a multiple of the oracle's.
        maximum_duration: seconds after which an auction must start again.
        price_floor: fraction of the opening price below which it must start again.
        reward: paid to whoever starts or restarts an auction.
        reward_share: paid on top, as a fraction of what the auction must raise.
        minimum_target: least that a partial purchase must leave to be raised. Deployments set it
            to `minimum_debt * (1 + penalty)`, from time to time: hence a number of its own.
    """

    penalty: Float[Array, "*auction"]
    minimum_debt: Float[Array, "*auction"]
    ceiling: Float[Array, "*auction"]
    opening_factor: Float[Array, "*auction"]
    maximum_duration: Float[Array, "*auction"]
    price_floor: Float[Array, "*auction"]
    reward: Float[Array, "*auction"]
    reward_share: Float[Array, "*auction"]
    minimum_target: Float[Array, "*auction"]


@pytree
class Vault:
    """Accounts under call; every leaf is `(account,)`.

    Attributes:
        collateral: collateral, in its own units.
        debt: debt, in the stablecoin.
        backing: collateral at its liquidation price, in the stablecoin.
        collateral_unit: smallest amount of collateral; `None` for real amounts.
        debt_unit: smallest amount of debt; `None` for real amounts.
    """

    collateral: Float[Array, " account"]
    debt: Float[Array, " account"]
    backing: Float[Array, " account"]
    collateral_unit: Float[Array, " account"] | None = None
    debt_unit: Float[Array, " account"] | None = None


@pytree
class AuctionStart:
    """What the start of an auction moves; zero where refused. Every leaf is `(account,)`.

    Attributes:
        repaid: debt taken off the account; the system owes it from now on.
        seized: collateral taken off the account, in units: the lot.
        fee: penalty added to what must be raised.
        target: what the auction must raise: `repaid + fee`.
        opening_price: first asking price, stablecoin per unit of collateral.
        reward: paid by the system to the caller.
        refusal: why nothing happens, as `AuctionRefusal` numbers.
    """

    repaid: Float[Array, " account"]
    seized: Float[Array, " account"]
    fee: Float[Array, " account"]
    target: Float[Array, " account"]
    opening_price: Float[Array, " account"]
    reward: Float[Array, " account"]
    refusal: Int[Array, " account"]


def start_auction(
    terms: AuctionTerms,
    vault: Vault,
    *,
    oracle_price: Float[Array, " account"],
    room: Float[Array, " account"],
) -> AuctionStart:
    """Return the auction of as much of each account as there is room for.

    `x = min(debt, room / (1 + penalty))`; if the account would be left with less than
    `minimum_debt` then `x = debt`, room or not; otherwise an auction of less than `minimum_debt`
    is refused. The lot is the same share of the collateral. Each account is treated as if it were
    the only one called: whoever calls several takes each target off the room of the next.

    Source: Maker dss dog.sol bark, clip.sol kick.

    Args:
        terms: of the collateral type.
        vault: the accounts.
        oracle_price: price as the venue sees it, stablecoin per unit of collateral.
        room: see `auction_room`.
    """
    zero = jnp.zeros_like(vault.debt)
    affordable = jnp.where(room > 0, room, zero) / (1.0 + terms.penalty)
    capped = smaller(vault.debt, floor_to(affordable, vault.debt_unit))
    dusty_rest = vault.debt - capped < terms.minimum_debt
    repaid = jnp.where(dusty_rest, vault.debt, capped)
    share = jnp.where(dusty_rest, jnp.ones_like(zero), capped / positive_or_one(vault.debt))
    whole = share >= 1
    seized = jnp.where(
        whole, vault.collateral, floor_to(vault.collateral * share, vault.collateral_unit)
    )
    refusal = jnp.where(seized > 0, AuctionRefusal.NONE, AuctionRefusal.NO_ROOM)
    partial = repaid < vault.debt
    refusal = jnp.where(partial & (repaid < terms.minimum_debt), AuctionRefusal.DUST, refusal)
    refusal = jnp.where(room > 0, refusal, AuctionRefusal.NO_ROOM)
    refusal = jnp.where(vault.backing >= vault.debt, AuctionRefusal.HEALTHY, refusal)
    goes = refusal == AuctionRefusal.NONE
    repaid, seized = jnp.where(goes, repaid, zero), jnp.where(goes, seized, zero)
    target = repaid * (1.0 + terms.penalty)
    return AuctionStart(
        repaid=repaid,
        seized=seized,
        fee=target - repaid,
        target=target,
        opening_price=jnp.where(goes, oracle_price * terms.opening_factor, zero),
        reward=jnp.where(goes, terms.reward + terms.reward_share * target, zero),
        refusal=refusal,
    )


def auction_room(
    terms: AuctionTerms,
    *,
    outstanding: Float[Array, "*account"],
    global_outstanding: Float[Array, "*account"],
    global_ceiling: Float[Array, "*account"],
) -> Float[Array, "*account"]:
    """Return how much more auctions may have to raise: the smaller of two ceilings' remainders.

    Source: Maker dss dog.sol bark (Hole and Dirt over all types, hole and dirt of one).

    Args:
        terms: of the collateral type, whose own ceiling is one of the two.
        outstanding: what running auctions of this type must still raise.
        global_outstanding: what all running auctions must still raise.
        global_ceiling: most that all auctions may have outstanding.
    """
    return smaller(global_ceiling - global_outstanding, terms.ceiling - outstanding)


@pytree
class Auction:
    """Running auctions; every leaf is `(auction,)`.

    Attributes:
        target: what is still to be raised, in the stablecoin.
        lot: collateral still for sale, in units.
        opening_price: first asking price, stablecoin per unit.
        elapsed: seconds since the auction started, or started again.
    """

    target: Float[Array, " auction"]
    lot: Float[Array, " auction"]
    opening_price: Float[Array, " auction"]
    elapsed: Float[Array, " auction"]


@pytree
class Purchase:
    """What a purchase moves; zero where refused. Every leaf is `(auction,)`.

    Attributes:
        repaid: paid by the buyer.
        seized: collateral bought, in units.
        refund: collateral returned to the borrower once the target is raised, in units.
        bad_debt: part of the target that will never be raised, the lot being sold out. It includes
            the penalty: the system itself lost the auctioned debt less all that was paid.
        released: by how much the outstanding auctions shrink.
        target: left to be raised.
        lot: left for sale.
        refusal: why nothing happens, as `AuctionRefusal` numbers.
    """

    repaid: Float[Array, " auction"]
    seized: Float[Array, " auction"]
    refund: Float[Array, " auction"]
    bad_debt: Float[Array, " auction"]
    released: Float[Array, " auction"]
    target: Float[Array, " auction"]
    lot: Float[Array, " auction"]
    refusal: Int[Array, " auction"]


def is_stale(
    terms: AuctionTerms, auction: Auction, fraction: Float[Array, " auction"]
) -> Bool[Array, " auction"]:
    """Return whether an auction has run too long or fallen too far to sell before a restart.

    Source: Maker dss clip.sol status.

    Args:
        terms: of the collateral type.
        auction: the auctions.
        fraction: asking price over opening price, from a price curve.
    """
    return (auction.elapsed > terms.maximum_duration) | (fraction < terms.price_floor)


def buy(
    terms: AuctionTerms,
    auction: Auction,
    fraction: Float[Array, " auction"],
    wanted: Float[Array, " auction"],
) -> Purchase:
    """Return the purchase of up to `wanted` units at the asking price.

    `s = min(wanted, lot)`, `x = s * price`. If `x` exceeds the target then `x = target`,
    `s = x / price`. If a partial purchase would leave less than `minimum_target` to be raised, it
    is lowered to leave exactly that much, or refused where the target is no larger.

    Source: Maker dss clip.sol take.

    Args:
        terms: of the collateral type.
        auction: the auctions.
        fraction: asking price over opening price, from a price curve.
        wanted: collateral asked for, in units.
    """
    zero = jnp.zeros_like(auction.lot)
    price = auction.opening_price * fraction
    asked = smaller(wanted, auction.lot)
    cost = asked * price
    # Whoever asks for target / price pays the target: a rounding error is not a leftover.
    over = cost >= (1.0 - 8.0 * jnp.finfo(cost.dtype).eps) * auction.target
    dusty = ~over & (asked < auction.lot)
    dusty = dusty & (auction.target - cost < terms.minimum_target)
    lowered = jnp.where(over, auction.target, auction.target - terms.minimum_target)
    repaid = jnp.where(over | dusty, lowered, cost)
    seized = smaller(lowered / positive_or_one(price), auction.lot)
    seized = jnp.where(over | dusty, seized, asked)
    left = jnp.where(over, zero, auction.target - cost)
    left = jnp.where(dusty, jnp.broadcast_to(terms.minimum_target, left.shape), left)
    refusal = jnp.where(
        dusty & (auction.target <= terms.minimum_target), AuctionRefusal.DUST, AuctionRefusal.NONE
    )
    refusal = jnp.where(is_stale(terms, auction, fraction), AuctionRefusal.STALE, refusal)
    goes = refusal == AuctionRefusal.NONE
    sold_out = goes & (seized >= auction.lot)
    raised = goes & (left <= 0) & ~sold_out
    repaid, seized = jnp.where(goes, repaid, zero), jnp.where(goes, seized, zero)
    rest = jnp.where(sold_out, zero, auction.lot - seized)
    bad_debt = jnp.where(sold_out, left, zero)
    over_now = sold_out | raised
    return Purchase(
        repaid=repaid,
        seized=seized,
        refund=jnp.where(raised, rest, zero),
        bad_debt=bad_debt,
        released=repaid + bad_debt,
        target=jnp.where(over_now, zero, jnp.where(goes, left, auction.target)),
        lot=jnp.where(over_now, zero, rest),
        refusal=refusal,
    )


@pytree
class Restart:
    """What starting an auction again changes; every leaf is `(auction,)`.

    Attributes:
        opening_price: of the auction from now on; unchanged where refused.
        reward: paid by the system to the caller.
        refusal: why nothing happens, as `AuctionRefusal` numbers.
    """

    opening_price: Float[Array, " auction"]
    reward: Float[Array, " auction"]
    refusal: Int[Array, " auction"]


def restart(
    terms: AuctionTerms,
    auction: Auction,
    fraction: Float[Array, " auction"],
    oracle_price: Float[Array, " auction"],
) -> Restart:
    """Return a stale auction's new opening price and the caller's reward.

    Only auctions worth the trouble are rewarded: both target and lot, at the oracle's price, at
    least `minimum_target`.

    Source: Maker dss clip.sol redo.

    Args:
        terms: of the collateral type.
        auction: the auctions.
        fraction: asking price over opening price, from a price curve.
        oracle_price: price as the venue sees it now, stablecoin per unit of collateral.
    """
    goes = is_stale(terms, auction, fraction)
    worth = (auction.target >= terms.minimum_target) & (
        auction.lot * oracle_price >= terms.minimum_target
    )
    reward = terms.reward + terms.reward_share * auction.target
    return Restart(
        opening_price=jnp.where(goes, oracle_price * terms.opening_factor, auction.opening_price),
        reward=jnp.where(goes & worth, reward, jnp.zeros_like(reward)),
        refusal=jnp.where(goes, AuctionRefusal.NONE, AuctionRefusal.NOT_STALE),
    )
