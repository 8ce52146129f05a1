"""Auctions by rising bids or falling lots, as venues use to sell surplus or to cover debt."""

from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.pytree import pytree


class BidRefusal(IntEnum):
    """Why a bid, a settlement or a restart does not go through; data, not an exception."""

    NONE = 0
    BID_EXPIRED = 1
    ENDED = 2
    TOO_SMALL_A_STEP = 3
    NOT_FINISHED = 4
    HAS_BID = 5


@pytree
class BidRules:
    """What governs bid auctions; every leaf is a scalar or `(auction,)`.

    Attributes:
        step: smallest factor between two bids (or between two lots, where lots fall), above 1.
        bid_duration: time a bid stands before it wins.
        duration: time after which an auction ends whatever is bid.
        restart_factor: by how much the lot of a debt auction grows where nobody bid.
    """

    step: Float[Array, "*auction"]
    bid_duration: Float[Array, "*auction"]
    duration: Float[Array, "*auction"]
    restart_factor: Float[Array, "*auction"]


@pytree
class BidAuction:
    """Running auctions; every leaf is `(auction,)`. Times are on the caller's clock, in its unit.

    Attributes:
        bid: what the best bidder pays.
        lot: what the best bidder gets.
        expires: when the best bid wins; infinite while there is none.
        ends: when the auction ends whatever is bid.
    """

    bid: Float[Array, " auction"]
    lot: Float[Array, " auction"]
    expires: Float[Array, " auction"]
    ends: Float[Array, " auction"]


BidOutcome = tuple[BidAuction, Int[Array, " auction"]]


def raise_bid(
    rules: BidRules,
    auction: BidAuction,
    bid: Float[Array, " auction"],
    now: Float[Array, "*auction"],
) -> BidOutcome:
    """Return the auctions after a higher bid for the same lot, and `BidRefusal` numbers.

    Source: Maker dss flap.sol tend.
    """
    enough = (bid > auction.bid) & (bid >= rules.step * auction.bid)
    refusal = _bid_refusal(auction, enough, now)
    return _after_bid(rules, auction, refusal, bid=bid, lot=auction.lot, now=now), refusal


def lower_lot(
    rules: BidRules,
    auction: BidAuction,
    lot: Float[Array, " auction"],
    now: Float[Array, "*auction"],
) -> BidOutcome:
    """Return the auctions after someone takes less for the same payment, and `BidRefusal` numbers.

    Source: Maker dss flop.sol dent.
    """
    enough = (lot < auction.lot) & (rules.step * lot <= auction.lot)
    refusal = _bid_refusal(auction, enough, now)
    return _after_bid(rules, auction, refusal, bid=auction.bid, lot=lot, now=now), refusal


def settle(auction: BidAuction, now: Float[Array, "*auction"]) -> Int[Array, " auction"]:
    """Return `BidRefusal` numbers: an auction is won once it has a bid and a clock has run out.

    Source: Maker dss flap.sol deal, flop.sol deal.
    """
    won = jnp.isfinite(auction.expires) & ((auction.expires < now) | (auction.ends < now))
    return jnp.where(won, BidRefusal.NONE, BidRefusal.NOT_FINISHED)


def reopen(rules: BidRules, auction: BidAuction, now: Float[Array, "*auction"]) -> BidOutcome:
    """Return auctions that ended without a bid with a larger lot, and `BidRefusal` numbers.

    Source: Maker dss flop.sol tick; flap.sol tick with a `restart_factor` of 1.
    """
    untouched = jnp.isinf(auction.expires)
    refusal = jnp.where(untouched, BidRefusal.NONE, BidRefusal.HAS_BID)
    refusal = jnp.where(auction.ends < now, refusal, BidRefusal.NOT_FINISHED)
    goes = refusal == BidRefusal.NONE
    after = BidAuction(
        bid=auction.bid,
        lot=jnp.where(goes, rules.restart_factor * auction.lot, auction.lot),
        expires=auction.expires,
        ends=jnp.where(goes, now + rules.duration, auction.ends),
    )
    return after, refusal


def _bid_refusal(auction: BidAuction, enough: Array, now: Array) -> Array:
    refusal = jnp.where(enough, BidRefusal.NONE, BidRefusal.TOO_SMALL_A_STEP)
    refusal = jnp.where(auction.ends > now, refusal, BidRefusal.ENDED)
    return jnp.where(auction.expires > now, refusal, BidRefusal.BID_EXPIRED)


def _after_bid(
    rules: BidRules, auction: BidAuction, refusal: Array, *, bid: Array, lot: Array, now: Array
) -> BidAuction:
    goes = refusal == BidRefusal.NONE
    return BidAuction(
        bid=jnp.where(goes, bid, auction.bid),
        lot=jnp.where(goes, lot, auction.lot),
        expires=jnp.where(goes, now + rules.bid_duration, auction.expires),
        ends=auction.ends,
    )
