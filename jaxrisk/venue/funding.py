"""Funding of perpetual contracts by their premium over the index: rate, and what has been paid."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.pytree import pytree

Prices = Float[Array, " contract"]


def impact_premium(index: Prices, bid: Prices, ask: Prices) -> Prices:
    """Return by how much the book lies off the index: `((bid - S)+ - (S - ask)+) / S`.

    Zero while the index lies between what a stated amount sells and buys for.

    Source: Derive v2 PerpAsset.sol `_getPremium`; the premium index of most venues.

    Args:
        index: price of the underlying.
        bid: mean price at which a stated amount could be sold.
        ask: mean price at which it could be bought, at least `bid`.
    """
    zero = jnp.zeros_like(index)
    above, below = bid - index, index - ask
    lies = jnp.where(above > 0, above, zero) - jnp.where(below > 0, below, zero)
    return lies / index


@pytree
class PremiumFunding:
    """A rate that would pay the premium back over a stated time, plus interest, within bounds.

    `F = clip(premium / period + interest, -cap, cap)`; longs pay shorts where it is positive.

    Source: Derive v2 PerpAsset.sol `_getFundingRate`.

    Attributes:
        period: `(contract,)` years over which a lasting premium is paid once.
        interest: `(contract,)` rate at no premium, per year.
        cap: `(contract,)` largest rate in either direction, per year.
    """

    period: Float[Array, "*contract"]
    interest: Float[Array, "*contract"]
    cap: Float[Array, "*contract"]

    def rate(self, premium: Prices) -> Prices:
        """Return the funding rate per year."""
        rate = smaller(premium / self.period + self.interest, self.cap)
        return -smaller(-rate, self.cap)


def funding_paid(paid: Prices, rate: Prices, index: Prices, years: Float[Array, ""]) -> Prices:
    """Return what a long of one unit has paid since the contract began, `years` on.

    Args:
        paid: before; starts at 0.
        rate: funding rate per year.
        index: price of the underlying.
        years: since `paid` was taken.
    """
    return paid + rate * index * years


@pytree
class PerpetualPositions:
    """Positions in perpetual contracts with what they earned since they were opened.

    Profit is taken into `settled` whenever the size changes, so that what is pending is linear in
    the size held since.

    Attributes:
        size: `(contract, account)` units, negative where short.
        mark: `(contract, account)` mark price up to which profit is in `settled`.
        paid: `(contract, account)` funding index up to which funding is in `settled`.
        settled: `(contract, account)` cash earned and not yet taken out, numeraire.
    """

    size: Float[Array, "contract account"]
    mark: Float[Array, "contract account"]
    paid: Float[Array, "contract account"]
    settled: Float[Array, "contract account"]

    def cash(self, mark: Prices, paid: Prices) -> Float[Array, "contract account"]:
        """Return what the positions have earned: price moves less funding, settled or not.

        Source: Derive v2 PerpAsset.sol `getUnsettledAndUnrealizedCash`.

        Args:
            mark: mark price.
            paid: funding index: what a long of one unit has paid since the contract began, the
                sum of rate x time x index price.
        """
        earned = (mark[:, None] - self.mark) - (paid[:, None] - self.paid)
        return self.settled + self.size * earned

    def traded(
        self, change: Float[Array, "contract account"], mark: Prices, paid: Prices
    ) -> "PerpetualPositions":
        """Return the positions after trades at the mark price; nothing is earned by a trade itself.

        Args:
            change: units bought, negative where sold.
            mark: as in `cash`.
            paid: as in `cash`.
        """
        return PerpetualPositions(
            size=self.size + change,
            mark=jnp.broadcast_to(mark[:, None], self.size.shape),
            paid=jnp.broadcast_to(paid[:, None], self.size.shape),
            settled=self.cash(mark, paid),
        )
