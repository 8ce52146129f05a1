"""A lending hub: one pool an asset, with premium debt and deficits that still count as supplied.

What suppliers own is `cash + swept + debt + premium + deficit - fees`. A deficit is debt that was
given up: it earns nothing, but it stays in that sum, so the worth of a supply share does not fall
and those who leave last are short, until someone gives up supply shares for it.
"""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import ceil_to
from jaxrisk.venue.interest import linear_growth
from jaxrisk.venue.risk_premium import Premium


@pytree
class Hub:
    """Totals of the assets of a hub, in asset amounts; every leaf is `(asset,)`.

    Attributes:
        cash: liquidity at hand.
        swept: liquidity lent elsewhere by the hub, which counts for utilisation.
        drawn_shares: shares of debt; worth `index` each.
        index: debt index, asset amount a drawn share.
        premium: premium debt of all borrowers together.
        deficit: debt given up and not yet covered.
        fees: the protocol's part of interest, not yet paid out.
        supply_shares: shares of suppliers.
        virtual: amount and number of shares added on both sides of the supply share's worth.
    """

    cash: Float[Array, " asset"]
    swept: Float[Array, " asset"]
    drawn_shares: Float[Array, " asset"]
    index: Float[Array, " asset"]
    premium: Premium
    deficit: Float[Array, " asset"]
    fees: Float[Array, " asset"]
    supply_shares: Float[Array, " asset"]
    virtual: Float[Array, "*asset"]

    def drawn(self, *, unit: Float[Array, ""] | None = None) -> Float[Array, " asset"]:
        """Return the debt without premium: what utilisation, and so the rate, is made of.

        Args:
            unit: the debt is rounded up to multiples of it; `None` for real values.
        """
        return ceil_to(self.drawn_shares * self.index, unit)

    def supplied(self) -> Float[Array, " asset"]:
        """Return what supply shares are a claim on, the deficit included.

        Source: Aave v4 AssetLogic `totalAddedAssets`.
        """
        owed = self.drawn() + self.premium.debt(self.index)
        return self.cash + self.swept + owed + self.deficit - self.fees

    def share_worth(self) -> Float[Array, " asset"]:
        """Return the asset amount a supply share stands for: `(supplied + v) / (shares + v)`.

        Source: Aave v4 SharesMath (virtual assets and shares of 1e6 raw units).
        """
        shares = self.supply_shares + self.virtual
        return jnp.where(
            shares > 0,
            (self.supplied() + self.virtual) / positive_or_one(shares),
            jnp.ones_like(shares),
        )


def accrue(
    hub: Hub,
    rate: Float[Array, " asset"],
    liquidity_fee: Float[Array, " asset"],
    years: Float[Array, "*asset"],
) -> Hub:
    """Return the hub after simple interest at `rate`.

    `index' = index (1 + rate years)`, which premium debt follows; the protocol keeps
    `liquidity_fee` of the interest on both. The index stands still while nothing is owed.

    Source: Aave v4 AssetLogic `getDrawnIndex` and fee accrual.

    Args:
        hub: the totals.
        rate: base rate per year, set at the last change.
        liquidity_fee: share of interest kept by the protocol, in [0, 1].
        years: time since then.
    """
    charged = hub.drawn_shares + hub.premium.shares
    some = charged > 0
    growth = jnp.where(some, linear_growth(rate * years), jnp.ones_like(charged))
    # From the rate, not as a difference of totals, which would lose digits over short times.
    interest = jnp.where(some, charged * hub.index * rate * years, jnp.zeros_like(charged))
    return dataclasses.replace(
        hub, index=hub.index * growth, fees=hub.fees + liquidity_fee * interest
    )


def supply(hub: Hub, amount: Float[Array, " asset"]) -> tuple[Hub, Float[Array, " asset"]]:
    """Return the hub after a supply of `amount`, and the shares given for it.

    Source: Aave v4 Hub `add`.
    """
    shares = amount / hub.share_worth()
    added = dataclasses.replace(
        hub, cash=hub.cash + amount, supply_shares=hub.supply_shares + shares
    )
    return added, shares


def report_deficit(
    hub: Hub, drawn_shares: Float[Array, " asset"], premium: Float[Array, " asset"]
) -> Hub:
    """Return the hub after debt is given up: it turns into deficit, and nothing else changes.

    Source: Aave v4 Hub `reportDeficit`.

    Args:
        hub: the totals.
        drawn_shares: debt shares given up.
        premium: premium given up, asset amount.
    """
    return dataclasses.replace(
        hub,
        drawn_shares=hub.drawn_shares - drawn_shares,
        premium=dataclasses.replace(hub.premium, offset=hub.premium.offset + premium),
        deficit=hub.deficit + drawn_shares * hub.index + premium,
    )


def cover_deficit(hub: Hub, amount: Float[Array, " asset"]) -> tuple[Hub, Float[Array, " asset"]]:
    """Return the hub after supply shares are given up for deficit, and how many shares.

    At most the deficit is covered; the worth of the other shares does not change.

    Source: Aave v4 Hub `eliminateDeficit`.
    """
    covered = jnp.where(amount < hub.deficit, amount, hub.deficit)
    shares = covered / hub.share_worth()
    after = dataclasses.replace(
        hub, deficit=hub.deficit - covered, supply_shares=hub.supply_shares - shares
    )
    return after, shares
