"""Who comes to bid: how many keepers an auction can expect, and how much the best of them offers.

An auction by bids sells at what it is worth only if somebody bids who has to compete. Where nobody
else comes while the first bid stands, whoever bid next to nothing has the lot for it. Whether
somebody comes is a matter of what a transaction costs and how soon it is included, of how many
auctions ask for the same keepers' capital, of whether the price moved since the call, and of
whether it is known by now that lots go for nothing.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree

REFERENCE_GAS_GWEI = 100.0
REFERENCE_VALUE = 1_000.0
REFERENCE_SECONDS = 600.0


@pytree
class AuctionConditions:
    """What a keeper sees of each auction; every leaf is `(auction,)`.

    Attributes:
        gas_price: what transactions pay for inclusion, gwei.
        open_auctions: auctions that ask for bids at the same time, this one included.
        market_over_oracle: market price over the price the venue saw.
        hours_known: hours since a lot first went for nothing, 0 before.
        lot_value: what the lot is worth at the market, numeraire.
        bidding_seconds: how long a bid must stand to win.
    """

    gas_price: Float[Array, " auction"]
    open_auctions: Float[Array, " auction"]
    market_over_oracle: Float[Array, " auction"]
    hours_known: Float[Array, " auction"]
    lot_value: Float[Array, " auction"]
    bidding_seconds: Float[Array, " auction"]


@pytree
class KeeperParticipation:
    """Law of who bids: competitors arrive independently, at a rate the conditions set.

        expected = exp(base) * (seconds / 600) * (gas_price / 100)^gas * open_auctions^backlog
                   * market_over_oracle^price * (1 + hours_known)^experience
                   * (lot_value / 1,000)^size
        P(nobody comes) = exp(-expected)
        P(best offer <= share * value | somebody comes) = share^k,   share in [0, 1],
        k = keenness * (1 + hours_known)^fading

    Every leaf is a scalar. Elasticities have the sign of their effect.

    Attributes:
        base: log of the competitors expected in ten minutes, one auction, at 100 gwei.
        gas: elasticity to the price of inclusion.
        backlog: elasticity to the auctions open at once.
        price: elasticity to the market price over the oracle's.
        experience: elasticity to the hours since lots went for nothing.
        size: elasticity to what the lot is worth.
        keenness: at first the best offer is `keenness / (1 + keenness)` of the value in the mean.
        fading: elasticity of keenness to the hours since lots went for nothing: below 0 where
            those who come later come for bargains.
    """

    base: Float[Array, ""]
    gas: Float[Array, ""]
    backlog: Float[Array, ""]
    price: Float[Array, ""]
    experience: Float[Array, ""]
    size: Float[Array, ""]
    keenness: Float[Array, ""]
    fading: Float[Array, ""]

    def expected_bidders(self, conditions: AuctionConditions) -> Float[Array, " auction"]:
        """Return how many competitors each auction can expect while a bid stands."""
        return jnp.exp(
            self.base
            + self.gas * jnp.log(conditions.gas_price / REFERENCE_GAS_GWEI)
            + self.backlog * jnp.log(conditions.open_auctions)
            + self.price * jnp.log(conditions.market_over_oracle)
            + self.experience * jnp.log1p(conditions.hours_known)
            + self.size * jnp.log(conditions.lot_value / REFERENCE_VALUE)
            + jnp.log(conditions.bidding_seconds / REFERENCE_SECONDS)
        )

    def unbid_probability(self, conditions: AuctionConditions) -> Float[Array, " auction"]:
        """Return the chance that nobody competes for each lot."""
        return jnp.exp(-self.expected_bidders(conditions))

    def offer_power(self, conditions: AuctionConditions) -> Float[Array, " auction"]:
        """Return `k` of each auction: how near the best offer comes to the value."""
        return self.keenness * jnp.exp(self.fading * jnp.log1p(conditions.hours_known))

    def mean_offer(
        self, conditions: AuctionConditions, limit: Float[Array, " auction"]
    ) -> Float[Array, " auction"]:
        """Return the mean of min(best offer, limit), both as shares of the lot's value.

        `c - c^(1 + k) / (1 + k)` with `c = min(limit, 1)`, given that somebody comes.
        """
        power = 1.0 + self.offer_power(conditions)
        c = jnp.clip(limit, 0.0, 1.0)
        return c - jnp.where(c > 0, positive_or_one(c) ** power, 0.0) / power


def log_likelihood(
    participation: KeeperParticipation,
    conditions: AuctionConditions,
    *,
    unbid: Bool[Array, " auction"],
    share: Float[Array, " auction"],
    weight: Float[Array, " auction"],
) -> Float[Array, ""]:
    """Return the weighted log-likelihood of what happened: which lots nobody bid for, and offers.

    Args:
        participation: the law.
        conditions: of each auction.
        unbid: whether nobody competed.
        share: winning bid as a share of the lot's value, in (0, 1]; not looked at where unbid.
        weight: of each auction, its lot for instance, so that quantities are what is matched.
    """
    expected = participation.expected_bidders(conditions)
    # log(1 - exp(-x)); the inner `where` keeps the branch not taken, and its slope, finite.
    came = jnp.log(-jnp.expm1(-jnp.where(unbid, jnp.ones_like(expected), expected)))
    offered = jnp.where(unbid, jnp.ones_like(share), share)
    power = participation.offer_power(conditions)
    offer = jnp.log(power) + (power - 1.0) * jnp.log(offered)
    return jnp.sum(weight * jnp.where(unbid, -expected, came + offer))
