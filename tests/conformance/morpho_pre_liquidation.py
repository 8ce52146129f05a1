"""Morpho's opt-in pre-liquidation, as recorded from the contract."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.early_close import EarlyClose, early_call
from jaxrisk.venue.settlement import Refusal
from tests.conformance.comparison import Replay, ordered_value

REVERTS = {
    "NotPreLiquidatablePosition": Refusal.HEALTHY,
    "LiquidatablePosition": Refusal.ABOVE_BAND,
    "PreLiquidationTooLarge": Refusal.EXCEEDS_ALLOWANCE,
    "Panic:0x11": Refusal.EXCEEDS_POSITION,
}
WAD = 1e18
VIRTUAL_SHARES, VIRTUAL_ASSETS = 1e6, 1.0


def pre_liquidation(header: dict, cases: list[dict]) -> Replay:
    """Replay `preLiquidate`; the numeraire is one raw unit of the loan asset."""
    del header
    replay = Replay(len(cases))
    column = lambda name: np.array([float(c[name]) for c in cases])
    share_price = (column("totalBorrowAssets") + VIRTUAL_ASSETS) / (
        column("totalBorrowShares") + VIRTUAL_SHARES
    )
    price = column("price") / 1e36
    fraction = lambda name: jnp.asarray(column(name) / WAD)
    rule = EarlyClose(
        lower=fraction("preLltv"),
        upper=fraction("lltv"),
        close_factor_lower=fraction("preLCF1"),
        close_factor_upper=fraction("preLCF2"),
        credit_lower=fraction("preLIF1"),
        credit_upper=fraction("preLIF2"),
    )
    asked = lambda name, held, unit: jnp.asarray(
        [
            ordered_value(int(c[name]), int(c[held]), float(u))
            for c, u in zip(cases, unit, strict=True)
        ]
    )
    call = jax.jit(early_call)(
        rule,
        jnp.asarray(column("collateral") * price),
        jnp.asarray(column("borrowShares") * share_price),
        asked("repaidSharesIn", "borrowShares", share_price),
        asked("seizedAssetsIn", "collateral", price),
        collateral_unit=jnp.asarray(price),
        debt_unit=jnp.ones_like(price),
    )
    indices = np.arange(len(cases))
    recorded = [_refusal(c) for c in cases]
    replay.compare_labels(
        "refusal",
        indices,
        [Refusal(int(r)).name for r in call.refusal],
        recorded,
    )
    done = np.flatnonzero([not c["reverted"] for c in cases])
    expected = lambda name: np.array([float(cases[i][name]) for i in done])
    seized, repaid = np.asarray(call.seized) / price, np.asarray(call.repaid)
    replay.compare("seizedAssets", done, seized[done], expected("seizedAssets"))
    replay.compare("repaidAssets", done, repaid[done], expected("repaidAssets"))
    # A remainder is a difference: its error scales with what it was taken from.
    held, owed = column("collateral"), column("borrowShares")
    replay.compare(
        "collateralAfter", done, (held - seized)[done], expected("collateralAfter"),
        raw_units=2.0 + 1e-9 * held[done],
    )  # fmt: skip
    replay.compare(
        "borrowSharesAfter", done, (owed - repaid / share_price)[done],
        expected("borrowSharesAfter"),
        raw_units=2.0 / share_price[done] + 1e-9 * owed[done],
    )  # fmt: skip
    return replay


def _refusal(case: dict) -> str:
    if not case["reverted"]:
        return Refusal.NONE.name
    reason = case["branch"].removeprefix("revert:")
    return REVERTS[reason].name if reason in REVERTS else reason


ADAPTERS = {"morpho_pre_liquidation": pre_liquidation}
