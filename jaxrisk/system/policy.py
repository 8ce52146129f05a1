"""Keepers: which pair of an account they call, for how much, and whether it pays.

The venue's rules say what a call does; here stands who calls. A rational keeper calls only for as
much as can be sold at a profit after slippage, and only if the bonus covers its cost.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.liquidity import Liquidity
from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import gate, positive_or_one, smaller
from jaxrisk.numerics.indexing import select
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.account import Accounts, per_account, worth
from jaxrisk.venue.incentive import UniformBonus, bonus_table, fee_table
from jaxrisk.venue.position import Position
from jaxrisk.venue.venue import Venue

# A call below this share of what the venue allows is not worth a transaction.
_SMALLEST_SHARE = 1e-3
# Capacity is kept positive, at this share of depth, so that it can stand in a denominator.
_SMALLEST_CAPACITY = 1e-9


@pytree
class View:
    """An account as a keeper looks at it.

    Attributes:
        position: what a call would see.
        sellable: `(account,)` collateral value that can be sold at a profit.
        collateral_pick: `(collateral_asset, account)` one-hot choice; `None` for all pro rata.
        debt_pick: `(debt_asset, account)` one-hot choice; `None` for all pro rata.
    """

    position: Position
    sellable: Float[Array, " account"]
    collateral_pick: Float[Array, "collateral_asset account"] | None = None
    debt_pick: Float[Array, "debt_asset account"] | None = None


@pytree
class Prices:
    """Prices a round of calls works with.

    Attributes:
        held: `(collateral_asset,)` seen price of each collateral.
        owed: `(debt_asset,)` seen price of one opening unit of debt, interest included.
        capacity: `(category, collateral_asset)` value that can be sold at a profit.
    """

    held: Float[Array, " collateral_asset"]
    owed: Float[Array, " debt_asset"]
    capacity: Float[Array, "category collateral_asset"]


@pytree
class ProRata:
    """Takes all collateral and repays all debt in proportion: two numbers of state an account.

    An account's sellable value is that of a mix: it is exhausted when the shares of each asset's
    capacity that it uses add up to one (exact for one collateral, cautious for several).
    """

    def shares(self, accounts: Accounts) -> tuple[int, int]:
        """Return how many fractions of collateral and of debt an account carries."""
        del accounts
        return 1, 1

    def look(
        self,
        venue: Venue,
        accounts: Accounts,
        prices: Prices,
        standing: tuple[Float[Array, "1 account"], Float[Array, "1 account"]],
    ) -> View:
        """Return each account as one pair of all collateral and all debt."""
        held, category = prices.held[None, :], accounts.category
        units, left, owing = accounts.collateral, standing[0][0], standing[1][0]
        full = worth(units, held, category)
        backing = left * worth(units, held * venue.collateral.liquidation_threshold, category)
        crowding = worth(units, held / prices.capacity, category)
        collateral = left * full
        debt = owing * worth(accounts.debt, prices.owed[None, :], category)
        if isinstance(venue.incentive, UniformBonus):
            credit, fee = 1.0 + venue.incentive.bonus, venue.incentive.fee_share
        else:
            redeemable = worth(units, held / (1.0 + venue.incentive.bonus), category)
            credit = jnp.where(full > 0, full / positive_or_one(redeemable), jnp.ones_like(full))
            fee = jnp.zeros_like(full)
        return View(
            position=Position(
                collateral=collateral,
                debt=debt,
                total_collateral=collateral,
                total_debt=debt,
                backing=backing,
                credit=credit,
                fee_share=fee,
            ),
            sellable=full / positive_or_one(crowding),
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
        accounts: Accounts,
        prices: Prices,
        standing: tuple[
            Float[Array, "collateral_asset account"], Float[Array, "debt_asset account"]
        ],
    ) -> View:
        """Return each account with its most profitable pair."""
        category, shape = accounts.category, accounts.collateral.shape
        values = prices.held[:, None] * accounts.collateral * standing[0]
        debts = prices.owed[:, None] * accounts.debt * standing[1]
        table = bonus_table(venue.incentive, len(venue.categories), shape[0])
        credit = 1.0 + per_account(table, category)
        threshold = per_account(venue.collateral.liquidation_threshold, category)
        capacity = per_account(prices.capacity, category)
        debt_pick = _largest(debts)
        debt = jnp.sum(debt_pick * debts, axis=0)
        reachable = smaller(smaller(values, debt[None, :] * credit), capacity + 0.0 * values)
        pick = _largest(reachable * (credit - 1.0) / credit)
        chosen = lambda row: jnp.sum(pick * row, axis=0)
        fee = fee_table(venue.incentive, shape[0])[:, None]
        return View(
            position=Position(
                collateral=chosen(values),
                debt=debt,
                total_collateral=jnp.sum(values, axis=0),
                total_debt=jnp.sum(debts, axis=0),
                backing=jnp.sum(threshold * values, axis=0),
                credit=chosen(credit),
                fee_share=chosen(fee),
            ),
            sellable=chosen(capacity),
            collateral_pick=pick,
            debt_pick=debt_pick,
        )


Choice = ProRata | BestPair


@pytree
class Keeper:
    """Liquidators taken together.

    Attributes:
        minimum_return: profit per unit of debt repaid below which no call is made.
        choice: which pair of an account is called.
        cost: numeraire cost of one call; `None` where calls are free.
    """

    minimum_return: Float[Array, ""]
    choice: Choice
    cost: Float[Array, ""] | None = None

    def capacity(
        self,
        venue: Venue,
        accounts: Accounts,
        market: Market,
        liquidity: Liquidity,
        seen: Float[Array, " asset"],
    ) -> Float[Array, "category collateral_asset"]:
        """Return how much of each collateral can be sold at a profit, at seen prices.

        A unit of debt repaid brings `1 + bonus (1 - fee share)` of collateral at the seen price;
        the sale may cost, against the seen price, what leaves `1 + minimum_return` of it.
        """
        mid, depth = market.mid, liquidity.depth.now(market)
        held = accounts.collateral_assets
        table = bonus_table(venue.incentive, len(venue.categories), len(held))
        net = 1.0 + table * (1.0 - fee_table(venue.incentive, len(held))[None, :])
        gap = select(seen / mid, held)[None, :]
        budget = 1.0 - gap * (1.0 + self.minimum_return) / net
        on_all = jnp.zeros((table.shape[0], mid.shape[0]), mid.dtype)
        on_all = on_all.at[:, jnp.asarray(held)].set(budget)

        def within(discount: Float[Array, " asset"]) -> Float[Array, " asset"]:
            volume = liquidity.law.volume_within(discount, depth)
            smallest = _SMALLEST_CAPACITY * depth
            return jnp.where(volume > smallest, volume, smallest) * (seen / mid)

        return select(jax.vmap(within)(on_all), held)

    def offer(
        self, venue: Venue, view: View, width: Float[Array, ""] | None
    ) -> Float[Array, " account"]:
        """Return the debt value keepers offer to repay in one call."""
        position = view.position
        allowed = venue.close.allowance(position, width)
        limit = view.sellable / position.credit
        worthwhile = limit > _SMALLEST_SHARE * allowed
        wanted = jnp.where(worthwhile, smaller(allowed, limit), jnp.zeros_like(allowed))
        return venue.close.without_dust(position, wanted)

    def pays(
        self, position: Position, repaid: Float[Array, " account"], width: Float[Array, ""] | None
    ) -> Float[Array, " account"]:
        """Return 1 where the bonus covers the cost of the call, else 0 (smooth with a width)."""
        if self.cost is None:
            return jnp.ones_like(repaid)
        profit = repaid * (position.credit - 1.0) * (1.0 - position.fee_share) - self.cost
        return gate(profit, position.total_debt, width)


def _largest(values: Float[Array, "held account"]) -> Float[Array, "held account"]:
    """Return a one-hot mask of the largest entry of each column (the first of equals)."""
    best = jnp.argmax(values, axis=0)
    return jax.nn.one_hot(best, values.shape[0], axis=0, dtype=values.dtype)
