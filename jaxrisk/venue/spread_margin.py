"""Margin of option spreads: the most that can be lost at expiry, whatever the price then is."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.option_payoff import settled


@pytree
class WorstExpiry:
    """The worst price at expiry, by account.

    Attributes:
        required: what is lost there, at least 0: dollars for puts, units in kind for calls.
        price: that price; infinite where calls lose most as the price grows without bound.
    """

    required: Float[Array, " account"]
    price: Float[Array, " account"]


def spread_margin(
    strike: Float[Array, "contract account"],
    size: Float[Array, "contract account"],
    is_put: Bool[Array, " account"],
) -> WorstExpiry:
    """Return the largest loss at expiry of options of one underlying, expiry and kind.

    Between two strikes what puts pay is linear in the price, and what calls pay in kind is
    monotone, `a - b / S`. So the worst price is a strike, zero for puts, or infinity for calls,
    where each pays one unit. With one long and one short leg this is

        put    max(n_s K_s - K_l min(n_s, n_l), 0)
        call   max((K_l - K_s) / K_l n_s, n_s - n_l, 0)

    Args:
        strike: positive; any number where the size is 0.
        size: contracts held, negative where written.
        is_put: whether an account's contracts are puts; it holds one kind.

    Source: Opyn Gamma MarginCalculator `getExcessCollateral` before expiry.
    """
    zero = jnp.zeros_like(size[0])
    put_limit, call_limit = zero, zero
    for contract in range(size.shape[0]):
        put_limit = put_limit + size[contract] * strike[contract]
        call_limit = call_limit + size[contract]
    # Nothing is lost by puts far above their strikes nor by calls far below.
    required = zero
    price = jnp.where(is_put, jnp.full_like(zero, jnp.inf), zero)
    losses = [(-jnp.where(is_put, put_limit, call_limit), jnp.where(is_put, zero, jnp.inf))]
    for contract in range(size.shape[0]):
        at = positive_or_one(strike[contract])
        losses.append((-settled(zero, strike, size, at, is_put), at))
    for loss, at in losses:
        price = jnp.where(loss > required, at, price)
        required = jnp.where(loss > required, loss, required)
    return WorstExpiry(required=required, price=price)
