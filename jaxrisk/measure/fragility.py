"""Which falls feed themselves: forced sales by asset, what markets take, feedback between assets.

A snapshot: one asset falls at once, the others stay, and every account it brings to its threshold
is closed whole, pro rata over what it holds, into the opening depth. So it is exact for books of
one pair and whole closes, and errs on the side of more sales where calls take a part.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxrisk.market.impact import ImpactLaw
from jaxrisk.market.oracle import opening_prices
from jaxrisk.measure.avalanche import CriticalPoints, amplification, critical_points, feedback_gain
from jaxrisk.measure.exposure import with_pegged, within_liquidation
from jaxrisk.measure.leverage import distance_to_liquidation
from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.indexing import select
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.system.avalanche import Triggers, log_drops
from jaxrisk.system.system import System
from jaxrisk.venue.account import per_account
from jaxrisk.venue.margin_accounts import MarginAccounts
from jaxrisk.venue.venue import Venue


@pytree
class OneAsset:
    """An impact law of all assets, asked about one: volumes and depths are `(1,)`.

    Attributes:
        law: of all assets.
        depth: `(asset,)` of all of them.
        asset: which one.
    """

    law: ImpactLaw
    depth: Float[Array, " asset"]
    asset: int = static()

    def log_drop(self, volume: Float[Array, "1"], depth: Float[Array, "1"]) -> Float[Array, "1"]:
        """Return the log price drop of a sale."""
        none = jnp.zeros_like(self.depth)
        drop = self.law.log_drop(
            none.at[self.asset].set(volume[0]), self.depth.at[self.asset].set(depth[0])
        )
        return drop[self.asset][None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Falls:
    """What one asset's fall sets off, on the host.

    Attributes:
        asset: index of the asset that falls; assets pegged to it fall along.
        log_price: `(account,)` log of its price over the present one, below which each account of
            all venues is closed; −infinity for never.
        sold: `(asset, account)` what that sells of each asset, numeraire, at the prices then.
    """

    asset: int
    log_price: Float[np.ndarray, " account"]
    sold: Float[np.ndarray, "asset account"]

    def triggers(self, of: int) -> Triggers:
        """Return the accounts in the order of the fall, with what they sell of an asset."""
        return Triggers.of(jnp.asarray(self.log_price), jnp.asarray(self.sold[of]))


def falls(system: System, asset: int) -> Falls:
    """Return who is closed as one asset falls, and what that sells; contracts are left out.

    Args:
        system: the system.
        asset: index of the asset.
    """
    moves = with_pegged(system.market, jnp.arange(len(system.assets)) == asset)
    lending = [v for v in system.venues if not isinstance(v.execution, MarginAccounts)]
    parts = [
        _closes(venue, opening_prices(venue.oracle, system.market), moves) for venue in lending
    ]
    log_price, sold = [np.zeros(0)], [np.zeros((len(system.assets), 0))]
    for venue, (at, own) in zip(lending, parts, strict=True):
        log_price.append(np.asarray(at, np.float64))
        spread = np.zeros((len(system.assets), len(log_price[-1])))
        spread[list(venue.accounts.collateral_assets)] = np.asarray(own, np.float64)
        sold.append(spread)
    return Falls(
        asset=asset, log_price=np.concatenate(log_price), sold=np.concatenate(sold, axis=1)
    )


@jax.jit
def _closes(
    venue: Venue, price: Float[Array, " asset"], moves: Bool[Array, " asset"]
) -> tuple[Float[Array, " account"], Float[Array, "collateral_asset account"]]:
    """Return the log price at which each account is closed, and what it sells there."""
    accounts = venue.accounts
    left = 1.0 - distance_to_liquidation(venue, price, moves)
    there = left > 0
    left = jnp.where(there, left, jnp.ones_like(left))
    one = jnp.ones_like(price)[:, None]
    moved = price[:, None] * jnp.where(moves[:, None], left[None, :], one)
    values = accounts.collateral * moved[np.asarray(accounts.collateral_assets)]
    debt = jnp.sum(accounts.debt * moved[np.asarray(accounts.debt_assets)], axis=0)
    credit = venue.incentive.largest_credit(len(venue.categories), values.shape[0])
    redeemable = jnp.sum(values / per_account(credit, accounts.category), axis=0)
    share = smaller(debt, redeemable) / positive_or_one(redeemable)
    sold = jnp.where(there[None, :], values * share[None, :], jnp.zeros_like(values))
    return jnp.where(there, jnp.log(left), -jnp.inf), sold


def points_of(system: System, own: Falls, of: int, years: float) -> CriticalPoints:
    """Return the prices at which several accounts fall together; log prices over the present one.

    Args:
        system: the system.
        own: of the asset that falls.
        of: index of the asset that is sold: the same, or one pegged to it.
        years: horizon of the distances in standard deviations.
    """
    law, depth = _market_of(system, of)
    deviation = float(np.sqrt(np.asarray(system.market.variance)[own.asset] * years))
    return critical_points(
        own.triggers(of), law, depth, log_price=0.0, deviation=deviation or np.nan
    )


def feedback_columns(
    system: System, own: Falls, of: int, changes: Float[np.ndarray, " grid"], width: float
) -> dict[str, np.ndarray]:
    """Return forced sales of an asset and their feedback as it or its underlying falls, as columns.

    `price_change_frac`, `forced_sales_usd` (of the asset, by all accounts closed down to there),
    `depth_cover` (opening depth over these sales, infinite without any), `own_drop_frac` (how far
    these sales alone lower the price), `feedback_gain` (log drop by sales of accounts within
    `width` below, per unit of fall) and `amplification`.

    Args:
        system: the system.
        own: of the asset that falls.
        of: index of the asset that is sold: the same, or one pegged to it.
        changes: price changes as fractions, above −1 and at most 0.
        width: of the interval of the gain, log price.
    """
    (law, depth), triggers = _market_of(system, of), own.triggers(of)
    level = jnp.asarray(np.log1p(changes))
    fallen = jnp.searchsorted(-triggers.log_price, -level, side="left")
    sold = triggers.sold[fallen]
    gain = feedback_gain(triggers, law, depth, level, jnp.asarray(width))
    return {
        "price_change_frac": np.asarray(changes, np.float64),
        "forced_sales_usd": np.asarray(sold, np.float64),
        "depth_cover": float(depth) / np.where(sold > 0, np.asarray(sold, np.float64), 1.0)
        + np.where(sold > 0, 0.0, np.inf),
        "own_drop_frac": -np.expm1(-np.asarray(log_drops(law, sold, depth), np.float64)),
        "feedback_gain": np.asarray(gain, np.float64),
        "amplification": np.asarray(amplification(gain), np.float64),
    }


def gain_matrix(
    system: System, every: list[Falls], width: float
) -> tuple[Float[np.ndarray, "asset asset"], float]:
    """Return the feedback between assets, and its spectral radius.

    Entry (a, b): log drop of asset a by what accounts sell that are closed as b falls by `width`
    from the present price, per unit of that fall. Where the radius is 1 or more, falls feed each
    other; below, they die out with a total of (I − G)⁻¹.

    Args:
        system: the system.
        every: falls of each asset that moves; others have zeros.
        width: of the fall, log price.
    """
    gain = np.zeros((len(system.assets), len(system.assets)))
    for own in every:
        hit = (own.log_price > -width) & (own.log_price <= 0.0)
        for a in range(len(system.assets)):
            law, depth = _market_of(system, a)
            sold = jnp.asarray(own.sold[a, hit].sum())
            gain[a, own.asset] = float(log_drops(law, sold[None], depth)[0]) / width
    return gain, float(np.abs(np.linalg.eigvals(gain)).max())


def survival_columns(
    system: System, pair: tuple[int, int], changes: Float[np.ndarray, "2 grid"]
) -> dict[str, np.ndarray]:
    """Return what two shocks at once leave standing, summed over venues, as columns.

    `first_change_frac` of the first asset and all that is pegged to it, `second_change_frac` of the
    second alone and on top (the basis, where it is pegged to the first), `liquidatable_debt_usd`,
    `bad_debt_usd` (left unpaid by closing these accounts whole) and `standing_debt_frac`.

    Args:
        system: the system.
        pair: indices of the two assets.
        changes: price changes as fractions, above −1.
    """
    first, second = np.meshgrid(*changes, indexing="ij")
    both = np.stack([first.ravel(), second.ravel()], axis=1)
    dtype = system.market.price.dtype
    index = jnp.asarray(pair)
    debt, bad, total = _after_both(system, index, jnp.asarray(both, dtype))
    wide = lambda x: np.asarray(x, np.float64)
    return {
        "first_change_frac": both[:, 0],
        "second_change_frac": both[:, 1],
        "liquidatable_debt_usd": wide(debt),
        "bad_debt_usd": wide(bad),
        "standing_debt_frac": 1.0 - wide(debt) / np.where(wide(total) > 0, wide(total), 1.0),
    }


@jax.jit
def _after_both(
    system: System, pair: Array, changes: Float[Array, "grid 2"]
) -> tuple[Float[Array, " grid"], Float[Array, " grid"], Float[Array, " grid"]]:
    """Return liquidatable debt, bad debt and all debt after both moves."""
    place = jnp.arange(len(system.assets))
    along = with_pegged(system.market, place == pair[0])

    def after(change: Float[Array, "2"]) -> tuple:
        factor = jnp.where(along, 1.0 + change[0], 1.0) * jnp.where(
            place == pair[1], 1.0 + change[1], 1.0
        )
        market = dataclasses.replace(system.market, price=system.market.price * factor)
        sums = [jnp.zeros_like(change[0])] * 3
        for venue in system.venues:
            if isinstance(venue.execution, MarginAccounts):
                continue
            seen = opening_prices(venue.oracle, market)
            own = within_liquidation(venue, seen)
            owed = jnp.sum(venue.accounts.debt * select(seen, venue.accounts.debt_assets)[:, None])
            sums = [x + y for x, y in zip(sums, (own.debt, own.bad_debt, owed), strict=True)]
        return tuple(sums)

    return jax.lax.map(after, changes)


def _market_of(system: System, asset: int) -> tuple[OneAsset, Float[Array, ""]]:
    """Return the impact law and the opening depth of an asset."""
    depth = system.liquidity.depth.now(system.market)
    return OneAsset(law=system.liquidity.law, depth=depth, asset=asset), depth[asset]
