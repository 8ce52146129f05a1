"""Fees of a position that are taken from its collateral, in units of that collateral."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import ceil_to, floor_to

Positions = Float[Array, "*position"]


@pytree
class Charges:
    """Fees in units of the collateral; every leaf is `(*position,)`.

    Attributes:
        trade: for changing the position's size.
        borrowing: for what the position has reserved of the pool.
        funding: paid to the other side of the market.
        liquidation: for being liquidated.
        pool: part of all but funding that the pool keeps.
        receiver: the rest of it, which goes to the protocol.
    """

    trade: Positions
    borrowing: Positions
    funding: Positions
    liquidation: Positions
    pool: Positions
    receiver: Positions

    @property
    def total(self) -> Positions:
        """What the position pays."""
        return self.trade + self.borrowing + self.funding + self.liquidation


@pytree
class PositionFees:
    """Fees as fractions of a position's size.

    Trades that improve the balance of the market pay less. The receiver gets its share of the
    trade, borrowing and liquidation fees; funding goes to other traders.

    Source: GMX v2, PositionPricingUtils `getPositionFees`, `getPositionFeesAfterReferral`,
    `getBorrowingFees`, `getLiquidationFees`; MarketUtils `getFundingAmount`. No referrals.

    Attributes:
        improving: trade fee of trades that improve the balance.
        worsening: trade fee of trades that do not.
        liquidation: fee of liquidations.
        receiver_share: protocol's part of fees, in [0, 1].
        unit: smallest amount of collateral; `None` for real amounts.
    """

    improving: Positions
    worsening: Positions
    liquidation: Positions
    receiver_share: Positions
    unit: Positions | None = None

    def charge(
        self,
        size: Positions,
        *,
        improved: Bool[Array, "*position"],
        liquidated: Bool[Array, "*position"],
        borrowing: Positions,
        funding: Positions,
        price: Positions,
    ) -> Charges:
        """Return the fees of closing whole positions.

        Args:
            size: of the positions, numeraire.
            improved: whether the balance of the market is better afterwards.
            liquidated: whether the liquidation fee is due.
            borrowing: cumulated borrowing rate since the position was last settled.
            funding: units of collateral due per numeraire of size since then.
            price: numeraire per unit of collateral, the lower one.
        """
        none = jnp.zeros_like(size)
        rate = jnp.where(improved, self.improving, self.worsening)
        trade = floor_to(size * rate / price, self.unit)
        lent = floor_to(size * borrowing / price, self.unit)
        final = ceil_to(size * self.liquidation / price, self.unit)
        final = jnp.where(liquidated, final, none)
        share = lambda fee: floor_to(fee * self.receiver_share, self.unit)
        receiver = share(trade) + share(lent) + share(final)
        return Charges(
            trade=trade,
            borrowing=lent,
            funding=ceil_to(size * funding, self.unit),
            liquidation=final,
            pool=trade + lent + final - receiver,
            receiver=receiver,
        )
