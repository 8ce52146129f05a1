"""Closing a whole account in one call: the pool first, then the protocol, then the borrower."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to
from jaxrisk.venue.position import Position
from jaxrisk.venue.settlement import Refusal


@pytree
class WholeAccount:
    """Values of accounts under call, in the numeraire; every leaf is `(account,)`.

    Attributes:
        value: value of everything the account holds.
        backing: threshold-weighted value of it.
        principal: debt without interest.
        interest: interest accrued to the pool.
        fees: the protocol's fees accrued with it.
    """

    value: Float[Array, " account"]
    backing: Float[Array, " account"]
    principal: Float[Array, " account"]
    interest: Float[Array, " account"]
    fees: Float[Array, " account"]


@pytree
class WholeCall:
    """The outcome of closing accounts, in the numeraire; every leaf is `(account,)`.

    Amounts are those of a call that goes through. What the liquidator pays is what arrives:
    `paid = repaid + fee + transfer_tax + refund`.

    Attributes:
        repaid: principal and interest the pool gets back.
        seized: value taken over by the liquidator: the whole account.
        paid: what the liquidator pays for it, `seized` less the premium.
        fee: what the protocol gets; it is paid after the pool and lost before it.
        refund: what the borrower gets back.
        bad_debt: principal and interest the pool does not get back.
        transfer_tax: what a token that charges for transfers keeps of the payment to the pool.
        refusal: why the account is not closed, a `Refusal`.
    """

    repaid: Float[Array, " account"]
    seized: Float[Array, " account"]
    paid: Float[Array, " account"]
    fee: Float[Array, " account"]
    refund: Float[Array, " account"]
    bad_debt: Float[Array, " account"]
    transfer_tax: Float[Array, " account"]
    refusal: Int[Array, " account"]


@pytree
class WholeClose:
    """An account is sold whole, at a discount, to whoever calls it.

    The buyer pays `(1 - premium) V` for holdings worth `V`. Of that the pool is due principal and
    interest, then the protocol its accrued fees and `fee V`, and the borrower gets what is left.
    Note that the fee is on the value of the account, not on its debt.

    Source: Gearbox v3 CreditLogic `calcLiquidationPayments`, called by CreditManagerV3
    `liquidateCreditAccount`.

    Attributes:
        premium: discount granted to the buyer, as a fraction of the account's value.
        fee: protocol's fee, as a fraction of the account's value.
        transfer_tax: what the debt token keeps of a transfer, as a fraction of it; 0 for most.
        unit: value of the smallest unit of the debt token; `None` for real amounts.
    """

    premium: Float[Array, "*account"]
    fee: Float[Array, "*account"]
    transfer_tax: Float[Array, "*account"]
    unit: Float[Array, "*account"] | None = None
    whole: ClassVar[bool] = True

    def largest(
        self, position: Position, width: Float[Array, ""] | None
    ) -> Float[Array, " account"]:
        """Return all of the debt."""
        del width
        return position.total_debt

    def charge(
        self, position: Position, surplus: Float[Array, " account"]
    ) -> Float[Array, " account"]:
        """Return the protocol's fee, `fee V`, or the surplus where that is less."""
        return smaller(self.fee * position.total_collateral, surplus)

    def call(self, account: WholeAccount) -> WholeCall:
        """Return what closing the account pays to whom, and why it may not be closed."""
        owed = account.principal + account.interest
        paid = floor_to(account.value * (1.0 - self.premium), self.unit)
        due = owed + account.fees + floor_to(account.value * self.fee, self.unit)
        kept = 1.0 - self.transfer_tax
        gross_due = floor_to(due / kept, self.unit)
        enough = paid > gross_due
        gross = jnp.where(enough, gross_due, paid)
        net = jnp.where(enough, due, floor_to(paid * kept, self.unit))
        surplus = net - owed
        whole = surplus >= 0
        nothing = jnp.zeros_like(surplus)
        healthy = account.backing >= owed + account.fees
        return WholeCall(
            repaid=jnp.where(whole, owed, net),
            seized=account.value,
            paid=paid,
            fee=jnp.where(whole, surplus, nothing),
            refund=jnp.where(enough, paid - gross_due, nothing),
            bad_debt=jnp.where(whole, nothing, -surplus),
            transfer_tax=gross - net,
            refusal=jnp.where(healthy, Refusal.HEALTHY, Refusal.NONE),
        )
