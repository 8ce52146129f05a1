"""Close-out as far as restores a margin with a buffer, no faster than a throttle allows."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import gate, larger, positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.close_out import OpenAccounts, Orders
from jaxrisk.venue.margin_call import FreedMarginThrottle, MarginCall
from jaxrisk.venue.requirement import Exposure
from jaxrisk.venue.size_margin import SquareRootWeight

PerAccount = Float[Array, " account"]
Positions = Float[Array, "contract account"]


@pytree
class SquareRootMargin:
    """Margin rates that grow with the square root of a position, see `SquareRootWeight`.

    Attributes:
        initial: `(contract, 1)` rate of a small position.
        maintenance: `(contract, 1)`.
        weight: how rates grow.
    """

    initial: Float[Array, "contract 1"]
    maintenance: Float[Array, "contract 1"]
    weight: SquareRootWeight

    def rows(self, held: Exposure) -> Float[Array, "2 contract account"]:
        """Return initial and maintenance margin of positions."""
        rates = [self.weight.liability(r, held.units) for r in (self.initial, self.maintenance)]
        return jnp.stack(rates) * held.notional[None]

    def rate(self, held: OpenAccounts) -> Positions:
        """Return maintenance margin over notional; contracts are one unit of the underlying."""
        return self.weight.liability(self.maintenance, held.count)


@pytree
class LiquidationMemory:
    """Accounts in liquidation.

    Attributes:
        being: `(account,)` 1 where an account is being liquidated.
        elapsed: `(account,)` years since that began, the present step included.
        freed: `(account,)` margin freed since, settlement currency.
        waits: `(account,)` 1 where the throttle leaves nothing more to do in this step.
        step: years of a step.
    """

    being: PerAccount
    elapsed: PerAccount
    freed: PerAccount
    waits: PerAccount
    step: Float[Array, ""]


@pytree
class BufferedOrders:
    """Liquidation begins below the maintenance margin and ends above it by a buffer of notional.

    What is missing is split over an account's positions by their margin, and each makes up its own
    part as `MarginCall` says. Time passes between steps: a step frees, in its first round that the
    throttle cuts, what it allows at its end.

    Source: Drift v2, controller/liquidation.rs `liquidate_perp`.

    Attributes:
        margin: of positions.
        call: how much is closed of a position, and what the insurance fund gets.
        throttle: how fast, in years.
        buffer: restored beyond the maintenance margin, of notional.
        taker_fee: of who takes positions over, fraction of notional.
    """

    margin: SquareRootMargin
    call: MarginCall
    throttle: FreedMarginThrottle
    buffer: Float[Array, ""]
    taker_fee: Float[Array, ""]

    def threshold(self, requirement: PerAccount, notional: PerAccount) -> PerAccount:
        """Return the equity below which an account is called."""
        del notional
        return requirement

    def opening(self, size: Positions) -> LiquidationMemory:
        """Return the memory of a venue that liquidates nobody."""
        none = jnp.zeros_like(size[0])
        return LiquidationMemory(
            being=none, elapsed=none, freed=none, waits=none, step=jnp.zeros((), size.dtype)
        )

    def aged(self, memory: LiquidationMemory, years: Float[Array, ""]) -> LiquidationMemory:
        """Return the memory a step later."""
        return LiquidationMemory(
            being=memory.being,
            elapsed=memory.being * (memory.elapsed + years),
            freed=memory.freed,
            waits=jnp.zeros_like(memory.waits),
            step=years,
        )

    def orders(
        self, held: OpenAccounts, memory: LiquidationMemory, width: Float[Array, ""] | None
    ) -> Orders:
        """Return what is closed; the trigger is exact for accounts in liquidation."""
        none, total = jnp.zeros_like(held.equity), held.total
        missing = held.requirement + self.buffer * total - held.equity
        begins = gate(held.requirement - held.equity, held.requirement, width)
        # A restored account misses nothing but rounding.
        dust = 4096 * jnp.finfo(total.dtype).eps * total
        goes_on = (memory.being > 0) & (missing > dust)
        called = jnp.where(goes_on, jnp.ones_like(begins), begins)
        shortage = jnp.where((called > 0) & (missing > 0), missing, none)
        elapsed = larger(memory.elapsed, memory.step * jnp.ones_like(none))
        freed = jnp.where(memory.being > 0, memory.freed, none)
        allowed = self.throttle.allowed(shortage, elapsed, freed)
        # The throttle's share is a difference: all but rounding is all.
        cut = allowed < 1.0 - 64 * jnp.finfo(allowed.dtype).eps
        waits = jnp.where((called > 0) & cut, jnp.ones_like(none), memory.waits)
        allowed = jnp.where(memory.waits > 0, none, allowed)
        rate = self.margin.rate(held)
        part = held.notional * rate / positive_or_one(held.requirement)[None]
        price = held.notional / positive_or_one(held.count)
        own = shortage[None] * part
        done = self.call.call(
            held.count,
            price,
            quote_price=jnp.ones_like(price),
            shortage=own,
            own_shortage=own,
            margin_rate=rate + self.buffer,
            fee=self.taker_fee,
            allowed=jnp.broadcast_to(allowed[None], own.shape),
        )
        closed = done.size * price
        share = done.size / positive_or_one(held.count)
        spent = done.liquidator_fee + done.insurance_fee
        restored = jnp.sum(closed * (rate + self.buffer) - spent, axis=0)
        return Orders(
            share=called[None] * share,
            largest=jnp.ones_like(self.buffer),
            fee=done.insurance_fee / positive_or_one(closed),
            called=called,
            forfeited=none,
            memory=LiquidationMemory(
                being=(called > 0).astype(none.dtype),
                elapsed=jnp.where(called > 0, elapsed, none),
                freed=jnp.where(called > 0, freed + restored, none),
                waits=waits,
                step=memory.step,
            ),
        )
