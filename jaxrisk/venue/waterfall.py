"""Who pays for bad debt: funds in the order of a list, then the residual bearer."""

import dataclasses
from collections.abc import Sequence
from enum import Enum
from typing import Any, Protocol, Self

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree, static


class Residual(Enum):
    """Who bears what the funds do not cover.

    CARRIED: a deficit stays on the venue's books; suppliers are whole on paper and the last ones
        to leave are short (Aave v3.3+).
    SOCIALISED: suppliers' claims are cut at once, pro rata (Morpho Blue).
    DILUTED: the protocol's token is issued and sold for what is missing (Maker's debt auctions).
    BORROWERS: what depositors of a pool do not pay is handed to the other accounts, so nothing is
        ever written off (Liquity).
    LENDERS: lenders lose what reserves do not pay, those who stated the highest price first (Ajna).
    STANDING: nothing is ever recognised; debt without collateral stays on the books and accrues,
        suppliers are whole on paper and the last ones to leave are short (Aave v3.0 to v3.2).
    """

    CARRIED = "suppliers (deficit carried)"
    SOCIALISED = "suppliers (written down)"
    DILUTED = "token holders (dilution)"
    STANDING = "suppliers (debt left standing)"
    BORROWERS = "other borrowers (redistributed)"
    LENDERS = "lenders (highest price first)"


DEPOSITORS = "stability pool depositors"
"""Who bears a loss before the other borrowers do."""


@pytree
class Payment:
    """What one fund pays of a loss.

    Attributes:
        paid: of the loss, numeraire.
        fund: what is left in the fund, in the unit the fund is kept in.
        offset: loss it still leaves to others before it pays, in units of what it covers.
        units: `(debt_asset,)` units it pays; `None` for money, which pays any asset in proportion.
        fee: `(debt_asset,)` units the protocol takes on top; `None` for none.
        pool_share: `units` and `fee` are claims on the pool itself, given up and not paid in.
    """

    paid: Float[Array, ""]
    fund: Float[Array, ""]
    offset: Float[Array, ""]
    units: Float[Array, " debt_asset"] | None = None
    fee: Float[Array, " debt_asset"] | None = None
    pool_share: bool = static(default=False)


@pytree
class Loss:
    """A loss on its way through the funds, in units and in the numeraire.

    Money pays any asset, so what it pays is only spread over the units of all assets once somebody
    has to know units.

    Attributes:
        units: `(debt_asset,)` open when units were last told apart.
        price: `(debt_asset,)` of a unit, which weighs the assets against each other.
        value: of `units` when the loss was booked, numeraire.
        money: paid in money since units were told apart.
        left: value still open.
        cash: `(debt_asset,)` units paid in before that.
        cancelled: `(debt_asset,)` claims on the pool given up for the loss.
        treasury: `(debt_asset,)` claims on the pool handed to the protocol as a fee.
        fee: all fees taken on top of payments, numeraire.
    """

    units: Float[Array, " debt_asset"]
    price: Float[Array, " debt_asset"]
    value: Float[Array, ""]
    money: Float[Array, ""]
    left: Float[Array, ""]
    cash: Float[Array, " debt_asset"]
    cancelled: Float[Array, " debt_asset"]
    treasury: Float[Array, " debt_asset"]
    fee: Float[Array, ""]

    @classmethod
    def opening(
        cls,
        units: Float[Array, " debt_asset"],
        value: Float[Array, ""],
        price: Float[Array, " debt_asset"],
    ) -> Self:
        """Return a loss of which nobody has paid anything."""
        none, zero = jnp.zeros_like(units), jnp.zeros_like(value)
        return cls(
            units=units,
            price=price,
            value=value,
            money=zero,
            left=value,
            cash=none,
            cancelled=none,
            treasury=none,
            fee=zero,
        )

    def open(self) -> Float[Array, " debt_asset"]:
        """Return the units nobody has paid yet."""
        return self.units - self._spread()

    def share_of(self, units: Float[Array, " debt_asset"]) -> Float[Array, ""]:
        """Return what `units` of those that are open are worth of what is left, numeraire."""
        worth = jnp.sum(self.open() * self.price)
        return self.left * (jnp.sum(units * self.price) / positive_or_one(worth))

    def after(self, payment: Payment) -> Self:
        """Return the loss after a payment."""
        left = self.left - payment.paid
        if payment.units is None:
            return dataclasses.replace(self, money=self.money + payment.paid, left=left)
        told = self.told_apart()
        none = jnp.zeros_like(self.units)
        fee = none if payment.fee is None else payment.fee
        inside, outside = (payment.units, none) if payment.pool_share else (none, payment.units)
        return dataclasses.replace(
            told,
            units=told.units - payment.units,
            value=left,
            left=left,
            cash=told.cash + outside,
            cancelled=told.cancelled + inside,
            treasury=told.treasury + (fee if payment.pool_share else none),
            fee=told.fee + jnp.sum(fee * self.price),
        )

    def told_apart(self) -> Self:
        """Return the same loss with the money spread over the units."""
        spread = self._spread()
        return dataclasses.replace(
            self,
            units=self.units - spread,
            value=self.left,
            money=jnp.zeros_like(self.money),
            cash=self.cash + spread,
        )

    def _spread(self) -> Float[Array, " debt_asset"]:
        return self.units * (self.money / positive_or_one(self.value))


