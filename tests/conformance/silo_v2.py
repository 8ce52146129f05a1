"""Silo v2: liquidation previews and the dynamic kink rate, as recorded."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.drifting_rate import DriftingRate
from jaxrisk.venue.position import Position
from jaxrisk.venue.settlement import Refusal, Settlement
from jaxrisk.venue.target_close import Limit, TargetClose, loan_to_value_after, segregated_first
from tests.conformance.comparison import Replay, ordered_value

WAD = 1e18
WHOLE_ABOVE = 0.9
SECONDS_PER_YEAR = 31_536_000.0
RATE_CAP = 25.0  # per year
ERRORS = {
    "": Refusal.NONE,
    "NoDebtToCover": Refusal.NOTHING_ASKED,
    "UserIsSolvent": Refusal.HEALTHY,
    "NoRepayAssets": Refusal.NOTHING_REPAID,
}


class _Book:
    """Cases as arrays; the numeraire is the smallest unit of value."""

    def __init__(self, cases: list[dict]) -> None:
        column = lambda name: _column(cases, name)
        self.held, self.owed = column("collateralValue"), column("debtValue")
        self.assets = column("collateralAssets") + column("protectedAssets")
        self.debt_assets = column("debtAssets")
        # What holds nothing is worth nothing, whatever its unit.
        ratio = lambda value, assets: np.where(assets > 0, value / np.maximum(assets, 1.0), 1.0)
        self.collateral_unit = ratio(self.held, self.assets)
        self.debt_unit = ratio(self.owed, self.debt_assets)
        self.request = jnp.asarray(
            [
                ordered_value(int(c["maxDebtToCover"]), int(c["debtAssets"]), float(u))
                for c, u in zip(cases, self.debt_unit, strict=True)
            ]
        )
        self.rule = TargetClose(
            target=jnp.asarray(column("liquidationTargetLtv") / WAD),
            whole_above=jnp.asarray(WHOLE_ABOVE),
        )
        self.position = Position(
            collateral=jnp.asarray(self.held),
            debt=jnp.asarray(self.owed),
            total_collateral=jnp.asarray(self.held),
            total_debt=jnp.asarray(self.owed),
            backing=jnp.asarray(self.held * column("lt") / WAD),
            credit=jnp.asarray(1.0 + column("liquidationFee") / WAD),
            fee_share=jnp.zeros(len(cases)),
            collateral_unit=jnp.asarray(self.collateral_unit),
            debt_unit=jnp.asarray(self.debt_unit),
        )


def liquidation_preview(header: dict, cases: list[dict]) -> Replay:
    """Replay `liquidationPreview`, `maxLiquidation` and `estimateMaxRepayValue`."""
    del header
    replay = Replay(len(cases))
    indices = np.arange(len(cases))
    book = _Book(cases)

    @jax.jit
    def run(position: Position, request: jax.Array) -> tuple[Limit, Settlement, jax.Array]:
        unit = jnp.asarray(1.0)
        call = book.rule.preview(position, request, value_unit=unit)
        limit = book.rule.limit(position, value_unit=unit)
        return limit, call, loan_to_value_after(position, call, jnp.asarray(1.0 / WAD))

    limit, call, after = run(book.position, book.request)
    refusal = [Refusal(int(r)).name for r in call.refusal]
    replay.compare_labels("error", indices, refusal, [ERRORS[c["customError"]].name for c in cases])
    repaid = np.asarray(call.repaid) / book.debt_unit
    replay.compare("repayDebt", indices, repaid, _column(cases, "repayDebt"))
    seized = np.asarray(call.seized) / book.collateral_unit
    replay.compare("receiveCollateral", indices, seized, _column(cases, "receiveCollateral"))
    protected = jnp.asarray(_column(cases, "protectedAssets"))
    for what, actual in zip(
        ("fromProtected", "fromCollateral"),
        segregated_first(jnp.asarray(seized), protected),
        strict=True,
    ):
        replay.compare(what, indices, actual, _column(cases, what))
    _compare_limits(replay, cases, book, limit)
    _compare_after(replay, cases, book, call, np.asarray(after))
    return replay


def _compare_limits(replay: Replay, cases: list[dict], book: _Book, limit: Limit) -> None:
    indices = np.arange(len(cases))
    replay.compare(
        "estimateMaxRepayValue", indices, limit.repaid, _column(cases, "estimateMaxRepayValue"),
        # The rule's limit is in whole units of the debt, the estimate in units of value.
        raw_units=2.0 + book.debt_unit,
    )  # fmt: skip
    known = np.flatnonzero(["maxLiquidationDebt" in c for c in cases])
    chosen = [cases[i] for i in known]
    debt = (np.asarray(limit.repaid) / book.debt_unit)[known]
    replay.compare("maxLiquidationDebt", known, debt, _column(chosen, "maxLiquidationDebt"))
    seized = (np.asarray(limit.seized) / book.collateral_unit)[known]
    replay.compare(
        "maxLiquidationCollateral", known, seized, _column(chosen, "maxLiquidationCollateral"),
        # The contract states two units less, to leave room for the rounding of shares.
        raw_units=4.0,
    )  # fmt: skip


def _compare_after(
    replay: Replay, cases: list[dict], book: _Book, call: Settlement, after: np.ndarray
) -> None:
    known = np.flatnonzero(["ltvAfter" in c for c in cases])
    left = book.held - np.asarray(call.seized)
    # The contract computes with the seized value before it is rounded to whole collateral units.
    rounding = (after * book.collateral_unit + 1.0) / np.maximum(left, 1.0)
    rounding = np.where(after > 0, rounding, 0.0)
    replay.compare(
        "ltvAfter", known, after[known] * WAD, _column([cases[i] for i in known], "ltvAfter"),
        raw_units=2.0 + rounding[known] * WAD,
    )  # fmt: skip


def dynamic_kink_irm(header: dict, cases: list[dict]) -> Replay:
    """Replay `compoundInterestRate` and `currentInterestRate`, per second."""
    del header
    replay = Replay(len(cases))
    indices = np.arange(len(cases))
    column = lambda name: jnp.asarray(_column(cases, name))
    setting = lambda name: jnp.asarray(_column([c["config"] for c in cases], name) / WAD)
    rule = DriftingRate(
        low=setting("ulow"),
        calm_below=setting("u1"),
        calm_above=setting("u2"),
        critical=setting("ucrit"),
        minimum_rate=setting("rmin"),
        minimum_slope=setting("kmin"),
        maximum_slope=setting("kmax"),
        steepening=setting("alpha"),
        fall=setting("c1"),
        fall_gain=setting("cminus"),
        rise=setting("c2"),
        rise_gain=setting("cplus"),
        maximum_rise=setting("dmax"),
        growth_cap=column("rcompCapPerSecond") / WAD,
        rate_cap=jnp.full(len(cases), RATE_CAP / SECONDS_PER_YEAR),
        speed_unit=jnp.asarray(1.0 / WAD),
    )
    owes = column("totalBorrowed") > 0

    @jax.jit
    def run(use: jax.Array, slope: jax.Array, elapsed: jax.Array) -> tuple:
        rate = rule.borrow_rate(use, slope, elapsed, owes=owes)
        return rate, *rule.advance(use, slope, elapsed, owes=owes)

    rate, growth, slope = run(column("utilisation") / WAD, column("k") / WAD, column("dt"))
    # The contract rounds the rate per second to 1e-18 before it states it per year.
    rounding = 2.0 * SECONDS_PER_YEAR
    quoted = np.asarray(rate) * SECONDS_PER_YEAR * WAD
    replay.compare(
        "currentRate", indices, quoted, _column(cases, "currentRate"), raw_units=rounding
    )
    for what, actual in (("rcomp", growth), ("kAfter", slope)):
        replay.compare(what, indices, np.asarray(actual) * WAD, _column(cases, what))
    return replay


def _column(cases: list[dict], name: str) -> np.ndarray:
    return np.array([float(c[name]) for c in cases])


ADAPTERS = {
    "silo_v2_liquidation_preview": liquidation_preview,
    "silo_v2_dynamic_kink_irm": dynamic_kink_irm,
}
