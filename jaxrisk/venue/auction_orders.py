"""Close-out by auctions of whole portfolios, as orders of a round.

Takers get a share of everything an account holds for less than it is worth, and close what they
took in the market. Anyone may bid, so an auction ends as soon as the discount pays for that: the
account bears what closing costs, and the discount of the start where that is more.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import gate
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.close_out import OpenAccounts, Orders
from jaxrisk.venue.portfolio_auction import (
    Margined,
    PortfolioAuction,
    PortfolioAuctionTerms,
    largest_share,
    opening_fee,
)

PerAccount = Float[Array, " account"]
Positions = Float[Array, "contract account"]


@pytree
class AuctionOrders:
    """Accounts below their maintenance margin are auctioned at the price of the start.

    A solvent one as far as brings back its buffer margin, with a fee to the fund; one that is worth
    less than nothing whole, at whatever its takers ask for, which the fund pays as long as it can.
    The cash that the account keeps stands for the share of it that is sold and paid for: both leave
    the same.

    Source: Derive v2 DutchAuction.sol; see `portfolio_auction`.

    Attributes:
        terms: of the auctions.
    """

    terms: PortfolioAuctionTerms

    def threshold(self, requirement: PerAccount, notional: PerAccount) -> PerAccount:
        """Return the equity below which an account is called."""
        del notional
        return requirement

    def opening(self, size: Positions) -> tuple[()]:
        """Return nothing: an auction ends in the round in which it starts."""
        del size
        return ()

    def aged(self, memory: tuple[()], years: Float[Array, ""]) -> tuple[()]:
        """Return nothing."""
        del years
        return memory

    def orders(
        self, held: OpenAccounts, memory: tuple[()], width: Float[Array, ""] | None
    ) -> Orders:
        """Return what is closed."""
        account = Margined(margin=held.equity - held.requirement, value=held.equity)
        nothing = jnp.zeros_like(held.equity)
        solvent = held.equity > 0
        start = PortfolioAuction(elapsed=nothing, reserved=nothing, insolvent=~solvent)
        called = gate(held.requirement - held.equity, held.requirement, width)
        share = called * jnp.where(solvent, largest_share(self.terms, account, start), 1.0)
        worth = jnp.where(solvent, share * held.equity, nothing)
        return Orders(
            share=jnp.broadcast_to(share[None, :], held.count.shape),
            largest=jnp.ones_like(self.terms.fee),
            called=called,
            fee=jnp.zeros_like(held.count),
            forfeited=nothing,
            memory=memory,
            due=called * opening_fee(self.terms, account)[0],
            discount=(1.0 - self.terms.price.fraction(nothing)) * worth,
        )


@pytree
class RepaidOrders:
    """Options of an account that lacks collateral are repaid whole, and nothing else is taken.

    Whoever repays them gets a price that rises until it is the whole collateral. Anyone may, so it
    is what repaying costs in the market.

    Source: Opyn Gamma Controller `liquidate`; see `OptionBuyback`.
    """

    def threshold(self, requirement: PerAccount, notional: PerAccount) -> PerAccount:
        """Return the equity below which an account is called."""
        del notional
        return requirement

    def opening(self, size: Positions) -> tuple[()]:
        """Return nothing: rounds do not depend on those before."""
        del size
        return ()

    def aged(self, memory: tuple[()], years: Float[Array, ""]) -> tuple[()]:
        """Return nothing."""
        del years
        return memory

    def orders(
        self, held: OpenAccounts, memory: tuple[()], width: Float[Array, ""] | None
    ) -> Orders:
        """Return what is closed."""
        # Collateral is often what was required at the opening, to the last digit.
        edge = held.requirement - 8.0 * jnp.finfo(held.equity.dtype).eps * held.total
        called = gate(edge - held.equity, held.requirement, width)
        return Orders(
            share=jnp.broadcast_to(called[None, :], held.count.shape),
            largest=jnp.ones((), called.dtype),
            called=called,
            fee=jnp.zeros_like(held.count),
            forfeited=jnp.zeros_like(called),
            memory=memory,
        )