class Fund(Protocol):
    """How a fund pays. What it holds changes in a scenario and is not here."""

    def opening_offset(self, dtype: Any) -> Float[Array, ""]:
        """Return the loss it leaves to others before it pays, in units of what it covers."""
        ...

    def pay(
        self,
        loss: Loss,
        fund: Float[Array, ""],
        offset: Float[Array, ""],
        seen: Float[Array, " asset"],
    ) -> Payment:
        """Return what the fund pays of a loss.

        Args:
            loss: as the funds in front have left it.
            fund: what it holds, in its own unit.
            offset: loss it still leaves to others.
            seen: prices the venue sees.
        """
        ...


@pytree
class Capacity:
    """A sum of money, in the numeraire, that pays for any asset until it is used up."""

    def opening_offset(self, dtype: Any) -> Float[Array, ""]:
        """Return 0: it pays from the first unit on."""
        return jnp.zeros((), dtype)

    def pay(
        self,
        loss: Loss,
        fund: Float[Array, ""],
        offset: Float[Array, ""],
        seen: Float[Array, " asset"],
    ) -> Payment:
        """Return the smaller of what is left of the loss and of the fund."""
        del seen
        paid = _within(fund, loss.left)
        return Payment(paid=paid, fund=fund - paid, offset=offset)


@pytree
class Settled:
    """A loss after all funds, and the funds after it.

    Attributes:
        loss: what is left of it, and what came in.
        funds: `(layer,)` left in each fund.
        offsets: `(layer,)` loss each still leaves to others.
        paid: `(layer,)` of the loss, numeraire.
    """

    loss: Loss
    funds: Float[Array, " layer"]
    offsets: Float[Array, " layer"]
    paid: Float[Array, " layer"]


def pay_in_order(
    rules: Sequence[Fund],
    loss: Loss,
    funds: Float[Array, " layer"],
    offsets: Float[Array, " layer"],
    seen: Float[Array, " asset"],
) -> Settled:
    """Return a loss after each fund has paid what it can of what those in front left.

    Fund by fund rather than by cumulated capacities: a large or unlimited fund behind must not
    blur what a small one in front pays.

    Args:
        rules: how each fund pays, in paying order.
        loss: what is to be paid.
        funds: what each holds.
        offsets: loss each still leaves to others.
        seen: prices the venue sees.
    """
    payments = []
    for layer, rule in enumerate(rules):
        payments.append(rule.pay(loss, funds[layer], offsets[layer], seen))
        loss = loss.after(payments[-1])
    return Settled(
        loss=loss.told_apart(),
        funds=jnp.stack([p.fund for p in payments]),
        offsets=jnp.stack([p.offset for p in payments]),
        paid=jnp.stack([p.paid for p in payments]),
    )


def ordered_payment(
    loss: Float[Array, ""], capacity: Float[Array, " layer"]
) -> tuple[Float[Array, " layer"], Float[Array, ""]]:
    """Return what each of several capacities pays, first one first, and what is left unpaid.

    Args:
        loss: to be paid.
        capacity: of each layer, in the unit of the loss.
    """
    paid, left = [], loss
    for layer in range(capacity.shape[0]):
        paid.append(_within(capacity[layer], left))
        left = left - paid[-1]
    return jnp.stack(paid), left


def _within(capacity: Float[Array, ""], loss: Float[Array, ""]) -> Float[Array, ""]:
    """Return the smaller of both."""
    # At a tie the capacity decides: more of it would be used only if there is a loss.
    exceeded = (loss > capacity) | ((loss == capacity) & (loss > 0))
    return jnp.where(exceeded, capacity, loss)
