"""Independent reference of the markets that all references of a step sell into, and of keepers.

Prices move by given log returns; a sale takes coefficient sqrt(volume / depth) off the log price, a
part of it for good and the rest fading. Depth falls with excess volatility and with recent sales.
"""

import dataclasses
import math
from typing import Any

import numpy as np

SMALLEST_RATION = 1e-6


@dataclasses.dataclass
class World:
    """Market, keepers and venues; arrays are `(asset,)`.

    `underlying` is the asset an asset is an exchange rate of, itself where there is none.
    `venues` are those of the reference that plays, `owners` those of its accounts where they act.
    Keepers have `capital` in all, of which `free` is not tied up; they need `latency` steps, and
    each of the step's `calls` so far makes the next dearer by `congestion`.
    """

    price: np.ndarray
    displacement: np.ndarray
    log_ratio: np.ndarray
    variance: np.ndarray
    recent_sales: np.ndarray
    underlying: list[int]
    coefficient: np.ndarray
    depth: np.ndarray
    calm_volatility: np.ndarray
    volatility_sensitivity: float
    flow_sensitivity: float
    permanent_share: float
    recovery_rate: float
    variance_rate: float
    pro_rata: bool
    minimum_return: float
    cost: float | None
    venues: list[Any]
    owners: Any = None
    capital: float | None = None
    capital_rate: float = 0.0
    latency: float | None = None
    congestion: float = 0.0
    free: float = 0.0
    calls: float = 0.0

    def mid(self, a: int) -> float:
        """Return the mid of one asset."""
        return self.price[a] * math.exp(-self.displacement[a])

    def cost_at(self, calls: float) -> float | None:
        """Return what a call costs when so many are made in the step."""
        return None if self.cost is None else self.cost * (1.0 + self.congestion * calls)

    def depth_now(self, a: int) -> float:
        """Return the depth left after volatility and recent flow, at least 1 % of the calm one."""
        excess = max(math.sqrt(self.variance[a]) / self.calm_volatility[a] - 1.0, 0.0)
        share = math.exp(-self.volatility_sensitivity * excess)
        share *= 1.0 - self.flow_sensitivity * self.recent_sales[a] / self.depth[a]
        return self.depth[a] * max(share, 0.01)


def move(world: World, log_return: np.ndarray, years: float) -> None:
    for a in range(len(world.price)):
        keep = math.exp(-world.recovery_rate * years)
        world.displacement[a] *= keep
        world.recent_sales[a] *= keep
        squared = log_return[a] ** 2 / years
        memory = math.exp(-world.variance_rate * years)
        world.variance[a] = memory * world.variance[a] + (1.0 - memory) * squared
        world.price[a] *= math.exp(log_return[a])
        world.log_ratio[a] += log_return[a] - log_return[world.underlying[a]]


def sellable(world: World, a: int, margin: float) -> float:
    """Return the units of an asset that sell at an average loss below `margin`."""
    return world.depth_now(a) * (1.5 * max(margin, 0.0) / world.coefficient[a]) ** 2 / world.mid(a)


def sell(world: World, sold: np.ndarray, mids: list[float]) -> np.ndarray:
    """Sell into the market and return the average price received per unit, all assets."""
    drops, received = [], []
    for a, mid in enumerate(mids):
        volume = sold[a] * mid
        drop = world.coefficient[a] * math.sqrt(volume / world.depth_now(a))
        drops.append(drop)
        # The mean of exp(-drop sqrt(t)) over t in [0, 1], by Gauss-Legendre in s = sqrt(t).
        node, weight = np.polynomial.legendre.leggauss(24)
        s = (node + 1.0) / 2.0
        received.append(mid * float((weight / 2.0 * 2.0 * s * np.exp(-drop * s)).sum()))
        world.recent_sales[a] += volume
    for a, drop in enumerate(drops):
        if world.underlying[a] != a:
            drop += drops[world.underlying[a]]
        world.price[a] *= math.exp(-world.permanent_share * drop)
        world.displacement[a] += (1.0 - world.permanent_share) * drop
    return np.array(received)


def is_equal(one: float, other: float) -> bool:
    """Return whether two capacities are one but for rounding: their classes share what there is."""
    return math.isclose(one, other, rel_tol=1e-12)
