"""The price and fee of orders filled by a market whose premium is proportional to its skew."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree

Orders = Float[Array, "*order"]


@pytree
class SkewPrice:
    """Orders are filled at the oracle's price with a premium of `skew / scale`.

    An order is filled at the mean of the prices before and after it, `P (1 + (k + q / 2) / scale)`,
    so splitting it changes nothing. The part that brings the skew towards zero pays the maker fee,
    the rest the taker fee.

    Source: Synthetix v3, AsyncOrder `calculateFillPrice`, `calculateOrderFee`.

    Attributes:
        scale: skew at which the premium is 100 %, units of the contract; zero for no premium.
        maker_fee: fraction of notional, of the part that reduces the skew.
        taker_fee: fraction of notional, of the part that adds to it.
    """

    scale: Orders
    maker_fee: Orders
    taker_fee: Orders

    def fill_price(self, skew: Orders, size: Orders, price: Orders) -> Orders:
        """Return the mean price of an order, numeraire per unit.

        Args:
            skew: sum of signed sizes before the order.
            size: signed size of the order.
            price: of the oracle.
        """
        premium = (skew + size / 2.0) / positive_or_one(self.scale)
        return price * (1.0 + jnp.where(self.scale > 0, premium, jnp.zeros_like(premium)))

    def fee(self, skew: Orders, size: Orders, fill_price: Orders) -> Orders:
        """Return the fee of an order, numeraire.

        Args:
            skew: sum of signed sizes before the order.
            size: signed size of the order.
            fill_price: see the method of that name.
        """
        whole = jnp.abs(size)
        reduces = skew * size < 0
        maker = jnp.where(reduces, smaller(whole, jnp.abs(skew)), jnp.zeros_like(whole))
        return fill_price * (maker * self.maker_fee + (whole - maker) * self.taker_fee)
