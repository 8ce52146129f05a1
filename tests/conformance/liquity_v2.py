"""Liquity v2: liquidations, redemptions across branches, urgent redemptions."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.penalty_liquidation import Branch, PenaltyRules, penalty_calls
from jaxrisk.venue.stability_pool import (
    PoolRefusal,
    collateral_ratio,
    deposits_after,
    redistribute,
    spendable,
)
from tests.conformance.comparison import Replay

WAD = 10**18
UNIT = 2.0 / WAD
OPEN = (1, 4)  # active, and "zombie": open below the minimum debt
BATCH_ROUNDING = 10.0 / WAD
"""Debt of a batch is kept in shares of the batch: recorded to within ten units of 1e-18."""

LIQUIDATION_REVERTS = {
    "OnlyOneTroveLeft()": PoolRefusal.LAST_ACCOUNT,
    "NothingToLiquidate()": PoolRefusal.HEALTHY,
}


def table(states: list[dict], rows: str, field: str, size: int, *, only_open: bool = False):
    """Return `(case, account)` amounts in natural units, zero where padded or closed."""
    out = np.zeros((len(states), size))
    for n, state in enumerate(states):
        for row in state.get(rows, []):
            if not only_open or row["status"] in OPEN:
                out[n, row["i"]] = int(row[field]) / WAD
    return out


def opened(states: list[dict], size: int) -> np.ndarray:
    """Return `(case, account)`, whether there is such an account."""
    out = np.zeros((len(states), size), bool)
    for n, state in enumerate(states):
        for row in state["troves"]:
            out[n, row["i"]] = row["status"] in OPEN
    return out


def size_of(states: list[dict]) -> int:
    """Return how many accounts the largest case names."""
    rows = (r["i"] for s in states for key in ("troves", "deposits") for r in s.get(key, []))
    return 1 + max(rows)


def list_order(cases: list[dict], size: int) -> np.ndarray:
    """Return `(case, account)` positions in the list of the call, infinite where not in it."""
    order = np.full((len(cases), size), np.inf)
    for n, case in enumerate(cases):
        for position, i in enumerate(case["list"]):
            order[n, i] = min(order[n, i], position)
    return order


def liquidation(header: dict, cases: list[dict]) -> Replay:
    """Replay `batchLiquidateTroves`: amounts, refusals, accounts and deposits afterwards."""
    del header
    replay = Replay(len(cases))
    column = lambda name: np.array([int(c.get(name, 0)) / WAD for c in cases])
    size = size_of(cases)
    read = lambda rows, field, **options: jnp.asarray(table(cases, rows, field, size, **options))
    branch = Branch(
        collateral=read("troves", "entireColl", only_open=True),
        debt=read("troves", "entireDebt", only_open=True),
        is_open=jnp.asarray(opened(cases, size)),
    )
    stake, deposits = read("troves", "stake", only_open=True), read("deposits", "compounded")
    constant = lambda x: jnp.full(len(cases), x)
    rules = PenaltyRules(
        minimum_ratio=jnp.asarray(column("MCR")),
        pool_penalty=jnp.asarray(column("penaltySP")),
        peer_penalty=jnp.asarray(column("penaltyRedistribution")),
        fee_share=constant(0.005),
        fee_cap=constant(2.0),
    )
    order = jnp.asarray(list_order(cases, size))
    price, pool = jnp.asarray(column("price")), jnp.asarray(column("stabilityPool"))

    @jax.jit
    @jax.vmap
    def run(rules, branch, stake, deposits, order, price, pool) -> dict:
        spend = spendable(pool, jnp.asarray(1.0))
        call = penalty_calls(rules, branch, order=order, price=price, pool=spend)
        closed = call.refusal == PoolRefusal.NONE
        others = branch.is_open & ~closed
        spread = lambda amount: redistribute(jnp.sum(amount), stake, others)
        left, gain = deposits_after(
            deposits, total=pool, repaid=jnp.sum(call.repaid), seized=jnp.sum(call.seized)
        )
        keep = lambda x: jnp.where(others, x, 0.0)
        return {
            "call": call,
            "ratio": collateral_ratio(branch.collateral, branch.debt, price),
            "debt": keep(branch.debt) + spread(call.redistributed_debt),
            "collateral": keep(branch.collateral) + spread(call.redistributed_collateral),
            "pool": pool - jnp.sum(call.repaid),
            "left": left,
            "gain": gain,
        }

    out = run(rules, branch, stake, deposits, order, price, pool)
    _compare_liquidation_verdicts(replay, cases, out)
    done = np.array([i for i, c in enumerate(cases) if not c["reverted"]], int)
    call = out["call"]
    for what, actual in (
        ("debtOffsetBySP", call.repaid),
        ("debtRedistributed", call.redistributed_debt),
        ("collGasCompensation", call.fee),
        ("collSentToSP", call.seized),
        ("collRedistributed", call.redistributed_collateral),
        ("collSurplus", call.refund),
    ):
        total = np.asarray(actual).sum(axis=1)
        replay.compare(
            what, done, total[done], column(what)[done], raw_units=_slack(cases, done, what)
        )
    _compare_liquidation_after(replay, cases, done, out, size)
    return replay


def _slack(cases: list[dict], done: np.ndarray, what: str) -> np.ndarray:
    in_batch = [any(t["inBatch"] for t in cases[i]["troves"]) for i in done]
    slack = np.where(in_batch, BATCH_ROUNDING, UNIT)
    if what != "collSurplus":
        return slack
    # What the owner may claim is a difference: its error scales with what it was taken from.
    held = [
        max((int(t["entireColl"]) for t in cases[i]["troves"] if t["status"] in OPEN), default=0)
        for i in done
    ]
    return slack + 1e-14 * np.array(held, float) / WAD


def _compare_liquidation_verdicts(replay: Replay, cases: list[dict], out: dict) -> None:
    indices, actual, expected = [], [], []
    ratios, recorded = [], []
    refusal = np.asarray(out["call"].refusal)
    for n, case in enumerate(cases):
        verdicts = {PoolRefusal(int(refusal[n, i])) for i in case["list"]}
        verdicts -= {PoolRefusal.NOT_CALLED}
        alone = (PoolRefusal.NONE, PoolRefusal.LAST_ACCOUNT, PoolRefusal.HEALTHY)
        actual.append(next((v.name for v in alone if v in verdicts), "NONE"))
        reason = case.get("revertReason", "")
        known = LIQUIDATION_REVERTS.get(case["branch"].removeprefix("revert:"))
        expected.append((known.name if known else reason) if case["reverted"] else "NONE")
        for i, ratio in zip(case["list"], case["icr"], strict=True):
            if case["troves"][i]["status"] in OPEN and int(case["troves"][i]["entireDebt"]) > 0:
                indices.append(n)
                ratios.append(out["ratio"][n, i])
                recorded.append(int(ratio) / WAD)
    replay.compare_labels("refusal", np.arange(len(cases)), actual, expected)
    replay.compare("icr", indices, np.array(ratios), np.array(recorded), raw_units=UNIT)


def _compare_liquidation_after(
    replay: Replay, cases: list[dict], done: np.ndarray, out: dict, size: int
) -> None:
    states = [cases[i]["after"] for i in done]
    before = [cases[i] for i in done]
    stake = table(before, "troves", "stake", size)
    # Shares are sums a unit of stake in 18 digits: a unit of that is a unit times the stake.
    slack = BATCH_ROUNDING + 2.0 * stake / WAD
    gained = table(states, "deposits", "collGain", size)
    gained -= table(before, "deposits", "collGain", size)
    surplus = np.zeros((len(done), size))
    for k, case in enumerate(before):
        amounts = [int(x) / WAD for x in case["surplusByTrove"]]
        surplus[k, : len(amounts)] = amounts
    surplus_slack = _slack(cases, done, "collSurplus")[:, None]
    for what, actual, expected, units in (
        ("entireDebt", out["debt"], table(states, "troves", "entireDebt", size), slack),
        ("entireColl", out["collateral"], table(states, "troves", "entireColl", size), slack),
        ("deposit", out["left"], table(states, "deposits", "compounded", size), UNIT),
        ("gain", out["gain"], gained, UNIT),
        ("surplus", out["call"].refund, surplus, surplus_slack),
    ):
        units = np.broadcast_to(units, expected.shape)
        for i in range(size):
            replay.compare(
                f"after.{what}", done, np.asarray(actual)[done, i], expected[:, i],
                raw_units=units[:, i],
            )  # fmt: skip
    pool = [int(s["stabilityPool"]) / WAD for s in states]
    replay.compare("after.stabilityPool", done, np.asarray(out["pool"])[done], pool, raw_units=UNIT)


ADAPTERS = {"liquity_v2_liquidation": liquidation}
