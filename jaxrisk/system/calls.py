"""The calls keepers would make on one tranche of accounts, and what they do if they go through."""

from typing import cast

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import gate, positive_or_one, smaller
from jaxrisk.numerics.indexing import row_sum
from jaxrisk.numerics.matmul import full_matmul
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.book import Tranche
from jaxrisk.system.offer import Moved
from jaxrisk.system.policy import Keeper, Prices
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.close import WholeRule
from jaxrisk.venue.venue import Venue

Standing = tuple[Float[Array, "share account"], Float[Array, "share account"]]


@pytree
class Calls:
    """Calls as fractions of the book, before rationing; `(share, account)` where not stated.

    Attributes:
        seized: collateral that would be taken.
        repaid: debt that would be repaid.
        written_off: debt that would be recognised as bad.
        moved: the units they would move, at opening units of debt.
        refund: `(account,)` value that each borrower would get back; `None` where accounts are not
            closed whole.
    """

    seized: Float[Array, "share account"]
    repaid: Float[Array, "share account"]
    written_off: Float[Array, "share account"]
    moved: Moved
    refund: Float[Array, " account"] | None = None

    def gone_through(self, standing: Standing, ration: Float[Array, ""]) -> Standing:
        """Return what stands after a share `ration` of every call has gone through.

        An account behaves as a crowd of identical small ones of which that share is called.
        """
        collateral, debt = standing
        return (
            collateral - ration * self.seized,
            debt - ration * (self.repaid + self.written_off),
        )


def wanted_calls(
    keeper: Keeper,
    venue: Venue,
    tranche: Tranche,
    standing: Standing,
    prices: Prices,
    width: Float[Array, ""] | None,
    ready: Bool[Array, " account"] | None = None,
) -> Calls:
    """Return the calls that keepers would make: the exact rule on every account at once.

    Only of accounts that are `ready`, where not all are.
    """
    view = keeper.choice_on(venue).look(venue, tranche, prices, standing)
    position = view.position
    affordable = position.affordable
    repaid = smaller(venue.close.largest(position, width), affordable)
    # What is seized is in proportion to what is repaid, and exactly all where all is paid for.
    share, surplus, refund = jnp.ones_like(affordable), None, None
    if venue.close.whole:
        surplus = affordable - repaid
        refund = surplus - cast(WholeRule, venue.close).charge(position, surplus)
    else:
        share = jnp.where(affordable > 0, repaid / positive_or_one(affordable), share)
    weight = gate(position.total_debt - position.backing, position.total_debt, width)
    pays = keeper.pays(venue, view, prices, share, repaid, surplus, width)
    weight = weight if pays is None else weight * pays
    weight = weight if ready is None else jnp.where(ready, weight, jnp.zeros_like(weight))
    collateral, debt = standing
    seized = _picked(collateral * (weight * share)[None, :], view.collateral_pick)
    repaid = debt * (weight * repaid)[None, :] / positive_or_one(position.debt)[None, :]
    repaid = _picked(repaid, view.debt_pick)
    if width is None and view.collateral_pick is None:
        # Everything seized is seen in the fractions themselves; testing them again is cheaper
        # than the amounts.
        exhausted, left = seized >= collateral, debt - repaid
    else:
        exhausted = ((share >= 1) & (position.collateral >= position.total_collateral))[None, :]
        left = weight[None, :] * debt - repaid
    written_off = venue.recognition.write_off(exhausted, left, position.total_debt)
    accounts, zero = tranche.accounts, jnp.zeros((), seized.dtype)
    returned = charged = zero
    if surplus is not None and refund is not None:
        refund = weight * refund
        returned = jnp.sum(refund)
        charged = jnp.sum(weight * surplus) - returned
    return Calls(
        seized=seized,
        repaid=repaid,
        written_off=written_off,
        moved=Moved(
            seized=units_behind(accounts.collateral, seized),
            repaid=units_behind(accounts.debt, repaid),
            written_off=units_behind(accounts.debt, written_off),
            refund=returned,
            calls=_count(keeper, repaid),
            charge=charged,
        ),
        refund=refund,
    )


def callable_accounts(
    venue: Venue,
    tranche: Tranche,
    standing: Standing,
    prices: Prices,
    width: Float[Array, ""] | None,
) -> Bool[Array, " account"]:
    """Return which accounts may be called at all: far cheaper than asking for what."""
    threshold = venue.collateral.liquidation_threshold[tranche.category]
    backing = value_behind(tranche.accounts.collateral, standing[0], prices.held * threshold)
    debt = value_behind(tranche.accounts.debt, standing[1], prices.owed)
    # Sums may round otherwise here than in the call; the gate of a smooth twin opens early.
    slack = 64.0 * jnp.finfo(debt.dtype).eps
    early = slack if width is None else slack + width
    return debt * (1.0 + early) > backing


def no_calls(accounts: Accounts, standing: Standing, *, whole: bool) -> Calls:
    """Return calls that move nothing, of accounts that are closed whole or not."""
    dtype = standing[0].dtype
    none = jnp.zeros(len(accounts.debt_assets), dtype)
    collateral, debt = jnp.zeros_like(standing[0]), jnp.zeros_like(standing[1])
    return Calls(
        seized=collateral,
        repaid=debt,
        written_off=debt,
        moved=Moved(
            seized=jnp.zeros(len(accounts.collateral_assets), dtype),
            repaid=none,
            written_off=none,
            refund=jnp.zeros((), dtype),
            calls=jnp.zeros((), dtype),
            charge=jnp.zeros((), dtype),
        ),
        refund=jnp.zeros(accounts.count, dtype) if whole else None,
    )


def _count(keeper: Keeper, repaid: Float[Array, "share account"]) -> Float[Array, ""]:
    """Return how many calls are made; 0 where they are free, which saves the counting."""
    if keeper.cost is None:
        return jnp.zeros((), repaid.dtype)
    return jnp.sum((row_sum(repaid) > 0).astype(repaid.dtype))


def _picked(
    moved: Float[Array, "share account"], pick: Float[Array, "share account"] | None
) -> Float[Array, "share account"]:
    return moved if pick is None else moved * pick


def units_behind(
    units: Float[Array, "held account"], fraction: Float[Array, "share account"]
) -> Float[Array, " held"]:
    """Return the units of each asset that stand behind fractions of the book."""
    if fraction.shape[0] == 1:
        return full_matmul(units, fraction[0])
    return jnp.sum(units * fraction, axis=1)


def value_behind(
    units: Float[Array, "held account"],
    fraction: Float[Array, "share account"],
    price: Float[Array, " held"],
) -> Float[Array, " account"]:
    """Return the value of each account that stands behind fractions of the book."""
    return row_sum(units * fraction * price[:, None])
