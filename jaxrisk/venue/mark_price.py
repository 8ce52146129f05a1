"""The price positions are marked at: built from prices elsewhere, so that no one trade moves it.

An index is made of spot prices of several sources; a mark price is the middle one of several
estimates of the contract's price. Prices are `(contract,)`, sources come first.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree

Prices = Float[Array, " contract"]
Sources = Float[Array, "source contract"]


def weighted_median(price: Sources, weight: Sources) -> Prices:
    """Return the price up to which half of all weight lies, the mean of two where it lies between.

    Source: Hyperliquid documentation, Oracle.

    Args:
        price: by source.
        weight: at least 0, not all 0; a source without takes no part.
    """
    order = jnp.argsort(price, axis=0)
    price = jnp.take_along_axis(price, order, axis=0)
    weight = jnp.take_along_axis(weight, order, axis=0)
    below = jnp.cumsum(weight, axis=0)
    half = 0.5 * below[-1]
    at = lambda reached: jnp.take_along_axis(price, jnp.argmax(reached, axis=0)[None], axis=0)[0]
    return 0.5 * (at(below >= half[None]) + at(below > half[None]))


def middle(first: Prices, second: Prices, third: Prices) -> Prices:
    """Return the median of three prices.

    Source: Binance and Bybit, mark price of perpetuals; Hyperliquid, Robust price indices.
    """
    low = jnp.where(first < second, first, second)
    high = jnp.where(first < second, second, first)
    return jnp.where(third < low, low, jnp.where(third > high, high, third))


@pytree
class SourceIndex:
    """A weighted mean of spot prices that leaves out one source gone astray.

    A source further than `limit` from the median of all counts nothing; if more than one is, the
    index is the median.

    Source: Binance, Mark Price in USDⓈ-Margined Futures, protections of the price index.

    Attributes:
        limit: largest distance from the median, as a fraction of it.
    """

    limit: Float[Array, ""]

    def price(self, price: Sources, weight: Sources) -> Prices:
        """Return the index.

        Args:
            price: by source.
            weight: by source, at least 0.
        """
        median = weighted_median(price, jnp.ones_like(price))
        astray = jnp.abs(price - median[None]) > self.limit * median[None]
        kept = jnp.where(astray, jnp.zeros_like(weight), weight)
        mean = jnp.sum(price * kept, axis=0) / positive_or_one(jnp.sum(kept, axis=0))
        several = (jnp.sum(astray, axis=0) > 1) | (jnp.sum(kept, axis=0) == 0)
        return jnp.where(several, median, mean)


def funding_price(index: Prices, rate: Prices, years: Prices) -> Prices:
    """Return the index with the funding still to be paid: `S (1 + F t)`.

    Source: Binance and Bybit, Price 1; BitMEX, Fair Price Marking.

    Args:
        index: price of the underlying.
        rate: last funding rate, per year.
        years: until the next payment.
    """
    return index * (1.0 + rate * years)


@pytree
class DecayingAverage:
    """An average of samples that last, each weighted by how long, older ones by less.

    Source: Hyperliquid, Robust price indices: numerator and denominator decay alike.

    Attributes:
        weighted: sum of samples times durations.
        weight: sum of durations.
    """

    weighted: Prices
    weight: Prices

    @property
    def value(self) -> Prices:
        """The average; 0 before the first sample."""
        return self.weighted / positive_or_one(self.weight)

    def after(
        self, sample: Prices, years: Float[Array, ""], memory: Float[Array, ""]
    ) -> "DecayingAverage":
        """Return the average with one more sample.

        Args:
            sample: of the price or basis.
            years: since the last one.
            memory: years after which a sample counts for 1/e of what it did.
        """
        kept = jnp.exp(-years / memory)
        return DecayingAverage(
            weighted=self.weighted * kept + sample * years, weight=self.weight * kept + years
        )
