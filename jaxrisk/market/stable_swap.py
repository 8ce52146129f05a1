"""Pools for coins of about equal value: nearly constant sum near balance, constant product far off.

With `x` the balances valued at their rates, `n` coins and `a = A n`, the invariant `D` solves
`a sum(x) + D = a D + D^(n+1) / (n^n prod(x))`.
"""

from dataclasses import replace

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxrisk.market.pool_swap import Swap, SwapRefusal
from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to

Pools = Float[Array, " pool"]
Coins = Float[Array, "coin pool"]

_ROUNDS = 64


@pytree
class StablePool:
    """Balances and terms of pools.

    Attributes:
        balance: `(coin, pool)` what the pool holds for its depositors.
        rate: `(coin, pool)` value of one unit of each coin in the common unit, for instance the
            exchange rate of a staked coin.
        amplification: `(pool,)` `A`; the larger, the flatter the curve.
        fee: `(pool,)` fraction of what comes out that is charged at balance.
        off_peg_multiplier: `(pool,)` how many times that far off balance; 1 for a flat fee.
        admin_share: `(pool,)` part of the fee that leaves the pool.
    """

    balance: Coins
    rate: Coins
    amplification: Pools
    fee: Pools
    off_peg_multiplier: Pools
    admin_share: Pools

    def values(self) -> Coins:
        """Return balances in the common unit."""
        return self.balance * self.rate


def invariant(values: Coins, amplification: Pools) -> Pools:
    """Return `D`, the value of the pool were it balanced; 0 for an empty pool.

    Newton from above: `D <- (a S + n P) D / ((a - 1) D + (n + 1) P)` with
    `P = D^(n+1) / (n^n prod(x))`.

    Source: Curve StableSwap `get_D`.
    """
    n = values.shape[0]
    a = n * amplification
    total = jnp.sum(values, axis=0)
    safe = jnp.where(values > 0, values, jnp.ones_like(values))

    def improve(_: int, d: Array) -> Array:
        power = d
        for coin in range(n):
            power = power * d / (n * safe[coin])
        return (a * total + n * power) * d / positive_or_one((a - 1.0) * d + (n + 1.0) * power)

    empty = jnp.any(values <= 0, axis=0)
    start = jnp.where(empty, jnp.ones_like(total), total)
    return jnp.where(empty, jnp.zeros_like(total), lax.fori_loop(0, _ROUNDS, improve, start))


def balanced_value(
    values: Coins, coin: Int[Array, " pool"], amplification: Pools, d: Pools
) -> Pools:
    """Return the value of one coin at which the others stand on the invariant `d`.

    The positive root of `y^2 + (b - D) y = c`, with `b = S' + D / a` and
    `c = D^(n+1) / (a n^n prod'(x))` over the other coins. Of its two forms, the one that does not
    cancel.

    Source: Curve StableSwap `get_y`, which finds the same root by Newton.
    """
    n = values.shape[0]
    a = n * amplification
    others = _is(coin, n, d) == 0
    rest = jnp.where(others, values, jnp.zeros_like(values))
    c = d / (a * n)
    for k in range(n):
        c = c * jnp.where(others[k], d / (n * positive_or_one(values[k])), jnp.ones_like(d))
    # One factor of D more than there are other coins.
    c = c * d
    half = 0.5 * (jnp.sum(rest, axis=0) + d / a - d)
    root = jnp.sqrt(positive_or_one(half**2 + c))
    below = c / positive_or_one(jnp.abs(half) + root)
    return jnp.where(half > 0, below, root - half)


def off_peg_fee(pool: StablePool, first: Pools, second: Pools, unit: Pools | None = None) -> Pools:
    """Return the fee at the average balances of the two coins during a swap.

    `m fee / ((m - 1) 4 x y / (x + y)^2 + 1)`: `fee` where they are equal, `m fee` far off balance.

    Source: Curve StableSwap-NG `_dynamic_fee` (in units of 1e-10).
    """
    m = pool.off_peg_multiplier
    closeness = 4.0 * first * second / positive_or_one((first + second) ** 2)
    damping = floor_to((m - 1.0) * closeness, unit) + 1.0
    return jnp.where(m > 1.0, floor_to(m * pool.fee / damping, unit), pool.fee)


