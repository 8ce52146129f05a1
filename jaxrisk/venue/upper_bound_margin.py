"""Margin of a short option: an upper bound of its value after a shock of the spot price."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.pytree import pytree


@pytree
class ShortOption:
    """One written option an account; every leaf is a scalar or `(account,)`.

    Attributes:
        strike: price at which it may be exercised.
        size: contracts written, at least 0.
        years: time to expiry.
        is_put: whether it is a put, backed in the strike's currency; a call is backed in kind.
    """

    strike: Float[Array, "*account"]
    size: Float[Array, "*account"]
    years: Float[Array, "*account"]
    is_put: Bool[Array, "*account"]


@pytree
class BoundedMargin:
    """What written options must be backed by.

    Attributes:
        required: in the asset that backs the option; infinite where no bound is known.
        bucket: which bound of time to expiry applies; the number of bounds where none does.
    """

    required: Float[Array, "*account"]
    bucket: Int[Array, "*account"]


@pytree
class UpperBoundMargin:
    """Margin by time to expiry and a shock of spot.

    With the bound `u` of the value of an option at the money, as a fraction of spot, and spot
    shocked against the writer to `k S` for puts and `S / k` for calls,

        put    n (u min(K, k S) + max(K - k S, 0))           of the strike's currency
        call   n (u min(1, k K / S) + max(1 - k K / S, 0))   of the underlying

    Source: Opyn Gamma MarginCalculator `getNakedMarginRequired`.

    Attributes:
        within: `(bucket,)` longest time to expiry to which a bound applies, years, ascending.
        upper_bound: `(bucket,)` value of an option at the money as a fraction of spot, at most.
        spot_shock: k, in (0, 1].
    """

    within: Float[Array, " bucket"]
    upper_bound: Float[Array, " bucket"]
    spot_shock: Float[Array, ""]

    def margin(self, short: ShortOption, spot: Float[Array, "*account"]) -> BoundedMargin:
        """Return what the options must be backed by at a price of the underlying.

        Beyond the longest time no bound is known, and the venue does not take the option.
        """
        bucket = jnp.searchsorted(self.within, short.years)
        bound = self.upper_bound.at[bucket].get(mode="fill", fill_value=0.0)
        # Puts are measured in the strike's currency, calls in units of the underlying.
        shocked = self.spot_shock * jnp.where(
            short.is_put, spot, short.strike / positive_or_one(spot)
        )
        most = jnp.where(short.is_put, short.strike, jnp.ones_like(short.strike))
        at_money = smaller(most, shocked)
        required = (bound * at_money + (most - at_money)) * short.size
        unknown = (bucket == self.within.shape[0]) & (short.size > 0)
        required = jnp.where(unknown, jnp.full_like(required, jnp.inf), required)
        return BoundedMargin(required=required, bucket=bucket)
