"""Likelihood ratios: the loss stands still, the probability of each scenario moves.

For parameters of the law (drift, volatility, correlation, opening price) the loss may be anything,
jumps included. A parameter of a trigger can be *pushed out* into the law: where a threshold enters
only as a sum with the log price, simulate that sum, whose law then depends on the threshold and
whose trigger does not. The noise grows with the number of steps.
"""

from jaxtyping import Array, Key

from jaxrisk.gradient.estimate import (
    Estimate,
    Loss,
    Parameters,
    differentiated,
    lost,
    total,
)
from jaxrisk.gradient.regime import expected_from
from jaxrisk.numerics.crossing import Scored

ASSUMES = (
    "the parameters do not move any trigger, only the means and deviations of normal steps and "
    "what is lost (push thresholds out into the law)"
)


def likelihood(
    loss: Loss,
    parameters: Parameters,
    key: Key[Array, ""],
    *,
    scenarios: int,
    second: bool = False,
) -> Estimate:
    """Return derivatives by likelihood ratio: mean loss times the score of its draws.

    What a loss itself depends on at given prices is differentiated too, so a parameter may be in
    the law and in the loss at once.

    Args:
        loss: `loss(parameters, key, crossing)`; edges are not used.
        parameters: where to differentiate.
        key: from `root_key`.
        scenarios: how many.
        second: also second derivatives.

    Raises:
        ValueError: a parameter is no floating-point number, or a loss is not finite.
    """
    baseline = expected_from(loss, parameters, key)
    return differentiated(
        lambda p, own: total(loss(p, own, Scored()), baseline),
        parameters,
        key,
        scenarios,
        estimator="likelihood ratio",
        assumes=ASSUMES,
        second=second,
        played=lambda p, own: lost(loss(p, own)),
    )
