"""Static arbitrage between listed options: butterflies within an expiry, calendars between them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.market.black import black_price
from jaxrisk.numerics.smooth import safe_sqrt


def butterfly_values(
    log_moneyness: Float[Array, " strike"], total_variance: Float[Array, "expiry strike"]
) -> Float[Array, "expiry inner"]:
    """Return the value of the butterfly at each inner strike, for a payoff of 1 at that strike.

    Calls of three neighbouring strikes, weighted so that they pay a tent of height 1 at the middle
    one. A negative value is an arbitrage, however smiles run between the strikes.

    Args:
        log_moneyness: `(strike,)` log(strike / forward), increasing.
        total_variance: `(expiry, strike)` volatility^2 years; not negative.

    Returns:
        `(expiry, strike - 2)`.
    """
    strike = jnp.broadcast_to(jnp.exp(log_moneyness), total_variance.shape)
    calls = black_price(1.0, strike, 1.0, safe_sqrt(total_variance), 1.0)
    slopes = (calls[:, 1:] - calls[:, :-1]) / (strike[:, 1:] - strike[:, :-1])
    return slopes[:, 1:] - slopes[:, :-1]


def calendar_values(
    total_variance: Float[Array, "expiry strike"],
) -> Float[Array, "gap strike"]:
    """Return how much total variance rises to the next expiry at the same log-moneyness.

    A negative value is an arbitrage between the two expiries.
    """
    return total_variance[1:] - total_variance[:-1]


@dataclasses.dataclass(frozen=True)
class Breach:
    """One arbitrage.

    Attributes:
        kind: "butterfly", or "calendar" against the next expiry.
        years: of the expiry.
        log_moneyness: of the strike; of a butterfly its middle one.
        amount: how far below zero the value is, of `butterfly_values` or `calendar_values`.
    """

    kind: str
    years: float
    log_moneyness: float
    amount: float


def breaches(
    years: Float[Array, " expiry"],
    log_moneyness: Float[Array, " strike"],
    total_variance: Float[Array, "expiry strike"],
    *,
    tolerance: float = 1e-9,
) -> list[Breach]:
    """Return the static arbitrages of a surface on the host, worst first; empty where none.

    Args:
        years: `(expiry,)`, increasing.
        log_moneyness: `(strike,)`, increasing: where the surface is looked at.
        total_variance: `(expiry, strike)` there.
        tolerance: values this far below zero are rounding.
    """
    k, expiry = np.asarray(log_moneyness), np.asarray(years)
    found = []
    for kind, values, strikes in (
        ("butterfly", butterfly_values(log_moneyness, total_variance), k[1:-1]),
        ("calendar", calendar_values(total_variance), k),
    ):
        short = -np.asarray(values)
        for e, s in zip(*np.nonzero(short > tolerance), strict=True):
            found.append(Breach(kind, float(expiry[e]), float(strikes[s]), float(short[e, s])))
    return sorted(found, key=lambda breach: -breach.amount)
