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
    _compare_totals(replay, cases, call, credit, done)
    _compare_positions(replay, cases, call, credit, done)
    return replay


def _refusal(case: dict) -> str:
    if not case["reverted"]:
        return LevelRefusal.NONE.name
    reason = case["revertReason"]
    return REVERTS[reason].name if reason in REVERTS else reason


def _accounts(case: dict, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return debt and collateral of the positions as the vault's ticks hold them."""
    debt, collateral = np.zeros(width), np.zeros(width)
    positions = case["positions"]
    for k, p in enumerate(positions):
        debt[k] = float(int(p["borrow"]) + int(p["dustBorrow"])) / (
            SHOWN if p["isLiquidated"] else 1.0
        )
        if p["tick"] is not None:
            collateral[k] = debt[k] / _ratio(p, positions)
    return debt, collateral


def _ratio(position: dict, positions: list[dict]) -> float:
    """Return debt per collateral of a position: that of its tick, or within it once liquidated.

    Liquidated positions of one tick share a ratio; their shown collateral, rounded down, bounds
    it. A call that reaches its floor leaves them one part above the tick below.
    """
    ticks = Ticks(spacing=jnp.asarray(SPACING), origin=jnp.asarray(1.0))
    tick = jnp.asarray(float(position["tick"]))
    if not position["isLiquidated"]:
        return float(ticks.ratio(tick))
    lowest = float(ticks.ratio(tick - 1.0)) * (1.0 + SPACING / PARTIALS)
    same = [p for p in positions if p["isLiquidated"] and p["tick"] == position["tick"]]
    debt = sum(int(p["borrow"]) + int(p["dustBorrow"]) for p in same)
    held = sum(int(p["supply"]) for p in same)
    return float(np.clip(lowest, debt / (held + len(same)), (debt + len(same)) / max(held, 1)))


def _compare_totals(
    replay: Replay, cases: list[dict], call: LevelCall, credit: np.ndarray, done: np.ndarray
) -> None:
    expected = lambda *keys: np.array([float(_dig(cases[i], keys)) for i in done])
    pick = lambda values: np.asarray(values)[done]
    # The contract goes down tick by tick and rounds what is to be repaid at each, before it divides
    # by 1 - c r: one raw unit a position and division, and as much again of what is seized for it.
    steps = np.array([len(cases[i]["positions"]) for i in done])
    debt_slack = 2.0 + steps / (1.0 - credit[done] * pick(call.level))
    for what, actual, slack in (
        ("actualDebt", call.repaid, debt_slack),
        ("actualCol", call.seized, steps + credit[done] * debt_slack),
        ("after.absorbedBorrow", call.book.absorbed_debt, 2.0),
        ("after.absorbedSupply", call.book.absorbed_collateral, 2.0 + steps),
    ):
        keys = tuple(what.split("."))
        replay.compare(what, done, pick(actual), expected(*keys), raw_units=slack)
    for what, moved in (("totalBorrow", call.repaid), ("totalSupply", call.seized)):
        before = np.array([float(cases[i][what]) for i in done])
        slack = debt_slack if what == "totalBorrow" else steps + credit[done] * debt_slack
        replay.compare(
            f"after.{what}", done, before - pick(moved), expected("after", what), raw_units=slack
        )


def _compare_positions(
    replay: Replay, cases: list[dict], call: LevelCall, credit: np.ndarray, done: np.ndarray
) -> None:
    """Compare what the resolver shows of every position after the call."""
    debt, collateral = np.asarray(call.book.debt), np.asarray(call.book.collateral)
    touched, level = np.asarray(call.account_repaid) > 0, np.asarray(call.level)
    indices, rows = [], []
    for i in done:
        # As for the totals; and debts of liquidated positions are kept by a factor of 35 bits.
        rounding = 2.0 + len(cases[i]["positions"]) / (1.0 - credit[i] * level[i])
        for k, (p, after) in enumerate(
            zip(cases[i]["positions"], cases[i]["after"]["positions"], strict=True)
        ):
            shown = SHOWN if p["isLiquidated"] or touched[i, k] else 1.0
            borrow = max(shown * debt[i, k] - float(after["dustBorrow"]), 0.0)
            supply = shown * collateral[i, k]
            indices += [i, i]
            rows.append((borrow, float(after["borrow"]), rounding + 2e-10 * debt[i, k]))
            slack = rounding * (1.0 + credit[i]) + 2e-10 * collateral[i, k]
            rows.append((supply, float(after["supply"]), slack))
    actual, expected, slack = np.array(rows).T
    replay.compare("after.positions", indices, actual, expected, raw_units=slack)


def _dig(case: dict, keys: tuple[str, ...]) -> str:
    value = case
    for key in keys:
        value = value[key]
    return str(value)


ADAPTERS = {"fluid_vault_liquidation": vault_liquidation}
