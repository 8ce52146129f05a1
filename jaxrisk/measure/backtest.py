"""Backtests: did losses exceed what was forecast as often, as scattered and as far as it said?

All on the host in float64. A loss is positive when money is lost; `tail` is the probability the
forecast left beyond its value at risk, 0.01 for a confidence of 99 %.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Array, Float

Series: TypeAlias = Float[np.ndarray, " day"] | Float[Array, " day"] | Sequence[float]


@dataclasses.dataclass(frozen=True)
class LikelihoodRatio:
    """A likelihood-ratio test.

    Attributes:
        statistic: twice the log-likelihood lost by the hypothesis.
        p_value: probability of as large a statistic if the hypothesis holds, by its limiting
            chi-squared law.
    """

    statistic: float
    p_value: float


@dataclasses.dataclass(frozen=True)
class Coverage:
    """Whether exceedances come as often as forecast, and independently of the day before.

    Attributes:
        unconditional: as many as forecast (one degree of freedom).
        independence: as likely after an exceedance as after none (one).
        conditional: both together (two).
    """

    unconditional: LikelihoodRatio
    independence: LikelihoodRatio
    conditional: LikelihoodRatio


def kupiec_test(exceedances: int, observations: int, tail: float) -> LikelihoodRatio:
    """Return the test that a value at risk is exceeded as often as it says.

    `-2 ln[(1-p)^(T-x) p^x / ((1-x/T)^(T-x) (x/T)^x)]`, chi-squared with one degree of freedom.

    Source: Kupiec 1995, J. Derivatives 3(2).

    Args:
        exceedances: x, days on which the loss exceeded the value at risk.
        observations: T, days in all.
        tail: p.

    Raises:
        ValueError: more exceedances than observations, none observed, or tail outside (0, 1).
    """
    _check_tail(tail)
    if not 0 <= exceedances <= observations or observations < 1:
        raise ValueError(f"{exceedances} exceedances in {observations} observations")
    seen = _log_likelihood(exceedances, observations, exceedances / observations)
    return _ratio(seen - _log_likelihood(exceedances, observations, tail), degrees=1)


def coverage_test(losses: Series, value_at_risk: Series, tail: float) -> Coverage:
    """Return the tests of coverage of a series of forecasts.

    Source: Christoffersen 1998, International Economic Review 39(4).

    Args:
        losses: of each day.
        value_at_risk: forecast for that day.
        tail: probability that each forecast is exceeded.

    Raises:
        ValueError: series of different lengths, fewer than two days, values that are not finite, or
            tail outside (0, 1).
    """
    loss, forecast = _aligned(losses, value_at_risk)
    hits = loss > forecast
    unconditional = kupiec_test(int(hits.sum()), len(hits), tail)
    before, after = hits[:-1], hits[1:]
    calm, calm_hits = int((~before).sum()), int((~before & after).sum())
    hit, hit_hits = int(before.sum()), int((before & after).sum())
    chance = (calm_hits + hit_hits) / (calm + hit)
    apart = sum(
        _log_likelihood(x, n, x / n) for x, n in ((calm_hits, calm), (hit_hits, hit)) if n > 0
    )
    together = _log_likelihood(calm_hits + hit_hits, calm + hit, chance)
    independence = _ratio(apart - together, degrees=1)
    both = (unconditional.statistic + independence.statistic) / 2.0
    return Coverage(unconditional, independence, _ratio(both, degrees=2))


def shortfall_scores(
    losses: Series, value_at_risk: Series, expected_shortfall: Series, tail: float
) -> tuple[float, float]:
    """Return two scores of forecasts of the expected shortfall: about 0 where they are right.

    The first asks how far losses beyond the value at risk go (NaN without any), the second also how
    often. Negative where the risk was understated, the more the worse.

    Source: Acerbi and Szekely 2014, Risk, tests 1 and 2.

    Args:
        losses: of each day.
        value_at_risk: forecast for that day.
        expected_shortfall: forecast for that day, positive.
        tail: probability beyond the value at risk.

    Raises:
        ValueError: as for `coverage_test`, or a shortfall that is not positive.
    """
    _check_tail(tail)
    loss, forecast = _aligned(losses, value_at_risk)
    _, shortfall = _aligned(losses, expected_shortfall)
    if (shortfall <= 0).any():
        raise ValueError("expected_shortfall must be positive")
    hits = loss > forecast
    excess = float((loss[hits] / shortfall[hits]).sum())
    given = 1.0 - excess / hits.sum() if hits.any() else math.nan
    return given, 1.0 - excess / (len(loss) * tail)


def traffic_light(exceedances: int, observations: int = 250, tail: float = 0.01) -> str:
    """Return the supervisors' zone of a value at risk: "green", "yellow" or "red".

    By the chance of at most so many exceedances if the forecast is right: yellow from 95 %, red
    from 99.99 %.

    Source: Basel Committee 1996, supervisory framework for backtesting.

    Args:
        exceedances: days on which the loss exceeded the value at risk.
        observations: days in all.
        tail: probability that each forecast is exceeded.

    Raises:
        ValueError: as for `kupiec_test`.
    """
    _check_tail(tail)
    if not 0 <= exceedances <= observations or observations < 1:
        raise ValueError(f"{exceedances} exceedances in {observations} observations")
    chance = sum(
        math.comb(observations, x) * tail**x * (1.0 - tail) ** (observations - x)
        for x in range(exceedances + 1)
    )
    return "green" if chance < 0.95 else "yellow" if chance < 0.9999 else "red"


def _log_likelihood(hits: int, days: int, chance: float) -> float:
    """Return the log likelihood of hits that are independent; 0 log 0 is 0."""
    missed = 0.0 if hits == days else (days - hits) * math.log1p(-chance)
    return missed if hits == 0 else missed + hits * math.log(chance)


def _ratio(lost: float, *, degrees: int) -> LikelihoodRatio:
    """Return the test of a hypothesis that loses so much log-likelihood, of one or two degrees."""
    statistic = max(2.0 * lost, 0.0)
    beyond = math.erfc(math.sqrt(statistic / 2.0)) if degrees == 1 else math.exp(-statistic / 2.0)
    return LikelihoodRatio(statistic, beyond)


def _check_tail(tail: float) -> None:
    if not 0.0 < tail < 1.0:
        raise ValueError(f"tail must be inside (0, 1), got {tail!r}")


def _aligned(losses: Series, forecast: Series) -> tuple[np.ndarray, np.ndarray]:
    loss, expected = np.asarray(losses, np.float64), np.asarray(forecast, np.float64)
    if loss.ndim != 1 or loss.shape != expected.shape or len(loss) < 2:
        raise ValueError(f"series of shapes {loss.shape} and {expected.shape}: not one a day")
    if not (np.isfinite(loss).all() and np.isfinite(expected).all()):
        raise ValueError("series must be finite")
    return loss, expected
