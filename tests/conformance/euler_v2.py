"""Euler v2: liquidations with a health-inverse discount, and the linear kink rate, as recorded."""

from enum import IntEnum

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.health_discount import HealthDiscount, Limit
from jaxrisk.venue.interest import utilisation
from jaxrisk.venue.position import Position
from jaxrisk.venue.settlement import Refusal, Settlement
from jaxrisk.venue.slope_rate import SlopeRate
from tests.conformance.comparison import Replay, Unlisted, ordered_value, reason

WAD, RATE = 1e18, 1e27
BASIS_POINT = 1e-4
FULL_USE = 2.0**32 - 1.0  # utilisation is a 32-bit fraction
MINIMUM_SOCIALISED = 1e6 / WAD  # 1e6 of the smallest units of account
REVERTS = {"E_ExcessiveRepayAmount()": Refusal.EXCEEDS_ALLOWANCE}


class _Book:
    """Cases as arrays: one account a case, the collateral that is seized beside the total."""

    def __init__(self, cases: list[dict]) -> None:
        self.debt_unit = _column(cases, "liabilityPrice") / WAD / WAD
        called = [_called(c) for c in cases]
        self.shares = _column(called, "shares")
        # A collateral of no shares is worth nothing, whatever its unit.
        self.held = _column(called, "value") / WAD
        self.share_unit = np.where(self.shares > 0, self.held / np.maximum(self.shares, 1), 1.0)
        values = [[float(k["value"]) / WAD for k in c["collaterals"]] for c in cases]
        weights = [[k["liqLTV"] * BASIS_POINT for k in c["collaterals"]] for c in cases]
        self.backing = np.array([np.dot(v, w) for v, w in zip(values, weights, strict=True)])
        self.debt = _column(cases, "debt") * self.debt_unit
        self.repay = np.array([_asked(c, u) for c, u in zip(cases, self.debt_unit, strict=True)])
        self.position = Position(
            collateral=jnp.asarray(self.held),
            debt=jnp.asarray(self.debt),
            total_collateral=jnp.asarray([sum(v) for v in values]),
            total_debt=jnp.asarray(self.debt),
            backing=jnp.asarray(self.backing),
            credit=jnp.ones(len(cases)),
            fee_share=jnp.zeros(len(cases)),
            collateral_unit=jnp.asarray(self.share_unit),
            debt_unit=jnp.asarray(self.debt_unit),
        )


def liquidation(header: dict, cases: list[dict]) -> Replay:
    """Replay `checkLiquidation` and `liquidate`: limits, amounts, refusals, socialised debt."""
    del header
    replay = Replay(len(cases))
    indices = np.arange(len(cases))
    book = _Book(cases)
    rule = HealthDiscount(
        maximum_discount=jnp.asarray(_column(cases, "maxLiquidationDiscountBps") * BASIS_POINT),
        socialises=jnp.asarray([not c["debtSocializationDisabled"] for c in cases]),
        minimum_socialised=jnp.asarray(MINIMUM_SOCIALISED),
    )

    @jax.jit
    def run(position: Position, repay: jax.Array) -> tuple[Limit, Settlement]:
        return rule.limit(position), rule.call(position, repay)

    limit, call = run(book.position, jnp.asarray(book.repay))
    for what, actual in (
        ("collateralValueAdjusted", book.backing),
        ("liabilityValue", book.debt),
    ):
        replay.compare(what, indices, actual * WAD, _column(cases, what))
    for what, actual, unit in (
        ("maxRepay", limit.repaid, book.debt_unit),
        ("maxYieldShares", limit.seized, book.share_unit),
    ):
        replay.compare(what, indices, np.asarray(actual) / unit, _column(cases, what))
    recorded = [_reason(c) for c in cases]
    replay.compare_labels(
        "refusal", indices, [Refusal(int(r)).name for r in call.refusal], [r.name for r in recorded]
    )
    _compare_after(replay, cases, book, call)
    return replay


def _compare_after(replay: Replay, cases: list[dict], book: _Book, call: Settlement) -> None:
    done = np.flatnonzero([not c["reverted"] for c in cases])
    chosen = [cases[i] for i in done]
    recorded = lambda name: _column(chosen, name)
    in_debt = lambda x: (np.asarray(x) / book.debt_unit)[done]
    repaid, bad = in_debt(call.repaid), in_debt(call.bad_debt)
    # What is left or written off is a difference: its error scales with the debt it is taken from.
    slack = 2.0 + 1e-12 * recorded("debt")
    replay.compare("repaid", done, repaid, recorded("repaid"))
    seized = (np.asarray(call.seized) / book.share_unit)[done]
    replay.compare("yieldShares", done, seized, recorded("yieldShares"))
    replay.compare("socialized", done, bad, recorded("socialized"), raw_units=slack)
    left = recorded("debt") - repaid - bad
    replay.compare("debtAfter", done, left, recorded("debtAfter"), raw_units=slack)
    assets = recorded("totalAssetsBefore") - bad
    replay.compare("totalAssetsAfter", done, assets, recorded("totalAssetsAfter"))


def _called(case: dict) -> dict:
    return next(k for k in case["collaterals"] if k["asset"] == case["seizeAsset"])


def _asked(case: dict, unit: float) -> float:
    if case["repayIn"] == "max":
        return np.inf
    return ordered_value(int(case["repayIn"]), int(case["debt"]), unit)


def _reason(case: dict) -> IntEnum | Unlisted:
    """The contract passes over a healthy account in silence; the rule says why nothing happens."""
    if case["reverted"]:
        return reason(REVERTS, case["revertReason"])
    return Refusal.HEALTHY if case["branch"] == "noop_healthy" else Refusal.NONE


def irm_linear_kink(header: dict, cases: list[dict]) -> Replay:
    """Replay `computeInterestRateView`: rate per second of a 32-bit utilisation."""
    del header
    replay = Replay(len(cases))
    column = lambda name: jnp.asarray(_column(cases, name))
    rule = SlopeRate(
        base=column("baseRate") / RATE,
        slope_below=column("slope1") * FULL_USE / RATE,
        slope_above=column("slope2") * FULL_USE / RATE,
        kink=column("kink") / FULL_USE,
        utilisation_unit=jnp.asarray(1.0 / FULL_USE),
    )

    @jax.jit
    def run(debt: jax.Array, cash: jax.Array) -> jax.Array:
        return rule.borrow_rate(utilisation(debt, cash))

    rate = np.asarray(run(column("borrows"), column("cash"))) * RATE
    replay.compare("ratePerSecond", np.arange(len(cases)), rate, _column(cases, "ratePerSecond"))
    return replay


def _column(cases: list[dict], name: str) -> np.ndarray:
    return np.array([float(c[name]) for c in cases])


ADAPTERS = {
    "euler_v2_liquidation": liquidation,
    "euler_v2_irm_linear_kink": irm_linear_kink,
}
