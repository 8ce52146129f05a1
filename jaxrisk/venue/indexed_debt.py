"""A debt kept as principal and index: drawing more and repaying in order, with quotas."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to


@pytree
class IndexedDebt:
    """A debt that pays interest by an index, and more for the quotas of what it backs.

    Interest of `principal` is `principal (index_now / index - 1)`. Quota interest (an extra rate on
    each collateral's quota) and quota fees are amounts. On interest of both kinds the protocol
    takes `fee_share` on top; quota fees are its own.

    Source: Gearbox v3 CreditLogic `calcAccruedInterest`, `calcIncrease`, `calcDecrease`.

    Attributes:
        principal: `(account,)` debt without interest.
        index: `(account,)` index at which its interest was last zero.
        quota_interest: `(account,)` interest of quotas not yet paid.
        quota_fees: `(account,)` fees of quotas not yet paid.
        unit: smallest unit of the debt; `None` for real amounts.
    """

    principal: Float[Array, " account"]
    index: Float[Array, " account"]
    quota_interest: Float[Array, " account"]
    quota_fees: Float[Array, " account"]
    unit: Float[Array, " account"] | None = None

    def interest(self, index_now: Float[Array, " account"]) -> Float[Array, " account"]:
        """Return the interest of the principal, quotas left out."""
        return floor_to(self.principal * (index_now / self.index - 1.0), self.unit)

    def accrued(
        self, index_now: Float[Array, " account"], fee_share: Float[Array, "*account"]
    ) -> tuple[Float[Array, " account"], Float[Array, " account"]]:
        """Return interest due to the pool and fees due to the protocol, quotas included."""
        interest = self.interest(index_now) + self.quota_interest
        return interest, floor_to(interest * fee_share, self.unit) + self.quota_fees

    def draw(
        self, amount: Float[Array, " account"], index_now: Float[Array, " account"]
    ) -> "IndexedDebt":
        """Return the debt after borrowing `amount`: more principal, the same interest.

        The index moves so that what is owed does: `D' I_now / I' = D I_now / I + amount`.
        """
        principal = self.principal + amount
        owed = self.principal * index_now / self.index + amount
        index = index_now * principal / positive_or_one(owed)
        index = jnp.where(self.principal > 0, index, index_now)
        return IndexedDebt(
            principal=principal,
            index=index,
            quota_interest=self.quota_interest,
            quota_fees=self.quota_fees,
            unit=self.unit,
        )

    def repay(
        self,
        amount: Float[Array, " account"],
        index_now: Float[Array, " account"],
        fee_share: Float[Array, "*account"],
    ) -> "Repayment":
        """Return the repayment of `amount`: quota fees, quota interest, interest, then principal.

        Where the amount does not cover interest and the protocol's share of it, it is split pro
        rata between the two.
        """
        quota_fees = smaller(amount, self.quota_fees)
        left = amount - quota_fees
        quota_paid, quota_cut, _ = self._pay(self.quota_interest, left, fee_share)
        left = left - quota_paid - quota_cut
        interest = self.interest(index_now)
        paid, cut, covered = self._pay(interest, left, fee_share)
        partly = paid * self.index / positive_or_one(self.principal)
        index = index_now * self.index / (index_now - jnp.where(covered, 0.0, partly))
        index = jnp.where(covered, index_now, index)
        principal = left - paid - cut
        return Repayment(
            debt=IndexedDebt(
                principal=self.principal - principal,
                index=jnp.where(left > 0, index, self.index),
                quota_interest=self.quota_interest - quota_paid,
                quota_fees=self.quota_fees - quota_fees,
                unit=self.unit,
            ),
            principal=principal,
            interest=paid + quota_paid,
            fee=quota_fees + quota_cut + cut,
            exceeds=principal > self.principal,
        )

    def _pay(self, interest: Array, amount: Array, fee_share: Array) -> tuple[Array, Array, Array]:
        """Return (interest paid, protocol's share paid, whether both are covered)."""
        share = floor_to(interest * fee_share, self.unit)
        covered = amount >= interest + share
        part = floor_to(amount / (1.0 + fee_share), self.unit)
        return jnp.where(covered, interest, part), jnp.where(covered, share, amount - part), covered


@pytree
class Repayment:
    """Where a repayment went; every amount is `(account,)` and they add up to what was paid.

    Attributes:
        debt: the debt that is left.
        principal: principal repaid.
        interest: interest paid to the pool, of quotas too.
        fee: what the protocol gets.
        exceeds: whether more was paid than is owed, which the venue refuses.
    """

    debt: IndexedDebt
    principal: Float[Array, " account"]
    interest: Float[Array, " account"]
    fee: Float[Array, " account"]
    exceeds: Bool[Array, " account"]
