"""How much of an account's positions is closed by market orders once it is called.

A rule looks at all accounts of a venue and says what share of what still stands goes to the market
in a round. What it remembers between rounds and steps is its own.
"""

from typing import Any, Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import gate
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.margin_call import restoring_share

PerAccount = Float[Array, " account"]
Positions = Float[Array, "contract account"]


@pytree
class OpenAccounts:
    """What a rule sees of accounts at the venue's prices, settlement currency.

    Attributes:
        equity: with collateral as far as it backs positions.
        requirement: maintenance margin.
        count: contracts held, at least 0.
        notional: of each position.
    """

    equity: PerAccount
    requirement: PerAccount
    count: Positions
    notional: Positions

    @property
    def total(self) -> PerAccount:
        """Notional of all positions."""
        return jnp.sum(self.notional, axis=0)


@pytree
class Orders:
    """What is closed of accounts in a round.

    Attributes:
        share: of what stands of each position, in [0, 1].
        largest: of the opening position, the largest share that is closed in a round.
        fee: of the notional closed, to the insurance fund as far as the account has equity left.
        called: 1 where an account is called, 0 elsewhere; between them on the smooth trigger.
        forfeited: part that the insurance fund takes of what is left in the settlement currency, of
            an account that is closed whole.
        memory: of the rule, if these orders go out.
        due: paid to the fund beside the fee, as far as equity is left; `None` for nothing.
        discount: what whoever takes positions over gains at least, what closing them costs
            included, as far as equity is left; `None` where they are dealt at the market.
    """

    share: Positions
    largest: Float[Array, ""]
    fee: Positions
    called: PerAccount
    forfeited: PerAccount
    memory: Any
    due: PerAccount | None = None
    discount: PerAccount | None = None


class CloseRule(Protocol):
    """Who is called and how much is closed."""

    def threshold(self, requirement: PerAccount, notional: PerAccount) -> PerAccount:
        """Return the equity below which an account is called.

        Args:
            requirement: maintenance margin.
            notional: of all positions.
        """
        ...

    def opening(self, size: Positions) -> Any:
        """Return what the rule remembers at the start."""
        ...

    def aged(self, memory: Any, years: Float[Array, ""]) -> Any:
        """Return what it remembers a step of that many years later."""
        ...

    def orders(self, held: OpenAccounts, memory: Any, width: Float[Array, ""] | None) -> Orders:
        """Return what is closed.

        Args:
            held: accounts as they are.
            memory: of the rule.
            width: of the smooth twin of the trigger, as a fraction of the requirement.
        """
        ...


@pytree
class CloseOut:
    """A call closes the same share of all positions: as much as restores the account.

    An account is called once its equity is below `trigger` times its maintenance margin; closing
    is to restore `target` times that margin.

    Attributes:
        trigger: theta at which an account is called.
        target: theta to be restored, at least `trigger`.
        largest: of the opening position, the largest share that is closed in a round.
        fee: fraction of the notional closed that goes to the insurance fund, as far as the account
            has equity left.
        forfeit: part that the fund takes besides of what is left to an account that nothing but
            closing everything would help: it is taken over at its bankruptcy price where this is 1.
    """

    trigger: Float[Array, ""]
    target: Float[Array, ""]
    largest: Float[Array, ""]
    fee: Float[Array, ""]
    forfeit: Float[Array, ""]

    def threshold(self, requirement: PerAccount, notional: PerAccount) -> PerAccount:
        """Return the equity below which an account is called."""
        del notional
        return self.trigger * requirement

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
        edge = self.threshold(held.requirement, held.total)
        called = gate(edge - held.equity, held.requirement, width)
        share = restoring_share(
            held.equity, held.requirement, held.total, target=self.target, cost=self.fee
        )
        return Orders(
            share=jnp.broadcast_to((called * share)[None, :], held.count.shape),
            largest=self.largest,
            fee=jnp.full_like(held.count, self.fee),
            called=called,
            forfeited=jnp.where(share < 1, jnp.zeros_like(called), self.forfeit * called),
            memory=memory,
        )


@pytree
class WholeClose:
    """A call closes everything: the venue takes the account over at its bankruptcy price.

    What closing brings beyond that price goes to the insurance fund, and what it lacks the fund
    pays.

    Source: BitMEX, Liquidation; Bybit, Liquidation Process (settled at the bankruptcy price).

    Attributes:
        reserve: of notional, kept back for the fee of closing: an account is called below its
            maintenance margin and this.
    """

    reserve: Float[Array, ""]

    def threshold(self, requirement: PerAccount, notional: PerAccount) -> PerAccount:
        """Return the equity below which an account is called."""
        return requirement + self.reserve * notional

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
        edge = self.threshold(held.requirement, held.total)
        called = gate(edge - held.equity, held.requirement, width)
        return Orders(
            share=jnp.broadcast_to(called[None, :], held.count.shape),
            largest=jnp.ones_like(self.reserve),
            fee=jnp.zeros_like(held.count),
            called=called,
            forfeited=called,
            memory=memory,
        )
