"""The smallest fall of one price at which a sorted book loses a given amount, exactly.

The loss of one shock (`jaxrisk.gradient.ladder`) rises as the price falls: between two thresholds
because collateral is worth less, at a threshold because accounts fall and push the price. So the
interval is looked up, and within it the price follows in closed form.
"""

import dataclasses
import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.gradient.ladder import SortedLoans
from jaxrisk.market.impact import ImpactLaw
from jaxrisk.numerics.normal import normal_cdf
from jaxrisk.system.avalanche import log_drops


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallestFall:
    """Where a book begins to lose a target.

    Attributes:
        log_price: the log price without sales below which the target is lost.
        loss: lost just below it: the target, or more where it is passed in a jump.
        accounts: how many fall just below it.
        log_drop: how far their sales lower the log price.
        distance: from the mean, in standard deviations; negative where it lies above.
        probability: that the shocked price lies below it. Not an estimate.
    """

    log_price: float
    loss: float
    accounts: int
    log_drop: float
    distance: float
    probability: float


def smallest_fall(
    loans: SortedLoans,
    law: ImpactLaw,
    depth: Float[Array, ""],
    target: float,
    *,
    mean: float,
    deviation: float,
) -> SmallestFall:
    """Return the highest log price below which a book loses at least the target, on the host.

    With n fallen loans the target X is lost at prices after sales up to
    `max over k of (O_k - X) / R_k`, where O_k is owed and R_k recovered by the k loans with the
    most debt per unit recovered: a sum of positive parts is the largest of its partial sums.

    Args:
        loans: the book.
        law: impact law with one asset.
        depth: of that asset.
        target: what is lost, positive, in the unit of debt.
        mean: of the log price after the shock, before sales.
        deviation: its standard deviation, positive.

    Raises:
        ValueError: a target that is not positive or that the whole book cannot lose; a book that is
            not finite.
    """
    if not target > 0:
        raise ValueError(f"target {target:g}: expected a positive one")
    level, drops, owed, recovered = (
        np.asarray(x, np.float64)
        for x in (
            loans.triggers.thresholds(law, depth),
            log_drops(law, loans.triggers.sold, depth),
            loans.owed,
            loans.recovered,
        )
    )
    if np.isnan(level).any() or not all(np.isfinite(x).all() for x in (drops, owed, recovered)):
        raise ValueError(
            "the book is not finite: look at its triggers, sales, debts and collateral"
        )
    level = level[np.isfinite(level)]
    most = float(owed[: level.size].sum())
    if not target < most:
        raise ValueError(f"target {target:g} is out of reach: the book loses less than {most:g}")
    # Accounts of one threshold fall together: after each group so many have.
    ends = np.append(np.flatnonzero(np.diff(level) != 0.0) + 1, level.size)
    low = np.append(level[ends[:-1]], -np.inf)
    edge = lambda n: drops[n] + _log_price_that_loses(owed[:n], recovered[:n], target)
    # The loss rises from group to group, so the first that can lose the target is looked up.
    first, last = 0, len(ends) - 1
    while first < last:
        middle = (first + last) // 2
        if edge(ends[middle]) >= low[middle]:
            last = middle
        else:
            first = middle + 1
    count = int(ends[first])
    log_price = float(min(level[count - 1], edge(count)))
    left = np.exp(log_price - drops[count])
    distance = (mean - log_price) / deviation
    return SmallestFall(
        log_price=log_price,
        loss=float(np.maximum(owed[:count] - recovered[:count] * left, 0.0).sum()),
        accounts=count,
        log_drop=float(drops[count]),
        distance=distance,
        probability=float(normal_cdf(jnp.asarray(-distance))),
    )


def _log_price_that_loses(owed: np.ndarray, recovered: np.ndarray, target: float) -> float:
    """Return the highest log price at which these loans lose the target; -inf for none."""
    order = np.argsort(-owed / recovered, kind="stable")
    prices = (np.cumsum(owed[order]) - target) / np.cumsum(recovered[order])
    highest = float(prices.max())
    return math.log(highest) if highest > 0 else -math.inf
