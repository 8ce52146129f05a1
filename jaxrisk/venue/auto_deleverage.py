"""Auto-deleveraging: winners' positions are closed against one that nobody else takes.

Three choices make a rule: who comes first (a ranking), how what must be closed is shared among
those who could be (an allocation), and at what price (given: the bankruptcy price of the position
taken over, the mark before it, or the oracle's). All are pure functions over the account axis; an
allocation sorts once.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.levels import drained_level, filled_level
from jaxrisk.numerics.prefix import served

PerAccount = Float[Array, " account"]


def leveraged_profit(
    mark_value: PerAccount, entry_value: PerAccount, bankrupt_value: PerAccount
) -> PerAccount:
    """Return rank scores: relative profit times effective leverage; highest goes first.

    Losers are ranked behind by profit over leverage. Effective leverage is the value of the
    position over what it may still lose, `|V| / (V - V_bankrupt)`.

    Source: BitMEX, Auto Deleveraging.

    Args:
        mark_value: signed value of the position at the mark price.
        entry_value: at the mean entry price; not 0 where there is a position.
        bankrupt_value: at the price where its margin is lost.
    """
    profit = (mark_value - entry_value) / positive_or_one(jnp.abs(entry_value))
    margin = mark_value - bankrupt_value
    leverage = jnp.abs(mark_value) / positive_or_one(margin)
    leverage = jnp.where(margin > 0, leverage, jnp.full_like(leverage, jnp.inf))
    return jnp.where(profit > 0, profit * leverage, profit / positive_or_one(leverage))


def margin_profit(
    unrealised: PerAccount, wallet: PerAccount, maintenance: PerAccount
) -> PerAccount:
    """Return rank scores: profit over collateral, times maintenance margin over equity.

    `max(u, 0) / max(wallet, 1) * maintenance / (wallet + u)`, and 0 without equity.

    Source: Binance, What Is Auto-Deleveraging (LeveragePnL).

    Args:
        unrealised: profit of the position not yet realised.
        wallet: collateral without it, in units of the currency (the 1 is one unit).
        maintenance: maintenance margin.
    """
    zero, one = jnp.zeros_like(wallet), jnp.ones_like(wallet)
    profit = jnp.where(unrealised > 0, unrealised, zero) / jnp.where(wallet > 1, wallet, one)
    held = wallet + unrealised
    return profit * jnp.where(held > 0, maintenance / positive_or_one(held), zero)


def levered_gain(
    size: PerAccount, mark: PerAccount, entry: PerAccount, account_value: PerAccount
) -> PerAccount:
    """Return rank scores: price over entry, times value of the position over that of the account.

    For shorts entry over price: the published formula gives the ratio of a long, and says that
    ranks go by profit.

    Source: Hyperliquid documentation, Auto-deleveraging.

    Args:
        size: signed size of the position, positive for longs.
        mark: mark price.
        entry: mean entry price.
        account_value: equity; an account without is ranked first.
    """
    gain = jnp.where(size > 0, mark / positive_or_one(entry), entry / positive_or_one(mark))
    leverage = jnp.abs(size) * mark / positive_or_one(account_value)
    return gain * jnp.where(account_value > 0, leverage, jnp.full_like(leverage, jnp.inf))


def random_order(key: Key[Array, ""], count: int) -> PerAccount:
    """Return rank scores that say nothing about the accounts.

    Source: dYdX v4, deleveraging in pseudo-random order.

    Args:
        key: PRNG key.
        count: of accounts.
    """
    return jax.random.uniform(key, (count,))


def quantile(score: PerAccount) -> PerAccount:
    """Return the share of accounts ranked no higher, of equals the first ones lower; 1 is next.

    Source: Binance, What Is Auto-Deleveraging (LeveragePnLQuantile).
    """
    count = score.shape[0]
    place = jnp.argsort(jnp.argsort(score, stable=True), stable=True)
    return (place + 1).astype(score.dtype) / count


def opposite(size: PerAccount, taken_over: Float[Array, ""]) -> PerAccount:
    """Return how much of each account may be closed against a position: all of the other side.

    Args:
        size: signed sizes.
        taken_over: signed size of the position taken over.
    """
    return jnp.where(size * taken_over < 0, jnp.abs(size), jnp.zeros_like(size))


def close_ranked(capacity: PerAccount, score: PerAccount, amount: Float[Array, ""]) -> PerAccount:
    """Return what is closed of each account: highest score first, whole before the next.

    Args:
        capacity: what can be closed, at least 0.
        score: equal ones go by position.
        amount: to close in all; what exceeds the sum of capacities stays open.
    """
    return served(capacity, -score, amount)


def close_proportional(
    capacity: PerAccount, weight: PerAccount, amount: Float[Array, ""]
) -> PerAccount:
    """Return what is closed where all give in proportion to their weights as far as they can.

    `x_i = min(c_i, l w_i)` with the level `l` at which all is closed. Weights equal to capacities
    are pro rata; capacities times leverage, pro rata by risk; weights of one take the same of all.

    Args:
        capacity: what can be closed, at least 0.
        weight: at least 0; an account without is spared.
        amount: to close in all; what exceeds the sum of capacities stays open.
    """
    level = filled_level(capacity, weight, amount)
    limited = jnp.isfinite(level)
    share = jnp.where(limited, level, jnp.zeros_like(level)) * weight
    part = jnp.where(limited & (share < capacity), share, capacity)
    return jnp.where(weight > 0, part, jnp.zeros_like(part))


def close_levelled(
    capacity: PerAccount, weight: PerAccount, amount: Float[Array, ""]
) -> PerAccount:
    """Return what is closed where those with most are drawn down to a common level.

    `x_i = max(c_i - l w_i, 0)` with the level `l` at which all is closed. Weights of one level
    what is left; weights equal to equity, what is left over equity.

    Args:
        capacity: what can be closed, at least 0.
        weight: positive.
        amount: to close in all; what exceeds the sum of capacities stays open.
    """
    above = capacity - drained_level(capacity, weight, amount) * weight
    return jnp.where(above > 0, above, jnp.zeros_like(above))


def forgone(
    size: PerAccount, closed: PerAccount, mark: Float[Array, ""], price: Float[Array, ""]
) -> PerAccount:
    """Return what accounts lose by being closed at `price` and not at the mark, numeraire.

    That is what the position taken over gains; negative where the price is better than the mark.

    Args:
        size: signed sizes before.
        closed: how much of each is closed, at least 0.
        mark: mark price.
        price: at which they are closed.
    """
    return jnp.sign(size) * closed * (mark - price)
