"""Owners with accounts on several venues: what they have and are exposed to, all taken together.

Venues do not know each other: margin and health are those of each account, and a hedge elsewhere
keeps nobody from being called. Only here are an owner's accounts netted.
"""

from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.market.oracle import opening_prices
from jaxrisk.market.state import Market
from jaxrisk.measure.solvency import account_balance_sheets
from jaxrisk.system.execution import play_of
from jaxrisk.system.system import System
from jaxrisk.venue.health import health_factor
from jaxrisk.venue.venue import Venue


def account_equity(venue: Venue, price: Float[Array, " asset"]) -> Float[Array, " account"]:
    """Return what each account has at the opening, less what it owes, at `price` (numeraire)."""
    margin = play_of(venue).margin
    if margin is None:
        return account_balance_sheets(venue, price).equity
    return margin(venue, price).equity


def account_exposure(venue: Venue, price: Float[Array, " asset"]) -> Float[Array, "asset account"]:
    """Return the change of each account's equity by a log price of each asset, numeraire."""
    slope = jax.jacfwd(lambda p: account_equity(venue, p))(price)
    return slope.T * price[:, None]


def account_health(venue: Venue, price: Float[Array, " asset"]) -> Float[Array, " account"]:
    """Return equity over the margin at which an account is called; of loans the health factor.

    Infinite where nothing is held that needs margin. Below 1 an account is called.

    Args:
        venue: the venue and its book.
        price: as the venue sees them.
    """
    margin = play_of(venue).margin
    return health_factor(venue, price) if margin is None else margin(venue, price).health


def owner_table(system: System, owners: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
    """Return one row an owner, in order of first appearance, on the host.

    `owner`, `accounts`, `venues`, `equity_usd`, `gross_exposure_usd`, `net_exposure_usd` (sums over
    assets but for those whose price does not vary at the opening, of what single accounts and what
    all of them together are exposed to), `lowest_health` (of one account: never netted).

    Args:
        system: the system.
        owners: by venue, the owner of each account in the order of the book; an account with an
            empty name is an owner of its own.

    Raises:
        ValueError: not one name an account.
    """
    names, places, equity, exposure, health = [], [], [], [], []
    varies = np.asarray(system.market.variance) > 0
    for v, (venue, own) in enumerate(zip(system.venues, owners, strict=True)):
        if len(own) != venue.accounts.count:
            raise ValueError(f"{venue.name}: {len(own)} owners of {venue.accounts.count} accounts")
        names += [name or f"{venue.name} {i}" for i, name in enumerate(own)]
        places += [v] * len(own)
        figures = [np.asarray(x, np.float64) for x in _figures(venue, system.market)]
        equity.append(figures[0])
        exposure.append(figures[1][varies])
        health.append(figures[2])
    order = {name: i for i, name in enumerate(dict.fromkeys(names))}
    row = np.array([order[name] for name in names])
    moved = np.concatenate(exposure, axis=1)
    total = lambda values: np.bincount(row, weights=values, minlength=len(order))
    lowest = np.full(len(order), np.inf)
    np.minimum.at(lowest, row, np.concatenate(health))
    pairs = np.unique(np.stack([row, places]), axis=1)[0]
    net = np.stack([total(values) for values in moved])
    return {
        "owner": np.array(list(order), dtype=object),
        "accounts": np.bincount(row, minlength=len(order)),
        "venues": np.bincount(pairs, minlength=len(order)),
        "equity_usd": total(np.concatenate(equity)),
        "gross_exposure_usd": total(np.abs(moved).sum(axis=0)),
        "net_exposure_usd": np.abs(net).sum(axis=0),
        "lowest_health": lowest,
    }


@jax.jit
def _figures(venue: Venue, market: Market) -> tuple[Array, Array, Array]:
    """Return equity, exposure and health of the accounts of a venue at the opening."""
    mid, seen = market.mid, opening_prices(venue.oracle, market)
    return account_equity(venue, mid), account_exposure(venue, mid), account_health(venue, seen)
