"""Liquidity of the assets: an impact law, its depth, and how both recover.

Constant depth is the largest model risk in published liquidation simulators, so depth can fall
with realised volatility and with the forced flow itself.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.market.impact import ImpactLaw
from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.indexing import select
from jaxrisk.numerics.pytree import pytree

_LOWEST_DEPTH_SHARE = 0.01


@pytree
class ConstantDepth:
    """Depth that does not react.

    Attributes:
        depth: `(asset,)` in the numeraire.
    """

    depth: Float[Array, " asset"]

    def now(self, market: Market) -> Float[Array, " asset"]:
        """Return the depth `(asset,)` in the numeraire."""
        del market
        return self.depth


@pytree
class RespondingDepth:
    """Depth that thins out when volatility rises or forced sales have just hit the book.

    `depth * exp(-a (sigma / sigma_0 - 1)^+) * (1 - b * recent sales / depth)^+`, at least 1 % of
    the calm depth.

    Attributes:
        depth: `(asset,)` calm depth in the numeraire.
        calm_volatility: `(asset,)` sigma_0 per year.
        volatility_sensitivity: a.
        flow_sensitivity: b.
    """

    depth: Float[Array, " asset"]
    calm_volatility: Float[Array, " asset"]
    volatility_sensitivity: Float[Array, ""]
    flow_sensitivity: Float[Array, ""]

    def now(self, market: Market) -> Float[Array, " asset"]:
        """Return the depth `(asset,)` in the numeraire."""
        calm = positive_or_one(self.calm_volatility)
        excess = jnp.sqrt(positive_or_one(market.variance)) / calm - 1.0
        stressed = (market.variance > 0) & (self.calm_volatility > 0) & (excess > 0)
        excess = jnp.where(stressed, excess, jnp.zeros_like(excess))
        left = 1.0 - self.flow_sensitivity * market.recent_sales / self.depth
        share = jnp.exp(-self.volatility_sensitivity * excess) * left
        return self.depth * jnp.where(share > _LOWEST_DEPTH_SHARE, share, _LOWEST_DEPTH_SHARE)


@pytree
class Liquidity:
    """What happens to prices when keepers sell.

    Attributes:
        law: the impact law.
        depth: its depth.
        permanent_share: part of a price drop that stays, in [0, 1].
        recovery_rate: per year, at which the transient part and the memory of flow decay
            (log 2 / half-life); 0 keeps them.
        variance_rate: per year, at which the running variance forgets.
    """

    law: ImpactLaw
    depth: ConstantDepth | RespondingDepth
    permanent_share: Float[Array, ""]
    recovery_rate: Float[Array, ""]
    variance_rate: Float[Array, ""]

    def relax(
        self, market: Market, log_return: Float[Array, " asset"], step_years: Float[Array, ""]
    ) -> Market:
        """Return the market after one step of recovery and of learning the step's return."""
        keep = jnp.exp(-self.recovery_rate * step_years)
        memory = jnp.exp(-self.variance_rate * step_years)
        squared = log_return**2 / step_years
        return dataclasses.replace(
            market,
            displacement=market.displacement * keep,
            recent_sales=market.recent_sales * keep,
            variance=squared + memory * (market.variance - squared),
        )

    def slippage(
        self, market: Market, units: Float[Array, " asset"]
    ) -> tuple[Float[Array, " asset"], Float[Array, " asset"]]:
        """Return mean price and its discount to the mid, were `units` sold now; nothing is."""
        mid, depth = market.mid, self.depth.now(market)
        volume = units * mid
        got = self.law.proceeds(volume, depth) / positive_or_one(volume)
        share = jnp.where(volume > 0, got, jnp.ones_like(got))
        return mid * share, 1.0 - share

    def sell(
        self, market: Market, units: Float[Array, " asset"]
    ) -> tuple[Market, Float[Array, " asset"]]:
        """Return the market after selling `units` and the proceeds per asset (numeraire)."""
        mid, depth = market.mid, self.depth.now(market)
        volume = units * mid
        drop = self.law.log_drop(volume, depth)
        proceeds = self.law.proceeds(volume, depth)
        if market.underlying is not None:
            # A pegged asset falls with its underlying, by arbitrage, on top of its own sales.
            pegged = np.asarray(market.underlying) != np.arange(len(market.underlying))
            drop = drop + jnp.where(pegged, select(drop, market.underlying), 0.0)
        market = dataclasses.replace(
            market,
            price=market.price * jnp.exp(-self.permanent_share * drop),
            displacement=market.displacement + (1.0 - self.permanent_share) * drop,
            recent_sales=market.recent_sales + volume,
        )
        return market, proceeds

    def buy(
        self, market: Market, units: Float[Array, " asset"]
    ) -> tuple[Market, Float[Array, " asset"]]:
        """Return the market after buying `units` and what each asset costs (numeraire).

        The log price rises as it falls in a sale of as much. Assets pegged to what is bought keep
        their price.
        """
        volume, depth = units * market.mid, self.depth.now(market)
        rise = self.law.log_drop(volume, depth)
        market = dataclasses.replace(
            market,
            price=market.price * jnp.exp(self.permanent_share * rise),
            displacement=market.displacement - (1.0 - self.permanent_share) * rise,
        )
        return market, self.law.cost(volume, depth)
