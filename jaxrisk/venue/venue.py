"""A venue: accounts, a composition of rule slots, and its own balance sheet."""

from enum import IntEnum

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.oracle import Oracle
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.close import CloseRule
from jaxrisk.venue.collateral import CollateralWeights
from jaxrisk.venue.incentive import Incentive
from jaxrisk.venue.interest import KinkedRate
from jaxrisk.venue.recognition import Recognition
from jaxrisk.venue.waterfall import Residual


class Pool(IntEnum):
    """Rows of a lending venue's balance sheet, in units per debt asset.

    Cash + debt + deficit = supplied + treasury, at every moment.
    """

    CASH = 0
    DEBT = 1
    DEFICIT = 2
    SUPPLIED = 3
    TREASURY = 4


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
        funds: `(layer,)` loss-absorbing capacity in the numeraire, in paying order.
        name: of the venue.
        fund_names: of the layers of `funds`.
        residual: who bears what the funds do not cover.
        categories: names of the risk categories, base first.
    """

    accounts: Accounts
    oracle: Oracle
    collateral: CollateralWeights
    close: CloseRule
    incentive: Incentive
    recognition: Recognition
    interest: KinkedRate
    pool: Float[Array, "row debt_asset"]
    funds: Float[Array, " layer"]
    name: str = static()
    fund_names: tuple[str, ...] = static()
    residual: Residual = static()
    categories: tuple[str, ...] = static()


def opening_pool(
    accounts: Accounts, cash: Float[Array, " debt_asset"]
) -> Float[Array, "row debt_asset"]:
    """Return the balance sheet of a pool that lends to `accounts` and holds `cash` units."""
    debt = jnp.sum(accounts.debt, axis=1)
    zero = jnp.zeros_like(debt)
    return jnp.stack([cash, debt, zero, cash + debt, zero])
