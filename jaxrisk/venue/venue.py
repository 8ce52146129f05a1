"""A venue: accounts, a composition of rule slots, and its own balance sheet."""

from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.oracle import Oracle
from jaxrisk.numerics.indexing import placed
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.close import CloseRule
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.execution import Execution, KeeperCalls
from jaxrisk.venue.incentive import Incentive
from jaxrisk.venue.interest import Interest
from jaxrisk.venue.limits import Limit
from jaxrisk.venue.recognition import Recognition
from jaxrisk.venue.waterfall import Capacity, Fund, Residual


class Pool(IntEnum):
    """Rows of a venue's balance sheet, in units per debt asset.

    Cash + debt + in sale + unsettled + deficit + converted = supplied + treasury + borrowers +
    unrealised, at every moment. On a venue of contracts cash is what it has in custody, supplied is
    what accounts have as collateral and realised profit, and whoever stands outside of the book
    pays and gets, in cash, what the open interest that faces him gains and loses.
    """

    CASH = 0  # available liquidity
    DEBT = 1  # owed by accounts
    UNSETTLED = 2  # written off, not yet allotted to a bearer
    DEFICIT = 3  # written off and carried: suppliers are whole on paper
    SUPPLIED = 4  # claims of suppliers
    TREASURY = 5  # claims of the protocol
    IN_SALE = 6  # claims on accounts taken over, until what was taken is sold
    CONVERTED = 7  # held for borrowers, whose collateral it was
    BORROWERS = 8  # claims of borrowers on what is held for them
    UNREALISED = 9  # profit of open positions, at the prices of the last booking


@pytree
class Venue:
    """Rules and opening balance sheet of one venue; constant in a scenario.

    Attributes:
        accounts: the book.
        oracle: which price the venue sees.
        collateral: weights of collateral as backing.
        close: how much may be closed.
        incentive: bonus and protocol fee.
        recognition: when debt is bad.
        interest: how debts grow.
        pool: `(row, debt_asset)` opening balance sheet, rows as in `Pool`, units.
        funds: `(layer,)` what each fund holds, in paying order: a capacity in the numeraire, or
            units of what its rule says.
        fund_rules: how each fund pays; where none is given, all are capacities.
        name: of the venue.
        fund_names: of the layers of `funds`.
        execution: who takes the other side of a closed account.
        limits: caps on new risk, for what a snapshot says: nobody takes any in a scenario.
        residual: who bears what the funds do not cover.
        treasury_pays: whether the protocol's own claims bear losses before the funds do.
        categories: names of the risk categories, base first.
    """

    accounts: Accounts
    oracle: Oracle
    collateral: CollateralWeights
    close: CloseRule
    incentive: Incentive
    recognition: Recognition
    interest: Interest
    pool: Float[Array, "row debt_asset"]
    funds: Float[Array, " layer"]
    fund_rules: tuple[Fund, ...] = ()
    execution: Execution = KeeperCalls()
    limits: tuple[Limit, ...] = ()
    name: str = static()
    fund_names: tuple[str, ...] = static()
    residual: Residual = static()
    categories: tuple[str, ...] = static()
    treasury_pays: bool = static(default=False)

    @property
    def waterfall(self) -> tuple[Fund, ...]:
        """How each fund pays, in paying order."""
        return self.fund_rules or (Capacity(),) * self.funds.shape[0]


def opening_pool(
    accounts: Accounts, cash: Float[Array, " debt_asset"]
) -> Float[Array, "row debt_asset"]:
    """Return the balance sheet of a pool that lends to `accounts` and holds `cash` units."""
    debt = jnp.sum(accounts.debt, axis=1)
    zero = jnp.zeros_like(debt)
    rows = {Pool.CASH: cash, Pool.DEBT: debt, Pool.SUPPLIED: cash + debt}
    return jnp.stack([rows.get(row, zero) for row in Pool])


def imbalance(pool: Float[Array, "row debt_asset"]) -> Float[Array, " debt_asset"]:
    """Return assets minus claims of a balance sheet in units: zero to rounding, always."""
    assets = pool[Pool.CASH] + pool[Pool.DEBT] + pool[Pool.UNSETTLED] + pool[Pool.DEFICIT]
    assets = assets + pool[Pool.IN_SALE] + pool[Pool.CONVERTED]
    claims = pool[Pool.SUPPLIED] + pool[Pool.TREASURY] + pool[Pool.BORROWERS]
    return assets - claims - pool[Pool.UNREALISED]


def changed_pool(**rows: Float[Array, " debt_asset"]) -> Float[Array, "row debt_asset"]:
    """Return a change of the balance sheet from the rows that change (lower-case row names)."""
    return placed({Pool[name.upper()]: value for name, value in rows.items()}, len(Pool))
