"""Implied volatilities of a venue's options: a straight smile at the opening, and how it moves."""

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxrisk.market.arbitrage import breaches
from jaxrisk.venue.margin_accounts import VolatilityMoves
from jaxrisk.venue.presets.listing import Listing, check_bounds

SMILE = ("volatility", "realised", "skew", "beta", "power")
"""Parameters by underlying."""

_DAYS_A_YEAR = 365.0
# Of a butterfly that pays at most 1: what prices in float32 are off by.
_ROUNDING = 1e-4
_LEAST = 0.05


class Implied(NamedTuple):
    """Implied volatilities of a venue's contracts.

    Attributes:
        volatility: `(contract,)` at the opening.
        moves: how they follow the market.
    """

    volatility: np.ndarray
    moves: VolatilityMoves


def implied(listing: Listing, stickiness: float) -> Implied:
    """Return implied volatilities, read off the smile at each strike.

    Parameters by underlying are the opening `volatility` at the money, and `skew`, `beta`, `power`
    as in `VolatilityMoves`, 0 where not given; `realised` is the volatility of the market at which
    they are as at the opening, `volatility` where not given.

    Args:
        listing: the contracts.
        stickiness: of the smile to the forward, in [0, 1].

    Raises:
        ValueError: a parameter is missing or out of range, or the smile admits an arbitrage between
            listed strikes.
    """
    check_bounds(listing.name, stickiness=(stickiness, 0.0, 1.0))
    own = _checked(listing)
    of = lambda field: np.array([each.get(field, 0.0) for each in own])
    strike = np.array([float(row.terms.strike[0]) for row in listing.rows])
    ratio = np.log(strike / listing.forward)
    ratio = np.where([row.is_option for row in listing.rows], ratio, 0.0)
    volatility = of("volatility") + of("skew") * ratio
    if np.any(volatility <= _LEAST):
        raise ValueError(f"{listing.name}: the skew leaves a strike with a volatility below 0.05")
    _refuse_arbitrage(listing, ratio, volatility)
    calm = [each.get("realised", each["volatility"]) ** 2 for each in own]
    return Implied(
        volatility,
        VolatilityMoves(
            beta=listing.array(of("beta")),
            power=listing.array(of("power")),
            skew=listing.array(of("skew")),
            stickiness=listing.array(stickiness),
            calm=listing.array(calm),
            floor=listing.array(_LEAST),
        ),
    )


def _checked(listing: Listing) -> list[Mapping[str, float]]:
    """Return the parameters of each contract's underlying."""
    own = listing.parameters(SMILE)
    for row, given in zip(listing.rows, own, strict=True):
        place = f"{listing.name}: assets.{row.underlying}.options"
        for key in ("volatility", "realised"):
            if not given.get(key, 1.0) > 0:
                raise ValueError(f"{place}.{key} = {given[key]:g}: expected a positive number")
        if not given.get("power", 0.0) >= 0:
            raise ValueError(
                f"{place}.power = {given['power']:g}: expected at least 0: implied volatilities "
                "would fall as realised volatility rises"
            )
    return own


def _refuse_arbitrage(listing: Listing, log_moneyness: np.ndarray, volatility: np.ndarray) -> None:
    """Raise where the opening volatilities of listed strikes admit an arbitrage.

    Volatility is a function of log-moneyness alone, so there are no calendars.
    """
    expiries: dict[tuple[str, float], dict[float, int]] = {}
    for i, row in enumerate(listing.rows):
        if row.is_option:
            own = expiries.setdefault((row.underlying, float(row.terms.expiry[0])), {})
            own[float(row.terms.strike[0])] = i
    problems = []
    for (asset, years), own in expiries.items():
        at = [own[strike] for strike in sorted(own)]
        k, total = jnp.asarray(log_moneyness[at]), jnp.asarray(volatility[at] ** 2 * years)
        found = breaches(jnp.asarray([years]), k, total[None], tolerance=_ROUNDING)
        for breach in found[:1]:
            near = np.searchsorted(np.asarray(k), np.asarray(breach.strikes))
            strikes = ", ".join(f"{sorted(own)[n]:.10g}" for n in near)
            problems.append(
                f"{listing.name}: assets.{asset}.options.skew: a {breach.kind} of the strikes "
                f"{strikes} at {years * _DAYS_A_YEAR:.6g} days is worth less than nothing; bring "
                "the skew nearer to 0"
            )
    if problems:
        raise ValueError("\n".join(problems))
