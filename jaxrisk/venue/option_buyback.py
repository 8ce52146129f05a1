"""Liquidation of written options: whoever repays them is paid a price that rises with time."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.option_payoff import payoff
from jaxrisk.venue.upper_bound_margin import ShortOption, UpperBoundMargin


@pytree
class BuybackOffer:
    """What is paid for options repaid into an account.

    Attributes:
        callable: whether the account is short of margin, so that others may repay its options.
        price: collateral paid for one option repaid; 0 where none may be.
    """

    callable: Bool[Array, "*account"]
    price: Float[Array, "*account"]


@pytree
class OptionBuyback:
    """An auction of the duty to pay: the reward starts below intrinsic value and rises.

        start = max(intrinsic value - deviation, 0)
        end   = collateral / contracts
        price = min(start + (end - start) t / duration, end)

    The deviation is a share of spot; in kind, a number of units. From the end of the auction on
    the whole collateral is offered. A start above the end is cut to it: the account is insolvent.

    Source: Opyn Gamma MarginCalculator `isLiquidatable`.

    Attributes:
        margin: what an account must hold.
        duration: years from the price that made the account callable to the highest reward.
        price_deviation: what the price seen may be off, as a fraction.
    """

    margin: UpperBoundMargin
    duration: Float[Array, ""]
    price_deviation: Float[Array, ""]

    def offer(
        self,
        short: ShortOption,
        collateral: Float[Array, "*account"],
        spot: Float[Array, "*account"],
        elapsed: Float[Array, "*account"],
    ) -> BuybackOffer:
        """Return whether options may be repaid, and for how much.

        Args:
            short: what each account has written, with its time to expiry now.
            collateral: what it holds: in the strike's currency for puts, in kind for calls.
            spot: the price that starts the auction.
            elapsed: years since that price.
        """
        required = self.margin.margin(short, spot).required
        # Collateral is often what was required at the opening, to the last digit.
        enough = collateral * (1.0 + 8.0 * jnp.finfo(collateral.dtype).eps)
        called = required > enough
        deviation = self.price_deviation * jnp.where(short.is_put, spot, jnp.ones_like(spot))
        start = payoff(short.strike, spot, short.is_put) - deviation
        start = jnp.where(start > 0, start, jnp.zeros_like(start))
        end = collateral / positive_or_one(short.size)
        share = elapsed / positive_or_one(self.duration)
        price = smaller(start + (end - start) * share, end)
        price = jnp.where(elapsed < self.duration, price, end)
        return BuybackOffer(callable=called, price=jnp.where(called, price, jnp.zeros_like(price)))
