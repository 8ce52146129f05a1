"""A storefront: absorbed collateral for sale at a fixed discount while reserves are low."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.rounding import floor_to
from jaxrisk.venue.settlement import Refusal, first_reason


@pytree
class Purchase:
    """Purchases from the inventory; every leaf is `(sale,)`.

    Attributes:
        quoted: units the payment would buy, whether or not the sale goes through.
        bought: units handed over, zero where refused.
        paid: value paid, zero where refused.
        refusal: `Refusal` numbers.
    """

    quoted: Float[Array, " sale"]
    bought: Float[Array, " sale"]
    paid: Float[Array, " sale"]
    refusal: Int[Array, " sale"]


@pytree
class Storefront:
    """A fixed discount on inventory, open while reserves are below their target.

    `ask = price (1 - discount_share (1 - liquidation_factor))`: buyers get a share of the discount
    at which the collateral was credited to the borrower.

    Source: Compound III, Comet `quoteCollateral` and `buyCollateral`.

    Attributes:
        discount_share: `(sale,)` share of the liquidation discount passed on
            (storeFrontPriceFactor).
        liquidation_factor: `(sale,)` share of its value the collateral was credited at.
        target_reserves: `(sale,)` reserves, in the numeraire, from which nothing is for sale.
    """

    discount_share: Float[Array, "#sale"]
    liquidation_factor: Float[Array, "#sale"]
    target_reserves: Float[Array, "#sale"]

    def ask_price(
        self,
        price: Float[Array, " sale"],
        *,
        price_unit: Float[Array, ""] | None = None,
    ) -> Float[Array, " sale"]:
        """Return the price at which the collateral is for sale.

        Args:
            price: oracle price of the collateral, numeraire.
            price_unit: smallest price the contract computes with; `None` for real prices.
        """
        discount = self.discount_share * (1.0 - self.liquidation_factor)
        return floor_to(price * (1.0 - discount), price_unit)

    def buy(
        self,
        payment: Float[Array, " sale"],
        *,
        price: Float[Array, " sale"],
        inventory: Float[Array, " sale"],
        reserves: Float[Array, " sale"],
        price_unit: Float[Array, ""] | None = None,
        collateral_unit: Float[Array, " sale"] | None = None,
    ) -> Purchase:
        """Return what a payment buys.

        Nothing is lowered: a payment for more than the inventory holds is refused.

        Args:
            payment: value offered, numeraire.
            price: oracle price of the collateral, numeraire.
            inventory: units held by the protocol.
            reserves: reserves of the protocol before the sale, numeraire; may be negative.
            price_unit: smallest price the contract computes with; `None` for real prices.
            collateral_unit: smallest amount of the collateral; `None` for real amounts.
        """
        ask = self.ask_price(price, price_unit=price_unit)
        # A worthless asset has no quote; what it would buy exceeds any inventory.
        units = jnp.where(ask > 0, payment / positive_or_one(ask), jnp.full_like(ask, jnp.inf))
        quoted = floor_to(units, collateral_unit)
        refusal = first_reason(
            (reserves >= self.target_reserves, Refusal.NOT_FOR_SALE),
            (quoted > inventory, Refusal.EXCEEDS_INVENTORY),
        )
        none, done = jnp.zeros_like(quoted), refusal == Refusal.NONE
        return Purchase(
            quoted=quoted,
            bought=jnp.where(done, quoted, none),
            paid=jnp.where(done, payment, none),
            refusal=refusal,
        )
