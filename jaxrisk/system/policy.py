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
from jaxrisk.venue.position import Position
from jaxrisk.venue.venue import Venue


@pytree
class View:
    """An account as a keeper looks at it.

    Attributes:
        position: what a call would see.
        sale: `(account,)` what the called collateral is worth at the market's mid.
        collateral_pick: `(collateral_asset, account)` one-hot choice; `None` for all pro rata.
        debt_pick: `(debt_asset, account)` one-hot choice; `None` for all pro rata.
    """

    position: Position
    sale: Float[Array, " account"]
    collateral_pick: Float[Array, "collateral_asset account"] | None = None
    debt_pick: Float[Array, "debt_asset account"] | None = None


@pytree
class Prices:
    """Prices that calls on one tranche work with.

    Attributes:
        held: `(collateral_asset,)` seen price of each collateral.
        owed: `(debt_asset,)` seen price of one opening unit of debt, interest included.
        mid: `(collateral_asset,)` the market's mid of each collateral.
        lag: largest ratio of mid to seen price among the assets owed.
        capacity: `(collateral_asset,)` units that can be sold at a profit.
    """

    held: Float[Array, " collateral_asset"]
    owed: Float[Array, " debt_asset"]
    mid: Float[Array, " collateral_asset"]
    lag: Float[Array, ""]
    capacity: Float[Array, " collateral_asset"]


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
        collateral = standing[0][0] * full_matmul(held, units)
        debt = standing[1][0] * full_matmul(prices.owed, accounts.debt)
        threshold = venue.collateral.liquidation_threshold[row]
        backing = standing[0][0] * full_matmul(held * threshold, units)
        credit = venue.incentive.credit(row, backing, debt, collateral)
        if credit.shape[0] == 1:
            redeemable = collateral * (1.0 / credit[0])
        elif credit.shape[1] == 1:
            redeemable = standing[0][0] * full_matmul(held / credit[:, 0], units)
        else:
            redeemable = standing[0][0] * row_sum(units * held[:, None] / credit)
        mean = jnp.where(redeemable > 0, collateral / positive_or_one(redeemable), 1.0)
        return View(
            position=Position(
                collateral=collateral,
                debt=debt,
                total_collateral=collateral,
                total_debt=debt,
                backing=backing,
                called_backing=backing,
                credit=credit[0] if credit.shape[0] == 1 else mean,
                redeemable=redeemable,
            ),
            sale=standing[0][0] * full_matmul(prices.mid, units),
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
        units = accounts.collateral * standing[0]
        values = prices.held[:, None] * units
        debts = prices.owed[:, None] * accounts.debt * standing[1]
        total_debt, total = row_sum(debts), row_sum(values)
        weighted = venue.collateral.liquidation_threshold[row][:, None] * values
        backing = row_sum(weighted)
        credit = venue.incentive.credit(row, backing, total_debt, total)
        debt_pick = largest(debts)
        debt = row_sum(debt_pick * debts)
        sellable = (prices.capacity * prices.held)[:, None]
        reachable = smaller(smaller(values, debt[None, :] * credit), sellable)
        pick = largest(reachable * (1.0 - 1.0 / credit))
        return View(
            position=Position(
                collateral=row_sum(pick * values),
                debt=debt,
                total_collateral=total,
                total_debt=total_debt,
                backing=backing,
                called_backing=row_sum(pick * weighted),
                credit=row_sum(pick * credit),
                redeemable=row_sum(pick * values / credit),
            ),
            sale=row_sum(pick * units * prices.mid[:, None]),
            collateral_pick=pick,
            debt_pick=debt_pick,
        )


Choice = ProRata | BestPair


@pytree
class Capital:
    """What keepers can pay with; what they spend is tied up until they have sold.

    Attributes:
        amount: of all of them together, numeraire.
        recovery_rate: per year, at which tied capital comes back (log 2 / half-life).
    """

    amount: Float[Array, ""]
    recovery_rate: Float[Array, ""]


@pytree
class Keeper:
    """Liquidators taken together: free entry, so calls stop where selling would lose money.

    Attributes:
        minimum_return: profit per unit of debt repaid below which no call is made.
        choice: which pair of an account is called.
        cost: numeraire cost of one call; `None` where calls are free.
        capital: what they can pay with; `None` for as much as it takes, flash loans included.
        latency: steps in which an account has been callable before the one in which it can be
            called; `None` for none.
        congestion: by how much, relative to `cost`, every call of a step makes all that come with
            or after it dearer; `None` for not at all.
    """

    minimum_return: Float[Array, ""]
    choice: Choice
    cost: Float[Array, ""] | None = None
    capital: Capital | None = None
    latency: Float[Array, ""] | None = None
    congestion: Float[Array, ""] | None = None

    @property
    def limited(self) -> bool:
        """Whether anything about keepers changes in a scenario."""
        return any(x is not None for x in (self.capital, self.latency, self.congestion))

    def choice_on(self, venue: Venue) -> Choice:
        """Return which pair is called on a venue: everything where accounts are closed whole."""
        return ProRata() if venue.close.whole else self.choice

    def margin(
        self,
        venue: Venue,
        category: int,
        lag: Float[Array, ""],
        market: Market,
        seen: Float[Array, " asset"],
    ) -> Float[Array, " asset"]:
        """Return the most a sale of each collateral may cost, as a fraction of its mid.

        A unit of debt repaid, at the seen price, brings `credit` of collateral at its seen price,
        less the fee. Negative where a call loses money before anything is sold; 0 for assets that
        back nothing here.

        Args:
            venue: the venue.
            category: risk category of the accounts called.
            lag: largest ratio of mid to seen price among the assets owed.
            market: the market now.
            seen: `(asset,)` prices as the venue sees them.
        """
        held, mid = venue.accounts.collateral_assets, market.mid
        credit = venue.incentive.largest_credit(len(venue.categories), len(held))[category]
        net = credit - venue.incentive.fee(credit, 1.0 - 1.0 / credit)
        cost = select(seen / mid, held) * lag * (1.0 + self.minimum_return)
        return spread(1.0 - cost / net, held, mid.shape[0])

    def pays(
        self,
        venue: Venue,
        view: View,
        prices: Prices,
        share: Float[Array, " account"],
        repaid: Float[Array, " account"],
        surplus: Float[Array, " account"] | None,
        width: Float[Array, ""] | None,
    ) -> Float[Array, " account"] | None:
        """Return 1 where a call brings more than it costs, before slippage, else 0.

        `None` for free calls; smooth with a width.

        Args:
            venue: the venue.
            view: the accounts.
            prices: prices the calls work with.
            share: part of the called collateral that is seized.
            repaid: debt value repaid.
            surplus: value paid beyond the debt, to borrower or protocol; `None` for none.
            width: of the smooth twin.
        """
        if self.cost is None:
            return None
        position = view.position
        fee = venue.incentive.mean_fee(share * position.collateral, repaid)
        outlay = repaid if surplus is None else repaid + surplus
        profit = share * view.sale - fee - outlay * (prices.lag * (1.0 + self.minimum_return))
        return gate(profit - self.cost, position.total_debt, width)
