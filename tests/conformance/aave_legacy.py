"""Aave v3.0.2: liquidation calls on a close factor per reserve, and the debt they strand."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.numerics.rounding import floor_to
from jaxrisk.venue.mean_threshold import mean_threshold_backing
from jaxrisk.venue.position import Position
from jaxrisk.venue.presets.aave_v3_legacy import BASE_UNIT, BASIS_POINT, close_rule
from jaxrisk.venue.settlement import Refusal
from jaxrisk.venue.stranding_call import stranding_call
from tests.conformance.comparison import Replay, ordered_value, reason

REVERTS = {
    "HEALTH_FACTOR_NOT_BELOW_THRESHOLD": Refusal.HEALTHY,
    "COLLATERAL_CANNOT_BE_LIQUIDATED": Refusal.NOT_COLLATERAL,
}
WAD = 1e18


def liquidation(header: dict, cases: list[dict]) -> Replay:
    """Replay `Pool.liquidationCall`: account data, amounts, refusals, what is left."""
    del header
    replay = Replay(len(cases))
    book = _Book(cases)
    run = jax.jit(_liquidate)
    # A call that takes a collateral whole ends its use as one, which later calls of the sequence
    # see and no recorded field says: the calls are made once to find these, and then again.
    book.end_use(np.asarray(run(book.arrays())["whole"]))
    result = {name: np.asarray(value) for name, value in run(book.arrays()).items()}
    everyone = np.arange(len(cases))
    _compare_account(replay, everyone, [c["account"] for c in cases], result, "before")
    recorded = [
        reason(REVERTS, c["revertReason"]) if c["reverted"] else Refusal.NONE for c in cases
    ]
    replay.compare_labels(
        "refusal", everyone, [Refusal(int(r)).name for r in result["refusal"]],
        [r.name for r in recorded],
    )  # fmt: skip
    done = np.flatnonzero([not c["reverted"] for c in cases])
    unit, debt_unit = book.unit[book.collateral_at], book.unit[book.debt_at]
    # What is left is a difference: its error scales with what it was taken from.
    slack = {
        "collateralAfter": 2.0 + 1e-9 * book.collateral[book.collateral_at] / unit,
        "debtAfter": 2.0 + 1e-9 * book.debt[book.debt_at] / debt_unit,
    }
    for what, actual in (
        ("debtRepaid", result["repaid"] / debt_unit),
        ("collateralToLiquidator", (result["seized"] - result["fee"]) / unit),
        ("treasuryFee", result["fee"] / unit),
        ("collateralAfter", book.collateral[book.collateral_at] / unit - result["seized"] / unit),
        ("debtAfter", result["debt left"][book.debt_at] / debt_unit),
    ):
        allowed = slack[what][done] if what in slack else 2.0
        expected = [float(cases[i][what]) for i in done]
        replay.compare(what, done, actual[done], expected, raw_units=allowed)
    after = [cases[i]["accountAfter"] for i in done]
    _compare_account(replay, done, after, result, "after", book.rounding())
    stranded = np.array([a["totalCollateralBase"] == "0" for a in after])
    owed = np.array([float(a["totalDebtBase"]) * BASE_UNIT for a in after])
    replay.compare(
        "stranded", done, result["stranded"][done], np.where(stranded, owed, 0.0),
        raw_units=book.rounding()[done],
    )  # fmt: skip
    return replay


def _liquidate(book: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Return account data before the call, the call, and what it leaves, by name."""
    base, basis_point = jnp.asarray(BASE_UNIT), jnp.asarray(BASIS_POINT)
    value = lambda amounts: floor_to(amounts, base)
    pick = lambda name, mask: jnp.sum(book[name] * book[mask], axis=0)

    def backing(held: jax.Array) -> jax.Array:
        return mean_threshold_backing(value(held), book["threshold"], unit=basis_point)

    counted = book["collateral"] * book["counts"]
    position = Position(
        collateral=pick("collateral", "collateral_pick"),
        debt=pick("debt", "debt_pick"),
        total_collateral=jnp.sum(counted, axis=0),
        total_debt=jnp.sum(value(book["debt"]), axis=0),
        backing=backing(counted),
        credit=book["credit"],
        fee_share=book["fee_share"],
        collateral_unit=pick("unit", "collateral_pick"),
        debt_unit=pick("unit", "debt_pick"),
    )
    backs = pick("counts", "collateral_pick") > 0
    call = stranding_call(close_rule(jnp.float64), position, backs, book["offer"])
    held = counted - book["collateral_pick"] * call.seized[None, :]
    owed = book["debt"] - book["debt_pick"] * call.repaid[None, :]
    return {
        "refusal": call.refusal,
        "repaid": call.repaid,
        "seized": call.seized,
        "fee": call.fee,
        "stranded": call.stranded,
        "debt left": owed,
        "whole": (call.refusal == Refusal.NONE) & (call.seized >= position.collateral),
        "value before": jnp.sum(value(counted), axis=0),
        "debt before": position.total_debt,
        "backing before": position.backing,
        "value after": jnp.sum(value(held), axis=0),
        "debt after": jnp.sum(value(owed), axis=0),
        "backing after": backing(held),
    }


