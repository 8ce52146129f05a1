"""Morpho Blue: liquidations with socialised bad debt, as recorded from the contract."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.call import exact_call
from jaxrisk.venue.incentive import incentive_factor
from jaxrisk.venue.position import Position
from jaxrisk.venue.presets.morpho_blue import CURSOR, MAXIMUM_FACTOR
from jaxrisk.venue.recognition import AtZeroCollateral
from jaxrisk.venue.settlement import Refusal
from tests.conformance.comparison import Replay, ordered_value, reason

REVERTS = {
    "revert:position is healthy": Refusal.HEALTHY,
    "revert:Panic:0x11": Refusal.EXCEEDS_POSITION,
}
WAD = 1e18
VIRTUAL_SHARES, VIRTUAL_ASSETS = 1e6, 1.0


def liquidate(header: dict, cases: list[dict]) -> Replay:
    """Replay `liquidate`; the numeraire is one raw unit of the loan asset."""
    del header
    replay = Replay(len(cases))
    column = lambda *keys: np.array([float(_dig(c, keys)) for c in cases])
    share_price = (column("marketAccrued", "totalBorrowAssets") + VIRTUAL_ASSETS) / (
        column("marketAccrued", "totalBorrowShares") + VIRTUAL_SHARES
    )
    price = column("price") / 1e36
    collateral = column("positionBefore", "collateral") * price
    debt = column("positionBefore", "borrowShares") * share_price
    threshold = jnp.asarray(column("lltv") / WAD)
    asked = lambda name, held, unit: np.array(
        [
            ordered_value(int(c[name]), int(c["positionBefore"][held]), float(u))
            for c, u in zip(cases, unit, strict=True)
        ]
    )
    repay = asked("repaidSharesIn", "borrowShares", share_price)
    seize = asked("seizedAssetsIn", "collateral", price)
    position = Position(
        collateral=jnp.asarray(collateral),
        debt=jnp.asarray(debt),
        total_collateral=jnp.asarray(collateral),
        total_debt=jnp.ceil(jnp.asarray(debt)),
        backing=jnp.asarray(collateral) * threshold,
        credit=incentive_factor(threshold, cursor=CURSOR, maximum=MAXIMUM_FACTOR),
        fee_share=jnp.zeros_like(threshold),
        collateral_unit=jnp.asarray(price),
        debt_unit=jnp.ones_like(threshold),
    )

    @jax.jit
    def run(position: Position, repay: jax.Array, seize: jax.Array) -> tuple:
        call, refusal = exact_call(position, repay, seize)
        left = jnp.maximum(position.debt - call.repaid, 0.0)
        return call, refusal, AtZeroCollateral().write_off(call.exhausts, left)

    call, refusal, bad_debt = run(position, jnp.asarray(repay), jnp.asarray(seize))
    indices = np.arange(len(cases))
    recorded = [reason(REVERTS, c["branch"]) if c["reverted"] else Refusal.NONE for c in cases]
    replay.compare_labels(
        "refusal", indices, [Refusal(int(r)).name for r in refusal], [r.name for r in recorded]
    )
    done = np.flatnonzero([not c["reverted"] for c in cases])
    expected = lambda *keys: np.array([float(_dig(cases[i], keys)) for i in done])
    seized, repaid = np.asarray(call.seized) / price, np.asarray(call.repaid)
    bad = np.asarray(bad_debt)
    replay.compare("seizedAssets", done, seized[done], expected("seizedAssets"))
    replay.compare("repaidAssets", done, repaid[done], expected("repaidAssets"))
    slack = 2.0 + 1e-9 * debt[done]
    replay.compare("badDebt", done, bad[done], expected("badDebtAssets"), raw_units=slack)
    borrow = column("marketAccrued", "totalBorrowAssets") - repaid - bad
    supply = column("marketAccrued", "totalSupplyAssets") - bad
    for what, actual in (("totalBorrowAssets", borrow), ("totalSupplyAssets", supply)):
        replay.compare(
            f"marketAfter.{what}", done, actual[done], expected("marketAfter", what),
            raw_units=slack,
        )  # fmt: skip
    return replay


def _dig(case: dict, keys: tuple[str, ...]) -> str:
    value = case
    for key in keys:
        value = value[key]
    return str(value)


ADAPTERS = {"morpho_blue_liquidate": liquidate}
