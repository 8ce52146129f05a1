"""The price at which the whole of a lot can be sold: what keepers wait for as an ask falls."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.system.system import System

# Keepers take a lot when it leaves them this much of the slippage: a tie would fail to rounding.
_WORTHWHILE = 1e-4
_ROUNDINGS = 64


def price_of_all(
    system: System, market: Market, assets: tuple[int, ...], units: Float[Array, " lot"]
) -> Float[Array, " lot"]:
    """Return what a unit of each lot brings on average, all of it sold, in the numeraire.

    Every lot is valued as if it were sold alone. At this price the rationing lets all of it
    through.

    Args:
        system: the system.
        market: the market now.
        assets: what each lot holds.
        units: of each lot.
    """
    law = system.liquidity.law
    depth = system.liquidity.depth.now(market)
    mid = jnp.stack([market.mid[a] for a in assets])
    on_asset = jax.nn.one_hot(jnp.asarray(assets), market.mid.shape[0], dtype=mid.dtype)
    here = lambda x: jnp.sum(on_asset * x, axis=1)
    volume = units * mid
    brought = here(jax.vmap(law.proceeds, (0, None))(on_asset * volume[:, None], depth))
    discount = 1.0 - brought / positive_or_one(volume)
    within = here(jax.vmap(law.volume_within, (0, None))(on_asset * discount[:, None], depth))
    # Laws understate what fits within a discount: keepers wait until all of it fits.
    short = jnp.where(volume > within, volume / positive_or_one(within), jnp.ones_like(mid))
    discount = discount * short * (1.0 + _WORTHWHILE)
    discount = discount + _ROUNDINGS * jnp.finfo(mid.dtype).eps
    return mid * (1.0 - discount)
