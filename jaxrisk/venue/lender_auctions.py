"""Execution without an oracle: loans are auctioned once no lender's price backs them any more."""

import dataclasses

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.half_life_auction import HalfLifePrice, KickerBond, Lot
from jaxrisk.venue.lender_price import LenderPriceTest, lowest_price_in_use

PerLoan = Float[Array, " account"]
PerBucket = Float[Array, " bucket"]


@pytree
class LoanAuctions:
    """Running auctions and what lenders have left; leaves are `(account,)` but for the last.

    Accounts are in the order of the tranches. Where no auction runs every leaf is zero.

    Attributes:
        reference: price that the auction price is a multiple of, loan asset per collateral.
        neutral: price at which the kicker neither wins nor loses.
        threshold: debt per collateral at the kick.
        bond_share: the bond as a share of the debt at the kick.
        bond: what the kicker has at stake, in the loan asset.
        cover: what reserves may still pay before lenders do, in the loan asset.
        since: age at the beginning of the step, years.
        elapsed: age now, years.
        deposits: `(bucket,)` in the loan asset.
    """

    reference: PerLoan
    neutral: PerLoan
    threshold: PerLoan
    bond_share: PerLoan
    bond: PerLoan
    cover: PerLoan
    since: PerLoan
    elapsed: PerLoan
    deposits: PerBucket

    @property
    def running(self) -> Bool[Array, " account"]:
        """Whether an auction runs."""
        return self.reference > 0

    def lots(self, collateral: PerLoan, debt: PerLoan) -> Lot:
        """Return the loans as lots of their auctions."""
        return Lot(
            collateral=collateral,
            debt=debt,
            bond=self.bond,
            bond_share=self.bond_share,
            threshold=self.threshold,
            neutral=self.neutral,
        )

    def ended(self, over: Bool[Array, " account"]) -> "LoanAuctions":
        """Return the auctions without those that are over."""
        return self.replaced(over, dict.fromkeys(_OF_LOANS, jnp.zeros_like(self.bond)))

    def replaced(self, where: Bool[Array, " account"], values: dict[str, Array]) -> "LoanAuctions":
        """Return the auctions with other values, by name of the leaf, where said."""
        new = {name: jnp.where(where, x, getattr(self, name)) for name, x in values.items()}
        return dataclasses.replace(self, **new)


_OF_LOANS = tuple(f.name for f in dataclasses.fields(LoanAuctions) if f.name != "deposits")


@pytree
class LenderAuctions:
    """Loans that lenders' prices do not back are auctioned at a price that halves and halves.

    One collateral, one loan asset. Lenders stand in buckets, each with a price; the debt uses the
    highest first. Bad debt falls on reserves, as far as they may pay, and then on the deposits
    with the highest prices.

    Source: Ajna KickerActions `_kick`, `lenderKick`, TakerActions, SettlerActions.

    Attributes:
        price: of auctions over time.
        bond: the kicker's.
        test: whether a loan is backed at a price.
        cover_share: part of the debt at the kick that reserves may pay before lenders do.
        leaving: part of the deposits priced above the market whose lenders want out: a loan counts
            as backed only if it still is without them. Each lender alone may kick on these terms;
            here they act as one.
        prices: `(bucket,)` falling; the last is the lowest price there is. Loan asset per unit of
            collateral.
        deposits: `(bucket,)` at the opening, in the loan asset.
    """

    price: HalfLifePrice
    bond: KickerBond
    test: LenderPriceTest
    cover_share: Float[Array, ""]
    leaving: Float[Array, ""]
    prices: PerBucket
    deposits: PerBucket

    def opening(self, accounts: Accounts) -> LoanAuctions:
        """Return no auctions, and the opening deposits."""
        none = jnp.zeros_like(accounts.collateral[0])
        return LoanAuctions(**dict.fromkeys(_OF_LOANS, none), deposits=self.deposits)

    def price_in_use(
        self, deposits: PerBucket, debt: Float[Array, ""], market: Float[Array, ""]
    ) -> Float[Array, ""]:
        """Return the lowest price in use, were those gone who lend above the market.

        Args:
            deposits: in each bucket.
            debt: of all loans.
            market: price of the collateral in the loan asset.
        """
        above = jnp.sum(jnp.where(self.prices > market, deposits, jnp.zeros_like(deposits)))
        return lowest_price_in_use(self.prices, deposits, debt + self.leaving * above)

    def kick(
        self,
        kept: LoanAuctions,
        collateral: PerLoan,
        debt: PerLoan,
        *,
        market: Float[Array, ""],
        weight: Float[Array, ""],
        cost: Float[Array, ""],
    ) -> tuple[LoanAuctions, Bool[Array, " account"]]:
        """Return the auctions with those that start now, and which do; kicks are simultaneous.

        A kick pays where its reward, were the loan sold at the market, exceeds its cost: the
        market must be below the neutral price.

        Args:
            kept: before.
            collateral: units.
            debt: in the loan asset.
            market: price as kickers see it, loan asset per collateral.
            weight: threshold price over neutral price.
            cost: of a kick, in the loan asset.
        """
        none = jnp.zeros_like(debt)
        idle = ~kept.running & (collateral > 0) & (debt > 0)
        threshold = jnp.where(idle, debt / positive_or_one(collateral), none)
        neutral = threshold / weight
        share = self.bond.share(jnp.full_like(debt, 1.0 / (weight * self.test.factor)))
        at = jnp.broadcast_to(self.price_in_use(kept.deposits, jnp.sum(debt), market), debt.shape)
        here = jnp.broadcast_to(market, debt.shape)
        won = self.bond.reward(share, here, threshold=threshold, neutral=neutral)
        won = won * smaller(collateral * market, debt)
        kicked = idle & ~self.test.collateralised(collateral, debt, at) & (won > cost)
        highest = self.test.factor * jnp.max(threshold)
        started = {
            "reference": jnp.where(neutral > highest, neutral, highest),
            "neutral": neutral,
            "threshold": threshold,
            "bond_share": share,
            "bond": share * debt,
            "cover": self.cover_share * debt,
            "since": none,
            "elapsed": none,
        }
        return kept.replaced(kicked, started), kicked
