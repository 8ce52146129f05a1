"""Liquity v1: liquidations by pool and by other borrowers, in and out of recovery mode."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.recovery_mode import (
    Borrowers,
    RecoveryRules,
    recovery_call,
    recovery_mode,
    system_ratio,
)
from jaxrisk.venue.stability_pool import (
    PoolRefusal,
    collateral_ratio,
    deposits_after,
    redistribute,
    spendable,
)
from tests.conformance.comparison import Replay

WAD = 10**18
ACTIVE = 1
REFUSED = {PoolRefusal.HEALTHY, PoolRefusal.LAST_ACCOUNT}
# What a pool must keep: nothing as deployed in 2021, one unit since the patch of 2025.
KEPT = {"deployed_v1": 0.0, "head_patched_SP": 1.0}


def table(cases: list[dict], rows: str, field: str, width: int, *, only: int | None = None):
    """Return `(case, account)` amounts in natural units, zero where padded or not of a status."""
    out = np.zeros((len(cases), width))
    for n, case in enumerate(cases):
        for row in case.get(rows, []):
            if only is None or row["status"] == only:
                out[n, row["i"]] = int(row[field]) / WAD
    return out


def width(cases: list[dict], rows: str) -> int:
    """Return how many accounts the largest case has."""
    return 1 + max((r["i"] for c in cases for r in c.get(rows, [])), default=0)


def liquidation(header: dict, cases: list[dict]) -> Replay:
    """Replay `TroveManager.liquidate`: amounts, refusals, all accounts and deposits afterwards."""
    del header
    replay = Replay(len(cases))
    column = lambda name: np.array([int(c.get(name, 0)) / WAD for c in cases])
    accounts = width(cases, "troves")
    accounts = max(accounts, width(cases, "deposits"))
    read = lambda rows, field, only=None: jnp.asarray(
        table(cases, rows, field, accounts, only=only)
    )
    borrowers = Borrowers(
        collateral=read("troves", "coll", ACTIVE), debt=read("troves", "debt", ACTIVE)
    )
    stake, deposits = read("troves", "stake", ACTIVE), read("deposits", "compounded")
    number = jnp.asarray
    rules = RecoveryRules(
        minimum_ratio=number(1.1), critical_ratio=number(1.5), fee_share=number(0.005)
    )
    kept = number([KEPT[c["variant"]] for c in cases])
    pool, price = number(column("stabilityPoolLUSD")), number(column("price"))
    called = number([c["borrower"] for c in cases])

    @jax.jit
    @jax.vmap
    def run(borrowers, stake, deposits, pool, kept, price, called) -> dict:
        calls = recovery_call(rules, borrowers, price=price, pool=spendable(pool, kept))
        call = jax.tree.map(lambda leaf: leaf[called], calls)
        others = (jnp.arange(borrowers.debt.shape[0]) != called) & (borrowers.debt > 0)
        spread = lambda amount: redistribute(amount, stake, others)
        after = Borrowers(
            collateral=jnp.where(others, borrowers.collateral, 0.0)
            + spread(call.redistributed_collateral),
            debt=jnp.where(others, borrowers.debt, 0.0) + spread(call.redistributed_debt),
        )
        left, gain = deposits_after(deposits, total=pool, repaid=call.repaid, seized=call.seized)
        return {
            "call": call,
            "ratio": collateral_ratio(borrowers.collateral, borrowers.debt, price)[called],
            "system": system_ratio(borrowers, price),
            "recovery": recovery_mode(rules, borrowers, price),
            "after": after,
            "system_after": system_ratio(after, price),
            "left": left,
            "gain": gain,
        }

    out = run(borrowers, stake, deposits, pool, kept, price, called)
    call, indices = out["call"], np.arange(len(cases))
    # Ratios are floored to 18 digits.
    unit = 2.0 / WAD
    replay.compare("ICR", indices, out["ratio"], column("ICR"), raw_units=unit)
    replay.compare("TCR", indices, out["system"], column("TCR"), raw_units=unit)
    replay.compare_labels(
        "recoveryMode", indices, out["recovery"].tolist(), [c["recoveryMode"] for c in cases]
    )
    refused = [PoolRefusal(int(r)) in REFUSED for r in call.refusal]
    replay.compare_labels("refused", indices, refused, [c["reverted"] for c in cases])
    done = np.flatnonzero([not c["reverted"] for c in cases])
    moved = call.seized + call.redistributed_collateral
    for what, actual in (
        ("liquidatedDebt", call.repaid + call.redistributed_debt),
        ("liquidatedColl", moved),
        ("collGasCompensation", call.fee),
        ("debtOffset", call.repaid),
        ("collToSP", call.seized),
        ("collSurplus", call.refund),
        ("redistributedDebt", call.redistributed_debt),
        ("TCR_after", out["system_after"]),
    ):
        replay.compare(what, done, np.asarray(actual)[done], column(what)[done], raw_units=unit)
    _compare_accounts(replay, cases, done, out, accounts)
    _compare_deposits(replay, cases, done, out, accounts, np.asarray(deposits))
    return replay


def _compare_accounts(
    replay: Replay, cases: list[dict], done: np.ndarray, out: dict, accounts: int
) -> None:
    for what, actual in (("debt", out["after"].debt), ("coll", out["after"].collateral)):
        expected = table(cases, "trovesAfter", what, accounts, only=ACTIVE)
        for i in range(accounts):
            # Shares are sums a unit of stake in 18 digits: a unit of that is a unit times stake.
            stakes = table(cases, "troves", "stake", accounts)[done, i]
            replay.compare(
                f"after.{what}", done, np.asarray(actual)[done, i], expected[done, i],
                raw_units=(2.0 + 2.0 * stakes) / WAD,
            )  # fmt: skip


def _compare_deposits(
    replay: Replay, cases: list[dict], done: np.ndarray, out: dict, accounts: int, held: np.ndarray
) -> None:
    expected = table(cases, "depositsAfter", "compounded", accounts)
    gained = table(cases, "depositsAfter", "ethGain", accounts)
    gained -= table(cases, "deposits", "ethGain", accounts)
    for i in range(accounts):
        replay.compare(
            "after.deposit", done, np.asarray(out["left"])[done, i], expected[done, i],
            raw_units=2.0 / WAD,
        )  # fmt: skip
        replay.compare(
            "after.gain", done, np.asarray(out["gain"])[done, i], gained[done, i],
            raw_units=2.0 / WAD,
        )  # fmt: skip


ADAPTERS = {"liquity_v1_liquidation": liquidation}
