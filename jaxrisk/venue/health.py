"""Health of accounts: backing against requirement, as one ratio."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.indexing import select
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.account import Accounts, per_account
from jaxrisk.venue.venue import Venue


@pytree
class Valuation:
    """Values of accounts in the numeraire, each `(account,)`.

    Attributes:
        collateral: value of all collateral.
        backing: threshold-weighted value of all collateral.
        debt: value of all debt.
    """

    collateral: Float[Array, " account"]
    backing: Float[Array, " account"]
    debt: Float[Array, " account"]


def value_accounts(
    accounts: Accounts,
    liquidation_threshold: Float[Array, "category collateral_asset"],
    price: Float[Array, " asset"],
) -> Valuation:
    """Return collateral, backing and debt of the whole book at `price`."""
    values = accounts.collateral * select(price, accounts.collateral_assets)[:, None]
    owed = accounts.debt * select(price, accounts.debt_assets)[:, None]
    return Valuation(
        collateral=jnp.sum(values, axis=0),
        backing=jnp.sum(values * per_account(liquidation_threshold, accounts.category), axis=0),
        debt=jnp.sum(owed, axis=0),
    )


def health_factor(venue: Venue, price: Float[Array, " asset"]) -> Float[Array, " account"]:
    """Return threshold-weighted collateral over debt, infinite where nothing is owed.

    Below 1 an account can be liquidated.

    Args:
        venue: the venue and its book.
        price: `(asset,)` prices as the venue sees them.
    """
    v = value_accounts(venue.accounts, venue.collateral.liquidation_threshold, price)
    ratio = v.backing / positive_or_one(v.debt)
    return jnp.where(v.debt > 0, ratio, jnp.full_like(ratio, jnp.inf))


def redeemable_debt(venue: Venue, price: Float[Array, " asset"]) -> Float[Array, " account"]:
    """Return the most debt that collateral can pay for at the venue's largest bonus.

    The sum of collateral values, each over one plus its bonus. What is owed beyond it stays behind
    when everything has been seized.
    """
    accounts = venue.accounts
    values = accounts.collateral * select(price, accounts.collateral_assets)[:, None]
    credit = venue.incentive.largest_credit(len(venue.categories), values.shape[0])
    return jnp.sum(values / per_account(credit, accounts.category), axis=0)


def toxic(venue: Venue, price: Float[Array, " asset"]) -> Float[Array, " account"]:
    """Return 1 for accounts so deep that a partial liquidation lowers their health, else 0.

    That is loan to value above 1 / (1 + bonus) (Warmuz, Chaudhary and Pinna 2022), with the
    value-weighted bonus of the account's collateral.
    """
    accounts = venue.accounts
    owed = jnp.sum(accounts.debt * select(price, accounts.debt_assets)[:, None], axis=0)
    return (owed > redeemable_debt(venue, price)).astype(price.dtype)
