"""Replay the stablecoins that failed in November 2025 while oracles went on stating old prices.

`python docs/examples/hard_coded_oracle.py FOLDER`, where FOLDER holds the tables of
290-byte/morpho-risk-case-study as Parquet files. Three isolated markets lent USDC against xUSD,
sdeUSD and deUSD, which traded at a few cents while their oracles said what they had been worth. No
call paid, so nobody was liquidated; loans stood at full utilisation and interest ran for months.

Each market is played hour by hour through the engine, from recorded positions (scaled to what the
market owed when the replay starts) and along the recorded price, once with the price written into
the oracle and once with an oracle that sees the market. Printed beside the figures of the tables.
The replay of deUSD starts after its fall: its loans were taken out against the failed token.
"""

import dataclasses
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq

from jaxrisk import Accounts, Keeper, Market, ProRata, System, presets, root_key
from jaxrisk.market.history import Replay
from jaxrisk.market.impact import SquareRootImpact
from jaxrisk.market.liquidity import ConstantDepth, Liquidity
from jaxrisk.market.oracle import Oracle, SpotOracle
from jaxrisk.market.oracle_overlay import FaceValueOracle
from jaxrisk.measure.vault import Vault, vault_share_prices
from jaxrisk.system.simulate import (
    Outcome,
    Plan,
    cut_books,
    debt_units,
    final_state,
    layouts,
    open_shortfall,
    outcome,
    step_rules,
)
from jaxrisk.venue.vault_share import VaultLoss, VaultShare

HOURS_A_YEAR = 8760.0
SPEED = 50.0
"""The adaptive curve's speed a year; at full utilisation the rate at target grows by it."""
STEEPNESS = 4.0
COST_USD = 1.0
DEPTH_IMPACT = 0.10


@dataclasses.dataclass(frozen=True)
class MarketCase:
    """One market of the event: where its replay starts, and the price in its oracle.

    The last hourly record of loans is of 15 November; the positions are of 13 February.
    """

    key: str
    collateral: str
    decimals: int
    threshold: float
    start: str
    chain: int


CASES = (
    MarketCase("0x9e90ae", "xUSD", 6, 0.915, "2025-11-03 12:00", 1),
    MarketCase("0x0f9563", "sdeUSD", 18, 0.915, "2025-11-06 00:00", 1),
    MarketCase("0xbd1ad3", "deUSD", 18, 0.86, "2025-11-09 00:00", 1),
)
LAST_HOURLY = "2025-11-15 00:00"

VAULT_CASES = (
    ("Relend USDC", "ethereum", "0x0f9563", "2025-11-13 13:00", VaultLoss.RECOGNISED),
    ("MEV Capital USDC", "ethereum", "0x0f9563", "2025-11-11 09:00", VaultLoss.RECOGNISED),
    ("Adpend USDC", "ethereum", "0x0f9563", "2025-11-14 00:00", VaultLoss.HELD),
    ("1337 USDC", "ethereum", "0x0f9563", "2025-11-14 00:00", VaultLoss.HELD),
    ("Not Gauntlet", "Arbitrum", "0x9e90ae", "2025-11-14 00:00", VaultLoss.HELD),
    ("Vaultik USDC", "Arbitrum", "0x9e90ae", "2025-11-14 00:00", VaultLoss.HELD),
)
"""Vault, chain, market, last hour before the loss was written down (or of the record), and rule."""

Rows = list[dict[str, Any]]


def rows(folder: Path, table: str) -> Rows:
    """Return a table of the record as dictionaries."""
    return pq.read_table(folder / f"{table}.parquet").to_pylist()


def moment(text: str) -> datetime:
    """Return a time of the record, UTC."""
    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=UTC)


def hours_between(start: str, end: datetime) -> int:
    """Return the whole hours from a time of the record to a moment."""
    return int((end - moment(start)) / timedelta(hours=1))


