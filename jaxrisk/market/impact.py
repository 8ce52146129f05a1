"""How prices react to forced sales, and what the sales bring in.

Every impact law answers three questions about selling `volume` (numeraire) into `depth`:
the log price drop, the proceeds, and the largest volume whose average discount stays within a
bound. All are elementwise over assets.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.smooth import safe_sqrt

Assets = Float[Array, " asset"]

# Below this log drop the closed form of proceeds loses digits to cancellation; its series is exact
# to rounding there.
_SERIES_BELOW = 1e-2


@pytree
class LinearImpact:
    """Log price falls by `coefficient * volume / depth`: Kyle's lambda.

    Attributes:
        coefficient: `(asset,)` log drop caused by selling `depth`.
    """

    coefficient: Assets

    def log_drop(self, volume: Assets, depth: Assets) -> Assets:
        """Return the log price drop `(asset,)`, >= 0."""
        return self.coefficient * volume / depth

    def proceeds(self, volume: Assets, depth: Assets) -> Assets:
        """Return what the sale brings: the integral of `exp(-drop)` over the volume sold."""
        y = self.log_drop(volume, depth)
        small = y < _SERIES_BELOW
        safe = jnp.where(small, jnp.ones_like(y), y)
        exact = -jnp.expm1(-safe) / safe
        series = 1.0 - y / 2.0 + y**2 / 6.0 - y**3 / 24.0
        return volume * jnp.where(small, series, exact)

    def volume_within(self, discount: Assets, depth: Assets) -> Assets:
        """Return the largest volume whose average discount is at most `discount`, >= 0."""
        return 2.0 * _at_least_zero(discount) * depth / self.coefficient


@pytree
class SquareRootImpact:
    """Log price falls by `coefficient * sqrt(volume / depth)`.

    Source: square-root law of metaorders (Donier and Bonart 2015 for Bitcoin).

    Attributes:
        coefficient: `(asset,)` log drop caused by selling `depth`.
    """

    coefficient: Assets

    def log_drop(self, volume: Assets, depth: Assets) -> Assets:
        """Return the log price drop `(asset,)`, >= 0."""
        return self.coefficient * safe_sqrt(volume / depth)

    def proceeds(self, volume: Assets, depth: Assets) -> Assets:
        """Return what the sale brings: `volume * 2 (1 - exp(-y)(1+y)) / y^2`, y the log drop."""
        y = self.log_drop(volume, depth)
        small = y < _SERIES_BELOW
        safe = jnp.where(small, jnp.ones_like(y), y)
        exact = 2.0 * (-jnp.expm1(-safe) - safe * jnp.exp(-safe)) / safe**2
        series = 1.0 - 2.0 * y / 3.0 + y**2 / 4.0 - y**3 / 15.0
        return volume * jnp.where(small, series, exact)

    def volume_within(self, discount: Assets, depth: Assets) -> Assets:
        """Return the largest volume whose average discount is at most `discount`, >= 0."""
        return depth * (1.5 * _at_least_zero(discount) / self.coefficient) ** 2


@pytree
class DepthCurveImpact:
    """Walks a book of bids: cumulative depth at quoted price falls, linear in between.

    Beyond the last band the book continues with the last band's density: a sale larger than the
    book moves the price further, it is never clamped.

    Attributes:
        fall: `(band,)` price falls as fractions, increasing, below 1.
        share: `(asset, band)` cumulative bids down to each fall, as multiples of depth,
            increasing.
    """

    fall: Float[Array, " band"]
    share: Float[Array, "asset band"]

    def _filled(self, volume: Assets, depth: Assets) -> tuple[Array, Array, Array, Array]:
        """Return per band `(asset, band)`: bids, filled amount, fall at start, fall at end."""
        bids = jnp.diff(self.share * depth[:, None], prepend=0.0)
        start = jnp.concatenate([jnp.zeros_like(self.fall[:1]), self.fall[:-1]])[None, :]
        before = jnp.cumsum(bids, axis=-1) - bids
        room = bids.at[:, -1].set(jnp.inf)
        left = volume[:, None] - before
        filled = jnp.where(left > 0, jnp.where(left < room, left, room), jnp.zeros_like(left))
        return bids, filled, start, jnp.broadcast_to(self.fall[None, :], bids.shape)

    def _end_fall(self, volume: Assets, depth: Assets) -> Array:
        bids, filled, start, end = self._filled(volume, depth)
        return start + (end - start) * filled / bids

    def log_drop(self, volume: Assets, depth: Assets) -> Assets:
        """Return the log price drop `(asset,)`, >= 0."""
        _, filled, _, _ = self._filled(volume, depth)
        reached = jnp.where(filled > 0, self._end_fall(volume, depth), jnp.zeros_like(filled))
        fall = jnp.max(reached, axis=-1)
        # The extrapolated book is linear in the fall; past 99 % it ends in an exponential tail so
        # that the price stays positive.
        cap = 0.99
        over = jnp.where(fall > cap, fall - cap, jnp.zeros_like(fall))
        inside = jnp.where(fall > cap, jnp.full_like(fall, cap), fall)
        return -jnp.log1p(-inside) + over / (1.0 - cap)

    def proceeds(self, volume: Assets, depth: Assets) -> Assets:
        """Return what the sale brings: each band's fill at its average price."""
        _, filled, start, _ = self._filled(volume, depth)
        price = 1.0 - (start + self._end_fall(volume, depth)) / 2.0
        return jnp.sum(filled * jnp.where(price > 0, price, jnp.zeros_like(price)), axis=-1)

    def volume_within(self, discount: Assets, depth: Assets) -> Assets:
        """Return the bids down to a marginal fall of `discount`: a volume within that average."""
        bids = jnp.diff(self.share * depth[:, None], prepend=0.0)
        start = jnp.concatenate([jnp.zeros_like(self.fall[:1]), self.fall[:-1]])[None, :]
        width = self.fall[None, :] - start
        part = (_at_least_zero(discount)[:, None] - start) / width
        part = part.at[:, :-1].set(jnp.clip(part[:, :-1], 0.0, 1.0))
        return jnp.sum(bids * _at_least_zero(part), axis=-1)


ImpactLaw = LinearImpact | SquareRootImpact | DepthCurveImpact


def _at_least_zero(x: Array) -> Array:
    return jnp.where(x > 0, x, jnp.zeros_like(x))
