"""How debts grow: what a rule of interest answers, the kinked curve, and index accrual."""

from typing import Any, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree


@pytree
class Balance:
    """What a rule of interest sees of a venue, in units; every leaf is `(debt_asset,)`.

    Attributes:
        debt: owed by accounts.
        cash: available liquidity.
        supplied: claims of suppliers.
    """

    debt: Float[Array, " debt_asset"]
    cash: Float[Array, " debt_asset"]
    supplied: Float[Array, " debt_asset"]


@pytree
class Accrued:
    """What a step of interest does.

    Attributes:
        log_growth: `(debt_asset,)` growth of the log index of debt.
        kept: `(debt_asset,)` share of the interest that goes to the protocol; it may be negative
            where suppliers are promised more than borrowers pay.
        state: of the rule, after the step.
    """

    log_growth: Float[Array, " debt_asset"]
    kept: Float[Array, " debt_asset"]
    state: Any


class Interest(Protocol):
    """What every rule of interest answers."""

    def opening(self) -> Any:
        """Return the rule's state before the first step; `None` where it has none."""
        ...

    def advance(self, state: Any, balance: Balance, years: Float[Array, ""]) -> Accrued:
        """Return what a step of `years` at the balance of its beginning does."""
        ...


@pytree
class KinkedRate:
    """A borrow rate that is linear in utilisation up to an optimum and steeper beyond.

    `u <= u*`: `base + slope1 * u / u*`; `u > u*`: `base + slope1 + slope2 * (u - u*) / (1 - u*)`.

    Source: Aave v3 DefaultReserveInterestRateStrategyV2.

    Attributes:
        base: `(debt_asset,)` rate at zero utilisation, per year.
        slope1: `(debt_asset,)` added up to the optimum, per year.
        slope2: `(debt_asset,)` added beyond it, per year.
        optimal_utilisation: `(debt_asset,)` in (0, 1).
        reserve_factor: `(debt_asset,)` share of interest kept by the protocol.
    """

    base: Float[Array, " debt_asset"]
    slope1: Float[Array, " debt_asset"]
    slope2: Float[Array, " debt_asset"]
    optimal_utilisation: Float[Array, " debt_asset"]
    reserve_factor: Float[Array, " debt_asset"]

    def opening(self) -> None:
        """Return `None`: the curve has no memory."""

    def advance(self, state: None, balance: Balance, years: Float[Array, ""]) -> Accrued:
        """Return the growth at the rate of the balance."""
        rate = self.borrow_rate(utilisation(balance.debt, balance.cash))
        return Accrued(log_growth=rate * years, kept=self.reserve_factor, state=state)

    def borrow_rate(self, utilisation: Float[Array, " debt_asset"]) -> Float[Array, " debt_asset"]:
        """Return the borrow rate per year."""
        optimum = self.optimal_utilisation
        below = self.slope1 * utilisation / optimum
        above = self.slope1 + self.slope2 * (utilisation - optimum) / (1.0 - optimum)
        return self.base + jnp.where(utilisation > optimum, above, below)

    def supply_rate(
        self,
        utilisation: Float[Array, " debt_asset"],
        supply_utilisation: Float[Array, " debt_asset"],
    ) -> Float[Array, " debt_asset"]:
        """Return the supply rate per year: borrow rate x supply utilisation x (1 - reserve factor).

        Args:
            utilisation: debt / (cash + debt), which sets the borrow rate.
            supply_utilisation: debt / (cash + debt + deficit): a carried deficit earns nothing.
        """
        kept = 1.0 - self.reserve_factor
        return self.borrow_rate(utilisation) * supply_utilisation * kept


def utilisation(debt: Array, cash: Array, deficit: Array | float = 0.0) -> Array:
    """Return debt / (cash + debt + deficit), 0 where there is no debt."""
    total = debt + cash + deficit
    return jnp.where(debt > 0, debt / positive_or_one(total), jnp.zeros_like(debt))


def taylor_growth(rate_times_years: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return 1 + x + x^2/2 + x^3/6, the compounded factor contracts use for debt.

    Source: Aave v3 MathUtils.calculateCompoundedInterest; Morpho Blue wTaylorCompounded.
    """
    x = rate_times_years
    return 1.0 + x * (1.0 + x / 2.0 * (1.0 + x / 3.0))


def linear_growth(rate_times_years: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return 1 + x, the factor contracts use for supply between updates."""
    return 1.0 + rate_times_years
