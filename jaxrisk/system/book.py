"""A venue's accounts in tranches: one risk category each, and of similar health in large books.

Within a tranche every rule has one set of coefficients, so nothing is looked up per account. In a
large book a tranche out of reach of liquidation is skipped, exactly.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.market.oracle import opening_prices
from jaxrisk.market.state import Market
from jaxrisk.numerics.indexing import row_totals, select
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.venue.account import Accounts, take
from jaxrisk.venue.health import health_factor
from jaxrisk.venue.level_close import LevelClose
from jaxrisk.venue.venue import Venue


@pytree
class Tranche:
    """Accounts of one risk category and of similar health.

    Attributes:
        accounts: the accounts.
        reach: lowest health factor among them at the opening prices; infinite without debt.
        owed: `(debt_asset,)` opening units owed by all of them.
        category: index of their risk category.
        skippable: whether the tranche is skipped while it is out of reach.
        issuers: accounts whose equity is behind a claim: index in the venue's book, column here.
    """

    accounts: Accounts
    reach: Float[Array, ""]
    owed: Float[Array, " debt_asset"]
    category: int = static()
    skippable: bool = static(default=False)
    issuers: tuple[tuple[int, int], ...] = static(default=())


@pytree
class Layout:
    """Which accounts of a venue form which tranche.

    Attributes:
        members: per tranche, indices of its accounts in the venue's book.
        reach: per tranche, lowest opening health factor.
        categories: per tranche, its risk category.
        skippable: per tranche, whether it is skipped while out of reach.
        issuers: per tranche, accounts whose equity is behind a claim, as in `Tranche`.
    """

    members: tuple[Int[Array, " member"], ...]
    reach: tuple[Float[Array, ""], ...]
    categories: tuple[int, ...] = static()
    skippable: tuple[bool, ...] = static()
    issuers: tuple[tuple[tuple[int, int], ...], ...] = static()

    @property
    def order(self) -> np.ndarray:
        """Account indices in tranche order."""
        return np.concatenate([np.asarray(m) for m in self.members])


NO_TRANCHES = Layout(members=(), reach=(), categories=(), skippable=(), issuers=())
"""The cut of a book that is not played account by account."""


def lay_out(
    venue: Venue, market: Market, health_groups: int, issuers: Sequence[int] = ()
) -> Layout:
    """Return the tranches of a venue; works on concrete numbers, outside of any trace.

    Args:
        venue: the venue and its book.
        market: the opening market.
        health_groups: into how many groups by health each category is cut; more than one makes
            tranches skippable. A vault drawn down together stays whole.
        issuers: accounts whose equity is behind a claim.
    """
    if isinstance(venue.close, LevelClose):
        # Whether it sells what it took over hangs on all accounts, in reach or not.
        health_groups = 1
    seen = opening_prices(venue.oracle, market)
    health = np.asarray(health_factor(venue, seen))
    category = np.asarray(venue.accounts.category)
    members, reach, categories, skippable = [], [], [], []
    for name in np.unique(category):
        inside = np.flatnonzero(category == name)
        if health_groups > 1:
            inside = inside[np.argsort(health[inside], kind="stable")]
        for part in np.split(inside, _cuts(len(inside), health_groups)):
            skippable.append(health_groups > 1)
            members.append(jnp.asarray(part))
            reach.append(jnp.asarray(health[part].min(), seen.dtype))
            categories.append(int(name))
    return Layout(
        members=tuple(members),
        reach=tuple(reach),
        categories=tuple(categories),
        skippable=tuple(skippable),
        issuers=tuple(_found(issuers, np.asarray(part)) for part in members),
    )


def _found(issuers: Sequence[int], members: np.ndarray) -> tuple[tuple[int, int], ...]:
    """Return each of the accounts that is among the members, with its place there."""
    return tuple((i, int(np.flatnonzero(members == i)[0])) for i in issuers if i in members)


def _cuts(accounts: int, groups: int) -> list[int]:
    """Return where to cut accounts sorted by health, weakest first, into equal groups.

    Groups of one size are alike in shape, and what is alike compiles faster.
    """
    cuts = {round(accounts * k / groups) for k in range(1, groups)}
    return sorted(cut for cut in cuts if 0 < cut < accounts)


def tranches(venue: Venue, layout: Layout) -> tuple[Tranche, ...]:
    """Return the venue's accounts cut as `layout` says; derivatives flow through positions."""
    cut = zip(
        layout.members,
        layout.reach,
        layout.categories,
        layout.skippable,
        layout.issuers,
        strict=True,
    )
    book = []
    for members, reach, category, skippable, issuers in cut:
        accounts = take(venue.accounts, members)
        book.append(
            Tranche(
                accounts=accounts,
                reach=reach,
                owed=row_totals(accounts.debt),
                category=category,
                skippable=skippable,
                issuers=issuers,
            )
        )
    return tuple(book)


def uncut(venue: Venue, issuers: Sequence[int] = ()) -> tuple[Tranche, ...]:
    """Return all accounts of a venue as one tranche: to look at, not to be called, in a trace too.

    Args:
        venue: the venue and its book.
        issuers: accounts whose equity is behind a claim.
    """
    accounts = venue.accounts
    everything = Tranche(
        accounts=accounts,
        reach=jnp.zeros((), accounts.collateral.dtype),
        owed=row_totals(accounts.debt),
        category=0,
        issuers=tuple((i, i) for i in issuers),
    )
    return (everything,)


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
    change = seen / opening_prices(venue.oracle, opening)
    backing = jnp.min(select(change, tranche.accounts.collateral_assets))
    owed = jnp.max(select(change, tranche.accounts.debt_assets) * growth)
    # One part in a thousand of slack covers rounding of the health factors themselves.
    return touched | (tranche.reach * backing < 1.001 * owed)
