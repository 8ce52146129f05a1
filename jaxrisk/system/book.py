"""A venue's accounts in tranches by health, so that those out of reach can be skipped exactly."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.indexing import select
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.account import Accounts, take
from jaxrisk.venue.health import value_accounts
from jaxrisk.venue.venue import Venue


@pytree
class Tranche:
    """Accounts of similar health.

    Attributes:
        accounts: the accounts.
        reach: lowest health factor among them at the opening prices; infinite without debt.
    """

    accounts: Accounts
    reach: Float[Array, ""]


def tranches(
    venue: Venue, seen: Float[Array, " asset"], count: int
) -> tuple[tuple[Tranche, ...], Int[Array, " account"]]:
    """Return the venue's accounts in `count` tranches, weakest first, and their order.

    Args:
        venue: the venue and its book.
        seen: `(asset,)` opening prices as the venue sees them.
        count: number of tranches; 1 keeps the book as it is.
    """
    accounts = venue.accounts
    values = value_accounts(accounts, venue.collateral.liquidation_threshold, seen)
    health = jnp.where(values.debt > 0, values.backing / positive_or_one(values.debt), jnp.inf)
    if count == 1:
        order = jnp.arange(accounts.count)
        return (Tranche(accounts=accounts, reach=jnp.min(health)),), order
    # The split only decides what is skipped; it must not carry derivatives.
    order = jnp.argsort(jax.lax.stop_gradient(health))
    cuts = np.linspace(0, accounts.count, count + 1).astype(int)
    parts = tuple(order[a:b] for a, b in zip(cuts[:-1], cuts[1:], strict=True))
    book = tuple(
        Tranche(
            accounts=take(accounts, part), reach=jax.lax.stop_gradient(jnp.min(health[part]))
        )
        for part in parts
    )
    return book, order


def within_reach(
    tranche: Tranche,
    touched: Bool[Array, ""],
    venue: Venue,
    opening: Market,
    seen: Float[Array, " asset"],
    growth: Float[Array, " debt_asset"],
) -> Bool[Array, ""]:
    """Return whether any account of the tranche can be liquidated at the seen prices.

    Health is a ratio of sums with non-negative weights, so for accounts that were never touched it
    falls at most by (worst collateral move) / (worst debt move).
    """
    _, before = venue.oracle.see(venue.oracle.init(opening), opening)
    change = seen / before
    backing = jnp.min(select(change, tranche.accounts.collateral_assets))
    owed = jnp.max(select(change, tranche.accounts.debt_assets) * growth)
    # One part in a thousand of slack covers rounding of the health factors themselves.
    return touched | (tranche.reach * backing < 1.001 * owed)
