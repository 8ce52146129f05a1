"""Aave v3: liquidation calls, rate strategy and index accrual, as recorded from the contracts."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.call import call_refusal, repay_call
from jaxrisk.venue.interest import KinkedRate, linear_growth, taylor_growth, utilisation
from jaxrisk.venue.position import Position
from jaxrisk.venue.presets.aave_v3 import close_rule
from jaxrisk.venue.recognition import AtZeroCollateral
from jaxrisk.venue.settlement import Refusal
from tests.conformance.comparison import Replay, ordered_value, reason

BASE_UNIT = 1e-8  # base-currency amounts carry 8 decimals
REVERTS = {
    "revert:HealthFactorNotBelowThreshold": Refusal.HEALTHY,
    "revert:MustNotLeaveDust": Refusal.DUST,
}
RAY = 1e27


def liquidation(header: dict, cases: list[dict]) -> Replay:
    """Replay `Pool.liquidationCall`: account data, amounts, refusals, deficits."""
    del header
    replay = Replay(len(cases))
    book = _Book(cases)
    rules = close_rule(jnp.float64)

    @jax.jit
    def run(position: Position, repay: jax.Array, owed: jax.Array) -> tuple:
        call = repay_call(rules, position, repay)
        left = owed - book.debt_pick * call.repaid[None, :]
        written_off = jnp.stack([AtZeroCollateral().write_off(call.exhausts, row) for row in left])
        return call, call_refusal(rules, position, call), left - written_off, written_off

    call, refusal, left, written_off = run(book.position, book.repay, book.debt)
    indices = np.arange(len(cases))
    replay.compare(
        "health factor", indices, book.health, book.recorded_health,
        raw_units=10 * BASE_UNIT / np.maximum(book.total_debt, BASE_UNIT),
    )  # fmt: skip
    recorded = [reason(REVERTS, c["branch"]) if c["reverted"] else Refusal.NONE for c in cases]
    replay.compare_labels(
        "refusal", indices, [Refusal(int(r)).name for r in refusal], [r.name for r in recorded]
    )
    done = np.flatnonzero([not c["reverted"] for c in cases])
    seized = (np.asarray(call.seized) - np.asarray(call.fee)) / book.collateral_unit
    for what, actual in (
        ("debtRepaid", np.asarray(call.repaid) / book.debt_unit),
        ("collateralToLiquidator", seized),
        ("treasuryFee", np.asarray(call.fee) / book.collateral_unit),
    ):
        replay.compare(what, done, actual[done], [float(cases[i][what]) for i in done])
    _compare_after(replay, cases, book, np.asarray(left), np.asarray(written_off), done)
    return replay


class _Book:
    """Cases as arrays: one account a case, values in USD, padded to the assets ever seen."""

    def __init__(self, cases: list[dict]) -> None:
        self.assets = sorted({r["asset"] for c in cases for r in c["reserves"]})
        shape = (len(self.assets), len(cases))
        collateral, debt, threshold = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self.unit = np.ones(shape)
        credit, fee, repay = (np.zeros(len(cases)) for _ in range(3))
        collateral_row, debt_row = (np.zeros(len(cases), int) for _ in range(2))
        for i, case in enumerate(cases):
            for r in case["reserves"]:
                a = self.assets.index(r["asset"])
                mode = case["eMode"] if r["inEModeCollateral"] else r
                self.unit[a, i] = float(r["price"]) * BASE_UNIT / 10 ** r["decimals"]
                collateral[a, i] = float(r["collateralBalance"]) * self.unit[a, i]
                debt[a, i] = float(r["debtBalance"]) * self.unit[a, i]
                threshold[a, i] = mode["liqThreshold"] / 1e4
                if r["asset"] == case["collateralAsset"]:
                    collateral_row[i] = a
                    credit[i], fee[i] = mode["liqBonus"] / 1e4, r["protocolFee"] / 1e4
                if r["asset"] == case["debtAsset"]:
                    debt_row[i] = a
                    repay[i] = _offer(case["debtToCoverIn"], r["debtBalance"], self.unit[a, i])
        pick = lambda values, row: values[row, np.arange(len(cases))]
        self.collateral_unit = pick(self.unit, collateral_row)
        self.debt_unit = pick(self.unit, debt_row)
        self.debt_pick = jnp.asarray(np.arange(shape[0])[:, None] == debt_row[None, :], jnp.float64)
        self.total_debt = debt.sum(0)
        backing = (collateral * threshold).sum(0)
        self.health = np.where(self.total_debt > 0, backing / np.maximum(self.total_debt, 1e-30), 0)
        self.recorded_health = np.array([float(c["account"]["healthFactor"]) / 1e18 for c in cases])
        self.health = np.where(self.total_debt > 0, self.health, self.recorded_health)
        self.debt, self.repay = jnp.asarray(debt), jnp.asarray(repay)
        self.position = Position(
            collateral=jnp.asarray(pick(collateral, collateral_row)),
            debt=jnp.asarray(pick(debt, debt_row)),
            total_collateral=jnp.asarray(collateral.sum(0)),
            total_debt=jnp.asarray(self.total_debt),
            backing=jnp.asarray(backing),
            credit=jnp.asarray(credit),
            fee_share=jnp.asarray(fee),
            collateral_unit=jnp.asarray(self.collateral_unit),
            debt_unit=jnp.asarray(self.debt_unit),
        )


def _offer(asked: str, balance: str, unit: float) -> float:
    if asked == "max":
        return np.inf
    return ordered_value(int(asked), int(balance), unit)


def _compare_after(
    replay: Replay,
    cases: list[dict],
    book: _Book,
    left: np.ndarray,
    written_off: np.ndarray,
    done: np.ndarray,
) -> None:
    for what, values in (("debtBalance", left), ("deficitAdded", written_off)):
        indices, actual, expected, slack = [], [], [], []
        for i in done:
            for after in cases[i]["after"]:
                if after["asset"] in book.assets:
                    a = book.assets.index(after["asset"])
                    indices.append(i)
                    actual.append(values[a, i] / book.unit[a, i])
                    expected.append(float(after[what]))
                    # A remainder is a difference: its error scales with what it was taken from.
                    slack.append(2.0 + 1e-9 * float(book.debt[a, i]) / book.unit[a, i])
        replay.compare(
            f"after.{what}", indices, np.array(actual), np.array(expected),
            raw_units=np.array(slack),
        )  # fmt: skip


def rate_strategy(header: dict, cases: list[dict]) -> Replay:
    """Replay `DefaultReserveInterestRateStrategyV2.calculateInterestRates`."""
    del header
    replay = Replay(len(cases))
    column = lambda name, scale=1.0: jnp.asarray([float(c[name]) / scale for c in cases])
    curve = KinkedRate(
        base=column("baseBps", 1e4),
        slope1=column("slope1Bps", 1e4),
        slope2=column("slope2Bps", 1e4),
        optimal_utilisation=column("optimalUsageBps", 1e4),
        reserve_factor=column("reserveFactorBps", 1e4),
    )
    cash = column("virtualUnderlyingBalance") + column("liquidityAdded") - column("liquidityTaken")

    @jax.jit
    def run(debt: jax.Array, cash: jax.Array, unbacked: jax.Array) -> tuple:
        borrow_use, supply_use = utilisation(debt, cash), utilisation(debt, cash, unbacked)
        has_debt = (debt > 0).astype(debt.dtype)
        # Without debt the contract returns the base rate and a supply rate of zero.
        return curve.borrow_rate(borrow_use), has_debt * curve.supply_rate(borrow_use, supply_use)

    borrow, supply = run(column("totalDebt"), cash, column("unbacked"))
    indices = np.arange(len(cases))
    # A utilisation one raw unit past the kink (u - u* ~ 1e-14 is recorded) is below what float64
    # can tell apart: two roundings of u and u*, times the slope there, are allowed on top.
    steepest = curve.slope2 / (1.0 - curve.optimal_utilisation)
    slack = 2.0 + 2.0 * np.finfo(np.float64).eps * np.asarray(steepest) * RAY
    for what, rate in (("variableBorrowRate", borrow), ("liquidityRate", supply)):
        replay.compare(what, indices, rate * RAY, column(what), raw_units=slack)
    return replay


def accrual(header: dict, cases: list[dict]) -> Replay:
    """Replay index accrual: linear for supply, three-term compounding for debt."""
    del header
    replay = Replay(len(cases))
    column = lambda name: jnp.asarray([float(c[name]) for c in cases])
    years = column("dt") / (365.0 * 86400.0)
    indices = np.arange(len(cases))

    @jax.jit
    def run(supply_rate: jax.Array, borrow_rate: jax.Array, years: jax.Array) -> tuple:
        return linear_growth(supply_rate * years), taylor_growth(borrow_rate * years)

    supply_growth, debt_growth = run(
        column("currentLiquidityRate") / RAY, column("currentVariableBorrowRate") / RAY, years
    )
    supply_index = column("liquidityIndexBefore") * supply_growth
    debt_index = column("variableBorrowIndexBefore") * debt_growth
    for what, actual in (
        ("normalizedIncome", supply_index),
        ("liquidityIndexAfter", supply_index),
        ("normalizedVariableDebt", debt_index),
        ("variableBorrowIndexAfter", debt_index),
    ):
        replay.compare(what, indices, actual, column(what))
    interest = column("scaledTotalDebt") * (debt_index - column("variableBorrowIndexBefore")) / RAY
    treasury = interest * column("reserveFactorBps") / 1e4 * RAY / supply_index
    accrued = column("accruedToTreasuryAfter") - column("accruedToTreasuryBefore")
    debt = column("scaledTotalDebt") * debt_index / RAY
    # Interest is a difference of indices rounded to 1e-27: its error scales with the debt.
    replay.compare(
        "accruedToTreasury", indices, treasury, accrued, raw_units=2.0 + 1e-12 * np.asarray(debt)
    )
    return replay


ADAPTERS = {
    "aave_v3_liquidation": liquidation,
    "aave_v3_rate_strategy": rate_strategy,
    "aave_v3_accrual": accrual,
}
