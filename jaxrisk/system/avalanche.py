"""One shock and all it sets off: the greatest price at which nobody is left to be closed.

Forced sales push the price down, which closes more accounts. If what an account sells does not
depend on when it is closed, the price after `n` closes is a function of `n`, and the accounts that
fall are those down to the first one that the price left by all before it does not reach. So there
is a threshold an account, the price without sales at or below which it falls, and all of them are
one running minimum over the sorted book. No round is played and no account looked at twice.
"""

from typing import Protocol, Self

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.sums import total_up_to
from jaxrisk.system.ladder import Ladder, LadderMarket


class FallsBySales(Protocol):
    """What is asked here of an impact law, about one asset."""

    def log_drop(self, volume: Float[Array, "1"], depth: Float[Array, "1"]) -> Float[Array, "1"]:
        """Return the log price drop of a sale into a depth."""
        ...


@pytree
class Triggers:
    """Accounts in the order in which a falling price closes them, and what each one sells.

    Positions that a *rising* price closes are the same table in mirrored logs: the log trigger is
    that of 1 / price, and what they buy raises the price as a sale lowers it.

    Attributes:
        log_price: `(account,)` log price strictly below which an account is closed, decreasing.
        sold: `(account + 1,)` what the first accounts sell together, from none on, in the unit of
            the depth into which it is sold.
    """

    log_price: Float[Array, " account"]
    sold: Float[Array, " rung"]

    @classmethod
    def of(cls, log_price: Float[Array, " account"], sold: Float[Array, " account"]) -> Self:
        """Return the table of accounts in any order.

        Args:
            log_price: log price strictly below which each is closed; −infinity for never.
            sold: what each one sells then, at least 0.
        """
        order = jnp.argsort(-log_price, stable=True)
        return cls(log_price=log_price[order], sold=total_up_to(sold[order]))

    @classmethod
    def of_ladder(cls, ladder: Ladder, market: LadderMarket) -> Self:
        """Return the triggers of a ladder at the market's price of debt, sales in the numeraire.

        A close takes collateral worth `credit` times the debt, at any price at which there is as
        much of it: that, less the protocol's fee, is what is sold. An account that is called when
        it has less would sell less, so the table is exact while nobody is closed below the price
        at which collateral covers debt and bonus, and overstates sales beyond.
        """
        credit = ladder.credit
        fee = ladder.incentive.fee(jnp.ones_like(credit)[None], 1.0 - 1.0 / credit)[0]
        worth = (1.0 - fee) * credit * market.debt_price
        log_trigger = ladder.log_trigger + jnp.log(market.debt_price)
        return cls(log_price=log_trigger, sold=worth * ladder.sums[:, 1])

    @classmethod
    def of_perpetuals(
        cls,
        size: Float[Array, " account"],
        entry: Float[Array, " account"],
        margin: Float[Array, " account"],
        maintenance: Float[Array, " account"],
        *,
        side: int,
    ) -> Self:
        """Return the triggers of linear perpetual positions of one side, each closed whole.

        A position is closed where `margin + side * size * (price - entry)` is below
        `maintenance * size * price`. What it trades is worth its size at its own trigger.

        Args:
            size: units of the contract, at least 0.
            entry: entry price.
            margin: collateral in the quote asset.
            maintenance: maintenance margin as a fraction of notional, below 1.
            side: 1 for longs, which falling prices close; -1 for shorts, which rising prices close
                (the table is then in mirrored logs).
        """
        behind = side * (size * entry) - margin
        trigger = side * behind / (size * (1.0 - side * maintenance))
        there = (size > 0) & (trigger > 0)
        safe = jnp.where(there, trigger, jnp.ones_like(trigger))
        log_price = jnp.where(there, side * jnp.log(safe), -jnp.inf)
        return cls.of(log_price, jnp.where(there, size * safe, jnp.zeros_like(size)))

    def thresholds(self, law: FallsBySales, depth: Float[Array, ""]) -> Float[Array, " account"]:
        """Return `w`: an account falls where the log price without sales is below its `w`.

        `w_j = min over i <= j of (log trigger of i + log drop of what those before i sell)`;
        decreasing. Differentiable in triggers, amounts, depth and law wherever the minimum is one.

        Source: greatest fixed point of a monotone map (Tarski 1955), here in closed form.

        Args:
            law: impact law with one asset.
            depth: of that asset.
        """
        return lax.cummin(self.log_price + log_drops(law, self.sold[:-1], depth))

    def cleared(
        self,
        law: FallsBySales,
        depth: Float[Array, ""],
        log_price: Float[Array, "*shock"],
        thresholds: Float[Array, " account"] | None = None,
    ) -> tuple[Int[Array, "*shock"], Float[Array, "*shock"]]:
        """Return how many accounts fall, and the greatest log price that is consistent with it.

        Args:
            law: impact law with one asset.
            depth: of that asset.
            log_price: log prices without sales.
            thresholds: from `thresholds`, where they are known already.
        """
        if thresholds is None:
            thresholds = self.thresholds(law, depth)
        fallen = jnp.searchsorted(-thresholds, -log_price, side="left")
        return fallen, log_price - log_drops(law, self.sold[fallen], depth)

    def cleared_last(
        self, law: FallsBySales, depth: Float[Array, ""], log_price: Float[Array, "*shock"]
    ) -> tuple[Int[Array, "*shock"], Float[Array, "*shock"]]:
        """Return how many accounts fall, and the *least* log price that is consistent with it.

        Consistent is a price at which just those accounts are closed whose sales make it. Between
        the least and the greatest one (`cleared`) others may be; where the two are equal the
        clearing price is unique. Where they differ, falls that nobody set off would hold
        themselves: a run that is believed in comes true.

        Args:
            law: impact law with one asset.
            depth: of that asset.
            log_price: log prices without sales.
        """
        own = self.log_price + log_drops(law, self.sold[1:], depth)
        levels = lax.cummax(own, reverse=True)
        fallen = jnp.searchsorted(-levels, -log_price, side="left")
        return fallen, log_price - log_drops(law, self.sold[fallen], depth)


def log_drops(
    law: FallsBySales, sold: Float[Array, "*sale"], depth: Float[Array, ""]
) -> Float[Array, "*sale"]:
    """Return the log price drop of each of several sales, each the only one of the same asset."""
    drop = lambda one: law.log_drop(one[None], depth[None])[0]
    return jax.vmap(drop)(sold.reshape(-1)).reshape(sold.shape)
