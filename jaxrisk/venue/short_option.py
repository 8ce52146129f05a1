"""Margin of a short option on its own, by formula: a share of the spot on top of its price."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.pytree import pytree

Options = Float[Array, "*option"]


@pytree
class ShortOptionMargin:
    """What backs one short option: its mark price and a share of the spot.

        call   initial      max(highest - otm / S, lowest) S + mark
               maintenance  call S + mark
        put    maintenance  max(put S, put_of_mark mark) + mark
               initial      max(max(highest - otm / S, lowest) S + mark, put_cover maintenance)

    `otm` is how far the option is out of the money. Long options back nothing.

    Source: Derive v2 StandardManager.sol `_getIsolatedMargin`; Deribit, OKX and Aevo use the same
    shape with other shares.

    Attributes:
        highest: initial share of spot at the money.
        lowest: initial share of spot far out of the money.
        call: maintenance share of spot of calls.
        put: maintenance share of spot of puts.
        put_of_mark: least maintenance of puts, as a share of the mark price.
        put_cover: least initial margin of puts, as a multiple of their maintenance margin.
    """

    highest: Float[Array, ""]
    lowest: Float[Array, ""]
    call: Float[Array, ""]
    put: Float[Array, ""]
    put_of_mark: Float[Array, ""]
    put_cover: Float[Array, ""]

    def required(
        self,
        spot: Float[Array, ""],
        strike: Options,
        is_call: Bool[Array, "*option"],
        mark: Options,
    ) -> Float[Array, "2 *option"]:
        """Return initial and maintenance margin per unit short, price of the option included.

        Args:
            spot: price of the underlying.
            strike: of each option.
            is_call: whether each is a call; the others are puts.
            mark: price of each.
        """
        zero = jnp.zeros_like(mark)
        out = jnp.where(is_call, strike - spot, spot - strike)
        out = jnp.where(out > 0, out, zero)
        share = -smaller(-(self.highest - out / spot), -self.lowest * jnp.ones_like(out))
        by_mark = self.put_of_mark * mark
        by_spot = self.put * spot * jnp.ones_like(mark)
        put = jnp.where(by_mark > by_spot, by_mark, by_spot)
        maintenance = mark + jnp.where(is_call, self.call * spot, put)
        initial = share * spot + mark
        cover = self.put_cover * maintenance
        initial = jnp.where(~is_call & (cover > initial), cover, initial)
        return jnp.stack([initial, maintenance])
