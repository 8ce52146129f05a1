"""How prices react to forced sales, and what the sales bring in.

Every impact law answers three questions about selling `volume` (numeraire) into `depth`: the log
price drop, the proceeds, and a volume whose average discount stays within a bound. Purchases mirror
sales: the log price rises by as much, so there are two more, the cost of a purchase and the volume
that moves the log price by a given amount. All are elementwise over assets.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.market.pool_impact import PoolImpact
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.smooth import safe_sqrt

Assets = Float[Array, " asset"]

# Below this log drop the closed form of square-root proceeds loses digits to cancellation. The
# series sum_k 2 (-y)^k / ((k + 2) k!) to this order is exact to 1e-12 there.
_SERIES_BELOW = 1.0
_SERIES = tuple(2.0 * (-1.0) ** k / ((k + 2) * math.factorial(k)) for k in range(15))


@pytree
class LinearImpact:
    """Log price falls by `coefficient * volume / depth`: Kyle's lambda, price itself exponential.

    Attributes:
        coefficient: `(asset,)` log drop caused by selling `depth`.
    """

    coefficient: Assets

    def of(self, asset: int) -> Self:
        """Return the law of one asset alone."""
        return dataclasses.replace(self, coefficient=self.coefficient[asset : asset + 1])

    def log_drop(self, volume: Assets, depth: Assets) -> Assets:
        """Return the log price drop `(asset,)`, >= 0."""
        return self.coefficient * volume / depth

    def proceeds(self, volume: Assets, depth: Assets) -> Assets:
        """Return what the sale brings: the integral of `exp(-drop)` over the volume sold."""
        y = self.log_drop(volume, depth)
        return volume * jnp.where(y > 0, -jnp.expm1(-y) / positive_or_one(y), 1.0)

    def volume_within(self, discount: Assets, depth: Assets) -> Assets:
        """Return a volume whose average discount is within `discount`: first order, cautious."""
        return 2.0 * _at_least_zero(discount) * depth / self.coefficient

    def cost(self, volume: Assets, depth: Assets) -> Assets:
        """Return what a purchase costs: the integral of `exp(rise)` over the volume bought."""
        y = self.log_drop(volume, depth)
        return volume * jnp.where(y > 0, jnp.expm1(y) / positive_or_one(y), 1.0)

    def volume_for(self, log_move: Assets, depth: Assets) -> Assets:
        """Return the volume that moves the log price by `log_move`."""
        return _at_least_zero(log_move) * depth / self.coefficient


@pytree
class SquareRootImpact:
    """Log price falls by `coefficient * sqrt(volume / depth)`.

    Source: square-root law of metaorders (Donier and Bonart 2015 for Bitcoin).

    Attributes:
        coefficient: `(asset,)` log drop caused by selling `depth`.
    """

    coefficient: Assets

    def of(self, asset: int) -> Self:
        """Return the law of one asset alone."""
        return dataclasses.replace(self, coefficient=self.coefficient[asset : asset + 1])

    def log_drop(self, volume: Assets, depth: Assets) -> Assets:
        """Return the log price drop `(asset,)`, >= 0."""
        return self.coefficient * safe_sqrt(volume / depth)

    def proceeds(self, volume: Assets, depth: Assets) -> Assets:
        """Return what the sale brings: `volume * 2 (1 - exp(-y)(1+y)) / y^2`, y the log drop."""
        y = self.log_drop(volume, depth)
        small = y < _SERIES_BELOW
        safe = jnp.where(small, jnp.ones_like(y), y)
        exact = 2.0 * (-jnp.expm1(-safe) - safe * jnp.exp(-safe)) / safe**2
        series = jnp.zeros_like(y)
        for term in reversed(_SERIES):
            series = term + y * series
        return volume * jnp.where(small, series, exact)

    def volume_within(self, discount: Assets, depth: Assets) -> Assets:
        """Return a volume whose average discount is within `discount`: first order, cautious."""
        return depth * (1.5 * _at_least_zero(discount) / self.coefficient) ** 2

    def cost(self, volume: Assets, depth: Assets) -> Assets:
        """Return what a purchase costs: `volume * 2 (1 - exp(y)(1-y)) / y^2`, y the log rise."""
        y = self.log_drop(volume, depth)
        small = y < _SERIES_BELOW
        safe = jnp.where(small, jnp.ones_like(y), y)
        exact = 2.0 * (1.0 - jnp.exp(safe) * (1.0 - safe)) / safe**2
        series = jnp.zeros_like(y)
        for term in reversed(_SERIES):
            series = abs(term) + y * series
        return volume * jnp.where(small, series, exact)

    def volume_for(self, log_move: Assets, depth: Assets) -> Assets:
        """Return the volume that moves the log price by `log_move`."""
        return depth * (_at_least_zero(log_move) / self.coefficient) ** 2


@pytree
class ExponentialImpact:
    """Price falls by `largest (1 - exp(-coefficient volume / (largest depth)))`, as a fraction.

    Linear for small sales, and no sale takes the price down by more than a largest fall, at which
    others buy all there is.

    Source: Cont and Schaanning 2017, market impact with a floor.

    Attributes:
        coefficient: `(asset,)` fall per `volume / depth` of a small sale.
        largest: `(asset,)` fall that no sale exceeds, as a fraction, inside (0, 1).
    """

    coefficient: Assets
    largest: Assets

    def of(self, asset: int) -> Self:
        """Return the law of one asset alone."""
        return dataclasses.replace(
            self,
            coefficient=self.coefficient[asset : asset + 1],
            largest=self.largest[asset : asset + 1],
        )

    def _decay(self, volume: Assets, depth: Assets) -> Assets:
        return self.coefficient * volume / (self.largest * depth)

    def log_drop(self, volume: Assets, depth: Assets) -> Assets:
        """Return the log price drop `(asset,)`, >= 0."""
        return -jnp.log1p(self.largest * jnp.expm1(-self._decay(volume, depth)))

    def proceeds(self, volume: Assets, depth: Assets) -> Assets:
        """Return what the sale brings: `V (1 - l) + l^2 D (1 - exp(-y)) / c`, `y` the decay."""
        y = self._decay(volume, depth)
        mean = jnp.where(y > 0, -jnp.expm1(-y) / positive_or_one(y), 1.0)
        return volume * (1.0 - self.largest * (1.0 - mean))

    def volume_within(self, discount: Assets, depth: Assets) -> Assets:
        """Return a volume whose average discount is within `discount`: first order, cautious."""
        return 2.0 * _at_least_zero(discount) * depth / self.coefficient

    def cost(self, volume: Assets, depth: Assets) -> Assets:
        """Return what a purchase costs: `V (y + log(1 - l + l exp(-y))) / (y (1 - l))`."""
        y = self._decay(volume, depth)
        rise = y + jnp.log1p(self.largest * jnp.expm1(-y))
        return volume * jnp.where(y > 0, rise / positive_or_one(y * (1.0 - self.largest)), 1.0)

    def volume_for(self, log_move: Assets, depth: Assets) -> Assets:
        """Return the volume that moves the log price by `log_move`, infinite where none does."""
        share = -jnp.expm1(-_at_least_zero(log_move)) / self.largest
        reached = share < 1
        decay = -jnp.log1p(-jnp.where(reached, share, jnp.zeros_like(share)))
        volume = decay * self.largest * depth / self.coefficient
        return jnp.where(reached, volume, jnp.full_like(volume, jnp.inf))


@pytree
class DepthCurveImpact:
    """Walks a book of bids: cumulative depth at quoted price falls, linear in between.

    A sale larger than the book is never clamped: beyond the last band the price goes on falling,
    exponentially at the rate of the last band, so that it stays positive and every further unit
    brings something.

    Attributes:
        fall: `(band,)` price falls as fractions, increasing, below 1.
        share: `(asset, band)` cumulative bids down to each fall, as multiples of depth,
            increasing.
    """

    fall: Float[Array, " band"]
    share: Float[Array, "asset band"]

    @classmethod
    def from_bands(
        cls,
        fall: Sequence[float],
        share: Sequence[float],
        *,
        assets: int,
        dtype: np.dtype | type | None = None,
    ) -> Self:
        """Return one book for all assets, from bids down to each of a few falls.

        Raises:
            ValueError: falls or cumulative bids that do not rise, or falls outside (0, 1).
        """
        problems = [
            f"{name} {list(values)}: expected numbers above 0 that rise from one to the next"
            for name, values in (("fall", fall), ("share", share))
            if list(values) != sorted(set(values)) or not all(x > 0 for x in values)
        ]
        if len(fall) != len(share) or not fall:
            problems.append("fall and share: expected as many, and at least one")
        if any(x >= 1 for x in fall):
            problems.append(f"fall {list(fall)}: expected fractions below 1")
        if problems:
            raise ValueError("\n".join(problems))
        array = lambda x: jnp.asarray(list(x), dtype or float)
        return cls(fall=array(fall), share=jnp.tile(array(share)[None, :], (assets, 1)))

    def of(self, asset: int) -> Self:
        """Return the law of one asset alone."""
        return dataclasses.replace(self, share=self.share[asset : asset + 1])

    def _walk(self, volume: Assets, depth: Assets) -> tuple[Array, Array, Array, Array]:
        """Return, of a sale, bids, fills, falls at the start of each band, and volume beyond.

        Bids and fills are `(asset, band)`, falls `(1, band)`, the volume beyond the book
        `(asset,)`.
        """
        bids = jnp.diff(self.share * depth[:, None], prepend=0.0)
        start = jnp.concatenate([jnp.zeros_like(self.fall[:1]), self.fall[:-1]])[None, :]
        left = volume[:, None] - (jnp.cumsum(bids, axis=-1) - bids)
        filled = _at_least_zero(jnp.where(left < bids, left, bids))
        return bids, filled, start, _at_least_zero(volume - jnp.sum(bids, axis=-1))

    def _beyond(self, bids: Array, start: Array) -> tuple[Array, Array]:
        """Return the price at the end of the book and the log drop per unit of volume beyond."""
        end = 1.0 - self.fall[-1]
        return end, (self.fall[-1] - start[:, -1]) / bids[:, -1] / end

    def log_drop(self, volume: Assets, depth: Assets) -> Assets:
        """Return the log price drop `(asset,)`, >= 0."""
        bids, filled, start, over = self._walk(volume, depth)
        fall = jnp.sum((self.fall[None, :] - start) * filled / bids, axis=-1)
        return -jnp.log1p(-fall) + self._beyond(bids, start)[1] * over

    def proceeds(self, volume: Assets, depth: Assets) -> Assets:
        """Return what the sale brings: each band's fill at its average price, then the tail."""
        bids, filled, start, over = self._walk(volume, depth)
        reached = start + (self.fall[None, :] - start) * filled / bids
        inside = jnp.sum(filled * (1.0 - (start + reached) / 2.0), axis=-1)
        end, rate = self._beyond(bids, start)
        return inside + end * -jnp.expm1(-rate * over) / rate

    def volume_within(self, discount: Assets, depth: Assets) -> Assets:
        """Return the bids down to a marginal fall of `discount`: a volume within that average."""
        bids = jnp.diff(self.share * depth[:, None], prepend=0.0)
        start = jnp.concatenate([jnp.zeros_like(self.fall[:1]), self.fall[:-1]])[None, :]
        part = (_at_least_zero(discount)[:, None] - start) / (self.fall[None, :] - start)
        inside = jnp.sum(bids * jnp.clip(part, 0.0, 1.0), axis=-1)
        _, rate = self._beyond(bids, start)
        further = jnp.where(discount > self.fall[-1], discount, self.fall[-1])
        further = jnp.where(further < 1.0, further, jnp.ones_like(further))
        # At a discount of all of the price there is no bound: the tail never reaches zero.
        return inside + (jnp.log1p(-self.fall[-1]) - jnp.log1p(-further)) / rate

    def cost(self, volume: Assets, depth: Assets) -> Assets:
        """Return what a purchase costs on a book of asks that mirrors the bids in log price."""
        bids, filled, start, over = self._walk(volume, depth)
        reached = start + (self.fall[None, :] - start) * filled / bids
        share = (reached - start) / (1.0 - reached)
        ratio = jnp.where(share > 0, jnp.log1p(share) / positive_or_one(share), 1.0)
        inside = jnp.sum(filled * ratio / (1.0 - reached), axis=-1)
        end, rate = self._beyond(bids, start)
        return inside + jnp.expm1(rate * over) / rate / end

    def volume_for(self, log_move: Assets, depth: Assets) -> Assets:
        """Return the volume that moves the log price by `log_move`."""
        return self.volume_within(-jnp.expm1(-log_move), depth)


ImpactLaw = LinearImpact | SquareRootImpact | ExponentialImpact | DepthCurveImpact | PoolImpact


def _at_least_zero(x: Array) -> Array:
    return jnp.where(x > 0, x, jnp.zeros_like(x))
