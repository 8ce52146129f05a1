"""What would be liquidated if prices moved now, and the state of the book before they do.

The map is a snapshot: prices jump, the venue comes to see them, nothing else reacts. It says how
much is within reach of a move, not what a cascade would make of it.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxrisk.market.oracle import opening_prices
from jaxrisk.market.state import Market
from jaxrisk.measure.owner import account_health
from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.indexing import select
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.claim_prices import followed
from jaxrisk.system.execution import play_of
from jaxrisk.system.margin_book import MarginFigures, slot_of
from jaxrisk.system.system import System
from jaxrisk.venue.account import per_account
from jaxrisk.venue.health import toxic, value_accounts
from jaxrisk.venue.limits import headroom
from jaxrisk.venue.venue import Venue

JOINT = "all"
"""Name of the joint move in the asset column of the map's table."""


@pytree
class LiquidationMap:
    """Totals over the accounts with health below 1, at moved prices as the venue sees them.

    Attributes:
        debt: what these accounts owe.
        notional: what their contracts on margin are about, longs and shorts added up.
        collateral: what they hold.
        seizable: what keepers would take of it by closing them in full, bonus included.
        bad_debt: what closing them in full would leave unpaid: D − C / (1 + bonus), at least 0; of
            contracts what accounts have less than nothing.
    """

    debt: Float[Array, "*grid"]
    notional: Float[Array, "*grid"]
    collateral: Float[Array, "*grid"]
    seizable: Float[Array, "*grid"]
    bad_debt: Float[Array, "*grid"]


def volatile_assets(market: Market, *, least: float = 0.10) -> Bool[np.ndarray, " asset"]:
    """Return which assets are volatile, on the host: the ones a joint move takes along.

    Args:
        market: the opening market, whose running variance is that of the configuration.
        least: volatility per year from which on an asset is volatile; one pegged to a volatile
            asset is volatile too.
    """
    volatile = np.sqrt(np.asarray(market.variance, np.float64)) >= least
    return np.asarray(with_pegged(market, jnp.asarray(volatile)))


def with_pegged(market: Market, moves: Bool[Array, " asset"]) -> Bool[Array, " asset"]:
    """Return the mask of assets that move, with those pegged to one of them added."""
    if market.underlying is None:
        return moves
    return moves | select(moves, market.underlying)


def moved_market(system: System, moves: Bool[Array, " asset"], change: Float[Array, ""]) -> Market:
    """Return the market once some prices have changed and stayed there.

    A pegged asset keeps its exchange rate and goes with its underlying; moved alone, only an oracle
    of market prices sees it. A claim on a venue follows what is behind it.

    Args:
        system: the system at rest.
        moves: `(asset,)` which assets move.
        change: price change as a fraction, above −1; −0.3 is a fall of 30 %.
    """
    market = system.market
    together = with_pegged(market, moves)
    factor = jnp.where(together, 1.0 + change, jnp.ones_like(change))
    return followed(system, dataclasses.replace(market, price=market.price * factor))


def within_liquidation(venue: Venue, price: Float[Array, " asset"]) -> LiquidationMap:
    """Return the totals over the accounts with health below 1, as scalars.

    Args:
        venue: the venue and its book.
        price: `(asset,)` prices as the venue sees them.
    """
    margin = play_of(venue).margin
    if margin is not None:
        return _within_call(margin(venue, price))
    accounts = venue.accounts
    value = value_accounts(accounts, venue.collateral.liquidation_threshold, price)
    values = accounts.collateral * select(price, accounts.collateral_assets)[:, None]
    credit = venue.incentive.largest_credit(len(venue.categories), values.shape[0])
    # Debt that the collateral can repay: each asset at its own bonus, as if taken pro rata.
    redeemable = jnp.sum(values / per_account(credit, accounts.category), axis=0)
    repaid = smaller(value.debt, redeemable)
    seizable = value.collateral * (repaid / positive_or_one(redeemable))
    below = value.backing < value.debt
    total = lambda x: jnp.sum(jnp.where(below, x, jnp.zeros_like(x)))
    return LiquidationMap(
        debt=total(value.debt),
        notional=total(jnp.zeros_like(value.debt)),
        collateral=total(value.collateral),
        seizable=total(seizable),
        bad_debt=total(value.debt - repaid),
    )


