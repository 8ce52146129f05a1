"""Scenario grids: what a portfolio gains when spot, volatility and smile move as stated.

Prices are shared by all accounts that hold options of a chain, so a grid is priced once and then
multiplied with what everyone holds. Every scenario is the same arithmetic: a grid is data, and can
be differentiated, stacked and mapped over.
"""

from collections.abc import Mapping
from typing import Self

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, DTypeLike, Float, Int
from numpy.typing import ArrayLike

from jaxrisk.market.chain import OptionChain
from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.matmul import full_matmul
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.smooth import safe_sqrt


@pytree
class Scenarios:
    """Moves of the market; every leaf is `(scenario,)`.

    Attributes:
        move: change of the spot, as a fraction of it.
        volatility: 1 where volatilities rise, -1 where they fall, 0 where they stay.
        tilt: 1 where the smile tilts: higher for high strikes, lower for low ones.
        wings: 1 where both wings of the smile rise.
        weight: share of the gain or loss that counts; below 1 for moves too large to be likely.
    """

    move: Float[Array, " scenario"]
    volatility: Float[Array, " scenario"]
    tilt: Float[Array, " scenario"]
    wings: Float[Array, " scenario"]
    weight: Float[Array, " scenario"]

    @classmethod
    def checked(
        cls,
        *,
        move: ArrayLike,
        volatility: ArrayLike,
        tilt: ArrayLike | None = None,
        wings: ArrayLike | None = None,
        weight: ArrayLike | None = None,
        dtype: DTypeLike | None = None,
    ) -> Self:
        """Return scenarios after checking them; nothing tilts or rises, all counts if left out.

        Args:
            move: each above -1.
            volatility: each -1, 0 or 1.
            tilt: each 0 or 1.
            wings: each 0 or 1.
            weight: each in [0, 1].
            dtype: of the leaves; JAX's default float if not given.

        Raises:
            ValueError: with every problem found: rows that do not match, numbers out of range, no
                scenario in which nothing moves.
        """
        count = np.size(move)
        given = {"move": move, "volatility": volatility, "tilt": tilt, "wings": wings}
        columns = {
            name: np.zeros(count) if values is None else np.asarray(values, np.float64)
            for name, values in given.items()
        }
        columns["weight"] = np.ones(count) if weight is None else np.asarray(weight, np.float64)
        problems = _scenario_problems(columns)
        if problems:
            raise ValueError("\n".join(problems))
        return cls(**{name: jnp.asarray(values, dtype) for name, values in columns.items()})


_RANGES = {
    "move": (lambda x: np.isfinite(x) & (x > -1), "above -1"),
    "volatility": (lambda x: np.isin(x, (-1, 0, 1)), "-1, 0 or 1"),
    "tilt": (lambda x: np.isin(x, (0, 1)), "0 or 1"),
    "wings": (lambda x: np.isin(x, (0, 1)), "0 or 1"),
    "weight": (lambda x: (x >= 0) & (x <= 1), "in [0, 1]"),
}


def _scenario_problems(columns: Mapping[str, np.ndarray]) -> list[str]:
    """Return which rows are no scenarios, and whether the one in which nothing moves is missing."""
    count = columns["move"].size
    problems = [
        f"move: {count} numbers, {name}: {values.size}; expected as many"
        for name, values in columns.items()
        if values.shape != (count,)
    ]
    if problems:
        return problems
    for name, values in columns.items():
        fine, expected = _RANGES[name]
        problems += [
            f"scenario {row + 1}: {name} {values[row]:g}: expected {expected}"
            for row in np.flatnonzero(~fine(values))
        ]
    still = np.all([columns[name] == 0 for name in ("move", "volatility", "tilt", "wings")], axis=0)
    if not still.any():
        problems.append(
            "no scenario in which nothing moves: an account that gains in all of them would need "
            "less than nothing; add one with move 0 and volatility 0"
        )
    return problems


@pytree
class VolatilityShock:
    """How far volatilities move, by time to expiry: short-dated ones move further.

    `sigma (1 +- range (pivot / max(T, floor))^p)`, at least 0 on the way down and at least
    `minimum` on the way up; `p` is `short_power` up to the pivot and `long_power` beyond.

    Source: Derive v2 PMRMLib_2.sol `_addVolShocks`; Deribit's portfolio margin has the same form.

    Attributes:
        up: range on the way up, at the pivot.
        down: range on the way down, at the pivot.
        short_power: power up to the pivot.
        long_power: power beyond it.
        pivot: years at which the range holds.
        floor: years below which it grows no further.
        minimum: least volatility on the way up.
    """

    up: Float[Array, ""]
    down: Float[Array, ""]
    short_power: Float[Array, ""]
    long_power: Float[Array, ""]
    pivot: Float[Array, ""]
    floor: Float[Array, ""]
    minimum: Float[Array, ""]

    def factors(self, years: Float[Array, " expiry"]) -> Float[Array, "2 expiry"]:
        """Return what volatilities are multiplied with on the way up, and on the way down."""
        ratio = self.pivot / -smaller(-years, -self.floor * jnp.ones_like(years))
        power = jnp.where(years <= self.pivot, self.short_power, self.long_power)
        tenor = ratio**power
        down = 1.0 - self.down * tenor
        return jnp.stack([1.0 + self.up * tenor, jnp.where(down > 0, down, jnp.zeros_like(down))])


