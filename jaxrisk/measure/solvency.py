"""Balance sheets of accounts, venues and systems, and how debt-to-equity reacts to prices.

An account holds collateral A and owes debt D; its equity is E = A − D. The balance sheet of a venue
is that of all its borrowers together, of what stands behind its loans: the plain sum of A and of D.
A system's is the plain sum over its venues. Equity is not floored at zero account by account
(limited liability): the plain sum is linear in prices, so debt-to-equity has the closed-form
derivatives below. What an account owes beyond its collateral lowers the equity of the whole; the
report says by how much in `shortfall_usd`.

With A_a held and D_a owed in asset a, the derivative of D/E in its log price is

    −D·A_a/E² (asset side) + A·D_a/E² (debt side),

which is −L (L − 1) for a loop at leverage L = A/E whose assets all move and whose debt does not.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.numerics.indexing import select, spread
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.system import System
from jaxrisk.venue.venue import Venue

Subject = System | Venue


@pytree
class BalanceSheet:
    """What is held and what is owed, in the numeraire; scalars or one entry an account.

    Attributes:
        assets: value of all collateral, A.
        debt: value of all debt, D.
    """

    assets: Float[Array, "*account"]
    debt: Float[Array, "*account"]

    @property
    def equity(self) -> Float[Array, "*account"]:
        """A − D; negative where insolvent."""
        return self.assets - self.debt

    @property
    def debt_to_equity(self) -> Float[Array, "*account"]:
        """D / E; 0 where nothing is owed, infinite where something is and no equity is left.

        A negative ratio would rank an insolvent account below one without debt.
        """
        equity, owing = self.equity, self.debt > 0
        none_left = jnp.where(owing, jnp.zeros_like(equity), jnp.ones_like(equity))
        return self.debt / jnp.where(equity > 0, equity, none_left)

    @property
    def leverage(self) -> Float[Array, "*account"]:
        """A / E = 1 + D / E; 1 where nothing is owed, infinite where no equity is left."""
        return 1.0 + self.debt_to_equity


def account_balance_sheets(venue: Venue, price: Float[Array, " asset"]) -> BalanceSheet:
    """Return the balance sheet of every account, leaves `(account,)`, at `price` (numeraire)."""
    accounts = venue.accounts
    held = select(price, accounts.collateral_assets)[:, None]
    owed = select(price, accounts.debt_assets)[:, None]
    return BalanceSheet(
        assets=jnp.sum(accounts.collateral * held, axis=0),
        debt=jnp.sum(accounts.debt * owed, axis=0),
    )


def balance_sheet(subject: Subject, price: Float[Array, " asset"] | None = None) -> BalanceSheet:
    """Return the balance sheet of a venue's borrowers, or of those of all venues of a system.

    Args:
        subject: a system or a venue.
        price: `(asset,)` in the numeraire; the market's mid where not given, which takes a system.

    Raises:
        ValueError: a venue without prices.
    """
    price = _price(subject, price)
    held, owed = _units(subject, price)
    return BalanceSheet(assets=jnp.sum(held * price), debt=jnp.sum(owed * price))


def debt_to_equity(subject: Subject, price: Float[Array, " asset"] | None = None) -> Array:
    """Return debt over equity, D / (A − D), of a venue or a system.

    0 where nothing is owed, infinite where something is and equity is zero or negative. Arguments
    and errors as in `balance_sheet`.
    """
    return balance_sheet(subject, price).debt_to_equity


def debt_to_equity_delta(
    subject: Subject, price: Float[Array, " asset"] | None = None
) -> Float[Array, " asset"]:
    """Return the derivative of debt-to-equity with respect to each log price, by autodiff.

    Each price moves alone, a pegged asset's as well; for an underlying that takes its pegged
    assets along, add their entries. NaN throughout where there is no positive equity: the ratio
    has no finite value there to differentiate. Arguments and errors as in `balance_sheet`.
    """
    asset_side, debt_side = debt_to_equity_delta_by_side(subject, price)
    return asset_side + debt_side


def debt_to_equity_delta_by_side(
    subject: Subject, price: Float[Array, " asset"] | None = None
) -> tuple[Float[Array, " asset"], Float[Array, " asset"]]:
    """Return the two parts of `debt_to_equity_delta`: through assets, −D·A_a/E², through debt.

    The second part is A·D_a/E²; the parts add.
    """
    price = _price(subject, price)
    held, owed = _units(subject, price)

    def ratio(asset_log_price: Array, debt_log_price: Array) -> Array:
        assets = jnp.sum(held * jnp.exp(asset_log_price))
        return BalanceSheet(
            assets=assets, debt=jnp.sum(owed * jnp.exp(debt_log_price))
        ).debt_to_equity

    x = jnp.log(price)
    asset_side, debt_side = jax.grad(ratio, argnums=(0, 1))(x, x)
    solvent = balance_sheet(subject, price).equity > 0
    return _where_solvent(solvent, asset_side), _where_solvent(solvent, debt_side)


def debt_to_equity_gamma(
    subject: Subject, price: Float[Array, " asset"] | None = None
) -> Float[Array, "asset asset"]:
    """Return the second derivatives of debt-to-equity in each pair of log prices.

    For debt D in what does not move against assets A in one asset that is D A (A + D) / E^3: how
    much faster leverage builds the farther prices have fallen. NaN throughout where there is no
    positive equity. Arguments and errors as in `balance_sheet`.
    """
    price = _price(subject, price)
    held, owed = _units(subject, price)

    def ratio(log_price: Array) -> Array:
        values = jnp.exp(log_price)
        return BalanceSheet(
            assets=jnp.sum(held * values), debt=jnp.sum(owed * values)
        ).debt_to_equity

    solvent = balance_sheet(subject, price).equity > 0
    return _where_solvent(solvent, jax.hessian(ratio)(jnp.log(price)))


def account_debt_to_equity_delta(
    venue: Venue, price: Float[Array, " asset"]
) -> Float[Array, "asset account"]:
    """Return `debt_to_equity_delta` of every account, NaN where it has no positive equity.

    Args:
        venue: the venue and its book.
        price: `(asset,)` in the numeraire.
    """

    def ratio(log_price: Array) -> Array:
        return account_balance_sheets(venue, jnp.exp(log_price)).debt_to_equity

    # Prices are few and accounts many: forward mode, one pass an asset.
    delta = jax.jacfwd(ratio)(jnp.log(price)).T
    return _where_solvent((account_balance_sheets(venue, price).equity > 0)[None, :], delta)


def solvency_report(system: System, price: Float[Array, " asset"] | None = None) -> dict[str, Any]:
    """Return balance sheets and deltas of the system and each venue as plain numbers, on the host.

    Entries `system` and `venues.<venue>`, each with `collateral_usd`, `debt_usd`, `equity_usd`,
    `shortfall_usd`, `debt_to_equity`, and `debt_to_equity_delta.<asset>` with its asset side apart
    in `debt_to_equity_asset_delta.<asset>`, for the assets that can be held or owed there. The
    shortfall is what accounts owe beyond their collateral: equity with limited liability, account
    by account, is plain equity plus this. Values are summed in float64; without equity the ratio
    is infinite and the deltas are NaN.

    Args:
        system: the system.
        price: `(asset,)` in the numeraire; the market's mid where not given.
    """
    price = _price(system, price)
    venues = [_venue_entry(system, venue, price) for venue in system.venues]
    whole = {
        **_totals([np.asarray(_sheets(v, price), np.float64) for v in system.venues]),
        **_deltas(system.assets, system.venues, *_delta_by_side(system, price)),
    }
    return {
        "system": whole,
        "venues": {v.name: entry for v, entry in zip(system.venues, venues, strict=True)},
    }


def _venue_entry(system: System, venue: Venue, price: Float[Array, " asset"]) -> dict[str, Any]:
    return {
        **_totals([np.asarray(_sheets(venue, price), np.float64)]),
        **_deltas(system.assets, (venue,), *_delta_by_side(venue, price)),
    }


_delta_by_side = jax.jit(debt_to_equity_delta_by_side)


@jax.jit
def _sheets(venue: Venue, price: Float[Array, " asset"]) -> Float[Array, "2 account"]:
    """Return assets and debt of every account, stacked."""
    sheet = account_balance_sheets(venue, price)
    return jnp.stack([sheet.assets, sheet.debt])


def _totals(sheets: list[np.ndarray]) -> dict[str, float]:
    """Return the figures of the accounts whose assets and debts are given as `(2, account)`."""
    assets, debt = np.concatenate(sheets, axis=1)
    total, owed = float(assets.sum()), float(debt.sum())
    equity = total - owed
    ratio = owed / equity if equity > 0 else (np.inf if owed > 0 else 0.0)
    return {
        "collateral_usd": total,
        "debt_usd": owed,
        "equity_usd": equity,
        "shortfall_usd": float(np.maximum(debt - assets, 0.0).sum()),
        "debt_to_equity": ratio,
    }


def _deltas(
    names: tuple[str, ...], venues: tuple[Venue, ...], asset_side: Array, debt_side: Array
) -> dict[str, dict[str, float]]:
    """Return the deltas by name of the assets that the venues know."""
    known = {a for v in venues for a in (*v.accounts.collateral_assets, *v.accounts.debt_assets)}
    by_asset, by_debt = np.asarray(asset_side, np.float64), np.asarray(debt_side, np.float64)
    return {
        "debt_to_equity_delta": {names[a]: float(by_asset[a] + by_debt[a]) for a in sorted(known)},
        "debt_to_equity_asset_delta": {names[a]: float(by_asset[a]) for a in sorted(known)},
    }


def _venues(subject: Subject) -> tuple[Venue, ...]:
    return subject.venues if isinstance(subject, System) else (subject,)


def _price(subject: Subject, price: Float[Array, " asset"] | None) -> Float[Array, " asset"]:
    if price is not None:
        return price
    if isinstance(subject, System):
        return subject.market.mid
    raise ValueError(f"{subject.name}: a venue has no market; give the price of every asset")


def _units(
    subject: Subject, price: Float[Array, " asset"]
) -> tuple[Float[Array, " asset"], Float[Array, " asset"]]:
    """Return the units held and owed of each asset: a plain sum is all that a ratio needs."""
    held, owed = jnp.zeros_like(price), jnp.zeros_like(price)
    for venue in _venues(subject):
        book, count = venue.accounts, price.shape[0]
        held = held + spread(jnp.sum(book.collateral, axis=1), book.collateral_assets, count)
        owed = owed + spread(jnp.sum(book.debt, axis=1), book.debt_assets, count)
    return held, owed


def _where_solvent(solvent: Array, delta: Array) -> Array:
    return jnp.where(solvent, delta, jnp.full_like(delta, jnp.nan))
