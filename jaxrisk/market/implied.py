"""Implied volatility: Black-76 solved for the volatility that gives a price."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrisk.market.black import distances, log_ratio, time_value
from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.normal import normal_cdf, normal_density, normal_quantile
from jaxrisk.numerics.smooth import safe_sqrt

Values = Float[Array, "..."]

STEPS = 6
"""Steps of Halley's method; four settle deviations between 0.001 and 6 to the last places."""


def implied_volatility(
    price: ArrayLike,
    forward: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    sign: ArrayLike,
) -> Values:
    """Return the volatility at which `black_price` is `price`.

    0 where the price is the intrinsic value; NaN where no volatility gives the price, which is
    below the intrinsic value, at or above its bound (the forward for calls, the strike for puts),
    or above the intrinsic value with no time left.

    The method always takes the same number of steps. It returns the volatility of a price that
    differs by no more than a few units in the last place of `price`: where vega is small, deep in
    the money above all, that is less than all digits of the volatility. The derivative is that of
    the implicit function, `1 / vega` by the price, and 0 where vega vanishes.

    Args:
        price: undiscounted, in units of the forward; a coin-settled price times the forward.
        forward: positive.
        strike: positive.
        years: to expiry.
        sign: 1 for calls, -1 for puts.
    """
    price, forward, strike, years, sign = jnp.broadcast_arrays(price, forward, strike, years, sign)
    deviation = implied_deviation(price, forward, strike, sign)
    running = years > 0
    unmoved = jnp.where(deviation == 0, jnp.zeros_like(deviation), jnp.full_like(price, jnp.nan))
    return jnp.where(running, deviation / positive_or_one(safe_sqrt(years)), unmoved)


@jax.custom_jvp
def implied_deviation(price: Values, forward: Values, strike: Values, sign: Values) -> Values:
    """Return `volatility sqrt(years)` of an option; arguments of one shape, see above."""
    intrinsic = sign * (forward - strike)
    intrinsic = jnp.where(intrinsic > 0, intrinsic, jnp.zeros_like(intrinsic))
    target = (price - intrinsic) / smaller(forward, strike)
    possible = (target > 0) & (target < 1)
    half = jnp.full_like(target, 0.5)
    deviation = _deviation_of(
        jnp.abs(log_ratio(forward, strike)), jnp.where(possible, target, half)
    )
    none = jnp.where(target == 0, jnp.zeros_like(target), jnp.full_like(target, jnp.nan))
    return jnp.where(possible, deviation, none)


@implied_deviation.defjvp
def _deviation_jvp(primals: tuple, tangents: tuple) -> tuple:
    price, forward, strike, sign = primals
    d_price, d_forward, d_strike, _ = tangents
    deviation = implied_deviation(price, forward, strike, sign)
    d1, d2 = distances(log_ratio(forward, strike), deviation)
    vega = forward * normal_density(d1)
    change = d_price - sign * normal_cdf(sign * d1) * d_forward
    change = change + sign * normal_cdf(sign * d2) * d_strike
    return deviation, jnp.where(vega > 0, change / positive_or_one(vega), jnp.zeros_like(change))


def _deviation_of(moneyness: Values, target: Values) -> Values:
    """Return `s` with `time_value(moneyness, s) = target`, for targets between 0 and 1.

    The logarithm of the time value (of its distance to 1 where above one half) is concave in `s`
    and nearly parabolic in its tail. From below, Halley's method climbs it without turning back.
    """
    # Two lower bounds: b < Phi(h), and b is largest at the money, 2 Phi(s / 2) - 1.
    z = normal_quantile(target)
    reach = jnp.sqrt(z * z + 2.0 * moneyness)
    below = 2.0 * moneyness / positive_or_one(reach - z)
    bound = jnp.where(z > 0, z + reach, below)
    at_the_money = 2.0 * normal_quantile(0.5 + 0.5 * target)
    start = jnp.where(bound > at_the_money, bound, at_the_money)
    upper = target > 0.5
    side = jnp.where(upper, -1.0, 1.0).astype(target.dtype)
    aim = jnp.where(upper, 1.0 - target, target)

    def step(_: int, s: Values) -> Values:
        value = time_value(moneyness, s)
        value = jnp.where(upper, 1.0 - value, value)
        ratio = moneyness / s
        slope = side * normal_density(0.5 * s - ratio)
        climb = jnp.where(value > 0, value, aim) / slope
        gap = jnp.log(jnp.where(value > 0, value, aim) / aim)
        bend = (ratio * ratio / s - 0.25 * s) * climb - 1.0
        move = gap * climb / jnp.clip(1.0 - 0.5 * gap * bend, 0.5, 2.0)
        return jnp.where(slope != 0, jnp.clip(s - move, 0.5 * s, 2.0 * s), s)

    return lax.fori_loop(0, STEPS, step, start)
