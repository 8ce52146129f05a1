"""Traders' profits against the pool that pays them: what is paid, when winners are closed."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree

Sides = Float[Array, "*side"]


def side_pnl(
    is_long: Bool[Array, "*side"], value_at_entry: Sides, tokens: Sides, price: Sides
) -> Sides:
    """Return the profit of one side of a market, or of a position, numeraire.

    Source: GMX v2, MarketUtils `getPnl`; PositionUtils `getPositionPnlUsd`.

    Args:
        is_long: side.
        value_at_entry: size at entry prices, numeraire.
        tokens: size in units of the index.
        price: of the index; the higher one maximises the profit of longs, the lower one of shorts.
    """
    change = tokens * price - value_at_entry
    pnl = jnp.where(is_long, change, -change)
    return jnp.where((value_at_entry > 0) & (tokens > 0), pnl, jnp.zeros_like(pnl))


@pytree
class ProfitCap:
    """Limits on the profits of a side as fractions of the pool's value.

    Above `payable` of the pool, profits are paid in proportion. Above `deleverage_above`, winners
    may be closed until `deleverage_to` is reached; which ones is the keeper's choice.

    Source: GMX v2, MarketUtils `getCappedPnl`, `isPnlFactorExceeded`; AdlHandler `executeAdl`.

    Attributes:
        payable: maxPnlFactorForTraders.
        deleverage_above: maxPnlFactorForAdl.
        deleverage_to: minPnlFactorAfterAdl.
    """

    payable: Sides
    deleverage_above: Sides
    deleverage_to: Sides

    def paid_share(self, pnl: Sides, pool: Sides) -> Sides:
        """Return the part of every winner's profit that is paid, in [0, 1].

        Args:
            pnl: of the whole side, at the price that maximises it.
            pool: value of the pool, at the price that minimises it.
        """
        limit = self.payable * pool
        capped = (pnl > limit) & (limit > 0)
        return jnp.where(capped, limit / positive_or_one(pnl), jnp.ones_like(pnl))

    def triggered(self, pnl: Sides, pool: Sides) -> Bool[Array, "*side"]:
        """Return whether winners may be closed; arguments as in `paid_share`."""
        factor = profit_factor(pnl, pool)
        return (factor > 0) & (factor > self.deleverage_above)

    def closed_share(self, pnl: Sides, pool: Sides) -> Sides:
        """Return the share of the side's profit that closing realises, zero if not triggered.

        Closing a share `s` pro rata, of which the part `r` is paid, leaves `(1 - s) pnl` against
        `pool - s r pnl`; the target `f` is reached at `s = (pnl - f pool) / (pnl (1 - f r))`.

        Args:
            pnl: of the whole side.
            pool: value of the pool, which pays it.
        """
        target = self.deleverage_to
        excess = pnl - target * pool
        paid = target * self.paid_share(pnl, pool)
        share = jnp.clip(excess / positive_or_one(pnl * (1.0 - paid)), 0.0, 1.0)
        return jnp.where(self.triggered(pnl, pool), share, jnp.zeros_like(share))


def profit_factor(pnl: Sides, pool: Sides) -> Sides:
    """Return profits over the pool's value, zero without a pool."""
    return jnp.where(pool > 0, pnl / positive_or_one(pool), jnp.zeros_like(pnl))


def paid_pnl(pnl: Sides, share: Sides) -> Sides:
    """Return a position's profit as it is paid: gains times `share`, losses in full.

    Args:
        pnl: of the position.
        share: see `ProfitCap.paid_share`.
    """
    return smaller(pnl, pnl * share)
