"""What a swap in a liquidity pool does, whatever the pool's curve."""

from enum import IntEnum

from jaxtyping import Array, Float, Int

from jaxrisk.numerics.pytree import pytree


class SwapRefusal(IntEnum):
    """Why a swap does not go through; data, not an exception."""

    NONE = 0
    NOTHING = 1
    PRICE_LIMIT = 2
    EXCEEDS_POOL = 3


@pytree
class Swap:
    """The outcome of swaps in coins; every leaf is `(pool,)`, zero where refused.

    Attributes:
        paid: what the trader pays, fee included.
        received: what the trader gets.
        fee: what the trader loses to the fee, in the coin that the pool charges it in.
        refusal: `SwapRefusal` numbers.
    """

    paid: Float[Array, " pool"]
    received: Float[Array, " pool"]
    fee: Float[Array, " pool"]
    refusal: Int[Array, " pool"]
