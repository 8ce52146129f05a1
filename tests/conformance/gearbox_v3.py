"""Gearbox v3: who is paid in a liquidation, debts with quotas, threshold ramps."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.indexed_debt import IndexedDebt
from jaxrisk.venue.ramp import LinearRamp
from jaxrisk.venue.whole_account import WholeAccount, WholeClose
from tests.conformance.comparison import Replay

BPS = 1e4
INDEX = 1e27


def liquidation_payments(header: dict, cases: list[dict]) -> Replay:
    """Replay `calcLiquidationPayments`; the numeraire is one raw unit of the debt token."""
    del header
    replay = Replay(len(cases))
    column = lambda name: np.array([float(c[name]) for c in cases])
    value = column("totalValue")
    rule = WholeClose(
        premium=jnp.asarray((BPS - column("liquidationDiscount")) / BPS),
        fee=jnp.asarray(column("feeLiquidation") / BPS),
        transfer_tax=jnp.asarray(column("tokenTransferFeeBps") / BPS),
        unit=jnp.ones(len(cases)),
    )
    account = WholeAccount(
        value=jnp.asarray(value),
        # The recorded function is that of the payments: health is tested by its caller.
        backing=jnp.zeros(len(cases)),
        principal=jnp.asarray(column("debt")),
        interest=jnp.asarray(column("accruedInterest")),
        fees=jnp.asarray(column("accruedFees")),
    )
    call = jax.jit(WholeClose.call)(rule, account)
    indices = np.arange(len(cases))
    # Differences of values: their error scales with what they were taken from.
    slack = 2.0 + 1e-15 * (value + column("debt"))
    for what, actual in (
        ("amountToPool", call.repaid + call.fee + call.transfer_tax),
        ("remainingFunds", call.refund),
        ("profit", call.fee),
        ("loss", call.bad_debt),
    ):
        replay.compare(what, indices, actual, column(what), raw_units=slack)
    return replay


def debt_and_thresholds(header: dict, cases: list[dict]) -> Replay:
    """Replay `calcIncrease`, `calcDecrease` and `getLiquidationThreshold`."""
    del header
    replay = Replay(len(cases))
    replays: dict[str, Callable[[Replay, np.ndarray, list[dict]], None]] = {
        "increase": _increase,
        "decrease": _decrease,
        "ltRamp": _ramp,
    }
    for kind, function in replays.items():
        indices = np.array([i for i, c in enumerate(cases) if c["kind"] == kind], int)
        if len(indices):
            function(replay, indices, [cases[i] for i in indices])
    return replay


def _debt(cases: list[dict]) -> IndexedDebt:
    column = lambda name: jnp.asarray([float(c.get(name, 0)) for c in cases])
    return IndexedDebt(
        principal=column("debt"),
        index=column("cumulativeIndexLastUpdate") / INDEX,
        quota_interest=column("cumulativeQuotaInterest"),
        quota_fees=column("quotaFees"),
        unit=jnp.ones(len(cases)),
    )


def _increase(replay: Replay, indices: np.ndarray, cases: list[dict]) -> None:
    column = lambda name: np.array([float(c[name]) for c in cases])
    after = jax.jit(IndexedDebt.draw)(
        _debt(cases),
        jnp.asarray(column("amount")),
        jnp.asarray(column("cumulativeIndexNow") / INDEX),
    )
    replay.compare("newDebt", indices, after.principal, column("newDebt"))
    index = np.asarray(after.index) * INDEX
    replay.compare("newCumulativeIndex", indices, index, column("newCumulativeIndex"))


def _decrease(replay: Replay, indices: np.ndarray, cases: list[dict]) -> None:
    column = lambda name: np.array([float(c[name]) for c in cases])
    done = jax.jit(IndexedDebt.repay)(
        _debt(cases),
        jnp.asarray(column("amount")),
        jnp.asarray(column("cumulativeIndexNow") / INDEX),
        jnp.asarray(column("feeInterest") / BPS),
    )
    replay.compare_labels(
        "exceeds", indices, np.asarray(done.exceeds).tolist(), [False] * len(cases)
    )
    # Remainders are differences: their error scales with what they were taken from.
    slack = 2.0 + 1e-15 * (column("debt") + column("amount"))
    for what, actual in (
        ("newDebt", done.debt.principal),
        ("profit", done.fee),
        ("newCumulativeQuotaInterest", done.debt.quota_interest),
        ("newQuotaFees", done.debt.quota_fees),
    ):
        replay.compare(what, indices, actual, column(what), raw_units=slack)
    index = np.asarray(done.debt.index) * INDEX
    replay.compare("newCumulativeIndex", indices, index, column("newCumulativeIndex"))


def _ramp(replay: Replay, indices: np.ndarray, cases: list[dict]) -> None:
    column = lambda name: np.array([float(c[name]) for c in cases])
    start = column("rampStart") - column("timestamp")
    ramp = LinearRamp(
        initial=jnp.asarray(column("ltInitial") / BPS),
        final=jnp.asarray(column("ltFinal") / BPS),
        start=jnp.asarray(start),
        duration=jnp.asarray(column("rampDuration")),
        unit=jnp.full(len(cases), 1.0 / BPS),
    )
    threshold = np.asarray(jax.jit(LinearRamp.at)(ramp, jnp.zeros(len(cases)))) * BPS
    # One raw unit is a basis point here, which is not rounding: none is allowed.
    replay.compare(
        "liquidationThreshold", indices, threshold, column("liquidationThreshold"), raw_units=0.0
    )


ADAPTERS = {
    "gearbox_v3_liquidation_payments": liquidation_payments,
    "gearbox_v3_debt_and_lt": debt_and_thresholds,
}
