"""Black-76 prices of European options on a forward."""

import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one

Values = Float[Array, "..."]


def black_price(
    forward: Values, strike: Values, years: Values, volatility: Values, sign: Values
) -> Values:
    """Return the undiscounted value of an option; `sign` is 1 for calls and -1 for puts."""
    forward, strike, years, volatility, sign = jnp.broadcast_arrays(
        forward, strike, years, volatility, sign
    )
    variance = volatility * volatility * years
    live = (variance > 0) & (strike > 0) & (forward > 0)
    root = jnp.sqrt(jnp.where(live, variance, jnp.ones_like(variance)))
    moneyness = jnp.log(positive_or_one(forward) / positive_or_one(strike))
    d1 = moneyness / root + 0.5 * root
    ahead = sign * (forward - strike)
    value = sign * (forward * ndtr(sign * d1) - strike * ndtr(sign * (d1 - root)))
    return jnp.where(live, value, jnp.where(ahead > 0, ahead, jnp.zeros_like(ahead)))
