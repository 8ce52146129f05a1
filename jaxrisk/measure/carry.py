"""What a leveraged strategy earns, how its health drifts, and at which prices it is called.

Rates are a year and continuously compounded; prices are relative to those of the opening.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.loop import Strategy

Number = Float[Array, "..."]


@pytree
class Rates:
    """What a strategy's parts earn and cost, a year; entries as those of the strategy.

    Attributes:
        collateral_yield: earned on collateral, such as staking and interest.
        collateral_reward: paid on collateral besides, such as incentives.
        borrow_rate: paid on debt.
        borrow_reward: paid to borrowers.
        funding: paid by longs to shorts on the perpetual's notional.
    """

    collateral_yield: Number
    borrow_rate: Number
    collateral_reward: Number
    borrow_reward: Number
    funding: Number


def net_apy(strategy: Strategy, rates: Rates, years: Number) -> Number:
    """Return what a strategy earns a year on the equity put in, swaps spread over `years`.

    `C (y + y') - D (r - r') - N f - cost / years`, over equity before costs. Of a loop without
    costs and rewards it is L y - (L - 1) r.

    Args:
        strategy: what is held and owed.
        rates: what that earns and costs.
        years: how long it is held; infinite for no cost of building it.
    """
    earned = strategy.collateral * (rates.collateral_yield + rates.collateral_reward)
    paid = strategy.debt * (rates.borrow_rate - rates.borrow_reward)
    funding = strategy.perpetual * rates.funding
    return (earned - paid - funding - strategy.cost / years) / (strategy.equity + strategy.cost)


def break_even_borrow_rate(strategy: Strategy, collateral_yield: Number) -> Number:
    """Return the borrow rate at which a strategy without rewards and funding earns nothing.

    C y / D, which is y L / (L - 1) of a loop; infinite where nothing is owed.
    """
    rate = strategy.collateral * collateral_yield / positive_or_one(strategy.debt)
    return jnp.where(strategy.debt > 0, rate, jnp.full_like(rate, jnp.inf))


def equity_volatility(strategy: Strategy, volatility: Number) -> Number:
    """Return the volatility of equity: that of the price, times the exposure.

    Where collateral and debt move together, as a staked token against its underlying, it is the
    volatility of their ratio that counts.
    """
    return jnp.abs(strategy.exposure) * volatility


def loan_health(strategy: Strategy, liquidation_threshold: Number, price: Number) -> Number:
    """Return threshold-weighted collateral over debt at a relative price, infinite without debt.

    LT L / (L - 1) of a loop at its opening, LT / l of one that is looped without end.
    """
    health = liquidation_threshold * strategy.collateral * price / positive_or_one(strategy.debt)
    return jnp.where(strategy.debt > 0, health, jnp.full_like(health, jnp.inf))


def loan_liquidation_price(strategy: Strategy, liquidation_threshold: Number) -> Number:
    """Return the relative price below which the loan is called: D / (LT C), 0 without debt.

    (L - 1) / (LT L) of a loop.
    """
    return strategy.debt / (liquidation_threshold * strategy.collateral)


def margin_liquidation_price(strategy: Strategy, maintenance_margin: Number) -> Number:
    """Return the relative price at which the perpetual is called; NaN where there is none.

    Margin and profit cover maintenance no more: M + N (x - 1) = m |N| x. Below it a long is called,
    above it a short. At most 0 for a long that margin covers down to nothing.

    Args:
        strategy: its margin is taken to be isolated.
        maintenance_margin: m, a part of notional in [0, 1).
    """
    size = strategy.perpetual
    slope = size - maintenance_margin * jnp.abs(size)
    exists = size != 0
    price = (size - strategy.margin) / jnp.where(exists, slope, jnp.ones_like(slope))
    return jnp.where(exists, price, jnp.full_like(price, jnp.nan))


def health_after(
    health: Number, collateral_yield: Number, borrow_rate: Number, years: Number
) -> Number:
    """Return the health of a loan after `years` in which its prices stand still: h exp((y - r) t).

    Under an oracle of the exchange rate of a staked token, this is all that moves it.
    """
    return health * jnp.exp((collateral_yield - borrow_rate) * years)


def years_to_liquidation(health: Number, collateral_yield: Number, borrow_rate: Number) -> Number:
    """Return when drift alone brings health to 1: ln h / (r - y).

    0 where it is there already, infinite where debt does not outgrow collateral.
    """
    gap = borrow_rate - collateral_yield
    years = jnp.log(health) / jnp.where(gap > 0, gap, jnp.ones_like(gap))
    drifts = jnp.where(gap > 0, years, jnp.full_like(years, jnp.inf))
    return jnp.where(health > 1, drifts, jnp.zeros_like(drifts))


def nested_liquidation_prices(
    leverage: Float[Array, " layer"], liquidation_threshold: Float[Array, " layer"]
) -> Float[Array, " layer"]:
    """Return the relative price of the lowest layer's asset at which each layer is called.

    Layer k is called where the share below it has fallen to s_k = (L_k - 1) / (LT_k L_k); and a
    share of leverage L is worth s where what it holds is worth (s + L - 1) / L. A layer is taken to
    mark the one below at its equity, and lower ones not to have been called before.

    Args:
        leverage: `(layer,)` collateral over equity, lowest first, as in `nested`.
        liquidation_threshold: `(layer,)` of the venue of each layer.
    """
    prices = []
    for layer in range(leverage.shape[0]):
        price = (leverage[layer] - 1.0) / (liquidation_threshold[layer] * leverage[layer])
        for below in reversed(range(layer)):
            price = (price + leverage[below] - 1.0) / leverage[below]
        prices.append(price)
    return jnp.stack(prices)
