"""What owners of accounts do before anybody calls them: top up, sell, borrow more, or give.

A policy says what each account wants at the prices of the moment; `jaxrisk.system.act` plays it as
far as cash, liquidity and the venue allow. Owners who have nothing left in an account leave it.
"""

from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import gate, positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree

PerAccount = Float[Array, " account"]


@pytree
class Stance:
    """Accounts as their owners look at them; leaves are `(account,)`, in the numeraire.

    Attributes:
        collateral: at the market's mid.
        debt: at the market's mid.
        backing: threshold-weighted collateral, at the prices the venue sees.
        power: collateral weighted by the loan to value of new debt, at the prices the venue sees.
        owed: debt at the prices the venue sees.
    """

    collateral: PerAccount
    debt: PerAccount
    backing: PerAccount
    power: PerAccount
    owed: PerAccount

    @property
    def solvent(self) -> PerAccount:
        """1 where the owner has something left in the account, else 0."""
        return (self.collateral > self.debt).astype(self.debt.dtype)


@pytree
class Wish:
    """What accounts want; leaves are `(account,)`, `None` where a policy never wants it.

    Attributes:
        cash: to be turned into more of the account's collateral, numeraire.
        sold: part of the collateral to be sold, whose proceeds repay debt, in [0, 1].
        drawn: debt to be drawn and turned into more of its collateral, numeraire.
        discount: mean fraction of the mid that sales may lose; `None` for any.
    """

    cash: PerAccount | None = None
    sold: PerAccount | None = None
    drawn: PerAccount | None = None
    discount: Float[Array, ""] | None = None

    def of(self, able: Bool[Array, " account"]) -> "Wish":
        """Return the wish of the accounts that are able to trade."""
        only = lambda x: None if x is None else jnp.where(able, x, jnp.zeros_like(x))
        return Wish(
            cash=only(self.cash),
            sold=only(self.sold),
            drawn=only(self.drawn),
            discount=self.discount,
        )


class OwnerPolicy(Protocol):
    """What owners do with accounts of one risk category."""

    def wish(self, stance: Stance, width: Float[Array, ""] | None) -> Wish:
        """Return what each account wants.

        Args:
            stance: the accounts.
            width: of the smooth trigger; `None` for the exact rule.
        """
        ...


@pytree
class TopUp:
    """Adds collateral, in the account's mix, until health is what the owner wants.

    Attributes:
        below: health factor below which the owner acts.
        target: health factor afterwards.
    """

    below: Float[Array, ""]
    target: Float[Array, ""]

    def wish(self, stance: Stance, width: Float[Array, ""] | None) -> Wish:
        """Return the cash that brings accounts to the target: `(target owed / backing - 1) C`."""
        weight = stance.solvent * _in_need(stance, self.below, width)
        more = self.target * stance.owed / positive_or_one(stance.backing) - 1.0
        more = jnp.where(stance.backing > 0, more, jnp.zeros_like(more))
        return Wish(cash=_at_least_zero(weight * more * stance.collateral))


@pytree
class Deleverage:
    """Sells collateral and repays until health is what the owner wants, where sales can exit.

    Attributes:
        below: health factor below which the owner acts.
        target: health factor afterwards, at the mid: slippage leaves less.
        largest_discount: mean fraction of the mid that sales of all such owners together may lose;
            they stop there.
    """

    below: Float[Array, ""]
    target: Float[Array, ""]
    largest_discount: Float[Array, ""]

    def wish(self, stance: Stance, width: Float[Array, ""] | None) -> Wish:
        """Return the part sold: `s` of `(1 - s) backing = target owed (1 - s C / D)`, at most all.

        Where selling lowers health nothing is sold.
        """
        need = self.target * stance.owed
        reach = need * stance.collateral / positive_or_one(stance.debt) - stance.backing
        part = jnp.where(reach > 0, (need - stance.backing) / positive_or_one(reach), 0.0)
        weight = stance.solvent * _in_need(stance, self.below, width)
        return Wish(sold=weight * jnp.clip(part, 0.0, 1.0), discount=self.largest_discount)


@pytree
class Band:
    """Keeps collateral over debt inside a band: sells to repay below it, draws and buys above it.

    Attributes:
        lowest: collateral over debt below which collateral is sold.
        highest: collateral over debt above which more is drawn.
        target: collateral over debt afterwards, above 1, at the mid.
    """

    lowest: Float[Array, ""]
    highest: Float[Array, ""]
    target: Float[Array, ""]

    def wish(self, stance: Stance, width: Float[Array, ""] | None) -> Wish:
        """Return the value `x` moved, down or up: `C -+ x = target (D -+ x)`.

        New debt stays within the loan to value of the collateral there is.
        """
        collateral, debt = stance.collateral, stance.debt
        gap = (self.target * debt - collateral) / (self.target - 1.0)
        low = gate(self.lowest * debt - collateral, debt, width) * stance.solvent
        high = gate(collateral - self.highest * debt, debt, width)
        room = _at_least_zero(stance.power - stance.owed)
        high = jnp.where(debt > 0, high, jnp.zeros_like(high))
        sold = _at_least_zero(gap) / positive_or_one(collateral)
        return Wish(
            sold=low * jnp.clip(sold, 0.0, 1.0),
            drawn=high * smaller(_at_least_zero(-gap), room),
        )


class Giver(Protocol):
    """What accounts give up where another account of their owner needs cash."""

    def gives(self, stance: Stance) -> tuple[PerAccount, PerAccount]:
        """Return the parts of its collateral and of its debt that an account may close."""
        ...


@pytree
class Withdraw:
    """Free collateral is taken out and sold.

    Attributes:
        keep: health factor that the account keeps.
    """

    keep: Float[Array, ""]

    def gives(self, stance: Stance) -> tuple[PerAccount, PerAccount]:
        """Return `1 - keep owed / backing` of the collateral, and no debt."""
        kept = self.keep * stance.owed / positive_or_one(stance.backing)
        part = jnp.where(stance.backing > 0, 1.0 - kept, jnp.zeros_like(kept))
        return _at_least_zero(part), jnp.zeros_like(part)


@pytree
class Unwind:
    """The account is wound down in proportion: collateral is sold, its debt repaid.

    Attributes:
        largest: part of what stands that may be closed in a step, in [0, 1].
    """

    largest: Float[Array, ""]

    def gives(self, stance: Stance) -> tuple[PerAccount, PerAccount]:
        """Return the same part of collateral and debt."""
        part = self.largest * stance.solvent
        return part, part


def _in_need(stance: Stance, below: Float[Array, ""], width: Float[Array, ""] | None) -> PerAccount:
    return gate(below * stance.owed - stance.backing, stance.owed, width)


def _at_least_zero(x: PerAccount) -> PerAccount:
    return jnp.where(x > 0, x, jnp.zeros_like(x))
