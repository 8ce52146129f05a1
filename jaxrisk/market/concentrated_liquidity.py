"""Pools whose liquidity is placed in price ranges: a swap walks from range to range.

Within a range of liquidity `L` the pool trades like constant product: with `s` the square root of
the price of the base coin, `L (s' - s)` of the quote coin moves against `L (1/s - 1/s')` of the
base coin. Selling the base coin is the same walk in `1/s`, so there is one walk, upwards in
`u = s` or `u = 1/s`; and because every range takes no more than its capacity, it has no loop.
"""

import math
from dataclasses import replace

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.market.pool_swap import Swap, SwapRefusal
from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import ceil_to, floor_to
from jaxrisk.numerics.sums import sum_before

Pools = Float[Array, " pool"]

TICK = 1.0001
"""Ratio of the prices of neighbouring ticks."""
_NEARLY_ALL = 1.0 - 2.0**-20


@pytree
class ConcentratedPool:
    """Liquidity by price range.

    Attributes:
        root_price: `(pool,)` square root of the price of the base coin in the quote coin.
        edges: `(edge, pool)` square roots of the prices between ranges, increasing; equal edges
            make an empty range. Prices do not leave the outermost two.
        liquidity: `(range, pool)` liquidity between an edge and the next.
        fee: `(pool,)` fraction of what goes in that is charged.
    """

    root_price: Pools
    edges: Float[Array, "edge pool"]
    liquidity: Float[Array, "range pool"]
    fee: Pools

    def price(self) -> Pools:
        """Return the marginal price of the base coin before fees."""
        return self.root_price**2

    def tick(self) -> Pools:
        """Return the logarithm of the price in ticks, not rounded."""
        return 2.0 * jnp.log(self.root_price) / math.log(TICK)


@pytree
class _Walk:
    """Ranges in the order a swap meets them; `(range, pool)`.

    Attributes:
        start: root price where the swap enters the range.
        end: root price where it would leave it.
        liquidity: of the range.
        net_in: what goes in, net of fee, to leave it at its end.
        gross_in: the same, fee included.
        out: what comes out by then.
        open: whether the range lies ahead and within the limit.
    """

    start: Float[Array, "range pool"]
    end: Float[Array, "range pool"]
    liquidity: Float[Array, "range pool"]
    net_in: Float[Array, "range pool"]
    gross_in: Float[Array, "range pool"]
    out: Float[Array, "range pool"]
    open: Bool[Array, "range pool"]


def swap(
    pool: ConcentratedPool,
    amount: Pools,
    sells_base: Bool[Array, " pool"],
    limit: Pools,
    exact_output: Bool[Array, " pool"],
    *,
    base_unit: Pools | None = None,
    quote_unit: Pools | None = None,
) -> tuple[Swap, ConcentratedPool]:
    """Return the swap of up to `amount`, and the pool afterwards.

    Ranges are used up one after another until the amount is gone or the price stands at the limit.
    In the last one, with `net` in or `out` wanted:
    `u' = u + net / L`, `out = net / (u u')`, or `1/u' = 1/u - out / L`, `net = out u u'`.

    Args:
        pool: liquidity by range, and the price.
        amount: of the coin that goes in; of the coin that comes out where `exact_output`.
        sells_base: whether the base coin goes in (the price falls).
        limit: square root of the price at which the swap stops.
        exact_output: whether `amount` is what comes out.
        base_unit: smallest amount of the base coin; `None` for real amounts.
        quote_unit: smallest amount of the quote coin; `None` for real amounts.

    Source: Uniswap v3 UniswapV3Pool `swap`, SwapMath `computeSwapStep`.
    """
    unit_in = _pick(sells_base, base_unit, quote_unit)
    unit_out = _pick(sells_base, quote_unit, base_unit)
    walk = _walk(pool, sells_base, limit, unit_in, unit_out)
    fee = pool.fee[None, :]
    used = jnp.where(exact_output[None, :], walk.out, walk.gross_in)
    left = amount[None, :] - sum_before(used)
    left = jnp.where(left > 0, left, jnp.zeros_like(left))
    net_left = floor_to(left * (1.0 - fee), _row(unit_in))
    whole = jnp.where(exact_output[None, :], left >= walk.out, net_left >= walk.net_in)
    stops = walk.open & (left > 0) & ~whole
    before_stop = sum_before(stops.astype(used.dtype)) == 0
    visited = walk.open & (left > 0) & before_stop
    last = stops & visited
    asked = jnp.where(exact_output[None, :], left, net_left)
    reach, net, out = _last_step(walk, asked, sells_base, exact_output, unit_in, unit_out)
    gross = jnp.where(exact_output[None, :], net + _fee_on(net, fee, _row(unit_in)), left)
    chosen = lambda part, all_of_it: jnp.sum(
        jnp.where(last, part, jnp.where(visited, all_of_it, jnp.zeros_like(part))), axis=0
    )
    paid, received = chosen(gross, walk.gross_in), chosen(out, walk.out)
    ends = jnp.where(last, reach, jnp.where(visited, walk.end, pool.root_price[None, :]))
    moved = jnp.where(sells_base, jnp.min(ends, axis=0), jnp.max(ends, axis=0))
    behind = jnp.where(sells_base, limit >= pool.root_price, limit <= pool.root_price)
    refusal = jnp.where(behind, SwapRefusal.PRICE_LIMIT, SwapRefusal.NONE)
    refusal = jnp.where(amount > 0, refusal, SwapRefusal.NOTHING)
    goes = refusal == SwapRefusal.NONE
    kept = lambda value: jnp.where(goes, value, jnp.zeros_like(value))
    charged = chosen(gross - net, walk.gross_in - walk.net_in)
    result = Swap(paid=kept(paid), received=kept(received), fee=kept(charged), refusal=refusal)
    return result, replace(pool, root_price=jnp.where(goes, moved, pool.root_price))


