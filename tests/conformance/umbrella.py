"""Umbrella: slashing, its deficits and its stake, as recorded from the contracts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.presets.umbrella import MINIMUM_STAKE, VIRTUAL_AMOUNT
from jaxrisk.venue.slashing import (
    Coverage,
    SlashRefusal,
    cover_offset,
    cover_pending,
    deposit,
    set_offset,
    slash,
)
from tests.conformance.comparison import Replay, reason

REVERTS = {
    "CannotSlash()": SlashRefusal.NO_NEW_DEFICIT,
    "ZeroFundsAvailable()": SlashRefusal.NO_STAKE,
    "ZeroDeficitToCover()": SlashRefusal.NOTHING_TO_COVER,
    "TooMuchDeficitOffsetReduction()": SlashRefusal.OFFSET_TOO_LOW,
}
SHARES = 1e18
SHORT = 1e-14
STATE = {
    "poolDeficit": "deficit",
    "deficitOffset": "offset",
    "pendingDeficit": "pending",
    "stakeTotalAssets": "stake",
    "stakeTotalSupply": "shares",
}


def slashing(header: dict, cases: list[dict]) -> Replay:
    """Replay every step of the recorded systems from the state before it, in raw units."""
    del header
    replay = Replay(len(cases))
    column = lambda of: jnp.asarray([of(c) for c in cases])
    before = Coverage(
        **{name: column(lambda c, k=key: float(c["before"][k])) for key, name in STATE.items()}
    )
    terms = {
        "fee": column(lambda c: c["liquidationFee"] / 1e4),
        "reserve_price": column(lambda c: float(c["reservePrice"])),
        "stake_price": column(lambda c: float(c["underlyingPrice"])),
        "minimum_stake": jnp.asarray(MINIMUM_STAKE),
        "unit": jnp.asarray(1.0),
    }
    results = jax.jit(_every_action)(before, terms, column(_amount))
    at = {name: [i for i, c in enumerate(cases) if c["action"] == name] for name in results}
    others = {c["action"] for c in cases} - set(results)
    # New prices are an input of later steps; nothing else may change.
    assert others <= {"reprice"}, f"no replay of {others}"
    at["reprice"] = [i for i, c in enumerate(cases) if c["action"] == "reprice"]
    results["reprice"] = {"after": before}
    for action, indices in at.items():
        if indices:
            _compare(replay, cases, before, np.array(indices), results[action])
    return replay


def _every_action(before: Coverage, terms: dict, amount: jax.Array) -> dict[str, dict]:
    """Return the outcome of each kind of action on every case."""
    virtual = jnp.asarray(VIRTUAL_AMOUNT)
    taken, slashed = slash(before, **terms)
    results: dict[str, dict] = {
        "slash": {
            "refusal": taken.refusal,
            "newDeficit": before.new_deficit(),
            "newCoveredAmount": taken.covered,
            "feeAmount": taken.fee,
            "slashed": taken.slashed,
            "after": slashed,
        }
    }
    for name, cover in (("cover_offset", cover_offset), ("cover_pending", cover_pending)):
        covered, refusal, after = cover(before, amount)
        results[name] = {"covered": covered, "refusal": refusal, "after": after}
    refusal, after = set_offset(before, amount)
    results["set_offset"] = {"refusal": refusal, "after": after}
    shares, after = deposit(before, amount, virtual=virtual, unit=jnp.asarray(1.0))
    results["deposit"] = {"shares": shares, "after": after}
    worse = dataclasses.replace(before, deficit=before.deficit + amount)
    results["add_deficit"] = {"after": worse}
    return results


def _amount(case: dict) -> float:
    """Return the amount of the action; an offset that is short stays so beyond float roundings."""
    arguments = case["args"]
    if case["action"] != "set_offset":
        return float(arguments.get("amount", 0))
    asked = int(arguments["newOffset"])
    least = int(case["before"]["poolDeficit"]) - int(case["before"]["pendingDeficit"])
    return min(float(asked), least * (1.0 - SHORT)) if 0 <= asked < least else float(asked)


def _compare(
    replay: Replay, cases: list[dict], before: Coverage, indices: np.ndarray, result: dict
) -> None:
    """Compare amounts, refusals and the whole state after one kind of action."""
    chosen = [cases[i] for i in indices]
    refusal = np.asarray(result.get("refusal", np.zeros(len(cases), int)))[indices]
    recorded = [
        reason(REVERTS, c["revertReason"]) if c["reverted"] else SlashRefusal.NONE for c in chosen
    ]
    replay.compare_labels(
        "refusal", indices, [SlashRefusal(int(r)).name for r in refusal], [r.name for r in recorded]
    )
    # Amounts are differences and sums of deficits and stakes of up to 1e25 raw units: their error
    # scales with these, of which float64 keeps 53 bits.
    eps = 16.0 * np.finfo(np.float64).eps
    scale = {
        "deficit": np.asarray(before.deficit + before.offset + before.pending)[indices],
        "stake": np.asarray(before.stake)[indices],
    }
    for what in ("newDeficit", "newCoveredAmount", "feeAmount", "covered", "shares"):
        if what in result:
            rows = np.flatnonzero([what in c["args"] for c in chosen])
            expected = [float(chosen[k]["args"][what]) for k in rows]
            slack = 2.0 + eps * scale["deficit"][rows]
            replay.compare(
                what, indices[rows], np.asarray(result[what])[indices][rows], expected,
                raw_units=slack,
            )  # fmt: skip
    after: Coverage = result["after"]
    for key, name in STATE.items():
        actual = np.asarray(getattr(after, name))[indices]
        expected = [float(c["after"][key]) for c in chosen]
        slack = 2.0 + eps * scale["stake" if name in ("stake", "shares") else "deficit"]
        replay.compare(f"after.{key}", indices, actual, expected, raw_units=slack)
    worth = np.asarray(after.share_worth(jnp.asarray(VIRTUAL_AMOUNT)))[indices] * SHARES
    expected = [float(c["after"]["assetsPer1e18Shares"]) for c in chosen]
    replay.compare("after.assetsPer1e18Shares", indices, worth, expected)
    if "slashed" in result:
        given = [
            float(int(c["after"]["collectorBalance"]) - int(c["before"]["collectorBalance"]))
            for c in chosen
        ]
        replay.compare(
            "slashed", indices, np.asarray(result["slashed"])[indices], given,
            raw_units=2.0 + eps * scale["stake"],
        )  # fmt: skip


ADAPTERS = {"aave_umbrella_slashing": slashing}
