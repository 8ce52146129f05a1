"""Margin of a portfolio as the sum over its positions, each by its own notional."""

from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.market.contract import Contracts, Quotes, mark_price, settlement_value
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.requirement import Exposure

Positions = Float[Array, "contract account"]


class PositionMargin(Protocol):
    """What a rule of single positions answers: marginal tiers, slabs, rates that rise with size."""

    def charge(self, held: Exposure) -> tuple[Positions, Int[Array, "contract account"]]:
        """Return maintenance margin of positions, and what binds."""
        ...


@pytree
class NotionalMargin:
    """Maintenance margin of every position, added up; initial margin is a multiple of it.

    For perpetuals and futures; nothing is netted.

    Attributes:
        tiers: maintenance margin of a position, over contracts.
        multiple: initial over maintenance margin, at least 1.
    """

    tiers: PositionMargin
    multiple: Float[Array, ""]

    def required(
        self, size: Positions, contracts: Contracts, quotes: Quotes
    ) -> Float[Array, "2 account"]:
        """Return initial and maintenance margin, in the units of `quotes.settlement`.

        Args:
            size: signed positions.
            contracts: their terms.
            quotes: the market as the venue sees it.
        """
        margin, _ = self.tiers.charge(exposure(size, contracts, quotes))
        total = jnp.sum(margin, axis=0)
        return jnp.stack([self.multiple * total, total])


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