def owed(folder: Path, case: MarketCase) -> dict[str, float]:
    """Return what the market owed by the hour, USD."""
    table = rows(folder, "block3_market_utilization_hourly")
    return {
        row["datetime"]: row["borrow_assets_usd"]
        for row in table
        if row["market_unique_key"].startswith(case.key)
    }


def book(folder: Path, case: MarketCase) -> tuple[Accounts, float]:
    """Return the borrowers with their debts scaled to the start, and the factor.

    Debts of a market grow by one index, so their proportions are those of the later record.
    """
    own = [
        row
        for row in rows(folder, "block5_borrower_positions")
        if row["market_unique_key"].startswith(case.key) and float(row["borrow_assets_raw"]) > 0
    ]
    units = lambda row, key, decimals: float(row[key]) / 10**decimals
    debts = np.array([units(row, "borrow_assets_raw", 6) for row in own])
    factor = owed(folder, case)[case.start] / debts.sum()
    names = [row["user_address"] for row in own]
    table = {
        "account_id": [*names, *names],
        "asset": [case.collateral] * len(own) + ["USDC"] * len(own),
        "side": ["collateral"] * len(own) + ["debt"] * len(own),
        "amount": [
            *(units(row, "collateral_raw", case.decimals) for row in own),
            *(debts * factor),
        ],
    }
    return Accounts.from_table(table, assets=(case.collateral, "USDC")), factor


def prices(folder: Path, case: MarketCase, hours: int) -> np.ndarray:
    """Return the collateral's price at the start and after each hour, the last one known, USD."""
    known = sorted(
        (row["timestamp"], row["price_usd"])
        for row in rows(folder, "block5_asset_prices")
        if row["symbol"] == case.collateral and row["chain_id"] == case.chain
    )
    times, values = map(np.array, zip(*known, strict=True))
    wanted = moment(case.start).timestamp() + 3600.0 * np.arange(hours + 1)
    return values[np.searchsorted(times, wanted, side="right") - 1]


def rate_at_target(folder: Path, case: MarketCase) -> float:
    """Return the rate at the start under which the loans grow as recorded until 15 November.

    At full utilisation the rate at target is `r exp(50 t)` and loans pay four times it, so their
    log growth over T is `4 r (exp(50 T) - 1) / 50`.
    """
    loans = owed(folder, case)
    years = hours_between(case.start, moment(LAST_HOURLY)) / HOURS_A_YEAR
    growth = np.log(loans[LAST_HOURLY] / loans[case.start])
    return float(np.clip(growth * SPEED / (STEEPNESS * np.expm1(SPEED * years)), 0.001, 2.0))


def opening_price(folder: Path, case: MarketCase) -> float:
    """Return what the oracle says: as recorded, and where no longer so, the price at the start."""
    (market,) = (
        row
        for row in rows(folder, "block1_markets_graphql")
        if row["market_id"].startswith(case.key)
    )
    exponent = 36 + market["loan_decimals"] - market["collateral_decimals"]
    recorded = float(market["oracle_price_raw"]) / 10**exponent
    return recorded or float(prices(folder, case, 0)[0])


def system(
    folder: Path, case: MarketCase, *, hours: int, hard_coded: bool, depth_usd: float
) -> System:
    """Return one market with its recorded price path."""
    accounts, _ = book(folder, case)
    path = prices(folder, case, hours)
    market = Market.opening({case.collateral: float(path[0]), "USDC": 1.0})
    returns = np.stack([np.diff(np.log(path)), np.zeros(hours)], axis=1)
    oracle: Oracle = SpotOracle()
    if hard_coded:
        oracle = FaceValueOracle(
            others=SpotOracle(), asset=0, face_value=jnp.asarray(opening_price(folder, case))
        )
    return System(
        market=market,
        paths=Replay.from_history(returns, start=0, steps=hours),
        liquidity=Liquidity(
            law=SquareRootImpact(coefficient=jnp.asarray(DEPTH_IMPACT)),
            depth=ConstantDepth(depth=jnp.full(2, depth_usd)),
            permanent_share=jnp.asarray(0.3),
            recovery_rate=jnp.asarray(np.log(2.0) * HOURS_A_YEAR / 6.0),
            variance_rate=jnp.asarray(np.log(2.0) * HOURS_A_YEAR / 24.0),
        ),
        venues=(
            presets.morpho_blue(
                accounts,
                market.assets,
                liquidation_loan_to_value=case.threshold,
                rate="adaptive",
                rate_at_target=rate_at_target(folder, case),
                overrides={"USDC": {"available_liquidity": 0.0}},
                oracle=oracle,
            ),
        ),
        keeper=Keeper(
            minimum_return=jnp.asarray(0.0), choice=ProRata(), cost=jnp.asarray(COST_USD)
        ),
    )


