"""Execution by takeover: the protocol closes accounts with its own means and sells what it took.

No keeper's money is needed to close an account, only to buy the collateral afterwards. Between the
two the protocol owns what it took, at a price that may go on falling.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.auction import AuctionTerms
from jaxrisk.venue.auction_price import PriceCurve


@pytree
class Stock:
    """Collateral taken over and not sold yet; every leaf is `(collateral_asset,)`.

    Attributes:
        units: held by the protocol.
        claims: what the units stand for: debt paid off and refunds granted, in debt units.
    """

    units: Float[Array, " collateral_asset"]
    claims: Float[Array, " collateral_asset"]


@pytree
class AbsorbedStock:
    """Whole accounts are absorbed at once, and their collateral is sold at a fixed discount.

    An account is credited each collateral at `1 / (1 + bonus)` of its value, as the venue's
    incentive says. The first of the venue's funds counts as reserves.

    Source: Compound III, Comet `absorb`, `buyCollateral`, `getReserves`.

    Attributes:
        discount_share: share of the liquidation discount passed on to buyers.
        target_reserves: reserves, in debt units, from which nothing is for sale.
    """

    discount_share: Float[Array, ""]
    target_reserves: Float[Array, ""]

    def opening(self, accounts: Accounts) -> Stock:
        """Return an empty stock."""
        empty = jnp.zeros(len(accounts.collateral_assets), accounts.collateral.dtype)
        return Stock(units=empty, claims=empty)


@pytree
class Lots:
    """Running auctions; every leaf is `(cohort, vault_type)`.

    Cohort 0 holds the auctions started, or started again, in the current step, cohort k those of
    k steps before; the last one holds all that are older. Auctions of a cohort are one lot.

    Attributes:
        lot: collateral still for sale, units.
        target: what is still to be raised, penalty included, debt units.
        claim: debt the lot was taken for and that is not paid yet, debt units.
        opening_price: first asking price, debt units per unit of collateral.
        since: age at the beginning of the step, seconds.
        elapsed: age now, seconds.
    """

    lot: Float[Array, "cohort vault_type"]
    target: Float[Array, "cohort vault_type"]
    claim: Float[Array, "cohort vault_type"]
    opening_price: Float[Array, "cohort vault_type"]
    since: Float[Array, "cohort vault_type"]
    elapsed: Float[Array, "cohort vault_type"]


@pytree
class AuctionedLots:
    """Unsafe vaults are seized as far as ceilings allow and sold in Dutch auctions.

    A vault type is a risk category and a collateral asset. The penalty is the bonus of the venue's
    incentive, whatever the terms say.

    Source: Maker dss dog.sol bark, clip.sol kick, take, redo.

    Attributes:
        terms: leaves `(vault_type,)`, amounts in debt units.
        curve: how asking prices fall, leaves `(vault_type,)`.
        global_ceiling: most that all auctions together may have outstanding, debt units.
        types: category and row of the collateral of each vault type.
        cohorts: how many steps of auctions are told apart, at least 2.
    """

    terms: AuctionTerms
    curve: PriceCurve
    global_ceiling: Float[Array, ""]
    types: tuple[tuple[int, int], ...] = static()
    cohorts: int = static(default=4)

    def opening(self, accounts: Accounts) -> Lots:
        """Return no auctions."""
        none = jnp.zeros((self.cohorts, len(self.types)), accounts.collateral.dtype)
        return Lots(lot=none, target=none, claim=none, opening_price=none, since=none, elapsed=none)