@pytree
class SmileShock:
    """How far the wings of a smile move: linearly in log-moneyness up to where it flattens.

    `sigma (1 + clip(c k / k*, -c, c))` with `k = ln(K / F)`, or its absolute value where both wings
    rise, `c = cap + cap_slope sqrt(T)` and `k* = max(width sqrt(T) (level + level_slope sqrt(T)),
    nearest)`.

    Source: Derive v2 PMRMLib_2.sol `_getExpirySkewedShockedMTM`, `_getKStar`.

    Attributes:
        tilt: largest relative move of a tilt at no time to expiry.
        tilt_slope: added to it per square root of a year.
        wings: largest relative move where both wings rise.
        wings_slope: added to it per square root of a year.
        nearest: least log-moneyness at which the largest move is reached.
        width: standard deviations at which it is reached.
        level: volatility such deviations are counted in.
        level_slope: added to it per square root of a year.
    """

    tilt: Float[Array, ""]
    tilt_slope: Float[Array, ""]
    wings: Float[Array, ""]
    wings_slope: Float[Array, ""]
    nearest: Float[Array, ""]
    width: Float[Array, ""]
    level: Float[Array, ""]
    level_slope: Float[Array, ""]

    def moves(self, chain: OptionChain) -> Float[Array, "2 expiry option"]:
        """Return relative moves of each volatility by a tilt, and by raised wings."""
        root = safe_sqrt(chain.years)
        reach = root * self.width * (self.level + root * self.level_slope)
        reach = jnp.where(reach > self.nearest, reach, self.nearest)[:, None]
        ahead = (chain.forward + chain.fixed)[:, None]
        k = jnp.log(positive_or_one(chain.strike) / positive_or_one(ahead))
        tilt = (self.tilt + root * self.tilt_slope)[:, None]
        wings = (self.wings + root * self.wings_slope)[:, None]
        return jnp.stack([_capped(k, tilt, reach), _capped(jnp.abs(k), wings, reach)])


@pytree
class ScenarioGrid:
    """Scenarios with the size of their shocks.

    Attributes:
        scenarios: the moves.
        volatility: what a rise and a fall of volatilities are.
        smile: what a tilt and a rise of the wings are; `None` where no scenario moves the smile.
    """

    scenarios: Scenarios
    volatility: VolatilityShock
    smile: SmileShock | None = None

    def volatilities(self, chain: OptionChain) -> Float[Array, "scenario expiry option"]:
        """Return the volatility of each option in each scenario."""
        direction = self.scenarios.volatility[:, None, None]
        up, down = self.volatility.factors(chain.years)
        here = chain.volatility[None]
        higher, lower = here * up[None, :, None], here * down[None, :, None]
        higher = jnp.where(higher > self.volatility.minimum, higher, self.volatility.minimum)
        moved = jnp.where(direction > 0, higher, jnp.where(direction < 0, lower, here))
        if self.smile is None:
            return moved
        tilt, wings = self.smile.moves(chain)
        bent = 1.0 + self.scenarios.tilt[:, None, None] * tilt[None]
        bent = bent + self.scenarios.wings[:, None, None] * wings[None]
        return moved * jnp.where(bent > 0, bent, jnp.zeros_like(bent))

    def values(
        self, chain: OptionChain, amount: Float[Array, "expiry option account"]
    ) -> Float[Array, "scenario expiry account"]:
        """Return the value of each account's options of each expiry in each scenario."""
        prices = chain.prices(1.0 + self.scenarios.move, self.volatilities(chain))
        return full_matmul(prices.swapaxes(0, 1), amount).swapaxes(0, 1)


@pytree
class WorstScenario:
    """The scenario in which each account loses most; leaves are `(account,)`.

    Attributes:
        loss: lost there, negative where even the worst scenario is a gain.
        scenario: its number, the first of equals.
    """

    loss: Float[Array, " account"]
    scenario: Int[Array, " account"]


def worst_scenario(gains: Float[Array, "scenario account"]) -> WorstScenario:
    """Return where `gains` are least; their gradient is that of the worst scenario."""
    return WorstScenario(loss=-jnp.min(gains, axis=0), scenario=jnp.argmin(gains, axis=0))


def _capped(k: Array, cap: Array, reach: Array) -> Array:
    """Return `cap k / reach`, no more than the cap on either side of the money."""
    move = k * cap / reach
    high = smaller(move, cap * jnp.ones_like(move))
    low = -smaller(-move, cap * jnp.ones_like(move))
    return jnp.where(k >= 0, high, low)
