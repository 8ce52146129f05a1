"""Contracts settled in their own underlying, as presets of coin-margined venues list them."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.contract import Contracts
from jaxrisk.venue.presets.instruments import Instrument
from jaxrisk.venue.presets.listing import Listing, MarginOptions


def in_coins(listing: Listing, options: MarginOptions, *, face: float) -> Listing:
    """Return the listing with every contract settled in its underlying.

    Futures and perpetuals pay by the inverse of their price, options are quoted in the coin. Both
    stand at the price of the coin in the numeraire.

    Args:
        listing: of contracts on one coin.
        options: of the preset.
        face: worth of a future or perpetual, numeraire.

    Raises:
        ValueError: a contract is on another asset than the settlement currency.
    """
    settlement = options["settlement"]
    pairs = zip(listing.instruments, listing.rows, strict=True)
    if other := [name for name, row in pairs if row.underlying != settlement]:
        raise ValueError(
            f"{listing.name}: {', '.join(other)}: settled in its underlying, but the settlement "
            f"currency is {settlement}; give each coin a venue of its own"
        )
    price = [options["prices"][row.underlying] for row in listing.rows]
    return dataclasses.replace(
        listing,
        rows=tuple(dataclasses.replace(row, terms=_terms(row, face)) for row in listing.rows),
        forward=np.array(price),
    )


def _terms(row: Instrument, face: float) -> Contracts:
    one = jnp.ones_like(row.terms.strike)
    if row.is_option:
        return dataclasses.replace(row.terms, coin_quoted=one)
    return dataclasses.replace(row.terms, inverse=one, multiplier=face * one)
