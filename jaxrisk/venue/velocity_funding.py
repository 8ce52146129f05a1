"""Funding whose *rate of change*, not its level, follows the skew of a market."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree

Markets = Float[Array, "*market"]


@pytree
class FundingState:
    """Where funding stands; every leaf is `(*market,)`.

    Attributes:
        rate: funding rate per unit of time; longs pay while it is positive.
        paid: cumulated since the start to a holder of one unit long, numeraire; negative where
            longs have paid. A short gets the opposite.
    """

    rate: Markets
    paid: Markets


@pytree
class VelocityFunding:
    """A funding rate that drifts with the skew: `dF/dt = clip(skew / scale, -1, 1) x velocity`.

    A lasting skew makes the rate rise without limit until someone takes the other side, and a
    balanced market keeps whatever rate it has. Between two moments the rate is linear in time, so
    its mean is that of both ends: a holder of one unit is paid `-(F0 + F1) / 2 x t x P`.

    Times and rates are in any one unit; presets use years.

    Source: Synthetix v3, PerpsMarket `currentFundingVelocity`, `currentFundingRate`,
    `unrecordedFunding`, `recomputeFunding`.

    Attributes:
        scale: skew at which the velocity is at its maximum, units of the contract; zero for no
            funding.
        velocity: largest change of the rate per unit of time, per unit of time.
    """

    scale: Markets
    velocity: Markets

    def drift(self, skew: Markets) -> Markets:
        """Return how fast the rate changes.

        Args:
            skew: sum of signed sizes, units of the contract.
        """
        safe = jnp.where(self.scale > 0, self.scale, jnp.ones_like(self.scale))
        share = jnp.clip(skew / safe, -1.0, 1.0)
        return jnp.where(self.scale > 0, share * self.velocity, jnp.zeros_like(share))

    def advance(
        self, state: FundingState, skew: Markets, price: Markets, elapsed: Markets
    ) -> FundingState:
        """Return the state after `elapsed` of an unchanged skew, paid at the price of its end.

        Args:
            state: at the start.
            skew: sum of signed sizes over the time.
            price: numeraire per unit of the contract, at the end.
            elapsed: units of time, >= 0.
        """
        rate = state.rate + self.drift(skew) * elapsed
        mean = (state.rate + rate) / 2.0
        return FundingState(rate=rate, paid=state.paid - mean * elapsed * price)


def funding_received(
    size: Float[Array, "..."], paid: Float[Array, "..."], since: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Return what funding has brought a position: `q (paid - since)`.

    Source: Synthetix v3, Position `getPnl`.

    Args:
        size: signed size, units of the contract.
        paid: cumulated funding of one unit now.
        since: the same when the position was last settled.
    """
    return size * (paid - since)
