"""The smoothed gate: triggers that rise over a stated width, and what is left as it goes to 0.

Differentiating a simulation with smooth triggers is biased by the square of the width and, where
few scenarios meet a trigger inside it, noisy. Two widths give the bias away: what is returned is
extrapolated to a width of nothing. In cascades there is no limit to extrapolate to if accounts set
each other off within a width; the check against bumps shows it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from jaxrisk.gradient.estimate import (
    Estimate,
    Loss,
    Parameters,
    averaged,
    lost,
    point_of,
    silent,
)
from jaxrisk.numerics.crossing import Smooth

ASSUMES = (
    "the density across each trigger is smooth over a width, and what an account in the middle of "
    "it does to the others is a mean of what it does on both sides"
)
# Fewer scenarios than this inside the narrower gate say nothing, with however small an error.
FEWEST = 30


def smoothed(
    loss: Loss,
    parameters: Parameters,
    key: Key[Array, ""],
    *,
    scenarios: int,
    width: float,
    extrapolate: bool = True,
) -> Estimate:
    """Return derivatives of the simulation with smooth triggers, beside its exact value.

    For widths w and w / 2: `(4 d(w / 2) - d(w)) / 3`, with the errors of that combination.

    Args:
        loss: `loss(parameters, key, crossing)`.
        parameters: where to differentiate.
        key: from `root_key`.
        scenarios: how many.
        width: half-width of the gate, in units of what the simulation asks it.
        extrapolate: also play half the width; else the derivative at the width itself.

    Raises:
        ValueError: a width that is not positive, or so small that hardly any scenario meets a gate
            inside it; a parameter that is no floating-point number; a loss that is not finite.
    """
    if not width > 0:
        raise ValueError(f"width {width:g}: expected a positive one")
    at = point_of(parameters)
    widths = (width, 0.5 * width) if extrapolate else (width,)
    size = len(at.names)

    def row(values: Array, own: Array) -> Array:
        of = lambda v, w: lost(loss(at.unravel(v), own, Smooth(width=jnp.asarray(w, v.dtype))))
        exact, plain = jax.value_and_grad(of)(values, 0.0)
        slopes = [jax.grad(of)(values, w) for w in widths]
        slope = (4.0 * slopes[1] - slopes[0]) / 3.0 if extrapolate else slopes[0]
        met = jnp.any(slopes[-1] != plain).astype(values.dtype)
        return jnp.concatenate([exact[None], slope, met[None]])

    mean, error = averaged(row, at.values, key, scenarios)
    met = round(mean[-1] * scenarios)
    if met < FEWEST:
        raise ValueError(
            f"width {widths[-1]:g} is too small for {scenarios} scenarios: {met} of them meet a "
            f"trigger within it, and {FEWEST} are asked for; take a wider gate or more scenarios"
        )
    over = f"{width:g} and {widths[-1]:g}, extrapolated" if extrapolate else f"{width:g}"
    slope, slope_error = mean[1 : 1 + size], error[1 : 1 + size]
    return Estimate(
        estimator=f"smoothed gate, width {over}",
        assumes=ASSUMES,
        parameters=at.names,
        point=np.asarray(at.values, np.float64),
        value=float(mean[0]),
        value_error=float(error[0]),
        derivative=slope,
        standard_error=slope_error,
        scenarios=scenarios,
        notes=(
            f"{met} of {scenarios} scenarios meet a trigger within the width",
            *silent(at.names, slope, slope_error),
        ),
    )
