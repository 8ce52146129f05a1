"""What trades a venue lets through: prices within a band, positions within a cap."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.pytree import pytree

Prices = Float[Array, " contract"]


@pytree
class PriceBand:
    """Orders may not be priced beyond a band around the index, moved by the average premium.

    Buys at most `min(max(S, S (1 + inner) + p), S (1 + outer))`, sells at least
    `max(min(S, S (1 - inner) + p), S (1 - outer))`.

    Source: OKX, price limit rules of futures and perpetuals.

    Attributes:
        inner: `(contract,)` half width around the index and its premium, a fraction.
        outer: `(contract,)` half width around the index alone, a fraction.
    """

    inner: Prices
    outer: Prices

    def bounds(self, index: Prices, premium: Prices) -> tuple[Prices, Prices]:
        """Return the lowest price of a sale and the highest of a purchase.

        Args:
            index: S.
            premium: p, average price of the contract less the index.
        """
        reach = index * (1.0 + self.inner) + premium
        highest = smaller(jnp.where(reach > index, reach, index), index * (1.0 + self.outer))
        fall = smaller(index * (1.0 - self.inner) + premium, index)
        floor = index * (1.0 - self.outer)
        return jnp.where(fall > floor, fall, floor), highest


@pytree
class OpenInterestCap:
    """No trade may add to open interest beyond a notional, nor beyond a number of units.

    Source: Hyperliquid, HIP-3 deployer actions, open interest caps: both at once.

    Attributes:
        notional: `(contract,)` sum of absolute positions at the mark price, numeraire.
        units: `(contract,)` sum of absolute positions.
    """

    notional: Prices
    units: Prices

    def room(self, open_interest: Prices, mark: Prices) -> Prices:
        """Return how many units may be added; 0 where the cap has been passed.

        Args:
            open_interest: sum of absolute positions, units.
            mark: mark price, positive.
        """
        left = smaller(self.notional / mark, self.units) - open_interest
        return jnp.where(left > 0, left, jnp.zeros_like(left))
