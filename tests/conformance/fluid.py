"""Fluid vaults: liquidation by level, absorption, refusals, as recorded from the contracts."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.presets.fluid import SPACING, vault_rule
from jaxrisk.venue.water_level import (
    PARTIALS,
    LevelBook,
    LevelCall,
    LevelRefusal,
    Ticks,
    WaterLevel,
)
from tests.conformance.comparison import Replay

BPS = 1e4
PRICE = 1e27
# The resolver shows a liquidated position with 0.01 % less of both sides: the contract takes that
# margin when the position is next used, and the vault's ticks still hold the whole.
SHOWN = 0.9999
REVERTS = {
    "FluidVaultError(31007,)": LevelRefusal.EMPTY,
    "FluidVaultError(31022,)": LevelRefusal.TOO_SMALL,
    "FluidVaultError(31029,)": LevelRefusal.NOTHING,
    "Panic:0x11": LevelRefusal.EMPTIED,
}


def vault_liquidation(header: dict, cases: list[dict]) -> Replay:
    """Replay `liquidate` and `absorb`; amounts and ratios are in raw units."""
    del header
    replay = Replay(len(cases))
    column = lambda name, scale=1.0: jnp.asarray([float(c[name]) / scale for c in cases])
    width = max(len(c["positions"]) for c in cases)
    books = [_accounts(c, width) for c in cases]
    book = LevelBook(
        debt=jnp.asarray([b[0] for b in books]),
        collateral=jnp.asarray([b[1] for b in books]),
        absorbed_debt=column("absorbedBorrow"),
        absorbed_collateral=column("absorbedSupply"),
    )
    rule = vault_rule(
        liquidation_threshold=column("liquidationThreshold", BPS),
        absorption_threshold=column("liquidationMaxLimit", BPS),
        penalty=column("liquidationPenalty", BPS),
    )
    amounts = [0.0 if c["action"] == "absorb" else float(c["debtAmt"]) for c in cases]
    call = jax.jit(jax.vmap(WaterLevel.call))(
        rule,
        book,
        column("price", PRICE),
        jnp.asarray(amounts),
        jnp.asarray([c["absorbFlag"] for c in cases]),
    )
    indices = np.arange(len(cases))
    replay.compare_labels(
        "refusal",
        indices,
        [LevelRefusal(int(r)).name for r in call.refusal],
        [_refusal(c) for c in cases],
    )
    done = np.flatnonzero([not c["reverted"] for c in cases])
    price = np.array([float(c["price"]) / PRICE for c in cases])
    credit = (1.0 + np.array([float(c["liquidationPenalty"]) / BPS for c in cases])) / price
    # The contract goes down tick by tick and rounds what is to be repaid at each, before it divides
    # by 1 - c r: one raw unit a position drawn down, and as much again of what is seized for it or
    # taken over with its collateral.
    # The same division is applied to what the shown amounts leave open of a position's ratio.
    steps = 1.0 + np.sum(np.asarray(call.account_repaid) > 0, axis=1)
    taken_over = np.sum(np.asarray(call.absorbed), axis=1)
    blur = np.array([b[2] for b in books])
    debt_slack = 2.0 + (steps + blur) / (1.0 - credit * np.asarray(call.level))
    collateral_slack = steps + taken_over + credit * debt_slack
    _compare_totals(replay, cases, call, done, debt_slack, collateral_slack)
    _compare_positions(replay, cases, call, done, debt_slack, collateral_slack)
    return replay


def _refusal(case: dict) -> str:
    if not case["reverted"]:
        return LevelRefusal.NONE.name
    reason = case["revertReason"]
    return REVERTS[reason].name if reason in REVERTS else reason


def _accounts(case: dict, width: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return debt and collateral as the vault's ticks hold them, and the debt left open by it."""
    debt, collateral, blur = np.zeros(width), np.zeros(width), 0.0
    for k, p in enumerate(case["positions"]):
        if p["tick"] is None:
            continue
        debt[k] = float(int(p["borrow"]) + int(p["dustBorrow"]))
        if p["isLiquidated"]:
            debt[k] /= SHOWN
        ratio, open_share = _ratio(p, case["positions"])
        collateral[k] = debt[k] / ratio
        blur += debt[k] * open_share
    return debt, collateral, blur


