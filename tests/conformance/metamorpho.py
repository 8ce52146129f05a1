"""MetaMorpho vaults over Morpho markets: share price, fees, lost assets, moves."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.venue.vault_share import (
    VaultBook,
    VaultLoss,
    VaultMove,
    VaultRefusal,
    VaultShare,
    available_assets,
    claim_value,
)
from tests.conformance.comparison import RAW_UNITS, Replay

WAD = 1e18
LOSSES = {"v1.0": VaultLoss.RECOGNISED, "v1.1": VaultLoss.HELD}
DIRECTIONS = {"deposit": 1, "withdraw": -1}


def share_price(header: dict, cases: list[dict]) -> Replay:
    """Replay what happens to a vault or below it, with the share price before and after."""
    del header
    replay = Replay(len(cases))
    for version, loss in LOSSES.items():
        indices = np.array([i for i, c in enumerate(cases) if c["version"] == version])
        if len(indices):
            _replay_version(replay, indices, [cases[i] for i in indices], loss)
    return replay


def _replay_version(
    replay: Replay, indices: np.ndarray, cases: list[dict], loss: VaultLoss
) -> None:
    column = lambda name: np.array([float(c[name]) for c in cases])
    rule = VaultShare(
        fee=jnp.asarray(column("fee") / WAD),
        virtual_assets=jnp.ones(len(cases)),
        virtual_shares=jnp.asarray(10.0 ** (18.0 - column("decimals"))),
        loss=loss,
        asset_unit=jnp.ones(len(cases)),
        share_unit=jnp.ones(len(cases)),
    )
    book = VaultBook(
        shares=_before(cases, "totalSupply"),
        last_assets=_before(cases, "lastTotalAssets"),
        lost_assets=_before(cases, "lostAssets"),
    )
    moved = np.array([_named(c) for c in cases])

    @jax.jit
    def run(markets: dict, event: jax.Array, moved: jax.Array) -> tuple:
        claims = _claims(markets)
        assets = claims.sum(axis=0)
        before = _view(rule, book, assets)
        available = available_assets(
            claims, markets["totalSupplyAssets"], markets["totalBorrowAssets"]
        )
        # What happens in a market changes the claim on it; the vault writes nothing down.
        after_event = _claims(markets, event).sum(axis=0)
        move = rule.move(
            book, after_event, available, moved_assets=moved[:, 0], moved_shares=moved[:, 1]
        )
        acts = jnp.any(moved != 0, axis=1) & (move.refusal == VaultRefusal.NONE)
        settled = jax.tree.map(lambda new, old: jnp.where(acts, new, old), move.book, book)
        held = after_event + jnp.where(acts, move.assets, 0.0)
        return before, move, settled, _view(rule, settled, held)

    before, move, settled, after = run(_markets(cases), _events(cases), jnp.asarray(moved))
    for moment, view in (("before", before), ("after", after)):
        for name, actual in view.items():
            expected = [float(c[moment][name]) for c in cases]
            replay.compare(f"{moment}.{name}", indices, actual, expected)
    _compare_book(replay, indices, cases, settled)
    _compare_move(replay, indices, cases, move, moved)


def _claims(markets: dict, event: jax.Array | float = 0.0) -> jax.Array:
    return claim_value(
        markets["vaultSupplyShares"],
        markets["totalSupplyAssets"] + event,
        markets["totalSupplyShares"],
        virtual_assets=1.0,
        virtual_shares=1e6,
    )


def _view(rule: VaultShare, book: VaultBook, assets: jax.Array) -> dict:
    accrued, _ = rule.accrue(book, assets)
    return {
        "totalAssetsView": accrued.last_assets,
        "assetsPer1e18Shares": WAD * rule.share_price(accrued),
    }


def _before(cases: list[dict], name: str) -> jax.Array:
    return jnp.asarray([float(c["before"][name] or 0) for c in cases])


def _markets(cases: list[dict]) -> dict:
    """Return totals and the vault's shares as `(market, case)`, padded with empty markets."""
    count = max(len(c["before"]["markets"]) for c in cases)
    table = {}
    for name in cases[0]["before"]["markets"][0]:
        values = np.zeros((count, len(cases)))
        for i, case in enumerate(cases):
            for m, market in enumerate(case["before"]["markets"]):
                values[m, i] = float(market[name])
        table[name] = jnp.asarray(values)
    return table


def _events(cases: list[dict]) -> jax.Array:
    """Return what a market's supply gains by given interest and loses by bad debt."""
    count = max(len(c["before"]["markets"]) for c in cases)
    events = np.zeros((count, len(cases)))
    for i, case in enumerate(cases):
        if case["action"] == "donate_interest" and not case["reverted"]:
            events[case["market"], i] = float(case["assets"])
        elif case["action"] == "bad_debt" and not case["reverted"]:
            events[case["market"], i] = -float(case["badDebtAssets"])
    return jnp.asarray(events)


def _named(case: dict) -> tuple[float, float]:
    """Return what the holder names: (assets, shares), signed, both 0 where nobody moves."""
    if case["action"] in DIRECTIONS:
        return DIRECTIONS[case["action"]] * float(case["assets"]), 0.0
    if case["action"] == "mint_redeem":
        grows = int(case["after"]["totalSupply"]) > int(case["before"]["totalSupply"])
        return 0.0, (1 if grows else -1) * float(case["shares"])
    return 0.0, 0.0


def _compare_book(
    replay: Replay, indices: np.ndarray, cases: list[dict], settled: VaultBook
) -> None:
    recorded = {"totalSupply": "shares", "lastTotalAssets": "last_assets"}
    if cases[0]["version"] == "v1.1":
        recorded["lostAssets"] = "lost_assets"
    fields = dataclasses.asdict(settled)
    # What is lost is a difference of totals, and its error scales with them.
    total = np.array([float(c["before"]["lastTotalAssets"]) for c in cases])
    slack = {"lostAssets": 2.0 + 1e-15 * total}
    for name, field in recorded.items():
        expected = [float(c["after"][name]) for c in cases]
        units = slack.get(name, RAW_UNITS)
        replay.compare(f"after.{name}", indices, fields[field], expected, raw_units=units)


def _compare_move(
    replay: Replay, indices: np.ndarray, cases: list[dict], move: VaultMove, moved: np.ndarray
) -> None:
    acts = np.flatnonzero((moved != 0).any(axis=1))
    refused = np.asarray(move.refusal) != VaultRefusal.NONE
    replay.compare_labels(
        "reverted", indices[acts], refused[acts].tolist(), [cases[i]["reverted"] for i in acts]
    )
    done = np.array([i for i in acts if not cases[i]["reverted"]], int)
    for name, actual in (("assets", move.assets), ("shares", move.shares)):
        expected = [float(cases[i][name]) for i in done]
        replay.compare(name, indices[done], np.abs(np.asarray(actual))[done], expected)
    minted = lambda c: float(
        int(c["after"]["feeRecipientShares"]) - int(c["before"]["feeRecipientShares"])
    )
    # Interest is a difference of totals: the error of the fee on it scales with the totals.
    slack = np.array([2.0 + 1e-15 * float(cases[i]["before"]["totalSupply"]) for i in done])
    replay.compare(
        "fee shares", indices[done], np.asarray(move.fee_shares)[done],
        [minted(cases[i]) for i in done], raw_units=slack,
    )  # fmt: skip


ADAPTERS = {"metamorpho_share_price": share_price}
