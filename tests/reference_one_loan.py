"""One loan stepped down a lattice of prices: its expected loss by quadrature, without scenarios.

Written from the definition: the density of the log price of a loan that is still open is carried
from step to step, and what is closed in a step leaves `(debt - (1 - cost) price)+` unpaid.
"""

import math
from collections.abc import Mapping

import numpy as np

NODES = 400
DEVIATIONS = 9.0


def normal_cdf(x: np.ndarray | float) -> np.ndarray:
    """Return the normal distribution function."""
    return 0.5 * np.vectorize(math.erfc)(-np.asarray(x, np.float64) / math.sqrt(2.0))


def expected_loss(p: Mapping[str, float], steps: int, step_years: float) -> float:
    """Return the expected loss of `tests.gradient_settings.one_loan`.

    Args:
        p: `threshold`, `volatility`, `price`, `cost` and `debt`.
        steps: number of steps.
        step_years: length of a step.
    """
    deviation = p["volatility"] * math.sqrt(step_years)
    drift, start = -0.5 * deviation**2, math.log(p["price"])
    trigger = math.log(p["debt"] / p["threshold"])
    kept = 1.0 - p["cost"]
    lowest = min(trigger, math.log(p["debt"] / kept))

    def closed(x: np.ndarray) -> np.ndarray:
        centre = x + drift
        e = (lowest - centre) / deviation
        forward = kept * np.exp(centre + 0.5 * deviation**2)
        return p["debt"] * normal_cdf(e) - forward * normal_cdf(e - deviation)

    top = start + DEVIATIONS * deviation * math.sqrt(steps)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    x = trigger + 0.5 * (top - trigger) * (nodes + 1.0)
    weights = weights * 0.5 * (top - trigger)
    density = lambda move: (
        np.exp(-0.5 * ((move - drift) / deviation) ** 2) / (deviation * math.sqrt(2.0 * math.pi))
    )
    loss = float(closed(np.array([start]))[0])
    open_at = density(x - start)
    at_node, between = closed(x), density(x[:, None] - x[None, :])
    for _ in range(steps - 1):
        loss += float(weights @ (open_at * at_node))
        open_at = between @ (weights * open_at)
    return loss


def derivatives(
    p: Mapping[str, float], steps: int, step_years: float, share: float = 1e-3
) -> dict[str, float]:
    """Return the derivative by each parameter: bumps of the quadrature, extrapolated."""
    result = {}
    for name, value in p.items():
        ways = []
        for h in (share * value, 0.5 * share * value):
            up, down = ({**p, name: value + s * h} for s in (1.0, -1.0))
            ends = [expected_loss(end, steps, step_years) for end in (up, down)]
            ways.append((ends[0] - ends[1]) / (2.0 * h))
        result[name] = (4.0 * ways[1] - ways[0]) / 3.0
    return result
