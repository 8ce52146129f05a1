"""Means and tails of a simulated loss, each with its Monte Carlo standard error.

All on the host in float64, from one number a scenario. A loss is positive when money is lost and
`confidence=0.99` means the worst 1 %.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Array, Float

_NORMAL_95 = 1.959963984540054

Losses: TypeAlias = Float[np.ndarray, " scenario"] | Float[Array, " scenario"] | Sequence[float]


def mean_and_error(losses: Losses) -> tuple[float, float]:
    """Return the mean and its standard error, s / √n; the error of one scenario is infinite.

    A sample without variation has error 0: if no scenario lost, the bound on the chance of a loss
    is in `exceedance_probability`; no sample bounds its size.
    """
    return _mean_and_error(_checked(losses))


def value_at_risk(losses: Losses, confidence: float) -> float:
    """Return the value at risk: the smallest loss not exceeded with probability `confidence`.

    The lower quantile of the sample, x_(⌈n·confidence⌉) of the sorted losses.

    Raises:
        ValueError: no losses, losses not finite, or confidence outside (0, 1).
    """
    return _quantile(np.sort(_checked(losses)), confidence)


def expected_shortfall(losses: Losses, confidence: float) -> float:
    """Return the expected shortfall: the mean of the worst 1 − confidence of probability.

    VaR + E[(loss − VaR)⁺] / (1 − confidence), which counts only that part of an atom at the VaR
    which belongs to the tail (Rockafellar and Uryasev 2002, J. Banking & Finance 26).

    Raises:
        ValueError: no losses, losses not finite, or confidence outside (0, 1).
    """
    return expected_shortfall_and_error(losses, confidence)[0]


def value_at_risk_and_error(losses: Losses, confidence: float) -> tuple[float, float]:
    """Return the value at risk and its standard error.

    The error is half the distance between the order statistics one binomial standard deviation
    √(n c (1−c)) below and above the quantile's rank (Woodruff 1952, JASA 47): no density has to be
    estimated and ties do no harm. It is infinite where the upper one lies beyond the sample, which
    takes fewer than about 1 / (1 − confidence) scenarios.
    """
    return _value_at_risk_and_error(np.sort(_checked(losses)), confidence)


def expected_shortfall_and_error(losses: Losses, confidence: float) -> tuple[float, float]:
    """Return the expected shortfall and its standard error.

    The error is that of the influence function (loss − VaR)⁺ / (1 − c): s((loss − VaR)⁺) /
    (√n (1−c)) (Manistre and Hancock 2005, NAAJ 9). It is infinite where no scenario lies beyond
    the quantile's rank, and low where only a few do.
    """
    return _expected_shortfall_and_error(np.sort(_checked(losses)), confidence)


def exceedance_probability(losses: Losses, threshold: float) -> tuple[float, float]:
    """Return the share of scenarios that lose more than `threshold`, and its standard error.

    The binomial √(p(1−p)/n), but at least b / 1.96 with b = 1 − 0.05^(1/n) ≈ 3/n, the 95 % bound
    on the probability of an event not seen in n trials (the rule of three): no event, or nothing
    but events, does not claim certainty, and estimate + 1.96 errors reaches the bound.
    """
    sample = _checked(losses)
    share = float(np.mean(sample > threshold))
    binomial = math.sqrt(share * (1.0 - share) / sample.size)
    unseen = -math.expm1(math.log(0.05) / sample.size) / _NORMAL_95
    return share, max(binomial, unseen)


def tail_summary(losses: Losses, confidences: Sequence[float]) -> dict[str, float]:
    """Return mean, VaR and ES with their standard errors under the names of the result files.

    Keys `mean`, `standard_error`, and per confidence `var_0.99`, `var_0.99_standard_error`,
    `es_0.99`, `es_0.99_standard_error`. An error may be infinite, see the functions above.
    """
    ordered = np.sort(_checked(losses))
    summary: dict[str, float] = {}
    summary["mean"], summary["standard_error"] = _mean_and_error(ordered)
    for confidence in confidences:
        for name, measure in (
            (f"var_{confidence}", _value_at_risk_and_error),
            (f"es_{confidence}", _expected_shortfall_and_error),
        ):
            summary[name], summary[f"{name}_standard_error"] = measure(ordered, confidence)
    return summary


def _checked(losses: Losses) -> np.ndarray:
    sample = np.asarray(losses, dtype=np.float64)
    if sample.ndim != 1 or sample.size == 0:
        raise ValueError(f"losses: expected one number a scenario, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError(f"losses: {int((~np.isfinite(sample)).sum())} are not finite")
    return sample


def _rank(scenarios: int, confidence: float) -> int:
    """Return ⌈n c⌉, from 1; the slack undoes products like 100 · 0.55 = 55.00000000000001."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence {confidence}: expected a fraction between 0 and 1")
    return max(1, math.ceil(scenarios * confidence * (1.0 - 1e-14)))


def _quantile(ordered: np.ndarray, confidence: float) -> float:
    return float(ordered[_rank(ordered.size, confidence) - 1])


def _mean_and_error(sample: np.ndarray) -> tuple[float, float]:
    mean = float(np.mean(sample))
    if sample.size == 1:
        return mean, math.inf
    return mean, float(np.std(sample, ddof=1)) / math.sqrt(sample.size)


def _value_at_risk_and_error(ordered: np.ndarray, confidence: float) -> tuple[float, float]:
    quantile = _quantile(ordered, confidence)
    count = ordered.size
    spread = math.sqrt(count * confidence * (1.0 - confidence))
    lower = max(1, math.floor(count * confidence - spread))
    upper = math.ceil(count * confidence + spread)
    if upper > count:
        return quantile, math.inf
    return quantile, 0.5 * float(ordered[upper - 1] - ordered[lower - 1])


def _expected_shortfall_and_error(ordered: np.ndarray, confidence: float) -> tuple[float, float]:
    rank = _rank(ordered.size, confidence)
    quantile = float(ordered[rank - 1])
    tail = 1.0 - confidence
    excess = np.maximum(ordered - quantile, 0.0)
    shortfall = quantile + float(np.mean(excess)) / tail
    if rank == ordered.size:
        return shortfall, math.inf
    return shortfall, float(np.std(excess, ddof=1)) / (math.sqrt(ordered.size) * tail)