class _Book:
    """Cases as arrays: one account a case, values in USD, padded to the assets ever seen."""

    def __init__(self, cases: list[dict]) -> None:
        self.cases = cases
        names = sorted({r["asset"] for c in cases for r in c["reserves"]})
        shape = (len(names), len(cases))
        self.unit, self.counts = np.ones(shape), np.ones(shape)
        self.collateral, self.debt, self.threshold = (np.zeros(shape) for _ in range(3))
        self.credit, self.fee, self.offer = np.ones(len(cases)), np.zeros(len(cases)), []
        for i, case in enumerate(cases):
            for r in case["reserves"]:
                a = names.index(r["asset"])
                self.unit[a, i] = float(r["price"]) * BASE_UNIT / 10 ** r["decimals"]
                self.collateral[a, i] = float(r["collateralBalance"]) * self.unit[a, i]
                self.debt[a, i] = float(r["debtBalance"]) * self.unit[a, i]
                self.threshold[a, i] = r["liqThreshold"] / 1e4
                if r["asset"] == case["collateralAsset"]:
                    self.credit[i], self.fee[i] = r["liqBonus"] / 1e4, r["protocolFee"] / 1e4
                if r["asset"] == case["debtAsset"]:
                    self.offer.append(_offer(case["debtToCoverIn"], r, self.unit[a, i]))
        everyone = np.arange(len(cases))
        self.collateral_at = (
            np.array([names.index(c["collateralAsset"]) for c in cases]),
            everyone,
        )
        self.debt_at = (np.array([names.index(c["debtAsset"]) for c in cases]), everyone)

    def end_use(self, whole: np.ndarray) -> None:
        """Let collateral that calls of a sequence take whole not count in its later ones."""
        sequence = np.array([c["sequence"] for c in self.cases])
        step = np.array([c["step"] for c in self.cases])
        for i in np.flatnonzero(whole):
            later = (sequence == sequence[i]) & (step > step[i])
            self.counts[self.collateral_at[0][i], later] = 0.0

    def arrays(self) -> dict[str, jax.Array]:
        picks = {}
        for name, at in (("collateral_pick", self.collateral_at), ("debt_pick", self.debt_at)):
            picks[name] = np.zeros(self.unit.shape)
            picks[name][at] = 1.0
        arrays = {
            "unit": self.unit,
            "counts": self.counts,
            "collateral": self.collateral,
            "debt": self.debt,
            "threshold": self.threshold,
            "credit": self.credit,
            "fee_share": self.fee,
            "offer": np.array(self.offer),
            **picks,
        }
        return {name: jnp.asarray(value) for name, value in arrays.items()}

    def rounding(self) -> np.ndarray:
        """Return, in USD, two raw units of everything and a base unit a balance."""
        held = (self.collateral > 0) | (self.debt > 0)
        return np.where(held, 2.0 * self.unit + 2.0 * BASE_UNIT, 0.0).sum(0)


def _offer(asked: str, reserve: dict, unit: float) -> float:
    return (
        np.inf if asked == "max" else ordered_value(int(asked), int(reserve["debtBalance"]), unit)
    )


def _compare_account(
    replay: Replay,
    indices: np.ndarray,
    recorded: list[dict],
    result: dict[str, np.ndarray],
    when: str,
    rounding: np.ndarray | None = None,
) -> None:
    """Compare values and health; `recorded` follows `indices`."""
    of = lambda name: result[f"{name} {when}"][indices]
    field = lambda name: np.array([float(r[name]) for r in recorded]) * BASE_UNIT
    slack = 2.0 * BASE_UNIT if rounding is None else rounding[indices]
    replay.compare(
        "collateral " + when, indices, of("value"), field("totalCollateralBase"), raw_units=slack
    )
    replay.compare("debt " + when, indices, of("debt"), field("totalDebtBase"), raw_units=slack)
    owing = np.flatnonzero([r["healthFactor"] != "max" for r in recorded])
    health = np.array([float(recorded[k]["healthFactor"]) / WAD for k in owing])
    slack, debt = np.broadcast_to(slack, len(indices))[owing], of("debt")[owing]
    replay.compare(
        "health factor " + when, indices[owing], of("backing")[owing] / debt, health,
        raw_units=(1.0 + health) * slack / debt,
    )  # fmt: skip


ADAPTERS = {"aave_v30_legacy_liquidation": liquidation}
