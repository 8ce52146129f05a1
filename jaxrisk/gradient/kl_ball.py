"""The worst law within a given relative entropy of the sampled one: which scenarios carry the loss.

Among all laws Q with `KL(Q | P) <= radius` the largest mean loss has `dQ / dP` proportional to
`exp(tilt * loss)`. On a sample these are weights, so no gradient and no further simulation is
needed, and the answer does not depend on how many factors there are.

Source: Breuer and Csiszar 2013, "Systematic stress tests with entropic plausibility constraints".
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float

_BISECTIONS = 60


@dataclasses.dataclass(frozen=True, kw_only=True)
class WorstLaw:
    """A sample reweighted to its worst mean.

    Attributes:
        mean: of the loss under the worst law.
        standard_error: of that mean, to first order.
        sampled_mean: of the loss as it was drawn.
        weights: `(scenario,)` of the worst law; they add up to 1.
        tilt: by unit of loss.
        radius: relative entropy, in nats.
        effective_scenarios: how many equal weights would be as good; with a handful of them the
            mean is what those few scenarios say, and too low.
    """

    mean: float
    standard_error: float
    sampled_mean: float
    weights: Float[np.ndarray, " scenario"]
    tilt: float
    radius: float
    effective_scenarios: float


def worst_law(losses: Float[np.ndarray, " scenario"], radius: float) -> WorstLaw:
    """Return the weights with the largest mean loss within a relative entropy.

    The error is that of the dual form, the smallest over eta of
    `eta * radius + eta * log E exp(loss / eta)`, at the eta found.

    Args:
        losses: one a scenario, equally likely.
        radius: largest relative entropy, in nats, positive.

    Raises:
        ValueError: fewer than two losses, losses that are not finite or all the same; a radius
            that is not positive, or so large that all weight is on the largest loss.
    """
    sample = np.asarray(losses, np.float64)
    if sample.ndim != 1 or sample.size < 2:
        raise ValueError(f"losses: expected one number a scenario, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError(f"losses: {int((~np.isfinite(sample)).sum())} are not finite")
    spread = float(np.std(sample))
    if not np.ptp(sample) > 0:
        raise ValueError(f"losses are all {sample[0]:g}: no law of them is worse than another")
    farthest = math.log(sample.size / np.count_nonzero(sample == sample.max()))
    if not 0.0 < radius < farthest:
        raise ValueError(
            f"radius {radius:g}: expected a positive one below {farthest:g}, at which "
            f"{sample.size} scenarios have all weight on the largest loss"
        )
    standard = (sample - sample.max()) / spread
    low, high = 0.0, 1.0
    while _entropy(standard, high) < radius:
        low, high = high, 2.0 * high
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        if _entropy(standard, middle) < radius:
            low = middle
        else:
            high = middle
    weights = _weights(standard, low)
    deviation = np.std(weights * sample.size, ddof=1) * spread / low
    return WorstLaw(
        mean=float(weights @ sample),
        standard_error=float(deviation / math.sqrt(sample.size)),
        sampled_mean=float(sample.mean()),
        weights=weights,
        tilt=low / spread,
        radius=radius,
        effective_scenarios=float(1.0 / np.sum(weights**2)),
    )


def _weights(standard: np.ndarray, tilt: float) -> np.ndarray:
    """Return the weights of a tilt; the largest of the losses is 0."""
    raised = np.exp(tilt * standard)
    return raised / raised.sum()


def _entropy(standard: np.ndarray, tilt: float) -> float:
    """Return the relative entropy of a tilt: `tilt * mean - log E exp(tilt * loss)`."""
    raised = np.exp(tilt * standard)
    return float(tilt * (raised @ standard) / raised.sum() - math.log(raised.mean()))
