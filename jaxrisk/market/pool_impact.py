"""Sales into a liquidity pool as an impact law: constant product, or liquidity placed in ranges.

With `u` the root of the price before over the price after, a range of liquidity `L` (numeraire at
the price before) takes `L du` of the coin sold and gives `L d(-1/u)`: the swaps of
`jaxrisk.market.constant_product` and `jaxrisk.market.concentrated_liquidity`, seen from the price
of the moment.
"""

import dataclasses
from collections.abc import Sequence
from typing import Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.smooth import safe_sqrt

Assets = Float[Array, " asset"]
Ranges = Float[Array, "asset range"]

# A sale that may lose everything has no bound; this much of the price is always asked for.
_LEAST_PRICE = 1e-9


@pytree
class PoolImpact:
    """A pool that trades along ranges of liquidity, the last of which never ends.

    The depth of an asset is the pool's reserve of the other coin, were its first range to go on for
    ever. Every sale finds the ranges as they lie below the price of its moment: providers follow.
    Purchases mirror sales in the log of the price, as in all laws; fees are paid on both.

    Source: Uniswap v2 UniswapV2Pair `swap`; Uniswap v3 SwapMath `computeSwapStep`.

    Attributes:
        ends: `(range - 1,)` falls of the price at which a range ends, as fractions, increasing;
            empty for constant product.
        liquidity: `(asset, range)` liquidity of each range, as multiples of depth.
        fee: `(asset,)` fraction of what is sold that is charged.
    """

    ends: Float[Array, " edge"]
    liquidity: Ranges
    fee: Assets

    @classmethod
    def from_ranges(
        cls,
        ends: Sequence[float],
        liquidity: Sequence[float],
        *,
        fee: float,
        assets: int,
        dtype: np.dtype | type | None = None,
    ) -> Self:
        """Return one law for all assets.

        Args:
            ends: falls at which ranges end, none for constant product.
            liquidity: of each range, multiples of depth; one more than `ends`.
            fee: of every pool.
            assets: number of assets.
            dtype: floating-point type; JAX's default where not given.

        Raises:
            ValueError: ends that do not rise inside (0, 1), a range without liquidity, or a fee
                outside [0, 1).
        """
        problems = []
        rising = list(ends) == sorted(set(ends))
        if not rising or not all(0 < end < 1 for end in ends):
            problems.append(f"ends {list(ends)}: expected fractions in (0, 1) that rise")
        if len(liquidity) != len(ends) + 1:
            problems.append(f"liquidity: expected {len(ends) + 1} numbers, one for each range")
        if not all(x > 0 for x in liquidity):
            problems.append(f"liquidity {list(liquidity)}: a range without any has no price")
        if not 0 <= fee < 1:
            problems.append(f"fee {fee:g}: expected a fraction in [0, 1)")
        if problems:
            raise ValueError("\n".join(problems))
        array = lambda x: jnp.asarray(x, dtype or float)
        return cls(
            ends=array(list(ends)),
            liquidity=jnp.tile(array(list(liquidity))[None, :], (assets, 1)),
            fee=jnp.full(assets, array(fee)),
        )

    def of(self, asset: int) -> Self:
        """Return the law of one asset alone."""
        return dataclasses.replace(
            self, liquidity=self.liquidity[asset : asset + 1], fee=self.fee[asset : asset + 1]
        )

    def _ranges(self, depth: Assets) -> tuple[Ranges, Float[Array, "1 range"], Ranges]:
        """Return liquidity, where each range starts in `u`, and what it takes before it ends."""
        liquidity = self.liquidity * depth[:, None]
        later = 1.0 / jnp.sqrt(1.0 - self.ends)
        start = jnp.concatenate([jnp.ones_like(self.liquidity[0, :1]), later])[None, :]
        ending = liquidity[:, :-1] * jnp.diff(start)
        takes = jnp.concatenate([ending, jnp.full_like(liquidity[:, :1], jnp.inf)], axis=1)
        return liquidity, start, takes

    def _walk(
        self, volume: Assets, depth: Assets
    ) -> tuple[Ranges, Ranges, Float[Array, "1 range"]]:
        """Return what goes into each range, net of fees, its liquidity and its start."""
        liquidity, start, takes = self._ranges(depth)
        left = (volume * (1.0 - self.fee))[:, None] - _sum_before(takes)
        filled = jnp.where(left < takes, left, takes)
        # A first unit goes into the first range: at nothing sold the slope is its own.
        return jnp.where(filled < 0, jnp.zeros_like(filled), filled), liquidity, start

    def log_drop(self, volume: Assets, depth: Assets) -> Assets:
        """Return the log price drop `(asset,)`, >= 0."""
        filled, liquidity, _ = self._walk(volume, depth)
        return 2.0 * jnp.log1p(jnp.sum(filled / liquidity, axis=1))

    def proceeds(self, volume: Assets, depth: Assets) -> Assets:
        """Return what the sale brings: of each range `filled / (u u')`, with u' where it ends."""
        filled, liquidity, start = self._walk(volume, depth)
        return jnp.sum(filled / (start * (start + filled / liquidity)), axis=1)

    def volume_within(self, discount: Assets, depth: Assets) -> Assets:
        """Return the volume whose average discount, fee included, is `discount`: exact.

        Where `P` has come out for `N` before a range that starts at `s`, the sale that brings `g`
        of its net volume goes on there by `w` in `u`, the positive root of
        `g L s w^2 - (A s + L (1 - g s^2)) w - A s^2`, with `A = P - g N`.
        """
        liquidity, s, takes = self._ranges(depth)
        end = jnp.concatenate([s[:, 1:], jnp.full_like(s[:, :1], jnp.inf)], axis=1)
        price = (1.0 - discount) / (1.0 - self.fee)
        g = jnp.where(price > _LEAST_PRICE, price, _LEAST_PRICE)[:, None]
        slack = _sum_before(liquidity * (1.0 / s - 1.0 / end)) - g * _sum_before(takes)
        a = _at_least_zero(slack)
        b = a * s + liquidity * (1.0 - g * s**2)
        root = safe_sqrt(b**2 + 4.0 * g * liquidity * a * s**3)
        # Of the two forms of a root, the one in which nothing cancels.
        forth = (b + root) / (2.0 * g * liquidity * s)
        back = 2.0 * a * s**2 / jnp.where(b < 0, root - b, jnp.ones_like(b))
        reach = liquidity * jnp.where(b < 0, back, forth)
        inside = jnp.where(reach < takes, reach, takes)
        inside = jnp.where(slack >= 0, inside, jnp.zeros_like(inside))
        return jnp.sum(inside, axis=1) / (1.0 - self.fee)

    def cost(self, volume: Assets, depth: Assets) -> Assets:
        """Return what a purchase costs: of each range `L (u'^3 - u^3) / 3`, fees on top."""
        filled, liquidity, start = self._walk(volume, depth)
        end = start + filled / liquidity
        paid = jnp.sum(filled * (start**2 + start * end + end**2) / 3.0, axis=1)
        return paid / (1.0 - self.fee) ** 2

    def volume_for(self, log_move: Assets, depth: Assets) -> Assets:
        """Return the volume that moves the log price by `log_move`."""
        liquidity, start, takes = self._ranges(depth)
        reach = liquidity * (jnp.exp(_at_least_zero(log_move) / 2.0)[:, None] - start)
        inside = _at_least_zero(jnp.where(reach < takes, reach, takes))
        return jnp.sum(inside, axis=1) / (1.0 - self.fee)


def _sum_before(x: Ranges) -> Ranges:
    """Return what stands in the ranges before each; the last one's counts for none."""
    return jnp.concatenate([jnp.zeros_like(x[:, :1]), jnp.cumsum(x[:, :-1], axis=1)], axis=1)


def _at_least_zero(x: Array) -> Array:
    return jnp.where(x > 0, x, jnp.zeros_like(x))
