"""Margin by the most that can be lost at expiry: a grid of settlement prices and a last slope."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.matmul import full_matmul
from jaxrisk.numerics.pytree import pytree


@pytree
class WorstPayoff:
    """The worst settlement price of options that expire together, by account.

    Attributes:
        loss: `(account,)` what is paid there on balance, at least 0, numeraire.
        price: `(account,)` that settlement price; 0 where nothing can be lost.
        net_calls: `(account,)` calls held less calls written: the slope beyond the last strike.
    """

    loss: Float[Array, " account"]
    price: Float[Array, " account"]
    net_calls: Float[Array, " account"]


def worst_payoff(
    strike: Float[Array, " option"],
    is_call: Bool[Array, " option"],
    amount: Float[Array, "option account"],
) -> WorstPayoff:
    """Return what options settled in cash lose at worst over all prices up to the last strike.

    The payoff is linear between strikes, so the worst price is 0 or a strike. Beyond the last
    strike it goes on with the slope `net_calls`.

    Source: Derive v2 StandardManager.sol `_calcMaxLoss`.

    Args:
        strike: of each option; 0 in padding.
        is_call: whether each is a call; the others are puts.
        amount: units held, negative where short.
    """
    grid = jnp.concatenate([jnp.zeros_like(strike[:1]), strike])
    beyond = grid[:, None] - strike[None]
    beyond = jnp.where(is_call[None], beyond, -beyond)
    payoff = full_matmul(jnp.where(beyond > 0, beyond, jnp.zeros_like(beyond)), amount)
    worst = jnp.argmin(payoff, axis=0)
    least = jnp.min(payoff, axis=0)
    zero = jnp.zeros_like(least)
    calls = jnp.where(is_call, jnp.ones_like(strike), jnp.zeros_like(strike))
    return WorstPayoff(
        loss=jnp.where(least < 0, -least, zero),
        price=jnp.where(least < 0, grid[worst], zero),
        net_calls=full_matmul(calls, amount),
    )


@pytree
class PayoffMargin:
    """The worst payoff at expiry, plus a multiple of the forward for every call not covered.

    `R = max_{S in {0, strikes}} loss(S) + unpaired F max(-net calls, 0)`.

    Source: Derive v2 StandardManager.sol `_calcNetBasicMarginSingleExpiry`.

    Attributes:
        unpaired: `(2,)` initial and maintenance charge on an uncovered short call, as a multiple
            of the forward.
    """

    unpaired: Float[Array, "2"]

    def required(self, forward: Float[Array, ""], worst: WorstPayoff) -> Float[Array, "2 account"]:
        """Return initial and maintenance margin of the options of one expiry."""
        short = jnp.where(worst.net_calls < 0, -worst.net_calls, jnp.zeros_like(worst.net_calls))
        return worst.loss[None] + (self.unpaired * forward)[:, None] * short[None]
