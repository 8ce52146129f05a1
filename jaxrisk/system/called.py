"""Calls on the accounts of a tranche that may be called, and on no others: for reverse mode.

Forwards it is cheaper to look at every account. Backwards an account that is not called has nothing
to say, and what was not called need not be kept.
"""

import dataclasses
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.chosen import Chosen, Columns, choose, total_over, with_changed
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.book import Tranche
from jaxrisk.system.calls import Calls, Standing, callable_accounts, wanted_calls
from jaxrisk.system.offer import Moved
from jaxrisk.system.policy import Keeper, Prices
from jaxrisk.venue.account import take
from jaxrisk.venue.venue import Venue

DECIDED = "decided"
"""Name of what is kept of a step for reverse mode: who is called, and what the calls moved."""


@pytree
class Setting:
    """What decides calls besides the accounts' own positions.

    Attributes:
        keeper: who calls.
        venue: whose rules; its book is empty here.
        tranche: category of the accounts; empty too.
        prices: prices the calls work with.
        width: of the smooth twin; `None` for the exact rule.
    """

    keeper: Keeper
    venue: Venue
    tranche: Tranche
    prices: Prices
    width: Float[Array, ""] | None

    def calls(self, columns: Columns) -> Calls:
        """Return the calls on accounts given by the fractions that stand and their units."""
        left, owed, collateral, debt = columns
        accounts = dataclasses.replace(self.tranche.accounts, collateral=collateral, debt=debt)
        tranche = dataclasses.replace(self.tranche, accounts=accounts)
        return wanted_calls(self.keeper, self.venue, tranche, (left, owed), self.prices, self.width)


@pytree
class Called:
    """Calls that keepers would make, known by who is called.

    Attributes:
        setting: what decides each call.
        columns: fractions and units of collateral and debt of all accounts of the tranche.
        chosen: who may be called.
        moved: the units all calls would move, at opening units of debt.
    """

    setting: Setting
    columns: Columns
    chosen: Chosen
    moved: Moved

    def gone_through(self, standing: Standing, ration: Float[Array, ""]) -> Standing:
        """Return what stands after a share `ration` of every call has gone through.

        It is read from `columns`, which is `standing` handed on.
        """
        del standing
        shared = (self.setting, ration)
        collateral, debt = with_changed(_after, shared, self.columns, self.chosen)
        return collateral, debt


def called(
    keeper: Keeper,
    venue: Venue,
    tranche: Tranche,
    standing: Standing,
    prices: Prices,
    width: Float[Array, ""] | None,
    ready: Bool[Array, " account"] | None = None,
) -> Called:
    """Return the calls that keepers would make; arguments are those of `wanted_calls`."""
    open_to_calls = callable_accounts(*lax.stop_gradient((venue, tranche, standing, prices, width)))
    chosen = _kept(choose(open_to_calls if ready is None else open_to_calls & ready))
    book, nobody = tranche.accounts, np.zeros(0, np.int32)
    setting = Setting(
        keeper=keeper,
        venue=dataclasses.replace(venue, accounts=take(venue.accounts, nobody)),
        tranche=dataclasses.replace(tranche, accounts=take(book, nobody)),
        prices=prices,
        width=width,
    )
    columns = (*standing, book.collateral, book.debt)
    moved, columns = total_over(_moved, setting, columns, chosen)
    return Called(setting=setting, columns=columns, chosen=chosen, moved=_kept(moved))


def _kept(tree: Any) -> Any:
    return jax.tree.map(lambda x: checkpoint_name(x, DECIDED), tree)


def _moved(setting: Setting, columns: Columns) -> Moved:
    return setting.calls(columns).moved


def _after(shared: tuple[Setting, Float[Array, ""]], columns: Columns) -> Columns:
    (setting, ration), (collateral, debt) = shared, columns[:2]
    return setting.calls(columns).gone_through((collateral, debt), ration)
