"""Holders who sell by themselves once they have lost too much, or must by their lender's terms."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import gate, positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.account import Accounts

PerAccount = Float[Array, " account"]


@pytree
class StopOrders:
    """What an account sells at the market: all of it at a stop, or as much as a margin call asks.

    Attributes:
        loss: part of the opening value of what it holds that is lost when all is sold; `None` for
            no stop.
        margin: collateral over debt below which some is sold; `None` for no margin calls.
        target: collateral over debt afterwards, above 1, at the prices of the order.
    """

    loss: Float[Array, ""] | None = None
    margin: Float[Array, ""] | None = None
    target: Float[Array, ""] | None = None

    def opening(self, accounts: Accounts) -> None:
        """Return `None`: nothing is kept between sales."""
        del accounts

    def part(
        self,
        collateral: PerAccount,
        opening: PerAccount,
        debt: PerAccount,
        width: Float[Array, ""] | None,
    ) -> PerAccount:
        """Return the part of its collateral that each account sells, in [0, 1].

        A margin call sells `s` of `(1 - s) C = target (D - s C)`, all where that does not suffice.

        Args:
            collateral: value now.
            opening: value of the same units at the opening prices.
            debt: value now.
            width: of the smooth trigger; `None` for the exact rule.
        """
        part = jnp.zeros_like(collateral)
        if self.margin is not None and self.target is not None:
            short = (self.target * debt - collateral) / positive_or_one(self.target - 1.0)
            called = gate(self.margin * debt - collateral, debt, width)
            part = called * jnp.clip(short / positive_or_one(collateral), 0.0, 1.0)
        if self.loss is not None:
            stop = gate((1.0 - self.loss) * opening - collateral, opening, width)
            part = jnp.where(stop > part, stop, part)
        return jnp.where(collateral > 0, part, jnp.zeros_like(part))
