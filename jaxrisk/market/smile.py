"""Smiles: parametric total variance in log-moneyness, and whether it admits arbitrage.

Total variance is `w(k) = volatility^2 years`, at `k = log(strike / forward)`.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree

Values = Float[Array, "..."]


@pytree
class Svi:
    """Raw SVI: a hyperbola in log-moneyness. All leaves have one shape, `(expiry,)` or none.

        w(k) = a + b (rho (k - m) + sqrt((k - m)^2 + sigma^2))

    Sane where b >= 0, |rho| < 1, sigma > 0, the least variance `a + b sigma sqrt(1 - rho^2)` is not
    negative, and wings rise no faster than 2 |k| (Lee): `b (1 + |rho|) <= 2`. That does not yet
    rule out butterflies; see `durrleman`.

    Attributes:
        a: level.
        b: slope of the wings.
        rho: tilt.
        m: where the smile is centred.
        sigma: how round it is there.

    Source: Gatheral, Jacquier (2014), Arbitrage-free SVI volatility surfaces, equation 3.1.
    """

    a: Values
    b: Values
    rho: Values
    m: Values
    sigma: Values

    def total_variance(self, k: Values) -> Values:
        """Return `w(k)`; `k` broadcasts against the parameters."""
        k, a, b, rho, m, sigma = jnp.broadcast_arrays(
            k, self.a, self.b, self.rho, self.m, self.sigma
        )
        off = k - m
        return a + b * (rho * off + jnp.sqrt(off * off + sigma * sigma))

    def least_variance(self) -> Values:
        """Return the smallest total variance of the smile."""
        return self.a + self.b * self.sigma * jnp.sqrt(1.0 - self.rho**2)

    def steeper_wing(self) -> Values:
        """Return the slope of the steeper wing, which Lee's bound keeps to 2."""
        return self.b * (1.0 + jnp.abs(self.rho))


@pytree
class Ssvi:
    """Surface SVI with a power law: one smile shape, scaled by the variance at the money.

        w(k, theta) = theta / 2 (1 + rho phi k + sqrt((phi k + rho)^2 + 1 - rho^2)),
        phi(theta) = eta theta^-gamma (1 + theta)^(gamma - 1)

    Free of static arbitrage for every non-decreasing `theta > 0` where `|rho| < 1`,
    `0 < gamma <= 1/2` and `eta (1 + |rho|) <= 2`.

    Attributes:
        theta: `(expiry,)` total variance at the money.
        rho: tilt, one for all expiries.
        eta: curvature.
        gamma: how fast smiles flatten with variance.

    Source: Gatheral, Jacquier (2014), theorems 4.1 and 4.2, equation 4.5.
    """

    theta: Float[Array, " expiry"]
    rho: Float[Array, ""]
    eta: Float[Array, ""]
    gamma: Float[Array, ""]

    def phi(self) -> Float[Array, " expiry"]:
        """Return the curvature of each expiry's smile."""
        return self.eta * self.theta**-self.gamma * (1.0 + self.theta) ** (self.gamma - 1.0)

    def total_variance(self, k: Values) -> Values:
        """Return `w(k)`; `k` broadcasts against `(expiry,)`."""
        k, phi, theta = jnp.broadcast_arrays(k, self.phi(), self.theta)
        root = jnp.sqrt((phi * k + self.rho) ** 2 + 1.0 - self.rho**2)
        return 0.5 * theta * (1.0 + self.rho * phi * k + root)

    def butterfly_margins(self) -> tuple[Float[Array, " expiry"], Float[Array, " expiry"]]:
        """Return what is left of the two sufficient conditions against butterflies.

        `4 - theta phi (1 + |rho|)` and `4 - theta phi^2 (1 + |rho|)`: no expiry with both
        non-negative (the first positive) has one.
        """
        tilt, phi = 1.0 + jnp.abs(self.rho), self.phi()
        return 4.0 - self.theta * phi * tilt, 4.0 - self.theta * phi**2 * tilt

    def calendar_margins(self) -> Float[Array, " gap"]:
        """Return how much the variance at the money rises from each expiry to the next.

        Where none falls, and `eta (1 + |rho|) <= 2`, smiles do not cross.
        """
        return self.theta[1:] - self.theta[:-1]


def durrleman(total_variance: Callable[[Values], Values], k: Values) -> Values:
    """Return Durrleman's function of a smile; there is a butterfly wherever it is negative.

        g(k) = (1 - k w' / (2 w))^2 - w'^2 / 4 (1 / w + 1 / 4) + w'' / 2

    The density of the log price is `g` times a positive number. Smiles interpolated linearly have
    kinks, which this does not see; `market/arbitrage.py` does.

    Args:
        total_variance: maps `k` to `w(k)` element by element, twice differentiable and positive.
        k: log-moneyness, of the shape that comes back.
    """
    ones = jnp.ones_like(k)
    slope_of = lambda x: jax.jvp(total_variance, (x,), (ones,))
    (w, slope), (_, bend) = jax.jvp(slope_of, (k,), (ones,))
    w = positive_or_one(w)
    return (1.0 - 0.5 * k * slope / w) ** 2 - 0.25 * slope**2 * (1.0 / w + 0.25) + 0.5 * bend
