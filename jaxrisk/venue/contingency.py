"""Additions to a margin requirement that are linear in what is held."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.numerics.matmul import full_matmul
from jaxrisk.numerics.pytree import pytree


@pytree
class ConfidenceCharge:
    """A charge on notional while the oracle is unsure: `factor (1 - c)` where `c < threshold`.

    It jumps at the threshold.

    Source: Derive v2 StandardManager.sol `_getNetPerpMargin`, PMRMLib.sol
    `_getConfidenceContingency`.

    Attributes:
        threshold: confidence from which nothing is charged, in [0, 1]; 0 for no charge at all.
        factor: charge at no confidence, as a fraction of notional.
    """

    threshold: Float[Array, ""]
    factor: Float[Array, ""]

    def rate(self, confidence: Float[Array, "*unit"]) -> Float[Array, "*unit"]:
        """Return the charge as a fraction of notional."""
        unsure = confidence < self.threshold
        return jnp.where(unsure, self.factor * (1.0 - confidence), jnp.zeros_like(confidence))


@pytree
class PegCharge:
    """A rate that grows as the settlement currency falls below its peg: `factor (threshold - p)+`.

    Source: Derive v2 StandardManager.sol `_getDepegMultiplier`, PMRMLib.sol
    `getMarginAndMarkToMarket`.

    Attributes:
        threshold: price from which nothing is added.
        factor: added per unit of price below it.
    """

    threshold: Float[Array, ""]
    factor: Float[Array, ""]

    def rate(self, price: Float[Array, "*unit"]) -> Float[Array, "*unit"]:
        """Return what is added at a price of the settlement currency."""
        below = self.threshold - price
        return self.factor * jnp.where(below > 0, below, jnp.zeros_like(below))


def naked_shorts(
    strike: Float[Array, " option"], amount: Float[Array, "option account"]
) -> Float[Array, " account"]:
    """Return how many options are written beyond those held at the same strike.

    Calls and puts of a strike offset each other, strikes do not: `sum_K max(-sum_{o at K} q_o, 0)`.

    Source: Derive v2 PMRMLib.sol `_getOptionContingency`.

    Args:
        strike: of the options of one expiry; nothing is held in padding.
        amount: units held, negative where short.
    """
    same = (strike[:, None] == strike[None]).astype(amount.dtype)
    # Every option sums its strike; each strike counts once, at the first option that has it.
    first = jnp.triu(same, 1).sum(0) == 0
    net = full_matmul(same, amount)
    short = jnp.where(first[:, None] & (net < 0), -net, jnp.zeros_like(net))
    return short.sum(0)
