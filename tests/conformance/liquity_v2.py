"""Liquity v2: liquidations, redemptions across branches, urgent redemptions."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.penalty_liquidation import Branch, PenaltyRules, penalty_calls
from jaxrisk.venue.redemption import (
    RedemptionFee,
    RedemptionQueue,
    RedemptionRefusal,
    UrgentRedemption,
    redeem,
    redeem_urgently,
    split_by_unbacked,
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


REDEMPTION_REVERTS = {
    "CR: Fee exceeded provided maximum": RedemptionRefusal.FEE_ABOVE_LIMIT,
    "NotShutDown()": RedemptionRefusal.NOT_SHUT_DOWN,
}
MINIMUM_DEBT = 2_000.0


def redemption(header: dict, cases: list[dict]) -> Replay:
    """Replay `redeemCollateral` over all branches: fee, split, queues, accounts afterwards."""
    del header
    replay = Replay(len(cases))
    column = lambda name: jnp.asarray([int(c[name]) / WAD for c in cases])
    books = _Branches(cases)
    elapsed = jnp.asarray([float(c["timestamp"] - c["lastFeeOperationTime"]) for c in cases])
    number = jnp.asarray
    # The decay is a half-life of six hours, counted in minutes.
    law = RedemptionFee(
        floor=number(0.005), sensitivity=number(1.0), decay=number(0.9980764435756288)
    )
    limit = jnp.asarray([float(c["maxIterationsPerBranch"] or np.inf) for c in cases])

    @jax.jit
    @jax.vmap
    def run(queue, aggregate, amount, supply, base, elapsed, largest, limit) -> dict:
        decayed, counted = law.decayed(base, elapsed)
        parts = split_by_unbacked(
            amount,
            unbacked=aggregate["unbacked"],
            debt=aggregate["debt"],
            redeemable=aggregate["redeemable"],
        )
        lowered = jnp.where(jnp.sum(parts) > 0, jnp.sum(parts), amount)
        fee_rate = law.rate(law.raised(decayed, lowered / supply))
        one = lambda queue, part, price: redeem(
            queue,
            part,
            price=price,
            fee_rate=fee_rate,
            minimum_debt=jnp.asarray(MINIMUM_DEBT),
            limit=limit,
            largest_fee=largest,
        )
        done = jax.vmap(one)(queue, parts, aggregate["price"])
        redeemed = jnp.sum(done.repaid)
        return {
            "done": done,
            "rateWithDecay": law.rate(decayed),
            "redeemed": redeemed,
            "baseRateAfter": law.raised(decayed, redeemed / supply),
            "counted": counted,
            "debt": queue.debt - done.repaid,
            "collateral": queue.collateral - done.seized,
        }

    out = run(
        books.queue, books.aggregate, column("boldAmount"), column("supply"), column("baseRate"),
        elapsed, column("maxFee"), limit,
    )  # fmt: skip
    indices = np.arange(len(cases))
    replay.compare(
        "rateWithDecay", indices, out["rateWithDecay"], column("rateWithDecay"), raw_units=UNIT
    )
    refusal = [RedemptionRefusal(int(r)).name for r in out["done"].refusal[:, 0, 0]]
    replay.compare_labels("refusal", indices, refusal, _redemption_verdicts(cases))
    done = np.array([i for i, c in enumerate(cases) if not c["reverted"]], int)
    for what in ("redeemed", "baseRateAfter"):
        recorded = [int(cases[i][what]) / WAD for i in done]
        replay.compare(what, done, np.asarray(out[what])[done], recorded, raw_units=BATCH_ROUNDING)
    later = [cases[i]["lastFeeOperationTimeAfter"] - cases[i]["lastFeeOperationTime"] for i in done]
    counted = np.asarray(out["counted"])[done].astype(int).tolist()
    replay.compare_labels("lastFeeOperationTime", done, counted, later)
    books.compare_after(replay, done, out)
    return replay


def _redemption_verdicts(cases: list[dict]) -> list[str]:
    names = {reason: refusal.name for reason, refusal in REDEMPTION_REVERTS.items()}
    # A reason that is not known matches no refusal.
    reasons = [str(c.get("revertReason", "")) if c["reverted"] else "" for c in cases]
    return [names.get(reason, reason) or "NONE" for reason in reasons]


class _Branches:
    """Cases as `(case, branch, account)` arrays; listed accounts lie in the order of the list.

    Equal rates are redeemed in the order of the contract's list, which is state of the contract;
    that the list is sorted by rate is left to the rule.
    """

    def __init__(self, cases: list[dict]) -> None:
        self.cases = cases
        most = max(len(c["branches"]) for c in cases)
        size = max(len(b["troves"]) for c in cases for b in c["branches"])
        shape = (len(cases), most, size)
        self.who = np.full(shape, -1)
        amounts = {k: np.zeros(shape) for k in ("entireColl", "entireDebt", "rate")}
        listed, first = np.zeros(shape, bool), np.zeros(shape, bool)
        totals = {k: np.zeros(shape[:2]) for k in ("price", "unbacked", "branchDebt")}
        redeemable = np.zeros(shape[:2], bool)
        for n, case in enumerate(cases):
            for b, branch in enumerate(case["branches"]):
                for name, total in totals.items():
                    total[n, b] = int(branch[name]) / WAD
                redeemable[n, b] = branch["redeemable"]
                queue = branch["sortedLowToHigh"]
                others = [t["i"] for t in branch["troves"] if t["i"] not in queue]
                for k, i in enumerate([*queue, *others]):
                    self.who[n, b, k] = i
                    for name, amount in amounts.items():
                        amount[n, b, k] = int(branch["troves"][i][name]) / WAD
                    listed[n, b, k] = i in queue
                    first[n, b, k] = i == branch["lastZombie"]
        self.queue = RedemptionQueue(
            collateral=jnp.asarray(amounts["entireColl"]),
            debt=jnp.asarray(amounts["entireDebt"]),
            rate=jnp.asarray(amounts["rate"]),
            listed=jnp.asarray(listed),
            first=jnp.asarray(first),
        )
        self.aggregate = {
            "price": jnp.asarray(totals["price"]),
            "unbacked": jnp.asarray(totals["unbacked"]),
            "debt": jnp.asarray(totals["branchDebt"]),
            "redeemable": jnp.asarray(redeemable),
        }

    def compare_after(self, replay: Replay, done: np.ndarray, out: dict) -> None:
        """Compare every account, the queue and its head, and what the redeemer got."""
        flags = {k: np.asarray(getattr(out["done"], k)) for k in ("listed", "first")}
        seized = np.asarray(out["done"].seized).sum(axis=2)
        rows = {"entireDebt": out["debt"], "entireColl": out["collateral"]}
        rows = {what: np.asarray(values) for what, values in rows.items()}
        for n in done:
            got = [int(x) / WAD for x in self.cases[n]["collReceived"]]
            here = [n] * len(got)
            replay.compare(
                "collReceived", here, seized[n, : len(got)], got, raw_units=BATCH_ROUNDING
            )
            for b, branch in enumerate(self.cases[n]["branches"]):
                after = branch["after"]
                count = len(branch["troves"])
                who = self.who[n, b, :count]
                for what, values in rows.items():
                    recorded = np.array([int(after["troves"][i][what]) / WAD for i in who])
                    # What is left is a difference: its error scales with what it is taken from.
                    before = np.array([int(branch["troves"][i][what]) / WAD for i in who])
                    replay.compare(
                        f"after.{what}", [n] * count, values[n, b, :count], recorded,
                        raw_units=BATCH_ROUNDING + 1e-14 * before,
                    )  # fmt: skip
                queue = who[flags["listed"][n, b, :count]].tolist()
                head = [*who[flags["first"][n, b, :count]].tolist(), -1][0]
                replay.compare_labels(
                    "after.queue", [n, n], [queue, head], [after["sorted"], after["lastZombie"]]
                )


def urgent_redemption(header: dict, cases: list[dict]) -> Replay:
    """Replay `urgentRedemption` from listed accounts of a branch that was shut down."""
    del header
    replay = Replay(len(cases))
    column = lambda name: np.array([int(c.get(name, 0)) / WAD for c in cases])
    size = size_of(cases)
    collateral, debt = (
        jnp.asarray(table(cases, "troves", what, size, only_open=True))
        for what in ("entireColl", "entireDebt")
    )

    @jax.jit
    @jax.vmap
    def run(amount, collateral, debt, order, price, shut_down, least) -> UrgentRedemption:
        return redeem_urgently(
            amount,
            collateral=collateral,
            debt=debt,
            order=order,
            price=price,
            bonus=jnp.asarray(0.02),
            shut_down=shut_down,
            least=least,
        )

    out = run(
        jnp.asarray(column("boldAmount")), collateral, debt, jnp.asarray(list_order(cases, size)),
        jnp.asarray(column("price")), jnp.asarray([c["shutdownTime"] > 0 for c in cases]),
        jnp.asarray(column("minCollateral")),
    )  # fmt: skip
    indices = np.arange(len(cases))
    refusal = [RedemptionRefusal(int(r)).name for r in out.refusal[:, 0]]
    replay.compare_labels("refusal", indices, refusal, _redemption_verdicts(cases))
    done = np.array([i for i, c in enumerate(cases) if not c["reverted"]], int)
    for what, amount in (("redeemed", out.repaid), ("collReceived", out.seized)):
        total = np.asarray(amount).sum(axis=1)
        replay.compare(what, done, total[done], column(what)[done], raw_units=BATCH_ROUNDING)
    for what, before, change in (
        ("entireDebt", debt, out.repaid),
        ("entireColl", collateral, out.seized),
    ):
        left = np.asarray(before - change)[done]
        recorded = table([cases[i] for i in done], "trovesAfter", what, size)
        for i in range(size):
            # What is left is a difference: its error scales with what it is taken from.
            slack = BATCH_ROUNDING + 1e-14 * np.asarray(before)[done, i]
            replay.compare(f"after.{what}", done, left[:, i], recorded[:, i], raw_units=slack)
    return replay


ADAPTERS = {
    "liquity_v2_liquidation": liquidation,
    "liquity_v2_redemption": redemption,
    "liquity_v2_urgent_redemption": urgent_redemption,
}
