"""Execution by a pool of deposits, with redemptions by whoever finds the stablecoin cheap."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.redemption import RedemptionFee


@pytree
class RedemptionRules:
    """Who can be redeemed, in which order, and what becomes of the fee.

    Attributes:
        fee: fee rate and how it moves.
        lowest_ratio: ratio of collateral to debt below which an account is passed over.
        lowest_branch_ratio: `(branch,)` ratio of a whole branch below which it is not redeemed.
        shutdown_ratio: `(branch,)` ratio of a whole branch below which it is shut down for good;
            `None` where that does not exist.
        bonus: collateral beyond face value that a redeemer gets from a branch shut down.
        by_unbacked: branches are redeemed in proportion to the debt that their deposits do not
            cover, and no further; else to all debt.
        by_rate: lowest interest rate first; else lowest ratio first.
        fee_stays: the account keeps the fee; else it goes to the protocol.
        closes: an account without debt is closed and its owner gets the rest of the collateral.
    """

    fee: RedemptionFee
    lowest_ratio: Float[Array, ""]
    lowest_branch_ratio: Float[Array, " branch"]
    bonus: Float[Array, ""]
    shutdown_ratio: Float[Array, " branch"] | None = None
    by_unbacked: bool = static()
    by_rate: bool = static()
    fee_stays: bool = static()
    closes: bool = static()


@pytree
class PoolState:
    """What a pool keeps between rounds; amounts of the stablecoin, or units of collateral.

    Attributes:
        deposits: `(branch,)` stablecoin that can pay debts.
        held: `(branch,)` collateral that depositors got and have not sold.
        base_rate: part of the redemption fee that rises with redemptions and fades.
        shut: `(branch,)` whether the branch is shut down.
    """

    deposits: Float[Array, " branch"]
    held: Float[Array, " branch"]
    base_rate: Float[Array, ""]
    shut: Bool[Array, " branch"]


@pytree
class DepositPool:
    """Deposits pay the debt of closed accounts and get their collateral; the others get the rest.

    A branch is the accounts of one collateral; branches share one stablecoin, the only debt. The
    category of an account is its branch, the row of its collateral.

    Attributes:
        liquidation: which accounts are called and what that moves, as in `PoolLiquidation`.
        interest_kept: share of the interest on chosen rates that goes to the protocol; depositors
            get the rest.
        redemption: `None` for a venue whose stablecoin cannot be redeemed.
        deposits: `(branch,)` opening deposits, in the stablecoin.
        kept: deposits that stay whatever happens.
        sale_share: part of the collateral they get that depositors sell at once, at any price; they
            hold the rest.
    """

    liquidation: Any
    deposits: Float[Array, " branch"]
    kept: Float[Array, ""]
    sale_share: Float[Array, ""]
    interest_kept: Float[Array, ""]
    redemption: RedemptionRules | None = None

    def opening(self, accounts: Accounts) -> PoolState:
        """Return the state of the pools before the first step."""
        del accounts
        return PoolState(
            deposits=self.deposits,
            held=jnp.zeros_like(self.deposits),
            base_rate=jnp.zeros_like(self.kept),
            shut=jnp.zeros(self.deposits.shape, bool),
        )
