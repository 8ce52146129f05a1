"""Independent float64 reference: one account, one call, one loan at a time.

Written from the protocols' published rules and from textbook formulas, in plain Python, so that
the engine's array code has something other than itself to agree with. Values are USD, fractions
are fractions, rates are per year.

Sources, by the names used below:
    Aave v3: aave-dao/aave-v3-origin, LiquidationLogic, GenericLogic, ReserveLogic and
        DefaultReserveInterestRateStrategyV2 (v3.3 and later).
    Morpho Blue: morpho-org/morpho-blue, Morpho.sol.
    Obizhaeva and Wang, Optimal trading strategy and supply/demand dynamics, 2013, section 4.
    Donier and Bonart, A million metaorder analysis of market impact on the Bitcoin, 2015.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

CLOSE_FACTOR = 0.5
FULL_CLOSE_HEALTH = 0.95
FULL_CLOSE_BELOW_USD = 2_000.0
MINIMUM_LEFTOVER_USD = 1_000.0


class RefusedError(Exception):
    """The contract would revert."""


@dataclass(frozen=True, kw_only=True)
class Liquidation:
    """What one liquidation call does, in USD.

    Attributes:
        repaid: debt paid back by the liquidator.
        seized: collateral taken from the account, fee included.
        protocol_fee: part of `seized` that the protocol keeps.
        bad_debt: debt of the account written off, over all debt assets.
        collateral: what is left, per asset.
        debt: what is left, per asset.
    """

    repaid: float
    seized: float
    protocol_fee: float
    bad_debt: float
    collateral: tuple[float, ...]
    debt: tuple[float, ...]


def health_factor(
    collateral: Sequence[float], debt: Sequence[float], liquidation_threshold: Sequence[float]
) -> float:
    """Return sum of LT_c C_c over sum of D_d; infinite without debt. Source: Aave v3."""
    backing = sum(lt * value for lt, value in zip(liquidation_threshold, collateral, strict=True))
    owed = sum(debt)
    return backing / owed if owed > 0 else math.inf


def aave_v3_allowance(
    collateral: Sequence[float], debt: Sequence[float], health: float, pair: tuple[int, int]
) -> float:
    """Return the most that may be repaid of the pair's debt asset.

    Everything of it, unless both sides are at least 2,000 USD and health is above 0.95: then half
    of the account's whole debt. Source: Aave v3, executeLiquidationCall.
    """
    chosen_collateral, chosen_debt = collateral[pair[0]], debt[pair[1]]
    is_large = chosen_collateral >= FULL_CLOSE_BELOW_USD and chosen_debt >= FULL_CLOSE_BELOW_USD
    if is_large and health > FULL_CLOSE_HEALTH:
        return min(chosen_debt, CLOSE_FACTOR * sum(debt))
    return chosen_debt


def aave_v3_liquidation(
    collateral: Sequence[float],
    debt: Sequence[float],
    liquidation_threshold: Sequence[float],
    *,
    pair: tuple[int, int],
    bonus: float,
    protocol_fee: float,
    requested: float = math.inf,
) -> Liquidation:
    """Return one liquidation call on a (collateral, debt) pair of an account.

    Args:
        collateral: USD per collateral asset.
        debt: USD per debt asset.
        liquidation_threshold: per collateral asset.
        pair: positions of the seized collateral and of the repaid debt.
        bonus: of the seized collateral, 0.05 for 5 %.
        protocol_fee: share of the bonus that the protocol keeps.
        requested: USD the liquidator offers to repay; all that is allowed by default.

    Raises:
        RefusedError: health is 1 or more, or the call would leave dust on either side.

    Source: Aave v3, executeLiquidationCall, _calculateAvailableCollateralToLiquidate.
    """
    chosen, repaid_asset = pair
    health = health_factor(collateral, debt, liquidation_threshold)
    if health >= 1.0:
        raise RefusedError("health factor is not below 1")
    repaid = min(requested, aave_v3_allowance(collateral, debt, health, pair))
    seized = repaid * (1.0 + bonus)
    if seized > collateral[chosen]:
        seized = collateral[chosen]
        repaid = seized / (1.0 + bonus)
    collateral_left = collateral[chosen] - seized
    debt_left = debt[repaid_asset] - repaid
    is_partial = collateral_left > 0.0 and debt_left > 0.0
    if is_partial and min(collateral_left, debt_left) < MINIMUM_LEFTOVER_USD:
        raise RefusedError("less than 1,000 USD would be left")
    after = [*collateral]
    after[chosen] = collateral_left
    owed = [*debt]
    owed[repaid_asset] = debt_left
    bad_debt = 0.0
    if sum(after) == 0.0:
        bad_debt = sum(owed)
        owed = [0.0] * len(owed)
    return Liquidation(
        repaid=repaid,
        seized=seized,
        protocol_fee=protocol_fee * (seized - seized / (1.0 + bonus)),
        bad_debt=bad_debt,
        collateral=tuple(after),
        debt=tuple(owed),
    )


def liquidation_incentive_factor(liquidation_loan_to_value: float) -> float:
    """Return min(1.15, 1 / (1 - 0.3 (1 - LLTV))). Source: Morpho Blue, liquidate."""
    return min(1.15, 1.0 / (1.0 - 0.3 * (1.0 - liquidation_loan_to_value)))


def morpho_blue_liquidation(
    collateral: float,
    debt: float,
    liquidation_loan_to_value: float,
    *,
    repaid: float | None = None,
    seized: float | None = None,
) -> Liquidation:
    """Return one liquidation call on an isolated position; exactly one amount is given.

    There is no close factor, no dust rule, no protocol cut and no clamping. Debt left with no
    collateral is taken from the market's suppliers at once.

    Raises:
        RefusedError: the position is healthy (C LLTV >= D), or does not hold what is asked for.

    Source: Morpho Blue, liquidate.
    """
    if (repaid is None) == (seized is None):
        raise ValueError("give either repaid or seized")
    if collateral * liquidation_loan_to_value >= debt:
        raise RefusedError("the position is healthy")
    factor = liquidation_incentive_factor(liquidation_loan_to_value)
    if seized is None:
        assert repaid is not None
        seized = repaid * factor
    else:
        repaid = seized / factor
    if seized > collateral or repaid > debt:
        raise RefusedError("more than the position holds")
    collateral_left, debt_left = collateral - seized, debt - repaid
    bad_debt = debt_left if collateral_left == 0.0 else 0.0
    return Liquidation(
        repaid=repaid,
        seized=seized,
        protocol_fee=0.0,
        bad_debt=bad_debt,
        collateral=(collateral_left,),
        debt=(debt_left - bad_debt,),
    )


def kinked_rate(
    utilisation: float, optimal: float, base_rate: float, slope1: float, slope2: float
) -> float:
    """Return the borrow rate: two straight lines that meet at the optimal utilisation.

    Source: Aave v3, DefaultReserveInterestRateStrategyV2.calculateInterestRates.
    """
    if utilisation <= optimal:
        return base_rate + slope1 * utilisation / optimal
    return base_rate + slope1 + slope2 * (utilisation - optimal) / (1.0 - optimal)


def borrow_utilisation(available: float, debt: float) -> float:
    """Return debt / (available + debt), 0 without debt. Source: Aave v3."""
    return debt / (available + debt) if debt > 0 else 0.0


def supply_rate(
    borrow_rate: float, available: float, debt: float, deficit: float, reserve_factor: float
) -> float:
    """Return r u_s (1 - RF) with u_s = debt / (available + debt + deficit). Source: Aave v3."""
    claims = available + debt + deficit
    return borrow_rate * (debt / claims if debt > 0 else 0.0) * (1.0 - reserve_factor)


def compounded_growth(rate: float, years: float) -> float:
    """Return 1 + x + x^2/2 + x^3/6 with x = rate years: how contracts approximate exp(x).

    Source: Aave v3, MathUtils.calculateCompoundedInterest; Morpho Blue, wTaylorCompounded.
    """
    x = rate * years
    return 1.0 + x + x * x / 2.0 + x * x * x / 6.0


def linear_growth(rate: float, years: float) -> float:
    """Return 1 + rate years, the growth of supply claims. Source: Aave v3."""
    return 1.0 + rate * years


def waterfall(loss: float, capacities: Sequence[float]) -> tuple[list[float], float]:
    """Return what each layer pays, first layer first, and the residual nobody is named for."""
    payments = []
    for capacity in capacities:
        paid = min(loss, capacity)
        payments.append(paid)
        loss -= paid
    return payments, loss


def staked_coverage(
    deficits: Sequence[float],
    price_ratios: Sequence[float],
    *,
    stake: float,
    offset: float,
    fee: float,
    kept: float,
) -> list[tuple[float, float, float]]:
    """Return what a stake covers, its fee and what is slashed, deficit by deficit.

    The books as the pool and the coverage keep them: the deficit only grows, and what has been
    slashed for stays pending. Amounts are units of the covered asset, and of the stake.

    Source: aave-dao/aave-umbrella, Umbrella, slash.

    Args:
        deficits: new deficits, one after the other, each followed by a slash.
        price_ratios: price of the covered asset over that of the stake at each slash.
        stake: units staked.
        offset: deficit that the stake does not cover.
        fee: slashed on top, share of what is covered.
        kept: units that always stay staked.
    """
    outcomes, deficit, pending = [], 0.0, 0.0
    for new, ratio in zip(deficits, price_ratios, strict=True):
        deficit += new
        slashable, room = deficit - offset - pending, stake - kept
        if slashable <= 1e-12 * deficit or room <= 1e-12 * stake:
            outcomes.append((0.0, 0.0, 0.0))
            continue
        needed = slashable * (1.0 + fee) * ratio
        slashed = min(needed, room)
        covered = slashable * slashed / needed
        stake -= slashed
        pending += covered
        outcomes.append((covered, covered * fee, slashed))
    return outcomes


def linear_impact(sold_usd: float, coefficient: float, depth_usd: float) -> float:
    """Return the fall of the log price, coefficient Q / depth (Kyle)."""
    return coefficient * sold_usd / depth_usd


def square_root_impact(sold_usd: float, coefficient: float, depth_usd: float) -> float:
    """Return the fall of the log price, coefficient sqrt(Q / depth) (Donier and Bonart)."""
    return coefficient * math.sqrt(sold_usd / depth_usd)


def impact_path(
    impacts: Sequence[float], *, permanent_share: float, half_life_years: float, step_years: float
) -> list[float]:
    """Return the total fall of the log price just after each step's sale.

    A sale moves the price at once; the permanent share stays, the rest y relaxes between steps as
    y -> y exp(-rho dt) with rho = ln 2 / half-life (Obizhaeva and Wang).

    Args:
        impacts: the impact of each step's sale, before any decay.
        permanent_share: fraction of each impact that never decays.
        half_life_years: of the transient part.
        step_years: between sales.
    """
    decay = math.exp(-math.log(2.0) / half_life_years * step_years)
    permanent = transient = 0.0
    path = []
    for impact in impacts:
        permanent += permanent_share * impact
        transient = transient * decay + (1.0 - permanent_share) * impact
        path.append(permanent + transient)
    return path


def depth_after_stress(
    depth_usd: float,
    volatility_ratio: float,
    volatility_sensitivity: float,
    flow_usd: float,
    flow_sensitivity: float,
) -> float:
    """Return the depth left when volatility is up and forced flow has eaten into the book.

    depth exp(-a max(ratio - 1, 0)) max(1 - b flow / depth, 0), with the stated opening depth as
    the yardstick of the flow.
    """
    calm = math.exp(-volatility_sensitivity * max(volatility_ratio - 1.0, 0.0))
    return depth_usd * calm * max(1.0 - flow_sensitivity * flow_usd / depth_usd, 0.0)


def debt_to_equity(assets: Sequence[float], debts: Sequence[float]) -> float:
    """Return D / E with equity E = A - D."""
    return sum(debts) / (sum(assets) - sum(debts))


def debt_to_equity_delta(assets: Sequence[float], debts: Sequence[float], asset: int) -> float:
    """Return the derivative of D / E with respect to the log price of one asset.

    With A_a held and D_a owed in the asset, d(D/E) = (D_a E - D (A_a - D_a)) / E^2; where nothing
    is owed in it this is -D A_a / E^2.
    """
    owed, equity = sum(debts), sum(assets) - sum(debts)
    return (debts[asset] * equity - owed * (assets[asset] - debts[asset])) / equity**2


def loop_debt_to_equity_delta(leverage: float) -> float:
    """Return -L (L - 1): the same for a loop, all of whose assets A = L E are the one asset."""
    return -leverage * (leverage - 1.0)


def bisect(function: Callable[[float], float], low: float, high: float) -> float:
    """Return a root of a function that changes sign between `low` and `high`, to rounding."""
    sign = math.copysign(1.0, function(low))
    for _ in range(200):
        middle = 0.5 * (low + high)
        if sign * function(middle) > 0:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def liquidation_price(
    collateral_units: Sequence[float],
    price: Sequence[float],
    debt: Sequence[float],
    liquidation_threshold: Sequence[float],
    asset: int,
) -> float:
    """Return the price of one collateral asset at which health is 1, by bisection.

    Debt is taken not to depend on that price. 0 where the account is healthy at any price.
    """

    def surplus(trial: float) -> float:
        prices = [trial if position == asset else p for position, p in enumerate(price)]
        values = [units * p for units, p in zip(collateral_units, prices, strict=True)]
        return health_factor(values, debt, liquidation_threshold) - 1.0

    if surplus(0.0) >= 0.0:
        return 0.0
    high = price[asset]
    while surplus(high) < 0.0:
        high *= 2.0
    return bisect(surplus, 0.0, high)
