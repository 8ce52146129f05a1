"""Static arbitrage between listed options: spreads and butterflies of an expiry, and calendars."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.market.black import black_price
from jaxrisk.numerics.gate import smaller
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
    slopes = _slopes(log_moneyness, total_variance)
    return slopes[:, 1:] - slopes[:, :-1]


def vertical_values(
    log_moneyness: Float[Array, " strike"], total_variance: Float[Array, "expiry strike"]
) -> Float[Array, "expiry gap"]:
    """Return the value of the cheaper spread of neighbouring strikes, of calls or of puts.

    Each pays at most 1. A negative value is an arbitrage: calls get dearer with the strike, or puts
    cheaper. Arguments are those of `butterfly_values`.
    """
    slopes = _slopes(log_moneyness, total_variance)
    return smaller(-slopes, 1.0 + slopes)


def _slopes(
    log_moneyness: Float[Array, " strike"], total_variance: Float[Array, "expiry strike"]
) -> Float[Array, "expiry gap"]:
    """Return the change of the call price by the strike, between neighbouring strikes."""
    strike = jnp.broadcast_to(jnp.exp(log_moneyness), total_variance.shape)
    calls = black_price(1.0, strike, 1.0, safe_sqrt(total_variance), 1.0)
    return (calls[:, 1:] - calls[:, :-1]) / (strike[:, 1:] - strike[:, :-1])


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
        kind: "vertical", "butterfly", or "calendar" against the next expiry.
        years: of the expiry.
        log_moneyness: of the strike; of a butterfly its middle one, of a spread its lower one.
        amount: how far below zero the value is, of `vertical_values` and so on.
        beside: log-moneyness of the other strikes that are traded.
        later: years of the expiry sold against the one of a calendar.
    """

    kind: str
    years: float
    log_moneyness: float
    amount: float
    beside: tuple[float, ...] = ()
    later: float | None = None

    @property
    def strikes(self) -> tuple[float, ...]:
        """Log-moneyness of every strike that is traded, rising."""
        return tuple(sorted((self.log_moneyness, *self.beside)))


def described(breach: Breach) -> str:
    """Return an arbitrage in words: strikes over the forward, expiries in years, what to change."""
    at = ", ".join(f"{np.exp(k):.6g}" for k in breach.strikes)
    middle = f"{np.exp(breach.log_moneyness):.6g}"
    if breach.later is None:
        remedy = "bring their volatilities nearer"
        if breach.kind == "butterfly":
            remedy = f"lower the volatility of {middle} or raise that of its neighbours"
        return (
            f"{breach.kind} of the strikes {at} of the forward at {breach.years:.6g} years is "
            f"worth {-breach.amount:.3g}; {remedy}"
        )
    return (
        f"calendar at the strike {at} of the forward from {breach.years:.6g} to {breach.later:.6g} "
        f"years: total variance falls by {breach.amount:.3g}; lower the volatility of the first "
        "expiry or raise that of the second"
    )


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
    short = -np.asarray(vertical_values(log_moneyness, total_variance))
    for e, s in zip(*np.nonzero(short > tolerance), strict=True):
        place = (float(expiry[e]), float(k[s]), float(short[e, s]))
        found.append(Breach("vertical", *place, beside=(float(k[s + 1]),)))
    short = -np.asarray(butterfly_values(log_moneyness, total_variance))
    for e, s in zip(*np.nonzero(short > tolerance), strict=True):
        place = (float(expiry[e]), float(k[s + 1]), float(short[e, s]))
        found.append(Breach("butterfly", *place, beside=(float(k[s]), float(k[s + 2]))))
    short = -np.asarray(calendar_values(total_variance))
    for e, s in zip(*np.nonzero(short > tolerance), strict=True):
        place = (float(expiry[e]), float(k[s]), float(short[e, s]))
        found.append(Breach("calendar", *place, later=float(expiry[e + 1])))
    return sorted(found, key=lambda breach: -breach.amount)
