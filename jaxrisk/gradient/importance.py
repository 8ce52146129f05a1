"""The probability of a rare loss, sampled where it happens.

Factors are drawn about a centre, such as the point of `jaxrisk.gradient.reverse_stress`, and each
counts by how much likelier it is under the plain law. A share of them is drawn from the plain law:
then no weight exceeds 1 / share, so losses elsewhere than about the centre cannot ruin the error.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Key

from jaxrisk.gradient.estimate import averaged
from jaxrisk.gradient.worst_case import HARD, FactorLoss
from jaxrisk.numerics.keys import random_words, standard_normal, uniform


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampledProbability:
    """The probability of losing a target.

    Attributes:
        probability: unbiased.
        standard_error: of it.
        hits: share of the scenarios that lost the target.
        effective_hits: how many equal weights would be as good as those of the hits; below about a
            hundred the error is itself uncertain.
        scenarios: how many were drawn.
    """

    probability: float
    standard_error: float
    hits: float
    effective_hits: float
    scenarios: int


def sampled_probability(
    loss: FactorLoss,
    target: float,
    key: Key[Array, ""],
    *,
    centre: Float[np.ndarray, " factor"],
    scenarios: int,
    plain_share: float = 0.1,
) -> SampledProbability:
    """Return the probability of losing a target, from draws about a centre.

    Source: Hesterberg 1995, weighted average importance sampling with a defensive mixture.

    Args:
        loss: of standard normal factors, as in `jaxrisk.gradient.worst_case`.
        target: what is lost.
        key: from `root_key`.
        centre: of most draws; zeros for plain Monte Carlo.
        scenarios: how many.
        plain_share: share drawn from the plain law, in [0, 1]; at 0 weights have no bound.

    Raises:
        ValueError: a share outside [0, 1], a centre that is not finite, fewer than two scenarios, a
            loss that is not finite, or no scenario that loses the target.
    """
    if not 0.0 <= plain_share <= 1.0:
        raise ValueError(f"plain_share {plain_share:g}: expected a fraction from 0 to 1")
    if not np.isfinite(centre).all():
        raise ValueError(f"centre {centre}: expected finite numbers")
    shares = jnp.asarray([plain_share, 1.0 - plain_share])

    def row(at: Array, own: Array) -> Array:
        words = random_words(own, at.size + 1)
        moved = uniform(words[-1], at.dtype) > plain_share
        z = standard_normal(words[:-1], at.dtype) + jnp.where(moved, at, jnp.zeros_like(at))
        # Density of the draws over the plain one.
        ratio = jnp.stack([jnp.zeros_like(z[0]), jnp.dot(at, z) - 0.5 * jnp.dot(at, at)])
        weight = jnp.exp(-logsumexp(ratio, b=shares.astype(at.dtype)))
        lost = loss(z, HARD)
        hit = (lost >= target).astype(at.dtype)
        return jnp.stack([lost, hit, hit * weight, hit * weight**2])

    mean, error = averaged(row, jnp.asarray(centre, shares.dtype), key, scenarios)
    _, hits, probability, squares = mean.tolist()
    if not hits > 0:
        raise ValueError(
            f"none of {scenarios} scenarios loses {target:g}: centre the draws where it is lost"
        )
    return SampledProbability(
        probability=probability,
        standard_error=float(error[2]),
        hits=hits,
        effective_hits=scenarios * probability**2 / squares,
        scenarios=scenarios,
    )