def _within_call(found: MarginFigures) -> LiquidationMap:
    """Return the totals over accounts of contracts that would be called."""
    below = found.backing < found.called
    total = lambda x: jnp.sum(jnp.where(below, x, jnp.zeros_like(x)))
    lacking = jnp.where(found.equity < 0, -found.equity, jnp.zeros_like(found.equity))
    nothing = jnp.zeros_like(lacking)
    return LiquidationMap(
        debt=total(nothing),
        notional=total(found.notional),
        collateral=total(found.collateral),
        # Closing takes what collateral has to pay for losses, and no more.
        seizable=total(
            smaller(jnp.maximum(found.collateral - found.equity, 0.0), found.collateral)
        ),
        bad_debt=total(lacking),
    )


def liquidation_map(
    system: System, changes: Float[Array, " grid"], moves: Bool[Array, " asset"] | int
) -> LiquidationMap:
    """Return what each venue could liquidate after each instantaneous move, leaves `(venue, grid)`.

    Delayed oracles have caught up.

    Args:
        system: the system.
        changes: `(grid,)` price changes as fractions, above −1.
        moves: `(asset,)` which assets move together, or the index of the only one; assets pegged
            to them move along.
    """
    if isinstance(moves, int):
        moves = jnp.arange(len(system.assets)) == moves

    def after(change: Float[Array, ""]) -> LiquidationMap:
        market = moved_market(system, moves, change)
        totals = [
            within_liquidation(venue, opening_prices(venue.oracle, market))
            for venue in system.venues
        ]
        return jax.tree.map(lambda *scalars: jnp.stack(scalars), *totals)

    return jax.vmap(after, out_axes=1)(changes)


def liquidation_table(
    system: System, changes: Sequence[float], joint: Bool[np.ndarray, " asset"]
) -> dict[str, np.ndarray]:
    """Return the liquidation map of every asset and of the joint move as columns, on the host.

    `venue`, `asset`, `price_change_frac`, `liquidatable_debt_usd`, `liquidatable_collateral_usd`,
    `bad_debt_usd`: venue by venue, asset by asset, then the joint move as asset `all`. An asset
    without bearing on a venue, by itself or through its pegged assets, has no rows there. Where a
    venue has contracts on margin also `liquidatable_notional_usd`, 0 for loans.

    Args:
        system: the system.
        changes: price changes as fractions, above −1.
        joint: `(asset,)` which assets the joint move takes along.
    """
    alone = np.eye(len(system.assets), dtype=bool)
    masks = np.concatenate([alone, np.asarray(joint)[None, :]])
    names = np.array([*system.assets, JOINT], dtype=object)
    grid = jnp.asarray(np.asarray(changes, np.float64), system.market.price.dtype)
    maps = jax.tree.map(
        lambda x: np.asarray(x, np.float64), _maps(system, grid, jnp.asarray(masks))
    )
    rows = [
        (v, m)
        for v, venue in enumerate(system.venues)
        for m in [*sorted(_bearing(venue, system.market)), len(system.assets)]
    ]
    venue, mask = (np.repeat([row[i] for row in rows], len(changes)) for i in (0, 1))
    step = np.tile(np.arange(len(changes)), len(rows))
    table = {
        "venue": np.array([v.name for v in system.venues], dtype=object)[venue],
        "asset": names[mask],
        "price_change_frac": np.asarray(changes, np.float64)[step],
        "liquidatable_debt_usd": maps.debt[mask, venue, step],
        "liquidatable_collateral_usd": maps.collateral[mask, venue, step],
        "bad_debt_usd": maps.bad_debt[mask, venue, step],
    }
    if any(play_of(v).margin is not None for v in system.venues):
        table["liquidatable_notional_usd"] = maps.notional[mask, venue, step]
    return table


