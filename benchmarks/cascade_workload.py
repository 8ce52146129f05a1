"""The cascade-dense workload: a synthetic book, stressed hourly moves, one liquidation rule.

Every implementation answers the same question, scenario by scenario: how much collateral is
liquidated, how much debt is left bad, and where do prices end? One step is

1. prices move by the given growth factors;
2. an account with health factor sum(c p LT) / sum(d p) < 1 repays half of its debt (all of it
   below the full-close threshold) and gives up repaid x (1 + bonus) of collateral, pro rata over
   its collaterals and never more than it has;
3. debt left with no collateral behind it is bad debt and is written off;
4. the sale of asset a lowers its price for good by the factor
   exp(-impact x sqrt(sold value / daily volume)), so accounts are coupled within a scenario.

Books, volatilities, volumes and impact coefficients are synthetic: they have a realistic shape
(Pareto sizes, one dominant collateral, health factors crowded above 1) and no claim beyond it.
"""

from dataclasses import dataclass

import numpy as np

HOURS_A_YEAR = 8760
COLLATERAL_ASSETS = 4
DEBT_ASSETS = 2
ANNUAL_VOLATILITY = np.array([0.80, 0.65, 0.85, 1.10, 0.02, 0.80])
"""Per asset, fraction a year: four collaterals, a stable debt asset, a volatile debt asset."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What every implementation returns, one row a scenario.

    Attributes:
        bad_debt: (scenario,) USD of debt written off.
        liquidated: (scenario,) USD of collateral seized, at the prices it was seized at.
        final_price: (scenario, collateral) price of each collateral after the last step.
    """

    bad_debt: np.ndarray
    liquidated: np.ndarray
    final_price: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Inputs shared by all implementations. Every opening price is 1, so amounts are USD.

    Attributes:
        collateral: (account, collateral) float64.
        debt: (account, debt) float64.
        growth: (scenario, step, asset) price factor of each step; collaterals first, then debts.
        liquidation_threshold: (collateral,) fraction.
        impact_coefficient: (collateral,) log-price fall when one daily volume is sold.
        daily_volume_usd: (collateral,) USD.
        liquidation_bonus: fraction of the repaid value the liquidator gets on top.
        close_factor: fraction of the debt repaid in one step.
        full_close_below: health factor under which the whole debt is repaid.
        step_years: length of a step.
    """

    collateral: np.ndarray
    debt: np.ndarray
    growth: np.ndarray
    liquidation_threshold: np.ndarray
    impact_coefficient: np.ndarray
    daily_volume_usd: np.ndarray
    liquidation_bonus: float = 0.06
    close_factor: float = 0.5
    full_close_below: float = 0.95
    step_years: float = 1.0 / HOURS_A_YEAR

    @property
    def accounts(self) -> int:
        """Number of accounts."""
        return self.collateral.shape[0]

    @property
    def scenarios(self) -> int:
        """Number of scenarios."""
        return self.growth.shape[0]

    @property
    def steps(self) -> int:
        """Number of steps in a scenario."""
        return self.growth.shape[1]

    @property
    def book_usd(self) -> float:
        """Opening value of all collateral."""
        return float(self.collateral.sum())

    def updates(self, scenarios: int | None = None) -> int:
        """Units of work: accounts x steps x scenarios (all of them unless stated)."""
        return self.accounts * self.steps * (self.scenarios if scenarios is None else scenarios)


def make_book(accounts: int, *, seed: int, total_usd: float = 1e9) -> tuple[np.ndarray, np.ndarray]:
    """Return the collateral (account, collateral) and debt (account, debt) of a synthetic book.

    Sizes are Pareto with tail index 1.3; at least 70 % of an account sits in one collateral; the
    health factor is 1.03 plus a lognormal; most debt is in the first (stable) asset.
    """
    generator = np.random.default_rng(seed)
    size = generator.pareto(1.3, accounts) + 0.05
    size *= total_usd / size.sum()
    main = generator.integers(0, COLLATERAL_ASSETS, accounts)
    mix = 0.3 * generator.dirichlet(np.full(COLLATERAL_ASSETS, 0.3), accounts)
    mix[np.arange(accounts), main] += 0.7
    collateral = size[:, None] * mix / mix.sum(axis=1, keepdims=True)
    health_factor = 1.03 + generator.lognormal(-1.0, 0.9, accounts)
    debt_usd = collateral @ liquidation_thresholds() / health_factor
    stable_share = generator.beta(4, 1, accounts)
    debt = debt_usd[:, None] * np.stack([stable_share, 1.0 - stable_share], axis=1)
    return collateral, debt


def liquidation_thresholds() -> np.ndarray:
    """Return the liquidation threshold of each collateral."""
    return np.array([0.83, 0.80, 0.78, 0.65])


def correlation() -> np.ndarray:
    """Return the (asset, asset) correlation: 0.75 among volatile assets, none with the stable one.

    The volatile debt asset moves almost as the first collateral does (0.97), which is not
    consistent with 0.75 elsewhere; negative eigenvalues are cut and the diagonal is restored.
    """
    matrix = np.full((6, 6), 0.75)
    matrix[4, :] = matrix[:, 4] = 0.0
    np.fill_diagonal(matrix, 1.0)
    matrix[0, 5] = matrix[5, 0] = 0.97
    eigenvalues, vectors = np.linalg.eigh(matrix)
    repaired = (vectors * np.clip(eigenvalues, 1e-6, None)) @ vectors.T
    scale = np.sqrt(np.diag(repaired))
    return repaired / np.outer(scale, scale)


def make_growth(scenarios: int, steps: int, *, seed: int, stress: float) -> np.ndarray:
    """Return (scenario, step, asset) one-hour price factors of a driftless correlated GBM.

    Args:
        scenarios: number of scenarios.
        steps: number of hourly steps.
        seed: of the generator.
        stress: multiplies every volatility.
    """
    volatility = stress * ANNUAL_VOLATILITY / np.sqrt(HOURS_A_YEAR)
    factor = np.linalg.cholesky(correlation() + 1e-9 * np.eye(6))
    shocks = np.random.default_rng(seed).standard_normal((steps, scenarios, 6)) @ factor.T
    growth = np.exp(volatility * shocks - 0.5 * volatility**2)
    return np.ascontiguousarray(growth.swapaxes(0, 1))


def make_workload(
    *,
    accounts: int = 10_000,
    steps: int = 48,
    scenarios: int = 256,
    stress: float = 3.0,
    seed: int = 0,
) -> Workload:
    """Return the workload; the defaults are the published size, at three times normal volatility.

    At the published size every seed gives the same book and the same moves on every machine.
    """
    collateral, debt = make_book(accounts, seed=seed)
    return Workload(
        collateral=collateral,
        debt=debt,
        growth=make_growth(scenarios, steps, seed=seed + 1, stress=stress),
        liquidation_threshold=liquidation_thresholds(),
        impact_coefficient=np.array([0.10, 0.08, 0.12, 0.25]),
        daily_volume_usd=np.array([4.0e8, 6.0e8, 1.5e8, 0.8e8]),
    )
