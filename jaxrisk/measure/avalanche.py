"""Where a small fall sets off a large one: critical prices, feedback gain, amplification."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxrisk.system.avalanche import FallsBySales, Triggers, log_drops


@dataclasses.dataclass(frozen=True, kw_only=True)
class CriticalPoints:
    """Prices at which several accounts fall together, highest first; arrays are `(point,)`.

    Attributes:
        log_price: log price without sales just below which they fall.
        accounts: how many do.
        sold: what they sell, in the unit of depth.
        log_drop: how far their sales alone lower the log price.
        distance: from the present log price, in standard deviations.
    """

    log_price: Float[np.ndarray, " point"]
    accounts: Int[np.ndarray, " point"]
    sold: Float[np.ndarray, " point"]
    log_drop: Float[np.ndarray, " point"]
    distance: Float[np.ndarray, " point"]


def critical_points(
    triggers: Triggers,
    law: FallsBySales,
    depth: Float[Array, ""],
    *,
    log_price: float,
    deviation: float,
    least: int = 2,
) -> CriticalPoints:
    """Return the plateaus of the accounts' thresholds, on the host.

    Accounts of one threshold fall together: the first by its trigger, each of the others because
    of those before it.

    Args:
        triggers: the accounts.
        law: impact law with one asset.
        depth: of that asset.
        log_price: log price now; in mirrored logs where triggers are.
        deviation: standard deviation of the log price over the horizon, positive.
        least: smallest number of accounts that make a point; 1 lists every threshold.
    """
    level = np.asarray(triggers.thresholds(law, depth), np.float64)
    sold = np.asarray(triggers.sold, np.float64)
    drop = np.asarray(log_drops(law, triggers.sold, depth), np.float64)
    level = level[np.isfinite(level)]
    first = np.flatnonzero(np.diff(level, prepend=np.inf) != 0.0)
    end = np.append(first[1:], level.size)
    several = end - first >= least
    first, end = first[several], end[several]
    return CriticalPoints(
        log_price=level[first],
        accounts=end - first,
        sold=sold[end] - sold[first],
        log_drop=drop[end] - drop[first],
        distance=(log_price - level[first]) / deviation,
    )


def feedback_gain(
    triggers: Triggers,
    law: FallsBySales,
    depth: Float[Array, ""],
    log_price: Float[Array, "*price"],
    width: Float[Array, ""],
) -> Float[Array, "*price"]:
    """Return how far sales lower the log price per unit that it falls by itself, over an interval.

    Of accounts whose triggers lie within `width` below a log price, all above having sold already:
    the slope of impact times the density of triggers. Above 1 a fall feeds itself.

    Args:
        triggers: the accounts.
        law: impact law with one asset.
        depth: of that asset.
        log_price: where to look.
        width: of the interval, positive.
    """
    falling = -triggers.log_price
    fallen = jnp.searchsorted(falling, -log_price, side="left")
    more = jnp.searchsorted(falling, width - log_price, side="left")
    drop = lambda count: log_drops(law, triggers.sold[count], depth)
    return (drop(more) - drop(fallen)) / width


def clearing_gap(
    triggers: Triggers,
    law: FallsBySales,
    depth: Float[Array, ""],
    log_price: Float[Array, "*price"],
) -> Float[Array, "*price"]:
    """Return how far the least clearing log price lies below the greatest, which is the one played.

    0 where the clearing price is unique. An account whose own sale takes the price below its own
    trigger makes two of them, so with large accounts there are gaps where the feedback gain is
    below 1; with many small ones there are none there.

    Source: greatest and least fixed point of a monotone map (Tarski 1955).

    Args:
        triggers: the accounts.
        law: impact law with one asset.
        depth: of that asset.
        log_price: log prices without sales.
    """
    greatest = triggers.cleared(law, depth, log_price)[1]
    return greatest - triggers.cleared_last(law, depth, log_price)[1]


def amplification(gain: Float[Array, "*price"]) -> Float[Array, "*price"]:
    """Return `1 / (1 - gain)`, the whole fall per unit of its cause; infinite from a gain of 1 on.

    Source: loss and margin spirals (Brunnermeier and Pedersen 2009) have the same form.

    Args:
        gain: from `feedback_gain`.
    """
    bounded = gain < 1.0
    safe = jnp.where(bounded, gain, jnp.zeros_like(gain))
    return jnp.where(bounded, 1.0 / (1.0 - safe), jnp.inf)