def snapshot(system: System) -> dict[str, float | int]:
    """Return the state of the whole book at the prices each venue sees, as plain numbers.

    `accounts` (positions, so an owner on two venues counts twice), `debt_usd`, `collateral_usd`,
    `median_health_factor` of accounts that owe or hold contracts (NaN where none does),
    `debt_below_health_1_1_usd`, `liquidatable_accounts` (health below 1), `insolvent_accounts`
    (collateral worth less than the debt), `toxic_share_frac` (share of debt in positions whose loan
    to value exceeds 1 / (1 + bonus)), `debt_herfindahl` (sum of squared shares of debt by account:
    1 where one owes everything; its inverse is the effective number of borrowers) and
    `largest_debt_share_frac`.
    Shares are 0 where nothing is owed. Summed in float64.
    """
    blocks = [np.asarray(_opening(venue, system.market), np.float64) for venue in system.venues]
    collateral, debt, health, poisoned = np.concatenate(blocks, axis=1)
    owing = np.isfinite(health)
    total = float(debt.sum())
    share = debt / total if total > 0 else np.zeros_like(debt)
    return {
        "accounts": int(debt.size),
        "debt_usd": total,
        "collateral_usd": float(collateral.sum()),
        "median_health_factor": float(np.median(health[owing])) if owing.any() else float("nan"),
        "debt_below_health_1_1_usd": float(debt[health < 1.1].sum()),
        "liquidatable_accounts": int((health < 1.0).sum()),
        "insolvent_accounts": int((collateral < debt).sum()),
        "toxic_share_frac": float(share[poisoned > 0].sum()),
        "debt_herfindahl": float((share**2).sum()),
        "largest_debt_share_frac": float(share.max(initial=0.0)),
    }


def limit_rows(system: System) -> list[dict[str, str | float]]:
    """Return every cap and ceiling of the venues, and the room it leaves, as plain rows.

    `venue`, `limit`, `asset`; `most`, `used` and `headroom` in units of the asset; `headroom_usd`
    at the market's mid. Only the book counts as used: where it is a part of what stands on the
    venue, the room is an upper bound.
    """
    mid, rows = np.asarray(system.market.mid, np.float64), []
    for venue in system.venues:
        for limit in venue.limits:
            accounts = venue.accounts
            side = accounts.debt_assets if limit.is_debt else accounts.collateral_assets
            used = limit.used(accounts)
            room = float(headroom(used, limit.most, limit.gap))
            rows.append(
                {
                    "venue": venue.name,
                    "limit": limit.name,
                    "asset": system.assets[side[limit.row]],
                    "most": float(limit.most),
                    "used": float(used),
                    "headroom": room,
                    "headroom_usd": room * float(mid[side[limit.row]]),
                }
            )
    return rows


@jax.jit
def _maps(
    system: System, changes: Float[Array, " grid"], masks: Bool[Array, "mask asset"]
) -> LiquidationMap:
    # One mask after the other: the grid alone fills the machine, and memory stays that of one map.
    return lax.map(lambda moves: liquidation_map(system, changes, moves), masks)


@jax.jit
def _opening(venue: Venue, market: Market) -> Float[Array, "4 account"]:
    """Return collateral, debt, health and the toxic flag of every account, stacked."""
    price = opening_prices(venue.oracle, market)
    value = value_accounts(venue.accounts, venue.collateral.liquidation_threshold, price)
    health = account_health(venue, price)
    return jnp.stack([value.collateral, value.debt, health, toxic(venue, price)])


def _bearing(venue: Venue, market: Market) -> set[int]:
    """Return the assets whose move bears on a venue: held, owed or traded there, or their peg."""
    present = {*venue.accounts.collateral_assets, *venue.accounts.debt_assets}
    if play_of(venue).margin is not None:
        present |= set(slot_of(venue).underlying)
    if market.underlying is None:
        return present
    return present | {market.underlying[a] for a in present}
