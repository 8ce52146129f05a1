"""What keepers could do on a venue in a round: what it would move, bring and cost."""

from collections.abc import Sequence
from typing import TypeVar

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.market.state import Market
from jaxrisk.numerics.pytree import pytree, static


@pytree
class Moved:
    """Units moved by calls.

    Attributes:
        seized: `(collateral_asset,)` units taken, fee included.
        repaid: `(debt_asset,)` units repaid.
        written_off: `(debt_asset,)` units recognised as bad.
        refund: value returned to borrowers, at seen prices.
        calls: how many calls (0 where calls cost nothing and are not counted).
        charge: value that keepers pay to the protocol beyond the debt, at seen prices; of a
            takeover, what its sales bring the protocol beyond its claims.
    """

    seized: Float[Array, " collateral_asset"]
    repaid: Float[Array, " debt_asset"]
    written_off: Float[Array, " debt_asset"]
    refund: Float[Array, ""]
    calls: Float[Array, ""]
    charge: Float[Array, ""] | float = 0.0

    @property
    def anything(self) -> Bool[Array, ""]:
        """Whether any unit moved."""
        return jnp.any(self.seized > 0) | jnp.any(self.repaid + self.written_off > 0)

    def __mul__(self, share: Float[Array, ""]) -> "Moved":
        """Return what a share of the calls moves."""
        return Moved(
            seized=share * self.seized,
            repaid=share * self.repaid,
            written_off=share * self.written_off,
            refund=share * self.refund,
            calls=share * self.calls,
            charge=share * self.charge,
        )

    def __add__(self, other: "Moved") -> "Moved":
        """Return the sum of what two sets of calls move."""
        return Moved(
            seized=self.seized + other.seized,
            repaid=self.repaid + other.repaid,
            written_off=self.written_off + other.written_off,
            refund=self.refund + other.refund,
            calls=self.calls + other.calls,
            charge=self.charge + other.charge,
        )


@pytree
class Offer:
    """What one class of calls would bring and cost, if all of it went through.

    The calls of a class have one margin and are rationed alike.

    Attributes:
        moved: units moved, debt in today's units.
        fee: `(collateral_asset,)` units of `moved.seized` that the protocol keeps.
        sold: `(asset,)` units that keepers would sell.
        paid: what the keepers would pay for it, at the market's mid.
        bought: `(asset,)` units bought in the market to pay with, whose cost is not in `paid`;
            `None` where nothing ever is. Read from what went through, not from what is wanted.
        at_market: dealt at whatever the market gives, so never rationed, and ahead of all others.
    """

    moved: Moved
    fee: Float[Array, " collateral_asset"]
    sold: Float[Array, " asset"]
    paid: Float[Array, ""]
    bought: Float[Array, " asset"] | None = None
    at_market: bool = static(default=False)

    def __mul__(self, share: Float[Array, ""]) -> "Offer":
        """Return the part of the offer that goes through."""
        return Offer(
            moved=self.moved * share,
            fee=self.fee * share,
            sold=self.sold * share,
            paid=self.paid * share,
            bought=None if self.bought is None else self.bought * share,
            at_market=self.at_market,
        )

    def __add__(self, other: "Offer") -> "Offer":
        """Return two offers as one."""
        return Offer(
            moved=self.moved + other.moved,
            fee=self.fee + other.fee,
            sold=self.sold + other.sold,
            paid=self.paid + other.paid,
            bought=_either(self.bought, other.bought),
            at_market=self.at_market and other.at_market,
        )


@pytree
class Dealt:
    """What became of all orders of a round.

    Attributes:
        before: the market before it.
        after: the market after it.
        received: `(asset,)` mean price of what was sold, 0 where nothing was.
        paid: `(asset,)` mean price of what was bought.
    """

    before: Market
    after: Market
    received: Float[Array, " asset"]
    paid: Float[Array, " asset"]


def _either(
    one: Float[Array, " asset"] | None, other: Float[Array, " asset"] | None
) -> Float[Array, " asset"] | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other


Summand = TypeVar("Summand", Array, Moved, Offer)


def summed(parts: Sequence[Summand]) -> Summand:
    """Return the sum of at least one part."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
