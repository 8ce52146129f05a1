"""Regime scores: hard forward, unbiased backward, through cascades with feedback.

Between two neighbouring edges nothing jumps, so there each step is moved with the parameters at its
own quantile; how probable each regime was is a score. The forward simulation is the plain one, bit
for bit, and one backward pass gives the derivatives by all parameters.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxrisk.gradient.estimate import (
    Estimate,
    Loss,
    Losses,
    Parameters,
    averaged,
    differentiated,
    lost,
    point_of,
    total,
)
from jaxrisk.numerics.crossing import Stratified

ASSUMES = (
    "each step takes normal numbers one at a time through the crossing and states as edges every "
    "value at which the rest of the simulation jumps (for second derivatives also its kinks)"
)
_PILOT = 4096


def regime(
    loss: Loss,
    parameters: Parameters,
    key: Key[Array, ""],
    *,
    scenarios: int,
    second: bool = False,
) -> Estimate:
    """Return derivatives by regime-stratified reparameterisation with scores.

    Valid for parameters of the law and of the triggers, impact and losses alike. With `Losses` a
    score weighs only the losses from its step on, and what is to be expected from then on (from a
    pilot of other scenarios) is taken off; a number alone is taken as it is.

    Source: conditioning on the regime makes each piece a smooth integral over a moving interval;
    the score is that of the interval's probability (Gerstner, Harrach and Roth, arXiv:1804.03975,
    for barriers).

    Args:
        loss: `loss(parameters, key, crossing)`.
        parameters: where to differentiate.
        key: from `root_key`.
        scenarios: how many.
        second: also second derivatives.

    Raises:
        ValueError: a parameter is no floating-point number, or a loss is not finite.
    """
    baseline = expected_from(loss, parameters, key)
    return differentiated(
        lambda p, own: total(loss(p, own, Stratified()), baseline),
        parameters,
        key,
        scenarios,
        estimator="regime score",
        assumes=ASSUMES,
        second=second,
        played=lambda p, own: lost(loss(p, own)),
    )


def expected_from(
    loss: Loss, parameters: Parameters, key: Key[Array, ""]
) -> Float[Array, " step"] | None:
    """Return the loss to be expected from each step on, from a pilot; `None` without steps."""
    at = point_of(parameters)
    if not isinstance(jax.eval_shape(loss, parameters, key), Losses):
        return None
    # Other scenarios than the ones it is used for, so that the two are independent.
    pilot = jax.random.fold_in(key, 2**32 - 1)
    row = lambda values, own: loss(at.unravel(values), own).lost
    mean, _ = averaged(row, at.values, pilot, _PILOT)
    return jnp.asarray(mean[::-1].cumsum()[::-1].copy(), at.values.dtype)
