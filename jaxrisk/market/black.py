"""Black-76 prices of European options on a forward."""

import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one

Numbers = Float[Array, "..."]


def black_price(
    forward: Numbers,
    strike: Numbers,
    years: Numbers,
    volatility: Numbers,
    discount: Numbers,
    is_call: Bool[Array, "..."],
) -> Numbers:
    """Return the price of a call or put: `D (F Phi(d1) - K Phi(d2))`, the put by parity."""
    variance = volatility * volatility * years
    live = (variance > 0) & (strike > 0) & (forward > 0)
    root = jnp.sqrt(jnp.where(live, variance, jnp.ones_like(variance)))
    moneyness = jnp.log(positive_or_one(forward) / positive_or_one(strike))
    d1 = moneyness / root + 0.5 * root
    ahead = forward - strike
    sign = jnp.where(is_call, 1.0, -1.0).astype(forward.dtype)
    time_value = sign * (forward * ndtr(sign * d1) - strike * ndtr(sign * (d1 - root)))
    intrinsic = jnp.where(sign * ahead > 0, sign * ahead, jnp.zeros_like(ahead))
    return discount * jnp.where(live, time_value, intrinsic)