@dataclasses.dataclass(frozen=True)
class Played:
    """What a replay of one market ended with, USD.

    Attributes:
        outcome: of the engine, leading axis scenario.
        owed: debts at the end, interest included.
        bad_debt_by_oracle: debts beyond collateral at the oracle's price.
    """

    outcome: Outcome
    owed: float
    bad_debt_by_oracle: float


def play(system: System, hours: int) -> Played:
    """Return the outcome of the one scenario there is: the recorded path."""
    plan = Plan(steps=hours, rounds=8)
    rules = step_rules(system, plan, 1.0 / HOURS_A_YEAR)
    books = cut_books(system, layouts(system, plan))

    @jax.jit
    def run(system: System, books: Any) -> tuple[Outcome, jax.Array, jax.Array]:
        state = final_state(plan, system, books, rules, root_key(0), jnp.asarray(0))
        (venue,), (own,) = system.venues, state.venues
        seen = venue.oracle.seen(own.oracle, state.market)
        result = outcome(system, books, state, plan.steps)
        owed = debt_units(venue, books[0], own).sum()
        return result, owed, open_shortfall(venue, books[0], own, seen)

    result, debt, by_oracle = run(system, books)
    return Played(
        outcome=jax.tree.map(lambda leaf: leaf[None], result),
        owed=float(debt),
        bad_debt_by_oracle=float(by_oracle),
    )


def recorded(folder: Path, case: MarketCase) -> dict[str, float]:
    """Return the record's figures of a market in February 2026: loans and bad debt, USDC."""
    (market,) = (
        row
        for row in rows(folder, "block1_markets_graphql")
        if row["market_id"].startswith(case.key)
    )
    return {
        "hours": hours_between(case.start, datetime.fromtimestamp(market["state_timestamp"], UTC)),
        "owed": float(market["borrow_assets"]) / 1e6,
        "bad_debt": float(market["bad_debt_underlying"]) / 1e6,
    }


@dataclasses.dataclass(frozen=True)
class VaultResult:
    """A vault: what the record says became of its share price, and what the engine says.

    Attributes:
        name: of the vault.
        weight: share of its assets in the failed market.
        worth: of the shares still there at the last hour, at the price of the start, USD.
        recorded: change of its share price over the replay, the write-down included.
        stated: that of the engine under the vault's rule.
        marked: that of the engine with all losses seen at the market.
    """

    name: str
    weight: float
    worth: float
    recorded: float
    stated: float
    marked: float


