"""Small band systems shared by the tests: three accounts on overlapping ranges of bands."""

import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.band_amm import BandFee
from jaxrisk.venue.band_grid import BandGrid, Bands
from jaxrisk.venue.band_oracle import SeenPrice
from jaxrisk.venue.band_shares import Shares, deposit
from tests.reference_bands import Pool

FIRST, COUNT = -4, 40
BASE = 2000.0
RANGES = ((2, 6), (4, 13), (20, 25))
AMOUNTS = (10.0, 4.0, 7.0)


def whole(x):
    return jnp.asarray(x, jnp.int32)


def grid(amplification=100.0, dtype=jnp.float64):
    return BandGrid(
        amplification=jnp.asarray(amplification, dtype),
        base_price=jnp.asarray(BASE, dtype),
        first=whole(FIRST),
        count=COUNT,
    )


def opened(amplification=100.0, amounts=AMOUNTS, dtype=jnp.float64):
    """Return grid, bands and shares after three deposits."""
    g = grid(amplification, dtype)
    empty = jnp.zeros(COUNT, dtype)
    bands = Bands(
        borrowed=empty, collateral=empty, active=whole(0), lowest=whole(0), highest=whole(0)
    )
    none = jnp.zeros(len(RANGES), jnp.int32)
    shares = Shares(count=jnp.zeros((COUNT, len(RANGES)), dtype), first=none, last=none)
    for i, ((first, last), amount) in enumerate(zip(RANGES, amounts, strict=True)):
        bands, shares, refusal = deposit(
            g, bands, shares, whole(i), jnp.asarray(amount, dtype), whole(first), whole(last)
        )
        assert int(refusal) == 0
    return g, bands, shares


def seen(price, fee=0.0, dtype=jnp.float64):
    return SeenPrice(price=jnp.asarray(price, dtype), fee=jnp.asarray(fee, dtype))


def charges(fee=0.006, admin_share=0.0, dtype=jnp.float64):
    return BandFee(fee=jnp.asarray(fee, dtype), admin_share=jnp.asarray(admin_share, dtype))


def pool_of(g, bands):
    """Return the same system for the reference."""
    numbers = np.asarray(g.numbers()).tolist()
    return Pool(
        amplification=float(g.amplification),
        base_price=float(g.base_price),
        borrowed=dict(zip(numbers, np.asarray(bands.borrowed).tolist(), strict=True)),
        collateral=dict(zip(numbers, np.asarray(bands.collateral).tolist(), strict=True)),
        active=int(bands.active),
        lowest=int(bands.lowest),
        highest=int(bands.highest),
    )
