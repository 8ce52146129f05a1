"""Pools whose reserves keep a constant product: the closed form of their slippage."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.market.pool_swap import Swap, SwapRefusal
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import ceil_to, floor_to

Pools = Float[Array, " pool"]


@pytree
class ConstantProductPool:
    """Reserves of two coins; every leaf is `(pool,)`.

    Attributes:
        base: reserve of the coin that is priced.
        quote: reserve of the coin it is priced in.
        fee: fraction of what goes in that is charged, and stays in the pool.
    """

    base: Pools
    quote: Pools
    fee: Pools

    def price(self) -> Pools:
        """Return the marginal price of the base coin before fees: `quote / base`."""
        return self.quote / positive_or_one(self.base)


def swap(
    pool: ConstantProductPool,
    amount: Pools,
    sells_base: Bool[Array, " pool"],
    *,
    base_unit: Pools | None = None,
    quote_unit: Pools | None = None,
) -> tuple[Swap, ConstantProductPool]:
    """Return the swap of `amount` in, and the pool afterwards.

    `out = net R_out / (R_in + net)` with `net = amount (1 - fee)`, the most that keeps the product
    of reserves net of fees from falling.

    Args:
        pool: reserves and fee.
        amount: what goes in, of the base coin where `sells_base`, of the quote coin elsewhere.
        sells_base: the direction.
        base_unit: smallest amount of the base coin; `None` for real amounts.
        quote_unit: smallest amount of the quote coin; `None` for real amounts.

    Source: Uniswap v2 UniswapV2Pair `swap` (fee 0.3 %).
    """
    reserve_in = jnp.where(sells_base, pool.base, pool.quote)
    reserve_out = jnp.where(sells_base, pool.quote, pool.base)
    net = amount * (1.0 - pool.fee)
    share = net / positive_or_one(reserve_in + net)
    received = floor_to(reserve_out * share, _pick(sells_base, quote_unit, base_unit))
    refusal = jnp.where(amount > 0, SwapRefusal.NONE, SwapRefusal.NOTHING)
    return _settled(pool, sells_base, amount, received, refusal)


def swap_for(
    pool: ConstantProductPool,
    wanted: Pools,
    sells_base: Bool[Array, " pool"],
    *,
    base_unit: Pools | None = None,
    quote_unit: Pools | None = None,
) -> tuple[Swap, ConstantProductPool]:
    """Return the swap that brings exactly `wanted` out, and the pool afterwards.

    `in = R_in out / ((R_out - out) (1 - fee))`. Refused where the pool holds no more than that.

    Source: Uniswap v2 UniswapV2Pair `swap`, solved for what goes in.
    """
    reserve_in = jnp.where(sells_base, pool.base, pool.quote)
    reserve_out = jnp.where(sells_base, pool.quote, pool.base)
    left = reserve_out - wanted
    paid = reserve_in * wanted / (positive_or_one(left) * (1.0 - pool.fee))
    paid = ceil_to(paid, _pick(sells_base, base_unit, quote_unit))
    refusal = jnp.where(left > 0, SwapRefusal.NONE, SwapRefusal.EXCEEDS_POOL)
    refusal = jnp.where(wanted > 0, refusal, SwapRefusal.NOTHING)
    return _settled(pool, sells_base, paid, wanted, refusal)


def _settled(
    pool: ConstantProductPool, sells_base: Array, paid: Array, received: Array, refusal: Array
) -> tuple[Swap, ConstantProductPool]:
    goes = refusal == SwapRefusal.NONE
    nothing = jnp.zeros_like(paid)
    paid, received = jnp.where(goes, paid, nothing), jnp.where(goes, received, nothing)
    after = ConstantProductPool(
        base=pool.base + jnp.where(sells_base, paid, -received),
        quote=pool.quote + jnp.where(sells_base, -received, paid),
        fee=pool.fee,
    )
    return Swap(paid=paid, received=received, fee=paid * pool.fee, refusal=refusal), after


def _pick(sells_base: Array, base: Array | None, quote: Array | None) -> Array | None:
    if base is None or quote is None:
        return None
    return jnp.where(sells_base, base, quote)
