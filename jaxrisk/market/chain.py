"""A chain of European options on one underlying: expiries, forwards, strikes and volatilities."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.market.black import black_price
from jaxrisk.numerics.pytree import pytree


@pytree
class OptionChain:
    """Options by expiry, padded to a rectangle; where nobody holds anything no entry matters.

    The forward is in two parts: where an expiry settles at an average, what has been averaged
    already no longer moves with the spot.

    Attributes:
        years: `(expiry,)` time to expiry.
        forward: `(expiry,)` part of the forward that moves with the spot.
        fixed: `(expiry,)` part of the forward that does not.
        discount: `(expiry,)` value today of one paid at expiry.
        strike: `(expiry, option)` strikes; 0 in padding.
        volatility: `(expiry, option)` volatility a year.
        is_call: `(expiry, option)` whether an option is a call; the others are puts.
    """

    years: Float[Array, " expiry"]
    forward: Float[Array, " expiry"]
    fixed: Float[Array, " expiry"]
    discount: Float[Array, " expiry"]
    strike: Float[Array, "expiry option"]
    volatility: Float[Array, "expiry option"]
    is_call: Bool[Array, "expiry option"]

    def prices(
        self,
        spot_factor: Float[Array, " scenario"],
        volatility: Float[Array, "scenario expiry option"],
    ) -> Float[Array, "scenario expiry option"]:
        """Return prices with the spot times a factor and volatilities as given."""
        forward = spot_factor[:, None] * self.forward[None] + self.fixed[None]
        one = jnp.ones_like(self.strike)
        price = black_price(
            *jnp.broadcast_arrays(
                forward[:, :, None],
                self.strike[None],
                self.years[None, :, None],
                volatility,
                jnp.where(self.is_call, one, -one)[None],
            )
        )
        return self.discount[None, :, None] * price

    def marks(self) -> Float[Array, "expiry option"]:
        """Return prices in the market as it is."""
        return self.prices(jnp.ones_like(self.years[:1]), self.volatility[None])[0]
