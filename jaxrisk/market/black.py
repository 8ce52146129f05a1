"""European options on a forward: Black-76 values and sensitivities.

A value is its intrinsic part plus `min(F, K) b(|log F/K|, s)`, where `s = volatility sqrt(years)`
and `b` is the time value of the out-of-the-money option, the same for calls and puts:

    b(x, s) = Phi(h) - exp(x) Phi(h - s) = [h > 0] - phi(h) (sign(h) M(|h|) + M(s - h)),
    h = s / 2 - x / s,

`M` being the Mills ratio. So deep wings keep their relative accuracy in float32, put-call parity
holds to the last place, and one exponential is computed instead of two distribution functions.

Arguments broadcast. Values are in the units of forward and strike, undiscounted; `sign` is 1 for
calls and -1 for puts; times are in years and volatilities per square root of a year. Without time
or volatility an option is worth its intrinsic value: all derivatives are those of the intrinsic
value or zero, and where forward and strike are equal, delta is half of `sign`, vega is one-sided
and what is infinite (gamma, theta) is zero.

Source: Black (1976), The pricing of commodity contracts.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.normal import mills_ratio, normal_cdf, normal_density
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.smooth import safe_sqrt

Values = Float[Array, "..."]

_FAR = 64.0
"""A distance in standard deviations at which no distribution has any mass left."""


def black_price(
    forward: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    volatility: ArrayLike,
    sign: ArrayLike,
) -> Values:
    """Return the undiscounted value of an option, in units of `forward`.

    Args:
        forward: price of the underlying for delivery at expiry; positive or 0.
        strike: positive or 0.
        years: to expiry; none left where not positive.
        volatility: per square root of a year.
        sign: 1 for calls, -1 for puts; a coefficient, not differentiated.
    """
    forward, strike, years, volatility, sign = jnp.broadcast_arrays(
        forward, strike, years, volatility, sign
    )
    moneyness = log_ratio(forward, strike)
    return value_at(forward, strike, moneyness, volatility * safe_sqrt(years), sign)


def coin_price(
    forward: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    volatility: ArrayLike,
    sign: ArrayLike,
) -> Values:
    """Return the value of a coin-settled (inverse) option in units of its underlying.

    It pays `max(sign (S - K), 0) / S` coins at expiry, and is quoted at its value over the forward.
    Arguments are those of `black_price`; the forward is positive.
    """
    value = black_price(forward, strike, years, volatility, sign)
    return value / jnp.broadcast_to(forward, value.shape)


@pytree
class Greeks:
    """Derivatives of `black_price`, each of the shape of its broadcast arguments.

    Attributes:
        delta: by the forward.
        gamma: second, by the forward.
        vega: by volatility.
        theta: by calendar time: the change of value a year as expiry comes nearer.
        vanna: of delta by volatility.
        volga: second, by volatility.
        charm: of delta by calendar time.
    """

    delta: Values
    gamma: Values
    vega: Values
    theta: Values
    vanna: Values
    volga: Values
    charm: Values


def black_greeks(
    forward: ArrayLike,
    strike: ArrayLike,
    years: ArrayLike,
    volatility: ArrayLike,
    sign: ArrayLike,
) -> Greeks:
    """Return the sensitivities of an option; arguments are those of `black_price`."""
    forward, strike, years, volatility, sign = jnp.broadcast_arrays(
        forward, strike, years, volatility, sign
    )
    root = safe_sqrt(years)
    deviation = volatility * root
    d1, d2 = distances(log_ratio(forward, strike), deviation)
    density = normal_density(d1)
    over = lambda above, below: jnp.where(
        below > 0, above / positive_or_one(below), jnp.zeros_like(above)
    )
    vega = forward * density * root
    # d1 is far or zero where there is no deviation: these are then zero, not 0 times infinity.
    tilt = over(density * d2, deviation)
    return Greeks(
        delta=sign * normal_cdf(sign * d1),
        gamma=over(density, forward * deviation),
        vega=vega,
        theta=-over(forward * density * volatility, 2.0 * root),
        vanna=-tilt * root,
        volga=over(vega * d1 * d2, volatility),
        charm=over(tilt * volatility, 2.0 * root),
    )


@jax.custom_jvp
def value_at(
    forward: Values, strike: Values, moneyness: Values, deviation: Values, sign: Values
) -> Values:
    """Return the value of an option whose log price has this standard deviation at expiry.

    It is `black_price` with what many scenarios share taken out of it. Arguments have one shape.

    Args:
        forward: positive or 0.
        strike: positive or 0.
        moneyness: `log(forward / strike)`. A value has no derivative of its own by it: what it
            contributes is part of those by forward and strike.
        deviation: `volatility sqrt(years)`, not negative.
        sign: 1 for calls, -1 for puts; not differentiated.
    """
    intrinsic = sign * (forward - strike)
    intrinsic = jnp.where(intrinsic > 0, intrinsic, jnp.zeros_like(intrinsic))
    return intrinsic + smaller(forward, strike) * time_value(jnp.abs(moneyness), deviation)


def _value_jvp(primals: tuple, tangents: tuple) -> tuple:
    forward, _, moneyness, deviation, sign = primals
    d_forward, d_strike, _, d_deviation, _ = tangents
    # A derivative nobody asked for is not computed: each costs as much as the value.
    wanted = lambda tangent: not isinstance(tangent, SymbolicZero)
    d1, d2 = distances(moneyness, deviation)
    change: Any = jnp.zeros_like(forward)
    if wanted(d_forward):
        change = change + sign * normal_cdf(sign * d1) * d_forward
    if wanted(d_strike):
        change = change - sign * normal_cdf(sign * d2) * d_strike
    if wanted(d_deviation):
        change = change + forward * normal_density(d1) * d_deviation
    return value_at(*primals), change


value_at.defjvp(_value_jvp, symbolic_zeros=True)


def time_value(moneyness: Values, deviation: Values) -> Values:
    """Return `b(x, s)`, the time value over the smaller of forward and strike; between 0 and 1.

    Args:
        moneyness: `|log(forward / strike)|`, of any size.
        deviation: `volatility sqrt(years)`; nothing is returned for none.
    """
    moves = deviation > 0
    safe = positive_or_one(deviation)
    ratio = moneyness / safe
    nearer, farther = 0.5 * safe - ratio, 0.5 * safe + ratio
    size = jnp.abs(nearer)
    mills = mills_ratio(size)
    inside = nearer > 0
    tails = normal_density(size) * (jnp.where(inside, mills, -mills) + mills_ratio(farther))
    return jnp.where(moves, inside.astype(tails.dtype) - tails, jnp.zeros_like(tails))


def distances(moneyness: Values, deviation: Values) -> tuple[Values, Values]:
    """Return `d1` and `d2`: how many deviations the strike lies off, as far as 64.

    Args:
        moneyness: `log(forward / strike)`.
        deviation: `volatility sqrt(years)`.
    """
    # Below this its inverse square, which second derivatives take, would overflow.
    smallest = jnp.finfo(deviation.dtype).tiny ** 0.25
    near = (jnp.abs(moneyness) < _FAR * deviation) & (deviation > smallest)
    ratio = moneyness / jnp.where(near, deviation, jnp.ones_like(deviation))
    ratio = jnp.where(near, ratio, _FAR * jnp.sign(moneyness))
    return ratio + 0.5 * deviation, ratio - 0.5 * deviation


@jax.custom_jvp
def log_ratio(forward: Values, strike: Values) -> Values:
    """Return `log(forward / strike)`, with full relative accuracy where the two are close."""
    low, gap = smaller(forward, strike), forward - strike
    size = jnp.log1p(jnp.abs(gap) / low)
    return jnp.where(gap == 0, jnp.zeros_like(gap), jnp.where(gap > 0, size, -size))


@log_ratio.defjvp
def _log_ratio_jvp(primals: tuple, tangents: tuple) -> tuple:
    (forward, strike), (d_forward, d_strike) = primals, tangents
    slope = d_forward / positive_or_one(forward) - d_strike / positive_or_one(strike)
    return log_ratio(forward, strike), slope
