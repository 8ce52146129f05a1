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
        return _within(premium / self.period + self.interest, self.cap)


@pytree
class ClampedFunding:
    """The average premium, moved towards interest by no more than a clamp, within bounds.

    `F = P + clip(I - P, -clamp, clamp)` over a period: within the clamp of interest only that is
    paid. Clamp and interest of zero leave the premium itself.

    Source: Binance, Bybit, BitMEX and Hyperliquid, funding; OKX, funding (no interest, no clamp).

    Attributes:
        period: `(contract,)` years over which F is paid once.
        interest: `(contract,)` I, of notional in a period.
        clamp: `(contract,)` of notional in a period.
        cap: `(contract,)` largest rate in either direction, per year.
    """

    period: Float[Array, "*contract"]
    interest: Float[Array, "*contract"]
    clamp: Float[Array, "*contract"]
    cap: Float[Array, "*contract"]

    def rate(self, premium: Prices) -> Prices:
        """Return the funding rate per year.

        Args:
            premium: average over an interval, as a fraction of the index.
        """
        towards = _within(self.interest - premium, self.clamp)
        return _within((premium + towards) / self.period, self.cap)


@pytree
class DeadBandFunding:
    """What of the premium lies beyond a band around zero, within bounds.

    `F = P - clip(P, -band, band)` over a period, paid continuously.

    Source: Deribit, funding of perpetuals, `max(d, P) + min(-d, P)`.

    Attributes:
        period: `(contract,)` years over which F is paid once.
        band: `(contract,)` premium within which nothing is paid.
        cap: `(contract,)` largest rate in either direction, per year.
    """

    period: Float[Array, "*contract"]
    band: Float[Array, "*contract"]
    cap: Float[Array, "*contract"]

    def rate(self, premium: Prices) -> Prices:
        """Return the funding rate per year.

        Args:
            premium: of the mark price over the index, as a fraction of the index.
        """
        return _within((premium - _within(premium, self.band)) / self.period, self.cap)


def _within(value: Array, bound: Array) -> Array:
    """Return a value, no further from zero than a bound."""
    return -smaller(-smaller(value, bound), bound)


def rising_average(samples: Float[Array, "time contract"]) -> Prices:
    """Return the mean of samples weighted by their place: the last counts most.

    Source: Binance, Introduction to Futures Funding Rates: weights 1, 2, ..., n.

    Args:
        samples: of the premium, oldest first.
    """
    count = samples.shape[0]
    weight = jnp.arange(1, count + 1, dtype=samples.dtype)[:, None]
    return jnp.sum(samples * weight, axis=0) / (count * (count + 1) / 2)


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
