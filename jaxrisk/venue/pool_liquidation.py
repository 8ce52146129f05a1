"""All liquidations that keepers would call at once on one branch of a system with a deposit pool.

Callers are paid, so they call whatever may be called, the least covered account first. What each
call moves is the exact rule; here stands only what the calls before it leave of the pool, and of
the state of emergency. The best covered account is never called: one is always left standing.
"""

import dataclasses
from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.prefix import amount_ahead
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.penalty_liquidation import Branch, PenaltyRules, penalty_calls
from jaxrisk.venue.recovery_mode import Borrowers, RecoveryRules, recovery_call, system_ratio
from jaxrisk.venue.stability_pool import PoolCall, PoolRefusal, collateral_ratio, only_where

Accounts = Float[Array, " account"]


class PoolLiquidation(Protocol):
    """What every kind of liquidation against a pool answers."""

    def due(
        self, collateral: Accounts, debt: Accounts, price: Float[Array, ""], minimum: Accounts
    ) -> Bool[Array, ""]:
        """Return whether any account may be called.

        Args:
            collateral: of each account, in units.
            debt: of each account, in the stablecoin.
            price: of one unit of collateral, in the stablecoin.
            minimum: ratio below which an account can always be called, `()`.
        """
        ...

    def calls(
        self,
        branch: int,
        collateral: Accounts,
        debt: Accounts,
        *,
        price: Float[Array, ""],
        minimum: Float[Array, ""],
        pool: Float[Array, ""],
    ) -> PoolCall:
        """Return what the calls move; the accounts with `PoolRefusal.NONE` are closed whole.

        Args:
            branch: index of the branch.
            collateral: of each account, in units.
            debt: of each account, in the stablecoin.
            price: of one unit of collateral, in the stablecoin.
            minimum: ratio below which an account can always be called.
            pool: what the pool may pay, see `spendable`.
        """
        ...


@pytree
class RecoveryLiquidation:
    """Everything goes to the pool or the others; more accounts are called in recovery mode.

    An account above the minimum ratio is called only if the pool, at its turn, pays all of its
    debt, and only while the calls before it have not ended recovery mode.

    Source: Liquity v1 TroveManager._getTotalsFromLiquidateTrovesSequence_RecoveryMode.

    Attributes:
        critical_ratio: of all collateral to all debt, below which recovery mode begins.
        fee_share: part of the taken collateral that is paid to the caller.
    """

    critical_ratio: Float[Array, ""]
    fee_share: Float[Array, ""]

    def due(
        self, collateral: Accounts, debt: Accounts, price: Float[Array, ""], minimum: Accounts
    ) -> Bool[Array, ""]:
        """Return whether any account may be called."""
        ratio = collateral_ratio(collateral, debt, jnp.broadcast_to(price, debt.shape))
        system = system_ratio(Borrowers(collateral=collateral, debt=debt), price)
        bound = jnp.where((system < self.critical_ratio) & (system > minimum), system, minimum)
        return jnp.any(ratio < bound)

    def calls(
        self,
        branch: int,
        collateral: Accounts,
        debt: Accounts,
        *,
        price: Float[Array, ""],
        minimum: Float[Array, ""],
        pool: Float[Array, ""],
    ) -> PoolCall:
        """Return what the calls move, least covered account first."""
        del branch
        rules = RecoveryRules(
            minimum_ratio=minimum, critical_ratio=self.critical_ratio, fee_share=self.fee_share
        )
        borrowers, zero = Borrowers(collateral=collateral, debt=debt), jnp.zeros_like(debt)
        ratio = collateral_ratio(collateral, debt, jnp.broadcast_to(price, debt.shape))
        best = jnp.max(jnp.where(debt > 0, ratio, -jnp.inf))
        recovering = system_ratio(borrowers, price) < self.critical_ratio
        called = (debt > 0) & (ratio < best)
        below = called & (ratio < minimum)
        capped = called & ~below & recovering & (debt <= pool)
        paid = (below & ~(recovering & (ratio <= 1))) | capped
        left = pool - amount_ahead(jnp.where(paid, debt, zero), ratio)
        left = jnp.where(left > 0, left, zero)
        call = recovery_call(rules, borrowers, price=price, pool=left)
        call = only_where((below | capped) & (call.refusal == PoolRefusal.NONE), call)
        # The mode at an account's turn: all before it have left with what they took along.
        gone = amount_ahead(call.seized + call.fee + call.refund, ratio)
        owed = jnp.sum(debt) - amount_ahead(call.repaid, ratio)
        then = (jnp.sum(collateral) - gone) * price / positive_or_one(owed)
        capped = capped & (then < self.critical_ratio) & (ratio < then)
        goes = (below | capped) & (call.refusal == PoolRefusal.NONE)
        refusal = jnp.where(goes, PoolRefusal.NONE, PoolRefusal.HEALTHY)
        return only_where(goes, dataclasses.replace(call, refusal=refusal))


@pytree
class PenaltyLiquidation:
    """The pool and the other accounts take debt and a penalty; the owner keeps the rest.

    Source: Liquity v2 TroveManager.batchLiquidateTroves.

    Attributes:
        pool_penalty: `(branch,)` collateral the pool gets beyond the debt it pays, as a fraction.
        peer_penalty: `(branch,)` the same for the other accounts.
        fee_share: part of the pool's collateral that is paid to the caller.
        fee_cap: `(branch,)` most collateral the caller gets from one account, in units.
    """

    pool_penalty: Float[Array, " branch"]
    peer_penalty: Float[Array, " branch"]
    fee_share: Float[Array, ""]
    fee_cap: Float[Array, " branch"]

    def due(
        self, collateral: Accounts, debt: Accounts, price: Float[Array, ""], minimum: Accounts
    ) -> Bool[Array, ""]:
        """Return whether any account may be called."""
        ratio = collateral_ratio(collateral, debt, jnp.broadcast_to(price, debt.shape))
        return jnp.any(ratio < minimum)

    def calls(
        self,
        branch: int,
        collateral: Accounts,
        debt: Accounts,
        *,
        price: Float[Array, ""],
        minimum: Float[Array, ""],
        pool: Float[Array, ""],
    ) -> PoolCall:
        """Return what the calls move, least covered account first."""
        rules = PenaltyRules(
            minimum_ratio=minimum,
            pool_penalty=self.pool_penalty[branch],
            peer_penalty=self.peer_penalty[branch],
            fee_share=self.fee_share,
            fee_cap=self.fee_cap[branch],
        )
        ratio = collateral_ratio(collateral, debt, jnp.broadcast_to(price, debt.shape))
        is_open = collateral > 0
        best = jnp.max(jnp.where(is_open, ratio, -jnp.inf))
        order = jnp.where((ratio < minimum) & (ratio < best), ratio, jnp.inf)
        return penalty_calls(
            rules,
            Branch(collateral=collateral, debt=debt, is_open=is_open),
            order=order,
            price=price,
            pool=pool,
        )
