"""Seized collateral sold by bids: what auctions raise where keepers may stay away.

Bids rise until one pays the target; from then on bidders pay the target for ever less of the lot,
and what is left goes back to the owner. The first bid may be next to nothing, and wins if no other
comes while it stands.

Source: Maker dss flip.sol (tend, dent, deal), as of 2019 and 2020.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.keys import random_words, uniform
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.bid_auction import (
    BidAuction,
    BidRules,
    lower_lot,
    raise_bid,
    settle,
)
from jaxrisk.venue.participation import AuctionConditions, KeeperParticipation

NEXT_TO_NOTHING = 1e-9
"""The first bid, in units of the debt asset: any number above zero is one."""


@pytree
class SeizedLots:
    """Lots put up for bids; every leaf is `(auction,)`.

    Attributes:
        lot: collateral, in units.
        price: market price of a unit, in units of the debt asset.
        debt: what the venue is owed.
        target: what the auction is to raise: the debt and its penalty.
    """

    lot: Float[Array, " auction"]
    price: Float[Array, " auction"]
    debt: Float[Array, " auction"]
    target: Float[Array, " auction"]


@pytree
class BidSale:
    """What auctions did, or are expected to do; every leaf is `(auction,)`.

    Attributes:
        unbid: share of the auctions for which nobody competed: 0, 1 or a probability.
        unbid_lot: collateral that went for nothing, in units.
        raised: what was paid, in the debt asset; at most the target.
    """

    unbid: Float[Array, " auction"]
    unbid_lot: Float[Array, " auction"]
    raised: Float[Array, " auction"]

    def deficit(self, lots: SeizedLots) -> Float[Array, " auction"]:
        """Return what the venue is owed less what was raised; penalties paid make it negative."""
        return lots.debt - self.raised


def expected_sale(
    participation: KeeperParticipation, conditions: AuctionConditions, lots: SeizedLots
) -> BidSale:
    """Return the expected outcome of each auction: smooth in the parameters of the law."""
    unbid = participation.unbid_probability(conditions)
    value = lots.lot * lots.price
    offer = participation.mean_offer(conditions, lots.target / positive_or_one(value))
    return BidSale(unbid=unbid, unbid_lot=unbid * lots.lot, raised=(1.0 - unbid) * value * offer)


def sampled_sale(
    participation: KeeperParticipation,
    conditions: AuctionConditions,
    lots: SeizedLots,
    rules: BidRules,
    key: Key[Array, ""],
) -> BidSale:
    """Return one outcome of each auction, played by the rules of rising bids and falling lots.

    Somebody bids next to nothing at once. Where a competitor comes, halfway through the time that
    bid stands, he offers what the lot is worth to him, and where that is more than the target he
    takes less of the lot instead.

    Args:
        participation: the law of who comes and what he offers.
        conditions: of each auction; `rules.bid_duration` should be their `bidding_seconds`.
        lots: what is for sale.
        rules: of the auctions.
        key: of this sample.
    """
    count = lots.lot.shape[0]
    draws = uniform(random_words(key, 2 * count), lots.lot.dtype)
    comes = draws[:count] > participation.unbid_probability(conditions)
    share = draws[count:] ** (1.0 / participation.offer_power(conditions))
    zero, nothing = jnp.zeros_like(lots.lot), jnp.full_like(lots.lot, NEXT_TO_NOTHING)
    opening = BidAuction(
        bid=zero,
        lot=lots.lot,
        expires=jnp.full_like(lots.lot, jnp.inf),
        ends=zero + rules.duration,
    )
    auction, _ = raise_bid(rules, opening, nothing, zero)
    auction = _competed(rules, auction, lots, share, comes)
    won = settle(auction, auction.expires + 1.0) == 0
    unbid = (won & (auction.bid <= NEXT_TO_NOTHING)).astype(lots.lot.dtype)
    return BidSale(
        unbid=unbid, unbid_lot=unbid * lots.lot, raised=jnp.where(won, auction.bid, zero)
    )


def _competed(
    rules: BidRules,
    auction: BidAuction,
    lots: SeizedLots,
    share: Float[Array, " auction"],
    comes: Bool[Array, " auction"],
) -> BidAuction:
    """Return the auctions after the best competitor's bid, where one comes."""
    now = 0.5 * rules.bid_duration
    offer = share * lots.lot * lots.price
    # A bid of zero is refused: that is how nobody bids.
    bid = jnp.where(comes, smaller(offer, lots.target), jnp.zeros_like(offer))
    auction, _ = raise_bid(rules, auction, bid, now)
    wanted = lots.lot * lots.target / positive_or_one(offer)
    lot = jnp.where(comes & (offer > lots.target), wanted, auction.lot)
    after, _ = lower_lot(rules, auction, lot, now)
    return after
