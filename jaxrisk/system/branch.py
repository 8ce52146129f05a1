"""The accounts of one branch of a stablecoin's issuer, over all tranches, and what closes them."""

import dataclasses

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.book import Tranche
from jaxrisk.system.system import VenueState
from jaxrisk.venue.deposit_pool import DepositPool
from jaxrisk.venue.stability_pool import PoolRefusal, redistribute, spendable

Book = tuple[Tranche, ...]
Accounts = Float[Array, " account"]


@pytree
class Branch:
    """Accounts of one collateral; every leaf is `(account,)`.

    Attributes:
        collateral_units: units of the book.
        debt_units: what the whole debt of the book has grown to, in today's units.
        held: fraction of the collateral still standing; above 1 after a redistribution.
        owed: fraction of the debt still standing.
        rate: interest rate the borrower has chosen; zero where the venue sets one.
    """

    collateral_units: Accounts
    debt_units: Accounts
    held: Accounts
    owed: Accounts
    rate: Accounts

    @property
    def collateral(self) -> Accounts:
        """Collateral still standing, in units."""
        return self.held * self.collateral_units

    @property
    def debt(self) -> Accounts:
        """Debt still standing, in today's units."""
        return self.owed * self.debt_units

    def less(
        self, collateral: Accounts, debt: Accounts, emptied: Bool[Array, " account"]
    ) -> "Branch":
        """Return the branch with units taken off each account; to exactly zero where emptied.

        Args:
            collateral: units taken; negative for what is added.
            debt: likewise.
            emptied: accounts that keep nothing of either side.
        """
        zero = jnp.zeros_like(self.held)
        return dataclasses.replace(
            self,
            held=jnp.where(emptied, zero, self.held - collateral / self.collateral_units),
            owed=jnp.where(emptied, zero, self.owed - debt / self.debt_units),
        )


@pytree
class Closing:
    """What the liquidations of a round moved in one branch; scalars unless said.

    Attributes:
        repaid: debt the pool paid.
        seized: collateral the pool got, in units.
        fee: collateral the callers got, in units.
        calls: accounts closed.
        refund: `(account,)` collateral the owners may claim, in units.
        depositor_loss: value of debt paid beyond the collateral got, summed over calls with a loss.
        borrower_loss: value of debt handed on beyond the collateral handed on, likewise.
        bad_debt: `(account,)` the sum of both losses, by the account that left them.
    """

    repaid: Float[Array, ""]
    seized: Float[Array, ""]
    fee: Float[Array, ""]
    calls: Float[Array, ""]
    refund: Accounts
    depositor_loss: Float[Array, ""]
    borrower_loss: Float[Array, ""]
    bad_debt: Accounts


def branches_of(
    book: Book, state: VenueState, count: int, growth: Float[Array, ""]
) -> list[Branch]:
    """Return the branches of a venue; the tranches of each are joined.

    Args:
        book: the venue's accounts in tranches.
        state: what still stands of them.
        count: number of branches.
        growth: of the debt since the opening.
    """
    found = []
    for branch in range(count):
        places = [i for i, tranche in enumerate(book) if tranche.category == branch]
        join = lambda parts: parts[0] if len(parts) == 1 else jnp.concatenate(parts)
        accounts = [book[i].accounts for i in places]
        debt = join([a.debt[0] for a in accounts])
        found.append(
            Branch(
                collateral_units=join([a.collateral[branch] for a in accounts]),
                debt_units=debt * growth,
                held=join([_row(state.collateral[i], branch) for i in places]),
                owed=join([state.debt[i][0] for i in places]),
                rate=join(
                    [jnp.zeros_like(a.debt[0]) if a.rate is None else a.rate for a in accounts]
                ),
            )
        )
    return found


def _row(fractions: Float[Array, "share account"], branch: int) -> Accounts:
    return fractions[branch if fractions.shape[0] > 1 else 0]


def split(book: Book, branches: list[Accounts]) -> list[Accounts]:
    """Return values by branch cut into tranches, in the order of the book."""
    at, parts = [0] * len(branches), []
    for tranche in book:
        branch, count = tranche.category, tranche.accounts.count
        parts.append(branches[branch][at[branch] : at[branch] + count])
        at[branch] += count
    return parts


def with_branches(book: Book, state: VenueState, branches: list[Branch]) -> VenueState:
    """Return the venue's state with what the branches say still stands."""
    held, owed = split(book, [b.held for b in branches]), split(book, [b.owed for b in branches])
    wide = lambda new, old: jnp.broadcast_to(new[None, :], old.shape)
    return dataclasses.replace(
        state,
        collateral=tuple(wide(n, o) for n, o in zip(held, state.collateral, strict=True)),
        debt=tuple(wide(n, o) for n, o in zip(owed, state.debt, strict=True)),
    )


def closed(
    slot: DepositPool,
    index: int,
    branch: Branch,
    deposits: Float[Array, ""],
    *,
    price: Float[Array, ""],
    minimum: Float[Array, ""],
    mid: tuple[Float[Array, ""], Float[Array, ""]],
) -> tuple[Branch, Closing]:
    """Return the branch after all calls that may be made, and what they moved.

    Args:
        slot: the venue's rules.
        index: of the branch.
        branch: its accounts.
        deposits: of its pool.
        price: of a unit of collateral in the stablecoin, as the venue sees it.
        minimum: ratio below which an account can always be called.
        mid: market's mid of a unit of collateral and of the stablecoin.
    """

    def call(branch: Branch) -> tuple[Branch, Closing]:
        collateral, debt = branch.collateral, branch.debt
        pool = spendable(deposits, slot.kept)
        moves = slot.liquidation.calls(
            index, collateral, debt, price=price, minimum=minimum, pool=pool
        )
        gone = moves.refusal == PoolRefusal.NONE
        others = (collateral > 0) & ~gone
        hand = lambda amount: redistribute(jnp.sum(amount), collateral, others)
        after = branch.less(
            -hand(moves.redistributed_collateral), -hand(moves.redistributed_debt), gone
        )
        beyond = lambda debt, units: _at_least_zero(debt * mid[1] - units * mid[0])
        lost = beyond(moves.repaid, moves.seized)
        handed = beyond(moves.redistributed_debt, moves.redistributed_collateral)
        return after, Closing(
            repaid=jnp.sum(moves.repaid),
            seized=jnp.sum(moves.seized),
            fee=jnp.sum(moves.fee),
            calls=jnp.sum(gone.astype(debt.dtype)),
            refund=moves.refund,
            depositor_loss=jnp.sum(lost),
            borrower_loss=jnp.sum(handed),
            bad_debt=lost + handed,
        )

    def nothing(branch: Branch) -> tuple[Branch, Closing]:
        none, zero = jnp.zeros_like(branch.held), jnp.zeros_like(price)
        return branch, Closing(
            repaid=zero, seized=zero, fee=zero, calls=zero, refund=none,
            depositor_loss=zero, borrower_loss=zero, bad_debt=none,
        )  # fmt: skip

    due = slot.liquidation.due(branch.collateral, branch.debt, price, minimum)
    return lax.cond(due, call, nothing, branch)


def _at_least_zero(x: Array) -> Array:
    return jnp.where(x > 0, x, jnp.zeros_like(x))
