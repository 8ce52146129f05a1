"""The market's state: what moves in a scenario."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.numerics.pytree import pytree, static


@pytree
class Market:
    """Prices and liquidity at one moment.

    Attributes:
        price: `(asset,)` market price without transient impact, in the numeraire per unit.
        displacement: `(asset,)` transient log price displacement by forced sales, >= 0.
        log_ratio: `(asset,)` log exchange rate of a pegged asset to its underlying, 0 for others.
        variance: `(asset,)` running mean of squared log returns, per year.
        recent_sales: `(asset,)` forced sales still weighing on the book, in the numeraire.
        assets: names, in the order of every `(asset,)` axis.
    """

    price: Float[Array, " asset"]
    displacement: Float[Array, " asset"]
    log_ratio: Float[Array, " asset"]
    variance: Float[Array, " asset"]
    recent_sales: Float[Array, " asset"]
    assets: tuple[str, ...] = static()

    @property
    def mid(self) -> Float[Array, " asset"]:
        """The price one can deal at in small size: `price * exp(-displacement)`."""
        return self.price * jnp.exp(-self.displacement)

    @staticmethod
    def opening(
        price: Mapping[str, float],
        *,
        volatility: Sequence[float] | float = 0.0,
        log_ratio: Sequence[float] | float = 0.0,
        dtype: np.dtype | type | None = None,
    ) -> "Market":
        """Return the market before anything has happened.

        Args:
            price: numeraire price per unit, by asset name; the order fixes the asset axis.
            volatility: `(asset,)` or one number, per year; where the running variance starts.
            log_ratio: `(asset,)` or one number, log exchange rate of pegged assets.
            dtype: floating-point type; JAX's default where not given.

        Raises:
            ValueError: a price is not positive and finite.
        """
        values = np.asarray(list(price.values()), np.float64)
        bad = [n for n, v in zip(price, values, strict=True) if not (np.isfinite(v) and v > 0)]
        if bad:
            raise ValueError(f"price of {', '.join(bad)} must be positive and finite")
        dtype = jnp.zeros((), dtype or float).dtype
        zeros = jnp.zeros(len(values), dtype)
        return Market(
            price=jnp.asarray(values, dtype),
            displacement=zeros,
            log_ratio=zeros + jnp.asarray(np.asarray(log_ratio), dtype),
            variance=zeros + jnp.asarray(np.asarray(volatility) ** 2, dtype),
            recent_sales=zeros,
            assets=tuple(price),
        )