def prices(values: Coins, amplification: Pools, d: Pools) -> Coins:
    """Return the marginal price of every coin in the first, both in the common unit.

    `(a x_0 + P x_0 / x_i) / (a x_0 + P)` with `P = D^(n+1) / (n^n prod(x))`.

    Source: Curve StableSwap-NG `_get_p`.
    """
    n = values.shape[0]
    scaled = n * amplification * values[0]
    power = d
    for k in range(n):
        power = power * d / (n * positive_or_one(values[k]))
    relative = values[0][None, :] / positive_or_one(values)
    return (scaled[None, :] + power[None, :] * relative) / positive_or_one(scaled + power)[None, :]


def virtual_price(pool: StablePool, shares: Pools) -> Pools:
    """Return the invariant over the shares issued: what a share is worth at balance."""
    return invariant(pool.values(), pool.amplification) / positive_or_one(shares)


def traded_values(
    pool: StablePool, amount: Pools, sold: Int[Array, " pool"], bought: Int[Array, " pool"]
) -> tuple[Coins, Pools]:
    """Return the values after a swap without fees, and the invariant they stand on."""
    n = pool.balance.shape[0]
    is_sold, is_bought = _is(sold, n, amount), _is(bought, n, amount)
    values = pool.values()
    d = invariant(values, pool.amplification)
    added = values + is_sold * (amount * jnp.sum(pool.rate * is_sold, axis=0))[None, :]
    left = balanced_value(added, bought, pool.amplification, d)[None, :]
    # With nothing sold, rounding must not look like a purchase.
    left = smaller(left, values)
    return jnp.where(is_bought > 0, left, added), d


def swap(
    pool: StablePool,
    amount: Pools,
    sold: Int[Array, " pool"],
    bought: Int[Array, " pool"],
    *,
    unit: Coins | None = None,
    fee_unit: Pools | None = None,
) -> tuple[Swap, StablePool]:
    """Return the swap of `amount` of one coin for another, and the pool afterwards.

    What comes out before the fee brings the pool back to its invariant. The fee is charged on what
    comes out; its share for the admin leaves the pool, the rest raises the invariant.

    Args:
        pool: balances and terms.
        amount: of the coin sold.
        sold: position of the coin that goes in, on the coin axis.
        bought: position of the coin that comes out.
        unit: `(coin, pool)` smallest amounts; `None` for real amounts.
        fee_unit: `(pool,)` smallest step of the fee; `None` for a real one.

    Source: Curve StableSwap-NG `exchange`.
    """
    n = pool.balance.shape[0]
    is_sold, is_bought = _is(sold, n, amount), _is(bought, n, amount)
    pick = lambda table, mask: jnp.sum(table * mask, axis=0)
    values = pool.values()
    traded, _ = traded_values(pool, amount, sold, bought)
    before, left = pick(values, is_bought), pick(traded, is_bought)
    average_in = 0.5 * (pick(values, is_sold) + pick(traded, is_sold))
    out = before - left
    charged = out * off_peg_fee(pool, average_in, 0.5 * (before + left), fee_unit)
    rate = positive_or_one(pick(pool.rate, is_bought))
    unit_out = None if unit is None else pick(unit, is_bought)
    received = floor_to((out - charged) / rate, unit_out)
    admin = floor_to(charged * pool.admin_share / rate, unit_out)
    refusal = jnp.where(amount > 0, SwapRefusal.NONE, SwapRefusal.NOTHING)
    kept = lambda value: jnp.where(amount > 0, value, jnp.zeros_like(value))
    change = is_sold * kept(amount)[None, :] - is_bought * kept(received + admin)[None, :]
    result = Swap(
        paid=kept(amount), received=kept(received), fee=kept(charged / rate), refusal=refusal
    )
    return result, replace(pool, balance=pool.balance + change)


def _is(coin: Int[Array, " pool"], coins: int, like: Array) -> Coins:
    """Return 1 where a row is the given coin, else 0."""
    rows = jnp.arange(coins, dtype=coin.dtype)[:, None]
    return (rows == coin[None, :]).astype(like.dtype)