def _ratio(position: dict, positions: list[dict]) -> tuple[float, float]:
    """Return a position's debt per collateral and the share of it that is uncertain.

    It is that of its tick, or within it once liquidated. Liquidated positions of one tick share a
    ratio; their shown collateral, rounded down, bounds it. A call that reaches its floor leaves
    them one part above the tick below.
    """
    ticks = Ticks(spacing=jnp.asarray(SPACING), origin=jnp.asarray(1.0))
    tick = jnp.asarray(float(position["tick"]))
    if not position["isLiquidated"]:
        return float(ticks.ratio(tick)), 0.0
    lowest = float(ticks.ratio(tick - 1.0)) * (1.0 + SPACING / PARTIALS)
    same = [p for p in positions if p["isLiquidated"] and p["tick"] == position["tick"]]
    debt = sum(int(p["borrow"]) + int(p["dustBorrow"]) for p in same)
    held = max(sum(int(p["supply"]) for p in same), 1)
    low, high = debt / (held + len(same)), (debt + len(same)) / held
    return float(np.clip(lowest, low, high)), (0.0 if low <= lowest <= high else high / low - 1.0)


def _compare_totals(
    replay: Replay,
    cases: list[dict],
    call: LevelCall,
    done: np.ndarray,
    debt_slack: np.ndarray,
    collateral_slack: np.ndarray,
) -> None:
    recorded = lambda *keys: np.array([float(_dig(cases[i], keys)) for i in done])
    repaid, seized = np.asarray(call.repaid), np.asarray(call.seized)
    absorbed = np.asarray(call.book.absorbed_debt), np.asarray(call.book.absorbed_collateral)
    before = lambda name: np.array([float(c[name]) for c in cases])
    taken_over = np.sum(np.asarray(call.absorbed), axis=1)
    for what, actual, slack in (
        ("actualDebt", repaid, debt_slack),
        ("actualCol", seized, collateral_slack),
        ("after.totalBorrow", before("totalBorrow") - repaid, debt_slack),
        ("after.totalSupply", before("totalSupply") - seized, collateral_slack),
        ("after.absorbedBorrow", absorbed[0], np.full(len(cases), 2.0)),
        ("after.absorbedSupply", absorbed[1], 2.0 + taken_over),
    ):
        expected = recorded(*what.split("."))
        replay.compare(what, done, actual[done], expected, raw_units=slack[done])


def _compare_positions(
    replay: Replay,
    cases: list[dict],
    call: LevelCall,
    done: np.ndarray,
    debt_slack: np.ndarray,
    collateral_slack: np.ndarray,
) -> None:
    """Compare what the resolver shows of every position after the call."""
    debt, collateral = np.asarray(call.book.debt), np.asarray(call.book.collateral)
    touched = np.asarray(call.account_repaid) > 0
    indices, rows = [], []
    for i in done:
        positions = zip(cases[i]["positions"], cases[i]["after"]["positions"], strict=True)
        for k, (p, after) in enumerate(positions):
            shown = SHOWN if p["isLiquidated"] or touched[i, k] else 1.0
            borrow = max(shown * debt[i, k] - float(after["dustBorrow"]), 0.0)
            supply = shown * collateral[i, k]
            indices += [i, i]
            # Debts of liquidated positions are kept by a factor of 35 bits.
            rows += [
                (borrow, float(after["borrow"]), debt_slack[i] + 2e-10 * debt[i, k]),
                (supply, float(after["supply"]), collateral_slack[i] + 2e-10 * collateral[i, k]),
            ]
    actual, expected, slack = np.array(rows).T
    replay.compare("after.positions", indices, actual, expected, raw_units=slack)


def _dig(case: dict, keys: tuple[str, ...]) -> str:
    value = case
    for key in keys:
        value = value[key]
    return str(value)


ADAPTERS = {"fluid_vault_liquidation": vault_liquidation}
