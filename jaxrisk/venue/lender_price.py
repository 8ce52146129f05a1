"""A loan market without an oracle: lenders state prices, and those decide what is backed."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to


@pytree
class LenderPriceTest:
    """Collateral counts at the lowest price at which deposits are in use.

    Lenders deposit at prices of their choice; the debt uses the highest first. A loan is
    collateralised iff `collateral * price >= factor * debt`, where `price` is that of the last
    deposit in use. At the lowest price there is, no debt is.

    Source: Ajna PoolHelper `_isCollateralized`; Deposits `getLup`.

    Attributes:
        factor: collateral value required per unit of debt.
        minimum_price: the lowest price lenders can state.
        whole: unit to which collateral counts, rounded down (collectibles count whole); `None`
            where any amount counts.
    """

    factor: Float[Array, ""]
    minimum_price: Float[Array, ""]
    whole: Float[Array, "*loan"] | None = None

    def collateralised(
        self,
        collateral: Float[Array, " loan"],
        debt: Float[Array, " loan"],
        price: Float[Array, " loan"],
    ) -> Bool[Array, " loan"]:
        """Return whether a loan is safe from being auctioned.

        Args:
            collateral: collateral units.
            debt: in units of the loan asset.
            price: the lowest price in use, loan asset per collateral.
        """
        backed = floor_to(collateral, self.whole) * price >= self.factor * debt
        return backed & ((price > self.minimum_price) | (debt <= 0))


def lowest_price_in_use(
    prices: Float[Array, " bucket"], deposits: Float[Array, " bucket"], debt: Float[Array, ""]
) -> Float[Array, ""]:
    """Return the price of the last deposit that the debt uses, highest price first.

    Args:
        prices: of buckets, falling.
        deposits: in each, in units of the loan asset.
        debt: of the whole pool.

    The first price where the debt is zero, the last where deposits do not cover it.
    """
    above = jnp.cumsum(deposits)
    uncovered = jnp.sum((above < debt).astype(jnp.int32))
    return prices[jnp.minimum(uncovered, prices.shape[0] - 1)]


def claimable_reserves(
    debt: Float[Array, " pool"],
    cash: Float[Array, " pool"],
    deposits: Float[Array, " pool"],
    *,
    bonds: Float[Array, " pool"],
    unclaimed: Float[Array, " pool"],
    buffer: float,
) -> Float[Array, " pool"]:
    """Return what of a pool's own money can be auctioned off to its token holders.

    `min(max(debt + cash - (1 + buffer) deposits - held, 0), cash - held)` with
    `held = bonds + unclaimed`, and 0 where cash does not exceed `held`.

    Args:
        debt: owed to the pool.
        cash: loan asset in the pool.
        deposits: owed to lenders.
        bonds: posted by kickers.
        unclaimed: of earlier reserve auctions.
        buffer: margin on deposits, as a fraction.

    Source: Ajna PoolHelper `_claimableReserves`.
    """
    free = cash - bonds - unclaimed
    own = debt + free - (1.0 + buffer) * deposits
    claimable = smaller(own, free)
    return jnp.where((free > 0) & (claimable > 0), claimable, jnp.zeros_like(claimable))
