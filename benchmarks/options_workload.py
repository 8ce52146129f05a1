"""The options-grid workload: a book of European options revalued in many scenarios.

Each scenario multiplies the forward and every volatility by a factor; the answer is the value of
the whole book in each, undiscounted Black-76. Sizes are signed, so long and short cancel, and
errors are counted against the gross value. The book is synthetic: strikes spread lognormally around
one forward, whole days to expiry, volatilities from 30 % to 120 %.
"""

from dataclasses import dataclass

import numpy as np

DAYS_A_YEAR = 365.0


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Inputs shared by all implementations; options `(option,)`, scenarios `(scenario,)`.

    Attributes:
        forward: of every option.
        strike: of every option.
        days: whole days to expiry.
        volatility: per square root of a year.
        sign: 1 for calls, -1 for puts.
        size: contracts, negative where sold.
        price_factor: what forwards are multiplied by.
        volatility_factor: what volatilities are multiplied by.
    """

    forward: np.ndarray
    strike: np.ndarray
    days: np.ndarray
    volatility: np.ndarray
    sign: np.ndarray
    size: np.ndarray
    price_factor: np.ndarray
    volatility_factor: np.ndarray

    @property
    def years(self) -> np.ndarray:
        """Years to expiry of each option."""
        return self.days / DAYS_A_YEAR

    @property
    def options(self) -> int:
        """Number of options."""
        return self.strike.size

    @property
    def scenarios(self) -> int:
        """Number of scenarios."""
        return self.price_factor.size

    @property
    def revaluations(self) -> int:
        """Units of work: options x scenarios."""
        return self.options * self.scenarios


def make_workload(*, options: int = 100_000, prices: int = 20, seed: int = 0) -> Workload:
    """Return the workload: so many price moves within 30 % times five volatility moves."""
    draw = np.random.default_rng(seed)
    forward = np.full(options, 60_000.0)
    price = np.exp(np.linspace(-0.3, 0.3, prices))
    volatility = np.array([0.7, 0.85, 1.0, 1.25, 1.6])
    return Workload(
        forward=forward,
        strike=forward * np.exp(draw.normal(0.0, 0.3, options)),
        days=draw.integers(4, 366, options).astype(float),
        volatility=draw.uniform(0.3, 1.2, options),
        sign=np.where(draw.random(options) < 0.5, 1.0, -1.0),
        size=draw.normal(0.0, 1.0, options),
        price_factor=np.repeat(price, volatility.size),
        volatility_factor=np.tile(volatility, prices),
    )
