"""Perpetual Protocol v2 (Curie): liquidation of positions and funding, as the contracts ran."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.funding import PerpetualPositions, funding_paid
from jaxrisk.venue.position_liquidation import (
    LinearBook,
    PositionCall,
    PositionRefusal,
    ShareLiquidation,
    equity,
    maintenance_margin,
)
from jaxrisk.venue.presets.perpetual_v2 import (
    FUNDING_PERIOD,
    premium_funding,
    share_liquidation,
)
from jaxrisk.venue.stability_fee import SECONDS_PER_YEAR
from tests.conformance.comparison import Replay, reason

WAD, USD, RATIO, X96 = 1e18, 1e6, 1e6, 2.0**96
EPS = 16.0 * np.finfo(np.float64).eps
REVERTS = {
    "CH_EAV": PositionRefusal.HEALTHY,
    "CH_WLD": PositionRefusal.WRONG_SIDE,
    "CH_IIC": PositionRefusal.FUND_TOO_SMALL,
}


def _column(cases: list[dict], name: str, unit: float = 1.0) -> np.ndarray:
    return np.array([float(c[name]) for c in cases]) / unit


def _per_market(cases: list[dict], name: str, count: int) -> np.ndarray:
    """Return a field of positions, `(case, market)`, 0 where a market is not there."""
    rows = np.zeros((len(cases), count))
    for row, case in zip(rows, cases, strict=True):
        for position in case["positions"]:
            row[position["market"]] = float(position[name]) / WAD
    return rows


def _called(cases: list[dict], name: str) -> np.ndarray:
    """Return a field of the position under call in natural units."""
    return np.array(
        [
            next(float(p[name]) for p in c["positions"] if p["market"] == c["market"]) / WAD
            for c in cases
        ]
    )


class _Calls:
    """Cases as books of one account each."""

    def __init__(self, cases: list[dict]) -> None:
        count = 1 + max(p["market"] for c in cases for p in c["positions"])
        table = lambda name: jnp.asarray(_per_market(cases, name, count))
        self.balance = _column(cases, "settlementBalance", USD)
        self.cash = (
            self.balance
            + _column(cases, "owedRealizedPnl", WAD)
            + _column(cases, "pendingFee", WAD)
        )
        self.book = LinearBook(
            size=table("takerPositionSize")[..., None],
            open_notional=table("takerOpenNotional")[..., None],
            funding_due=table("pendingFunding")[..., None],
            cash=jnp.asarray(self.cash)[:, None],
        )
        self.mark = table("markPrice")
        self.market = jnp.asarray([[c["market"]] for c in cases])
        self.requested = jnp.asarray(_column(cases, "requestedSize", WAD))[:, None]
        self.fund = jnp.asarray(_column(cases, "insuranceFundCapacity", USD))
        self.maintenance = jnp.asarray(_column(cases, "mmRatio", RATIO))
        self.penalty = jnp.asarray(_column(cases, "liquidationPenaltyRatio", RATIO))

    def run(self) -> tuple[PositionCall, jax.Array, jax.Array]:
        """Return calls, equities and requirements, `(case, ...)`."""

        @jax.jit
        @jax.vmap
        def run(
            maintenance: jax.Array,
            penalty: jax.Array,
            book: LinearBook,
            mark: jax.Array,
            market: jax.Array,
            requested: jax.Array,
            fund: jax.Array,
        ) -> tuple[PositionCall, jax.Array, jax.Array]:
            rule: ShareLiquidation = share_liquidation(
                jnp.float64, maintenance=maintenance, penalty=penalty, as_contract=True
            )
            call = rule.call(book, mark, market, requested, fund)
            required = maintenance_margin(book, mark, rule.maintenance)
            return call, equity(book, mark, rule.cash_unit), required

        return run(
            self.maintenance, self.penalty, self.book, self.mark, self.market, self.requested,
            self.fund,
        )  # fmt: skip


def liquidation(header: dict, cases: list[dict]) -> Replay:
    """Replay `liquidate`: account values, verdicts, amounts, and all that moved."""
    del header
    replay = Replay(len(cases))
    indices = np.arange(len(cases))
    calls = _Calls(cases)
    call, value, required = jax.tree.map(np.asarray, calls.run())
    # Values are sums of positions: their error scales with these.
    size = np.abs(np.asarray(calls.book.size[..., 0]))
    scale = np.abs(calls.cash) + np.sum(
        size * np.asarray(calls.mark) + np.abs(np.asarray(calls.book.open_notional[..., 0])), axis=1
    )
    cents = (2.0 / USD + EPS * scale) * WAD
    replay.compare(
        "accountValue", indices, value[:, 0] * WAD, _column(cases, "accountValue"), raw_units=cents
    )
    replay.compare(
        "marginRequirement", indices, required[:, 0] * WAD, _column(cases, "marginRequirement")
    )
    replay.compare_labels(
        "refusal",
        indices,
        [PositionRefusal(int(r)).name for r in call.refusal[:, 0]],
        [
            reason(REVERTS, c["revertReason"]).name if c["reverted"] else "NONE"
            for c in cases
        ],
    )  # fmt: skip
    done = np.flatnonzero([not c["reverted"] for c in cases])
    _compare_amounts(replay, cases, done, calls, call, scale)
    _compare_takeover(replay, cases, done, call)
    _compare_branches(replay, cases, done, call, value[:, 0])
    return replay


def _compare_amounts(
    replay: Replay,
    cases: list[dict],
    done: np.ndarray,
    calls: _Calls,
    call: PositionCall,
    scale: np.ndarray,
) -> None:
    """Compare what a call closes and charges, and the account and the fund after it."""
    chosen = [cases[i] for i in done]
    after = [c["after"] for c in chosen]
    row = lambda x: np.asarray(x)[done, 0]
    slack = (2.0 + EPS * scale * WAD)[done]
    market = [c["market"] for c in chosen]
    of_market = lambda x: np.asarray(x)[done, market, 0]
    for what, actual, expected in (
        ("positionSize", np.abs(row(call.closed)), _column(chosen, "positionSize")),
        ("positionNotional", np.abs(row(call.notional)), _column(chosen, "positionNotional")),
        ("liquidationFee", row(call.penalty), _column(chosen, "liquidationFee")),
        (
            "after.owedRealizedPnl",
            row(call.book.cash) - calls.balance[done] - row(call.bad_debt),
            _column(after, "owedRealizedPnl"),
        ),
        (
            "insuranceOwedPnlChange",
            row(call.to_fund),
            _column(after, "insuranceOwedPnlChange"),
        ),
        (
            "after.takerPositionSize",
            of_market(call.book.size),
            _column(after, "takerPositionSize"),
        ),
        (
            "after.takerOpenNotional",
            of_market(call.book.open_notional),
            _column(after, "takerOpenNotional"),
        ),
    ):  # fmt: skip
        replay.compare(what, done, actual * WAD, expected, raw_units=slack)
    cents = 2.0 + slack / WAD * USD
    for what, actual, expected in (
        ("badDebt", row(call.bad_debt), _column(chosen, "badDebt")),
        (
            "after.settlementBalance",
            calls.balance[done] + row(call.bad_debt),
            _column(after, "settlementBalance"),
        ),
        ("after.accountValue", row(call.equity_after), _column(after, "accountValue", WAD / USD)),
        (
            "after.insuranceFundCapacity",
            row(call.fund_after),
            _column(after, "insuranceFundCapacity"),
        ),
    ):
        replay.compare(what, done, actual * USD, expected, raw_units=cents)


def _compare_takeover(
    replay: Replay, cases: list[dict], done: np.ndarray, call: PositionCall
) -> None:
    """Compare what the caller takes over and pays.

    Funding on a position it already had settles in the same call and is not recorded, so payments
    are compared for the first takeover in each market.
    """
    taken = np.asarray(call.closed)[done, 0]
    change = [float(cases[i]["after"]["liquidatorPositionChange"]) for i in done]
    replay.compare("liquidatorPositionChange", done, taken * WAD, change)
    seen: set[tuple[int, int]] = set()
    first = []
    for i in done:
        key = (cases[i]["system"], cases[i]["market"])
        if key not in seen:
            first.append(i)
        seen.add(key)
    rows = np.array(first, dtype=int)
    paid = np.asarray(call.to_caller - call.notional)[rows, 0]
    recorded = [float(cases[i]["after"]["liquidatorOpenNotionalPlusRealisedChange"]) for i in rows]
    replay.compare("liquidatorOpenNotional", rows, paid * WAD, recorded)


def _compare_branches(
    replay: Replay, cases: list[dict], done: np.ndarray, call: PositionCall, value: np.ndarray
) -> None:
    labels = []
    for i in done:
        whole = np.asarray(call.book.size)[i, cases[i]["market"], 0] == 0
        parts = ["liquidated_full" if whole else "liquidated_partial"]
        parts += ["negative_account"] if value[i] < 0 else []
        parts += ["bad_debt_settled"] if np.asarray(call.bad_debt)[i, 0] > 0 else []
        labels.append("|".join(parts))
    replay.compare_labels("branch", done, labels, [cases[i]["branch"] for i in done])


def funding(header: dict, cases: list[dict]) -> Replay:
    """Replay the growth of funding by time-weighted premiums, and what traders owe."""
    del header
    replay = Replay(len(cases))
    indices = np.arange(len(cases))
    unit = X96 * FUNDING_PERIOD * SECONDS_PER_YEAR
    traders = max(len(c["traders"]) for c in cases)

    def table(name: str, unit: float) -> np.ndarray:
        rows = np.zeros((len(cases), 1, traders))
        for row, case in zip(rows, cases, strict=True):
            for position, trader in enumerate(case["traders"]):
                row[0, position] = float(trader[name]) / unit
        return rows

    @jax.jit
    @jax.vmap
    def run(
        maximum: jax.Array,
        paid: jax.Array,
        mark: jax.Array,
        index: jax.Array,
        elapsed: jax.Array,
        size: jax.Array,
        last: jax.Array,
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        rule = premium_funding(jnp.float64, maximum_rate=maximum)
        rate = rule.rate((mark - index) / index)
        paid = funding_paid(paid, rate, index, elapsed)
        still = jnp.broadcast_to(mark[:, None], size.shape)
        held = PerpetualPositions(size=size, mark=still, paid=last, settled=jnp.zeros_like(size))
        return rate, paid, -held.cash(mark, paid)

    one = lambda x: jnp.asarray(x)[:, None]
    mark, index = _column(cases, "marketTwap", WAD), _column(cases, "indexTwap", WAD)
    maximum = _column(cases, "maxFundingRate", RATIO)
    before = _column(cases, "twPremiumX96Before", unit)
    elapsed = _column(cases, "dt", SECONDS_PER_YEAR)
    size, last = table("base", WAD), table("lastTwPremiumGrowthGlobalX96", unit)
    rate, after, due = jax.tree.map(
        np.asarray,
        run(
            jnp.asarray(maximum), one(before), one(mark), one(index), jnp.asarray(elapsed),
            jnp.asarray(size), jnp.asarray(last),
        ),
    )  # fmt: skip
    # Averages are recorded in 18 digits, and a premium is a difference of two of them.
    price_error = 2.0 / WAD + EPS * (mark + index)
    error = price_error * elapsed / FUNDING_PERIOD + EPS * np.abs(before)
    replay.compare(
        "twPremiumX96After", indices, after[:, 0] * unit, _column(cases, "twPremiumX96After"),
        raw_units=2.0 + error * unit,
    )  # fmt: skip
    for position in range(traders):
        rows = np.flatnonzero([len(c["traders"]) > position for c in cases])
        recorded = [float(cases[i]["traders"][position]["pendingFundingPayment"]) for i in rows]
        replay.compare(
            "pendingFundingPayment", rows, due[rows, 0, position] * WAD, recorded,
            raw_units=2.0 + error[rows] * np.abs(size[rows, 0, position]) * WAD,
        )  # fmt: skip
    capped = np.abs(rate[:, 0]) * FUNDING_PERIOD >= maximum * (1.0 - EPS)
    side = np.where(rate[:, 0] > 0, "longs_pay", "shorts_pay")
    labels = np.where(capped, "capped", side).tolist()
    replay.compare_labels("branch", indices, labels, [c["branch"] for c in cases])
    return replay


ADAPTERS = {"perp_curie_liquidation": liquidation, "perp_curie_funding": funding}
