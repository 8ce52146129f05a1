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
        displacement: `(asset,)` transient log price displacement by forced sales; negative where
            forced purchases weigh more.
        log_ratio: `(asset,)` log exchange rate of a pegged asset to its underlying, 0 for others.
        variance: `(asset,)` running mean of squared log returns, per year.
        recent_sales: `(asset,)` forced sales still weighing on the book, in the numeraire.
        assets: names, in the order of every `(asset,)` axis.
        underlying: index of the asset each one is pegged to, its own index where free; `None`
            where no asset is pegged. An underlying is itself free.
        issued: `(asset,)` units outstanding of assets that are claims on a venue, 0 for others;
            `None` where no asset is.
    """

    price: Float[Array, " asset"]
    displacement: Float[Array, " asset"]
    log_ratio: Float[Array, " asset"]
    variance: Float[Array, " asset"]
    recent_sales: Float[Array, " asset"]
    assets: tuple[str, ...] = static()
    underlying: tuple[int, ...] | None = static(default=None)
    issued: Float[Array, " asset"] | None = None

    @property
    def mid(self) -> Float[Array, " asset"]:
        """The price one can deal at in small size: `price * exp(-displacement)`."""
        return self.price * jnp.exp(-self.displacement)

    @staticmethod
    def opening(
        price: Mapping[str, float],
        *,
        volatility: Sequence[float] | float = 0.0,
        pegs: Mapping[str, str] | None = None,
        dtype: np.dtype | type | None = None,
    ) -> "Market":
        """Return the market before anything has happened.

        Args:
            price: numeraire price per unit, by asset name; the order fixes the asset axis.
            volatility: `(asset,)` or one number, per year; where the running variance starts.
            pegs: name of the underlying of each pegged asset; the opening exchange rate is that
                of the opening prices.
            dtype: floating-point type; JAX's default where not given.

        Raises:
            ValueError: a price is not positive and finite, or a peg leads to an unknown or to a
                pegged asset.
        """
        values = np.asarray(list(price.values()), np.float64)
        bad = [n for n, v in zip(price, values, strict=True) if not (np.isfinite(v) and v > 0)]
        if bad:
            raise ValueError(f"price of {', '.join(bad)} must be positive and finite")
        names = list(price)
        pegs = pegs or {}
        astray = [a for a, u in pegs.items() if a not in price or u not in price or u in pegs]
        if astray:
            raise ValueError(f"peg of {', '.join(astray)} must lead to an asset that is free")
        underlying = tuple(names.index(pegs.get(a, a)) for a in names)
        dtype = jnp.zeros((), dtype or float).dtype
        zeros = jnp.zeros(len(values), dtype)
        return Market(
            price=jnp.asarray(values, dtype),
            displacement=zeros,
            log_ratio=jnp.asarray(np.log(values / values[list(underlying)]), dtype),
            variance=zeros + jnp.asarray(np.asarray(volatility) ** 2, dtype),
            recent_sales=zeros,
            assets=tuple(names),
            underlying=underlying if pegs else None,
        )
