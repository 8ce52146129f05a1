"""Margin of a portfolio as the sum over its positions, each by its own notional."""

from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.market.contract import Contracts, Quotes, mark_price, settlement_value
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.requirement import MAINTENANCE, Exposure

Positions = Float[Array, "contract account"]


class PositionMargin(Protocol):
    """What a rule of single positions answers: marginal tiers, slabs."""

    def rows(self, held: Exposure) -> Float[Array, "2 contract account"]:
        """Return initial and maintenance margin of positions."""
        ...


@pytree
class NotionalMargin:
    """Margin of every position, added up: for perpetuals and futures; nothing is netted.

    Attributes:
        tiers: margin of a position, over contracts.
        multiple: initial over maintenance margin, at least 1; `None` for what the tiers say.
    """

    tiers: PositionMargin
    multiple: Float[Array, ""] | None = None

    def required(
        self, size: Positions, contracts: Contracts, quotes: Quotes
    ) -> Float[Array, "2 account"]:
        """Return initial and maintenance margin, in the units of `quotes.settlement`.

        Args:
            size: signed positions.
            contracts: their terms.
            quotes: the market as the venue sees it.
        """
        total = jnp.sum(self.tiers.rows(exposure(size, contracts, quotes)), axis=1)
        if self.multiple is None:
            return total
        return jnp.stack([self.multiple * total[MAINTENANCE], total[MAINTENANCE]])


def exposure(size: Positions, contracts: Contracts, quotes: Quotes) -> Exposure:
    """Return what a margin rule looks at, one position a contract.

    Args:
        size: signed positions.
        contracts: their terms.
        quotes: the market as the venue sees it.
    """
    worth = jnp.abs(settlement_value(contracts, mark_price(contracts, quotes)))
    count = jnp.abs(size)
    inverse: Bool[Array, "contract 1"] = (contracts.inverse > 0)[:, None]
    return Exposure(
        count=count,
        face=count * contracts.multiplier[:, None],
        notional=count * (worth * quotes.settlement)[:, None],
        inverse=inverse,
    )
