"""Keepers: which pair of an account they call, for how much, and whether it pays.

The venue's rules say what a call does; here stands who calls. A rational keeper calls only for as
much as can be sold at a profit after slippage, and only if the bonus covers its cost.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import gate, positive_or_one, smaller
from jaxrisk.numerics.indexing import largest, row_sum, select, spread
from jaxrisk.numerics.matmul import full_matmul
from jaxrisk.numerics.pytree import pytree
from jaxrisk.system.book import Tranche
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.incentive import UniformBonus, bonus_table, fee_table
from jaxrisk.venue.position import Position
from jaxrisk.venue.venue import Venue


@pytree
class View:
    """An account as a keeper looks at it.

    Attributes:
        position: what a call would see.
        margin: `(account,)` what selling the collateral may cost, as a fraction of its value.
        collateral_pick: `(collateral_asset, account)` one-hot choice; `None` for all pro rata.
        debt_pick: `(debt_asset, account)` one-hot choice; `None` for all pro rata.
    """

    position: Position
    margin: Float[Array, " account"]
    collateral_pick: Float[Array, "collateral_asset account"] | None = None
    debt_pick: Float[Array, "debt_asset account"] | None = None


@pytree
class Prices:
    """Prices that calls on one tranche work with.

    Attributes:
        held: `(collateral_asset,)` seen price of each collateral.
        owed: `(debt_asset,)` seen price of one opening unit of debt, interest included.
        capacity: `(collateral_asset,)` units that can be sold at a profit.
        margin: `(collateral_asset,)` what a sale may cost, as a fraction of its value.
    """

    held: Float[Array, " collateral_asset"]
    owed: Float[Array, " debt_asset"]
    capacity: Float[Array, " collateral_asset"]
    margin: Float[Array, " collateral_asset"]


@pytree
class ProRata:
    """Takes all collateral and repays all debt in proportion: two numbers of state an account."""

    def shares(self, accounts: Accounts) -> tuple[int, int]:
        """Return how many fractions of collateral and of debt an account carries."""
        del accounts
        return 1, 1

    def look(
        self,
        venue: Venue,
        tranche: Tranche,
        prices: Prices,
        standing: tuple[Float[Array, "1 account"], Float[Array, "1 account"]],
    ) -> View:
        """Return each account as one pair of all collateral and all debt."""
        accounts, row = tranche.accounts, tranche.category
        units, held = accounts.collateral, prices.held
        worth = full_matmul
        full = worth(held, units)
        collateral = standing[0][0] * full
        debt = standing[1][0] * worth(prices.owed, accounts.debt)
        weighted = worth(held * venue.collateral.liquidation_threshold[row], units)
        if isinstance(venue.incentive, UniformBonus):
            credit = 1.0 + venue.incentive.bonus
        else:
            redeemable = worth(held / (1.0 + venue.incentive.bonus[row]), units)
            credit = jnp.where(full > 0, full / positive_or_one(redeemable), jnp.ones_like(full))
        return View(
            position=Position(
                collateral=collateral,
                debt=debt,
                total_collateral=collateral,
                total_debt=debt,
                backing=standing[0][0] * weighted,
                credit=credit,
                fee_share=jnp.mean(fee_table(venue.incentive, units.shape[0])),
            ),
            margin=worth(held * prices.margin, units) / positive_or_one(full),
        )


@pytree
class BestPair:
    """Repays the largest debt against the collateral that earns most, one pair a round."""

    def shares(self, accounts: Accounts) -> tuple[int, int]:
        """Return how many fractions of collateral and of debt an account carries."""
        return len(accounts.collateral_assets), len(accounts.debt_assets)

    def look(
        self,
        venue: Venue,
        tranche: Tranche,
        prices: Prices,
        standing: tuple[
            Float[Array, "collateral_asset account"], Float[Array, "debt_asset account"]
        ],
    ) -> View:
        """Return each account with its most profitable pair."""
        accounts, row = tranche.accounts, tranche.category
        held = accounts.collateral.shape[0]
        values = prices.held[:, None] * accounts.collateral * standing[0]
        debts = prices.owed[:, None] * accounts.debt * standing[1]
        credit = 1.0 + bonus_table(venue.incentive, len(venue.categories), held)[row]
        threshold = venue.collateral.liquidation_threshold[row]
        debt_pick = largest(debts)
        debt = row_sum(debt_pick * debts)
        sellable = (prices.capacity * prices.held)[:, None]
        reachable = smaller(smaller(values, debt[None, :] * credit[:, None]), sellable)
        pick = largest(reachable * ((credit - 1.0) / credit)[:, None])
        return View(
            position=Position(
                collateral=row_sum(pick * values),
                debt=debt,
                total_collateral=row_sum(values),
                total_debt=row_sum(debts),
                backing=row_sum(threshold[:, None] * values),
                credit=row_sum(pick * credit[:, None]),
                fee_share=row_sum(pick * fee_table(venue.incentive, held)[:, None]),
            ),
            margin=row_sum(pick * prices.margin[:, None]),
            collateral_pick=pick,
            debt_pick=debt_pick,
        )


Choice = ProRata | BestPair


@pytree
class Keeper:
    """Liquidators taken together: free entry, so calls stop where selling would lose money.

    Attributes:
        minimum_return: profit per unit of debt repaid below which no call is made.
        choice: which pair of an account is called.
        cost: numeraire cost of one call; `None` where calls are free.
    """

    minimum_return: Float[Array, ""]
    choice: Choice
    cost: Float[Array, ""] | None = None

    def margin(
        self,
        venue: Venue,
        category: int,
        owed: Float[Array, " debt_asset"],
        market: Market,
        seen: Float[Array, " asset"],
    ) -> Float[Array, " asset"]:
        """Return what a sale of each collateral may cost, as a fraction of its mid; 0 for others.

        A unit of debt repaid, at the seen price, brings `1 + bonus (1 - fee share)` of collateral
        at its seen price. Both are worth their mid; the debt that lags most decides. Negative where
        a call loses money before anything is sold.

        Args:
            venue: the venue.
            category: risk category of the accounts called.
            owed: `(debt_asset,)` units the accounts owe; only assets that are owed count.
            market: the market now.
            seen: `(asset,)` prices as the venue sees them.
        """
        accounts, mid = venue.accounts, market.mid
        held, count = accounts.collateral_assets, mid.shape[0]
        bonus = bonus_table(venue.incentive, len(venue.categories), len(held))[category]
        net = 1.0 + bonus * (1.0 - fee_table(venue.incentive, len(held)))
        lag = select(mid / seen, accounts.debt_assets)
        dearest = jnp.max(jnp.where(owed > 0, lag, jnp.zeros_like(lag)))
        cost = select(seen / mid, held) * dearest * (1.0 + self.minimum_return)
        return spread(1.0 - cost / net, held, count)

    def pays(
        self,
        view: View,
        seized: Float[Array, " account"],
        width: Float[Array, ""] | None,
    ) -> Float[Array, " account"] | None:
        """Return 1 where the margin left in the market covers the cost of the call, else 0.

        `None` for free calls; smooth with a width.
        """
        if self.cost is None:
            return None
        profit = seized * view.margin - self.cost
        return gate(profit, view.position.total_debt, width)
