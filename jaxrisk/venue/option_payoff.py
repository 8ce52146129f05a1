"""What options pay at expiry, in the asset they are settled in."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.numerics.gate import positive_or_one


def payoff(
    strike: Float[Array, "*account"],
    spot: Float[Array, "*account"],
    is_put: Bool[Array, "*account"],
) -> Float[Array, "*account"]:
    """Return what one option pays at a price: puts in the strike's currency, calls in kind.

    `max(K - S, 0)` of a put, `max(S - K, 0) / S` units of the underlying of a call.

    Source: Opyn Gamma MarginCalculator `getExpiredPayoutRate`.
    """
    put = strike - spot
    call = (spot - strike) / positive_or_one(spot)
    value = jnp.where(is_put, put, call)
    return jnp.where(value > 0, value, jnp.zeros_like(value))


def settled(
    collateral: Float[Array, " account"],
    strike: Float[Array, "contract account"],
    size: Float[Array, "contract account"],
    spot: Float[Array, " account"],
    is_put: Bool[Array, " account"],
) -> Float[Array, " account"]:
    """Return what is left of collateral once options have paid; negative where it falls short.

    Args:
        collateral: in the strike's currency for puts, in the underlying for calls.
        strike: price at which each contract may be exercised.
        size: contracts held, negative where written.
        spot: price at expiry.
        is_put: whether an account's contracts are puts; it holds one kind.

    Source: Opyn Gamma MarginCalculator `getExcessCollateral` after expiry.
    """
    for contract in range(strike.shape[0]):
        collateral = collateral + size[contract] * payoff(strike[contract], spot, is_put)
    return collateral