def vault_case(folder: Path, index: int, *, hard_coded: bool, depth_usd: float) -> VaultResult:
    """Return what became of one vault's share from the market's start to its write-down.

    Its weight is what it has in the market over what it has at the last hour: those who left before
    were paid out of its other markets, so the loss is borne by those who stayed.
    """
    name, chain, key, last, rule = VAULT_CASES[index]
    (case,) = (case for case in CASES if case.key == key)
    hours = hours_between(case.start, moment(last))
    history = {
        row["date"]: row
        for row in rows(folder, "block2_share_prices_hourly")
        if row["vault_name"] == name and row["chain"] == chain
    }
    after = (moment(last) + timedelta(hours=2)).strftime("%Y-%m-%d %H:%M")
    start, end = history[case.start], history[last]
    (supplied,) = (
        row["supply_assets_usd"]
        for row in rows(folder, "block3_allocation_timeseries")
        if row["vault_name"] == name
        and row["chain"] == chain
        and row["market_unique_key"].startswith(key)
        and row["date"] == case.start[:10]
    )
    shares_left = end["total_assets_usd"] / end["share_price"]
    worth = shares_left * start["share_price"]
    weight = supplied / worth
    one = system(folder, case, hours=hours, hard_coded=hard_coded, depth_usd=depth_usd)
    zero = jnp.asarray(0.0)
    vault = Vault(
        name=name,
        weights=(float(np.clip(weight, 0.0, 1.0)),),
        rule=VaultShare(fee=zero, virtual_assets=zero, virtual_shares=zero, loss=rule),
    )
    stated, marked = vault_share_prices(one, play(one, hours).outcome, vault)
    return VaultResult(
        name=name,
        weight=vault.weights[0],
        worth=worth,
        recorded=history.get(after, end)["share_price"] / start["share_price"] - 1.0,
        stated=float(stated[0]) - 1.0,
        marked=float(marked[0]) - 1.0,
    )


def market_lines(folder: Path, depths: Sequence[float]) -> list[str]:
    """Return the table of markets."""
    form = "{:<9}{:<24}{:>12}{:>12}{:>12}{:>12}{:>12}"
    lines = [form.format("", "", "liquidated", "owed", "bad by", "bad by", "written")]
    lines.append(form.format("market", "USD", "", "at the end", "oracle", "market", "off"))
    money = lambda value: f"{value:,.0f}"
    for case in CASES:
        told = recorded(folder, case)
        hours = int(told["hours"])
        lines.append(
            form.format(
                case.collateral,
                "recorded",
                "0",
                money(told["owed"]),
                money(told["bad_debt"]),
                "",
                "0",
            )
        )
        kinds = [("price written in", True, depths[0])]
        kinds += [(f"market, {depth / 1e6:g} MUSD deep", False, depth) for depth in depths]
        for text, hard_coded, depth in kinds:
            one = system(folder, case, hours=hours, hard_coded=hard_coded, depth_usd=depth)
            done = play(one, hours)
            figures = (
                done.outcome.liquidated.sum(),
                done.owed,
                done.bad_debt_by_oracle,
                done.outcome.shortfall.sum(),
                done.outcome.bad_debt.sum(),
            )
            lines.append(form.format("", text, *(money(float(figure)) for figure in figures)))
    return lines


def vault_lines(folder: Path, depth: float) -> list[str]:
    """Return the table of vaults."""
    form = "{:<18}{:>8}{:>10}{:>9}{:>9}{:>15}{:>14}{:>12}"
    heads = ("change of share", "weight", "recorded", "stated", "marked", "market oracle")
    lines = [form.format(*heads, "recorded USD", "marked USD")]
    for index in range(len(VAULT_CASES)):
        told = vault_case(folder, index, hard_coded=True, depth_usd=depth)
        other = vault_case(folder, index, hard_coded=False, depth_usd=depth)
        changes = (told.recorded, told.stated, told.marked, other.marked)
        lines.append(
            form.format(
                told.name,
                f"{told.weight:.1%}",
                *(f"{change:+.1%}" for change in changes),
                *(f"{told.worth * change:,.0f}" for change in (told.recorded, told.marked)),
            )
        )
    return lines


def main(folder: Path) -> None:
    """Print both tables."""
    jax.config.update("jax_enable_x64", True)
    print("\n".join(market_lines(folder, (1e6, 1e7))))
    print()
    print("\n".join(vault_lines(folder, 1e6)))


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).exists():
        sys.exit(
            "usage: python docs/examples/hard_coded_oracle.py FOLDER, the record named at the top"
        )
    main(Path(sys.argv[1]))
