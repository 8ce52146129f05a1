"""Margin as a share of notional that rises by tiers, contract by contract."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.market.contract import Contracts, Quotes, mark_price, settlement_value
from jaxrisk.numerics.pytree import pytree


@pytree
class NotionalMargin:
    """A convex margin of each position: `max_k (rate_k N - deduction_k)`, summed over contracts.

    Notional `N` is what a position is worth at the mark price, whatever its sign. For perpetuals
    and futures; nothing is netted.

    Source: tiered margin of Binance, Bybit, OKX and Hyperliquid (maintenance amount, deduction).

    Attributes:
        rate: `(2, tier, contract)` initial and maintenance rates, rising with the tier.
        deduction: `(2, tier, contract)` settlement currency; 0 in the first tier.
    """

    rate: Float[Array, "2 tier contract"]
    deduction: Float[Array, "2 tier contract"]

    def required(
        self, size: Float[Array, "contract account"], contracts: Contracts, quotes: Quotes
    ) -> Float[Array, "2 account"]:
        """Return initial and maintenance margin, in the units of `quotes.settlement`.

        Args:
            size: signed positions.
            contracts: their terms.
            quotes: the market as the venue sees it.
        """
        worth = jnp.abs(settlement_value(contracts, mark_price(contracts, quotes)))
        notional = jnp.abs(size) * (worth * quotes.settlement)[:, None]
        rows = [self._of(notional, row) for row in range(2)]
        return jnp.stack([jnp.sum(row, axis=0) for row in rows])

    def _of(self, notional: Array, row: int) -> Float[Array, "contract account"]:
        """Return one margin of every position."""
        of_tier = lambda k: self.rate[row, k][:, None] * notional - self.deduction[row, k][:, None]
        largest = of_tier(0)
        for k in range(1, self.rate.shape[1]):
            margin = of_tier(k)
            largest = jnp.where(margin > largest, margin, largest)
        return largest


def deductions(lower: Sequence[float], rates: Sequence[float]) -> list[float]:
    """Return what each tier deducts so that margin has no jumps.

    Args:
        lower: notional from which each tier applies, the first 0, rising.
        rates: of each tier, not falling.

    Raises:
        ValueError: bounds or rates are not as stated.
    """
    if len(lower) != len(rates) or not lower:
        raise ValueError(
            f"{len(lower)} bounds and {len(rates)} rates: expected as many, at least 1"
        )
    if lower[0] != 0 or np.any(np.diff(lower) <= 0):
        raise ValueError(f"bounds {list(lower)}: expected 0 first, then rising")
    if np.any(np.diff(rates) < 0) or not 0 <= rates[0] <= rates[-1] <= 1:
        raise ValueError(f"rates {list(rates)}: expected fractions that do not fall")
    steps = np.diff(rates, prepend=rates[0])
    return np.cumsum(np.asarray(lower, np.float64) * steps).tolist()
