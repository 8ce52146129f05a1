"""Close-out rules with a memory: slices with a pause, steps of tiers, limits of a block of time.

How much is ordered at one moment is the affair of the exact rules (`partial_close.py`,
`bankruptcy_price.py`); here they are asked round by round and step by step.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import gate, positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.bankruptcy_price import BlockLimits
from jaxrisk.venue.close_out import OpenAccounts, Orders
from jaxrisk.venue.margin_call import restoring_share
from jaxrisk.venue.partial_close import SlicedClose, TierStep

PerAccount = Float[Array, " account"]
Positions = Float[Array, "contract account"]
SECONDS_A_YEAR = 365.0 * 86_400.0


@pytree
class SliceMemory:
    """What sliced closing remembers.

    Attributes:
        since: `(contract, account)` seconds since the last slice of a position, infinite before.
        taken: `(account,)` 1 where the vault has taken an account over.
        left: `(account,)` years until the vault has closed it.
        due: `(account,)` share of what stands that the vault has still to close in this step.
        step: years of a step.
    """

    since: Positions
    taken: PerAccount
    left: PerAccount
    due: PerAccount
    step: Float[Array, ""]


@pytree
class SlicedOrders:
    """Orders for slices of large positions; those of weak accounts go to the venue's vault.

    An account below a share of its maintenance margin loses everything to the vault, which stands
    behind the venue as its fund and closes the positions in equal parts over a stated time.

    Source: Hyperliquid documentation, Liquidations; how fast the vault trades is not published.

    Attributes:
        rule: slices, and when an account is taken over.
        unwind: years in which the vault closes what it took over; 0 for at once.
        fee: of what is closed, to the fund.
    """

    rule: SlicedClose
    unwind: Float[Array, ""]
    fee: Float[Array, ""]

    def threshold(self, requirement: PerAccount, notional: PerAccount) -> PerAccount:
        """Return the equity below which an account is called."""
        del notional
        return requirement

    def opening(self, size: Positions) -> SliceMemory:
        """Return the memory of a venue that has closed nothing yet."""
        none = jnp.zeros_like(size[0])
        return SliceMemory(
            since=jnp.full_like(size, jnp.inf),
            taken=none,
            left=none,
            due=none,
            step=jnp.zeros((), size.dtype),
        )

    def aged(self, memory: SliceMemory, years: Float[Array, ""]) -> SliceMemory:
        """Return the memory a step later: the vault closes its next part."""
        return SliceMemory(
            since=memory.since + years * SECONDS_A_YEAR,
            taken=memory.taken,
            left=_shorter(memory.left, years),
            due=memory.taken * _part(years, memory.left),
            step=years,
        )

    def orders(
        self, held: OpenAccounts, memory: SliceMemory, width: Float[Array, ""] | None
    ) -> Orders:
        """Return what is closed; the trigger is exact where accounts are taken over."""
        called = gate(held.requirement - held.equity, held.requirement, width)
        weak = self.rule.taken_over(held.equity, held.requirement) & (memory.taken == 0)
        newly = weak.astype(called.dtype)
        share = self.rule.share(
            held.notional, held.equity[None], held.requirement[None], memory.since
        )
        sliced = (share > 0) & (share < 1)
        unwind = jnp.broadcast_to(self.unwind, newly.shape)
        taken = memory.taken + newly
        due = memory.due + newly * _part(memory.step, unwind)
        return Orders(
            share=jnp.where(taken[None] > 0, due[None], called[None] * share),
            largest=jnp.ones_like(self.fee),
            fee=jnp.full_like(held.count, self.fee),
            called=jnp.where(taken > 0, taken, called),
            forfeited=taken,
            memory=SliceMemory(
                since=jnp.where(sliced, jnp.zeros_like(share), memory.since),
                taken=taken,
                left=memory.left + newly * _shorter(unwind, memory.step),
                due=jnp.zeros_like(due),
                step=memory.step,
            ),
        )


def _shorter(left: PerAccount, years: Float[Array, ""]) -> PerAccount:
    return jnp.where(left > years, left - years, jnp.zeros_like(left))


def _part(years: Float[Array, ""], left: PerAccount) -> PerAccount:
    """Return the share of what stands that is closed in a step: all in the last one."""
    return jnp.where(left > years, years / positive_or_one(left), jnp.ones_like(left))


@pytree
class TierOrders:
    """Orders that bring positions down some tiers at a time, each position for itself.

    An account is called once its equity is below its maintenance margin and the fee kept back for
    closing.

    Source: OKX, margin ratio; partial and full liquidation.

    Attributes:
        rule: which tier a liquidation leads to.
        fee: of notional, kept back and then paid to the fund as far as equity is left.
    """

    rule: TierStep
    fee: Float[Array, ""]

    def threshold(self, requirement: PerAccount, notional: PerAccount) -> PerAccount:
        """Return the equity below which an account is called."""
        return requirement + self.fee * notional

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
        own, _ = self.rule.tiers.maintenance(held.notional, held.count)
        own = own + self.fee * held.notional
        beyond = held.equity[None] - (jnp.sum(own, axis=0)[None] - own)
        stands = self.rule.standing(held.count, held.notional, beyond, self.fee)
        share = 1.0 - stands / positive_or_one(held.count)
        return Orders(
            share=called[None] * jnp.where(held.count > 0, share, jnp.zeros_like(share)),
            largest=jnp.ones_like(self.fee),
            fee=jnp.full_like(held.count, self.fee),
            called=called,
            forfeited=jnp.zeros_like(called),
            memory=memory,
        )


@pytree
class BlockMemory:
    """What may still be closed in a step.

    Attributes:
        stays: `(contract, account)` share of what stands that must stand at the end of the step.
        budget: `(account,)` notional that may still be closed.
    """

    stays: Positions
    budget: PerAccount


@pytree
class BlockOrders:
    """Orders that restore the maintenance margin, within what may be closed in a block of time.

    Many blocks make a step: of a position so much stays at its end as would after all of them, and
    of an account no more is closed than in all of them. Whatever is called is closed for at least
    the smallest order.

    Source: dYdX v4, clob/keeper/liquidations.go; see `BlockLimits`.

    Attributes:
        limits: of a block.
        block: years between two.
        fee: of what is closed, to the fund as far as the account has equity left.
    """

    limits: BlockLimits
    block: Float[Array, ""]
    fee: Float[Array, ""]

    def threshold(self, requirement: PerAccount, notional: PerAccount) -> PerAccount:
        """Return the equity below which an account is called."""
        del notional
        return requirement

    def opening(self, size: Positions) -> BlockMemory:
        """Return a memory in which nothing may be closed before the first step."""
        return BlockMemory(stays=jnp.ones_like(size), budget=jnp.zeros_like(size[0]))

    def aged(self, memory: BlockMemory, years: Float[Array, ""]) -> BlockMemory:
        """Return what may be closed in the next step."""
        blocks = jnp.where(years > self.block, years / self.block, jnp.ones_like(years))
        return BlockMemory(
            stays=jnp.full_like(memory.stays, (1.0 - self.limits.portion) ** blocks),
            budget=jnp.full_like(memory.budget, self.limits.account * blocks),
        )

    def orders(
        self, held: OpenAccounts, memory: BlockMemory, width: Float[Array, ""] | None
    ) -> Orders:
        """Return what is closed."""
        called = gate(held.requirement - held.equity, held.requirement, width)
        one = jnp.ones_like(self.fee)
        wanted = restoring_share(
            held.equity, held.requirement, held.total, target=one, cost=self.fee
        )
        least = smaller(self.limits.minimum, held.notional) / positive_or_one(held.notional)
        wanted = jnp.where(wanted[None] > least, wanted[None], least)
        room = 1.0 - memory.stays
        room = jnp.where(room > least, room, least)
        share = called[None] * smaller(wanted, room)
        closed = jnp.sum(share * held.notional, axis=0)
        part = smaller(memory.budget / positive_or_one(closed), jnp.ones_like(closed))
        share = share * part[None]
        stays = memory.stays / positive_or_one(1.0 - share)
        return Orders(
            share=share,
            largest=one,
            fee=jnp.full_like(held.count, self.fee),
            called=called,
            forfeited=jnp.zeros_like(called),
            memory=BlockMemory(
                stays=smaller(stays, jnp.ones_like(stays)), budget=memory.budget - closed * part
            ),
        )
