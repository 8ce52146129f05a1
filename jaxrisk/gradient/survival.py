"""One-step survival: each step is sampled on condition that nothing is called in it.

What happens if something is called is taken as an expectation, in closed form, and weighted by its
probability. What is left is smooth in thresholds, volatilities, prices and costs alike, so it may
be differentiated, twice too, and its variance is a small part of the plain simulation's.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxrisk.gradient.estimate import Estimate, Loss, Parameters, differentiated
from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.normal import normal_cdf, normal_quantile
from jaxrisk.numerics.pytree import pytree

ASSUMES = (
    "the loss is a conditional expectation by `walk`: an account is closed whole once, its sale "
    "moves no price that matters to another, and its log price takes normal steps"
)


@pytree
class Walk:
    """Steps of a log price down to the one at which an account is closed; arrays are `(step,)`.

    Attributes:
        start: log price before the first step.
        mean: of each step.
        deviation: its standard deviation, positive.
        trigger: log price below which the account is closed in that step; with interest it rises.
    """

    start: Float[Array, ""]
    mean: Float[Array, " step"]
    deviation: Float[Array, " step"]
    trigger: Float[Array, " step"]


def walk(
    steps: Walk,
    closed: Callable[[Float[Array, ""], Float[Array, ""], Float[Array, ""]], Float[Array, ""]],
    uniforms: Float[Array, " step"],
) -> Float[Array, ""]:
    """Return the expected loss of one sampled survival path.

    Its mean over uniforms is the expected loss of the plain walk.

    Source: Glasserman and Staum 2001, Operations Research 49 (one-step survival).

    Args:
        steps: the walk.
        closed: `(mean, deviation, trigger)` to the expected loss of a step from here, counted only
            where the log price after it, normal, is below the trigger; see `expected_put`.
        uniforms: one an step, in (0, 1]; constants.
    """

    def step(state: tuple, now: tuple) -> tuple[tuple, Float[Array, ""]]:
        log_price, alive = state
        mean, deviation, trigger, uniform = now
        centre = log_price + mean
        loss = alive * closed(centre, deviation, trigger)
        survival = normal_cdf((centre - trigger) / deviation)
        # In the upper tail, so that a survival of 1e-12 keeps its digits.
        log_price = centre - deviation * normal_quantile(survival * uniform)
        return (log_price, alive * survival), loss

    opening = (steps.start, jnp.ones_like(steps.start))
    _, losses = jax.lax.scan(step, opening, (steps.mean, steps.deviation, steps.trigger, uniforms))
    return jnp.sum(losses)


def expected_put(
    owed: Float[Array, ""],
    recovered: Float[Array, ""],
    mean: Float[Array, ""],
    deviation: Float[Array, ""],
    below: Float[Array, ""],
) -> Float[Array, ""]:
    """Return the expectation of `(owed - recovered * exp(x))+` where x is below a trigger.

    `owed Phi(e) - recovered exp(mean + deviation^2 / 2) Phi(e - deviation)`, with e the lower of
    the trigger and log(owed / recovered), in deviations from the mean.

    Args:
        owed: debt, positive.
        recovered: units of collateral that are sold, less costs; positive.
        mean: of the normal x.
        deviation: its standard deviation.
        below: only x below this counts.
    """
    e = (smaller(below, jnp.log(owed / recovered)) - mean) / deviation
    forward = recovered * jnp.exp(mean + 0.5 * deviation**2)
    return owed * normal_cdf(e) - forward * normal_cdf(e - deviation)


def survival(
    loss: Loss,
    parameters: Parameters,
    key: Key[Array, ""],
    *,
    scenarios: int,
    second: bool = False,
) -> Estimate:
    """Return derivatives of a conditional expectation, which has no jumps.

    Args:
        loss: `loss(parameters, key)`, made of `walk`.
        parameters: where to differentiate.
        key: from `root_key`.
        scenarios: how many.
        second: also second derivatives.

    Raises:
        ValueError: a parameter is no floating-point number, or a loss is not finite.
    """
    return differentiated(
        loss,
        parameters,
        key,
        scenarios,
        estimator="one-step survival",
        assumes=ASSUMES,
        second=second,
    )
