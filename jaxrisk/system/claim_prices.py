"""Claims on venues as assets of other venues: their prices follow what stands behind them.

The rate of a claim is what a unit is worth in units of its underlying, at the market's mid. It is
the market's exchange rate of that asset, so whatever the claim trades at beyond it (a basis, the
impact of its own sales) stays as it is when the rate moves.
"""

import dataclasses
from enum import Enum

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.indexing import spread
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.system.backing import Backing, Books, States, issuers_on
from jaxrisk.system.book import uncut
from jaxrisk.system.system import System, opening_state

# A claim with nothing behind it has a price that is positive, so that ratios of prices exist.
LEAST_RATE = 1e-9
_DUST = 1e-6


class Exit(Enum):
    """How a claim is turned into money.

    SOLD: in a market of its own, at its depth.
    REDEEMED: by its issuer, as far as that can pay; the rest waits.
    SHUT: not at all, as behind a bridge that has stopped: calls wait.
    """

    SOLD = "sold"
    REDEEMED = "redeemed"
    SHUT = "shut"


@pytree
class Claim:
    """An asset that is a claim on a venue, or on an account of one.

    Attributes:
        backing: what stands behind it.
        asset: its index.
        exit: how whoever calls accounts turns it into money.
    """

    backing: Backing
    asset: int = static()
    exit: Exit = static(default=Exit.SOLD)


def repriced(system: System, books: Books, market: Market, states: States) -> Market:
    """Return the market with every claim at the rate of what is behind it now.

    Claims are in an order in which each comes after those behind it, so that one pass is exact; on
    a cycle a pass takes the news one claim further, and the next verb goes on.

    Args:
        system: what the scenario started from; `with_claims` has put its claims in order.
        books: each venue's accounts in tranches.
        market: the market now, rates as they were.
        states: the venues now.
    """
    for claim in system.claims:
        assert market.underlying is not None
        assert market.issued is not None
        issued = market.issued[claim.asset]
        worth = claim.backing.worth(system, books, states, market, issued)
        rate = worth / market.mid[market.underlying[claim.asset]]
        rate = jnp.where(rate > LEAST_RATE, rate, jnp.full_like(rate, LEAST_RATE))
        change = jnp.log(rate) - market.log_ratio[claim.asset]
        # What is left of a claim after nearly all of it was redeemed is rounding.
        assert system.market.issued is not None
        some_left = issued > _DUST * system.market.issued[claim.asset]
        market = moved_rate(market, claim.asset, jnp.where(some_left, change, 0.0))
    return market


def followed(system: System, market: Market) -> Market:
    """Return a market of other prices with every claim at the rate of what is behind it there.

    A snapshot at the opening: nothing has happened on any venue. On a cycle of n claims n passes
    are near its solution, on a chain they are it.

    Args:
        system: with its claims in order.
        market: prices moved, those of claims with their underlying.
    """
    if not system.claims:
        return market
    books = opening_books(system)
    states = opening_state(system, books).venues
    for _ in system.claims:
        market = repriced(system, books, market, states)
    return market


def opening_books(system: System) -> Books:
    """Return each venue's accounts in one piece."""
    return tuple(
        uncut(venue, issuers_on(system.claims, v)) for v, venue in enumerate(system.venues)
    )


def moved_rate(market: Market, asset: int, change: Float[Array, ""]) -> Market:
    """Return the market after the log rate of an asset has changed, and its price with it."""
    changes = spread(change[None], (asset,), len(market.assets))
    return dataclasses.replace(
        market, price=market.price * jnp.exp(changes), log_ratio=market.log_ratio + changes
    )
