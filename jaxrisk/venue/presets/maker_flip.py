"""Maker's auctions of ETH-A as they were until March 2020, and who came to bid on 12 and 13 March.

Source of the rules: makerdao/dss, src/flip.sol (smallest step and longest duration are the
contract's defaults); vault type ETH-A: liquidation ratio 150 %, penalty 13 %. Bids stood for ten
minutes: of the 4,848 closed auctions in the record 95 % were closed more than 600 seconds after
the winning bid.

Source of the law: maximum likelihood over the 4,865 recorded auctions (18 November 2019 to
13 April 2020), each weighted by its lot, so that it is quantities of ETH that are matched.
"""

import jax.numpy as jnp

from jaxrisk.venue.bid_auction import BidRules
from jaxrisk.venue.participation import KeeperParticipation

LIQUIDATION_RATIO = 1.5
PENALTY = 0.13
BIDDING_SECONDS = 600.0
LATER_BIDDING_SECONDS = 21_600.0
"""What governance made of it after the event: six hours."""


def bid_rules(bidding_seconds: float = BIDDING_SECONDS) -> BidRules:
    """Return the rules of the auctions, times in seconds."""
    return BidRules(
        step=jnp.asarray(1.05),
        bid_duration=jnp.asarray(bidding_seconds),
        duration=jnp.asarray(172_800.0),
        restart_factor=jnp.asarray(1.0),
    )


def keeper_participation() -> KeeperParticipation:
    """Return the law of who bid, fitted to the recorded auctions."""
    return KeeperParticipation(
        base=jnp.asarray(8.7668),
        gas=jnp.asarray(-2.2964),
        backlog=jnp.asarray(-1.7505),
        price=jnp.asarray(12.3366),
        experience=jnp.asarray(0.8171),
        size=jnp.asarray(-0.0870),
        keenness=jnp.asarray(14.2634),
        fading=jnp.asarray(-0.6605),
    )
