"""What is made of many losses: mean, shortfall, value at risk, probability; and its derivative."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

Sample = Float[np.ndarray, " scenario"]


@dataclasses.dataclass(frozen=True)
class Functional:
    """A number made of the distribution of a loss.

    Attributes:
        kind: `mean`, `es` (expected shortfall), `var` (value at risk) or `above` (probability of
            more than a level).
        level: confidence, or the level.
    """

    kind: str = "mean"
    level: float = 0.0

    @property
    def suffix(self) -> str:
        """What it adds to a measure's name."""
        return "" if self.kind == "mean" else f".{self.kind}_{self.level:g}"

    @property
    def label(self) -> str:
        """What it is called in a sentence."""
        return {
            "mean": "the mean",
            "es": "the expected shortfall",
            "var": "the value at risk",
            "above": "the probability of a larger loss",
        }[self.kind]

    @property
    def continuous(self) -> bool:
        """Whether it is a mean of something continuous in the loss."""
        return self.kind in ("mean", "es")

    def of_slopes(self, slopes: Sample, losses: Sample) -> Sample:
        """Return terms whose mean is the derivative, from the scenarios' own derivatives.

        Source: Rockafellar and Uryasev 2002: the derivative of the shortfall is the mean of the
        loss's derivative over the tail, the quantile held.
        """
        if self.kind == "mean":
            return slopes
        return slopes * (losses >= quantile(losses, self.level)) / (1.0 - self.level)

    def of_scores(self, scores: Sample, losses: Sample) -> Sample:
        """Return terms whose mean is the derivative, from the scores of the scenarios' draws.

        What a score is multiplied with is taken about the level that makes the product quietest.
        """
        if self.kind == "var":
            # Where the distribution function F is moved by dF, its quantile moves by -dF / F'.
            level = quantile(losses, self.level)
            return _centred(losses <= level, scores) * -1.0 / density_at(losses, self.level)
        return _centred(self._influence(losses, losses), scores)

    def of_ends(self, low: Sample, high: Sample, losses: Sample) -> Sample:
        """Return terms whose mean is the difference between a bump's two ends.

        Args:
            low: losses below.
            high: losses above, under the same draws.
            losses: between.
        """
        if self.kind == "var":
            return _quantile_terms(high, self.level) - _quantile_terms(low, self.level)
        return self._influence(high, losses) - self._influence(low, losses)

    def _influence(self, losses: Sample, base: Sample) -> Sample:
        if self.kind == "mean":
            return losses
        if self.kind == "above":
            return (losses > self.level).astype(np.float64)
        excess = losses - quantile(base, self.level)
        return np.maximum(excess, 0.0) / (1.0 - self.level)


def quantile(losses: Sample, confidence: float) -> float:
    """Return the loss not exceeded with this probability, one of the sample."""
    return float(np.quantile(losses, confidence, method="higher"))


def density_at(losses: Sample, confidence: float) -> float:
    """Return the density of the losses at a quantile, from the spacing of order statistics.

    Over n^(4/5) of them on both sides, but at most a fifth of the tail: farther out it is another
    density.

    Raises:
        ValueError: losses are all the same there: the quantile is an atom and has no density.
    """
    ordered, count = np.sort(losses), len(losses)
    reach = max(int(min(count**0.8, 0.2 * (1.0 - confidence) * count)), 1)
    at = int(np.searchsorted(ordered, quantile(losses, confidence)))
    low, high = max(at - reach, 0), min(at + reach, count - 1)
    spread = ordered[high] - ordered[low]
    if not spread > 0.0:
        raise ValueError(
            f"the value at risk at {confidence:g} is an atom of the losses: it has no derivative"
        )
    return float((high - low) / count / spread)


def mean_and_error(terms: Sample) -> tuple[float, float]:
    """Return the mean of terms and its standard error; the error of one is infinite."""
    error = float(np.std(terms, ddof=1) / math.sqrt(len(terms))) if len(terms) > 1 else math.inf
    return float(np.mean(terms)), error


def _centred(values: np.ndarray, scores: Sample) -> Sample:
    """Return values times scores, the values about the constant of least variance."""
    square = float(np.mean(scores**2))
    if square == 0.0:
        return np.zeros_like(scores)
    return (values - float(np.mean(values * scores**2)) / square) * scores


def _quantile_terms(losses: Sample, confidence: float) -> Sample:
    """Return terms whose mean is the quantile and whose spread is that of its estimate.

    Source: Bahadur 1966: a sample quantile is the quantile plus the mean of its influence
    `(confidence - 1{loss <= quantile}) / density`.
    """
    level = quantile(losses, confidence)
    influence = (confidence - (losses <= level)) / density_at(losses, confidence)
    return level + influence - influence.mean()