def liquidity_at(pool: ConcentratedPool, falling: Bool[Array, " pool"]) -> Pools:
    """Return the liquidity the next trade meets; at an edge, that of the range it moves into."""
    price = pool.root_price[None, :]
    low, high = pool.edges[:-1], pool.edges[1:]
    rises = (low <= price) & (price < high)
    falls = (low < price) & (price <= high)
    here = jnp.where(falling[None, :], falls, rises)
    return jnp.sum(jnp.where(here, pool.liquidity, jnp.zeros_like(pool.liquidity)), axis=0)


def _walk(
    pool: ConcentratedPool,
    sells_base: Array,
    limit: Array,
    unit_in: Array | None,
    unit_out: Array | None,
) -> _Walk:
    falls = sells_base[None, :]
    edges = jnp.where(falls, pool.edges[::-1], pool.edges)
    liquidity = jnp.where(falls, pool.liquidity[::-1], pool.liquidity)
    nearer = lambda a, b: jnp.where((a < b) == falls, a, b)
    farther = lambda a, b: jnp.where((a < b) == falls, b, a)
    start = nearer(edges[:-1], pool.root_price[None, :])
    end = farther(edges[1:], limit[None, :])
    is_open = jnp.where(falls, start > end, start < end)
    # A difference of neighbouring floats is exact; one of their reciprocals is not.
    span = jnp.where(is_open, jnp.abs(end - start), jnp.zeros_like(end))
    quote = liquidity * span
    base = quote / (positive_or_one(start) * positive_or_one(end))
    net_in = ceil_to(jnp.where(falls, base, quote), _row(unit_in))
    return _Walk(
        start=start,
        end=end,
        liquidity=liquidity,
        net_in=net_in,
        gross_in=net_in + _fee_on(net_in, pool.fee[None, :], _row(unit_in)),
        out=floor_to(jnp.where(falls, quote, base), _row(unit_out)),
        open=is_open,
    )


def _last_step(
    walk: _Walk,
    amount: Array,
    sells_base: Array,
    exact_output: Array,
    unit_in: Array | None,
    unit_out: Array | None,
) -> tuple[Array, Array, Array]:
    """Return where a swap of `amount` ends within a range, and what goes in net and comes out.

    In the coordinate that rises, `u = s` or `1 / s`, as the module says.
    """
    falls, given = sells_base[None, :], exact_output[None, :]
    start = jnp.where(falls, 1.0 / positive_or_one(walk.start), walk.start)
    depth = positive_or_one(walk.liquidity)
    step = amount / depth
    # No range gives all of its coin; beyond that the result is not used, and is kept finite.
    part = smaller(step * start, jnp.full_like(step, _NEARLY_ALL))
    end = jnp.where(given, start / (1.0 - part), start + step)
    net = jnp.where(given, ceil_to(amount * start * end, _row(unit_in)), amount)
    out = jnp.where(given, amount, floor_to(amount / (start * end), _row(unit_out)))
    return jnp.where(falls, 1.0 / positive_or_one(end), end), net, out


def _fee_on(net: Array, fee: Array, unit: Array | None) -> Array:
    return ceil_to(net * fee / (1.0 - fee), unit)


def _row(unit: Array | None) -> Array | None:
    return None if unit is None else unit[None, :]


def _pick(sells_base: Array, base: Array | None, quote: Array | None) -> Array | None:
    if base is None or quote is None:
        return None
    return jnp.where(sells_base, base, quote)
