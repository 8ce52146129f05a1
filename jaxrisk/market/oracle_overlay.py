"""What stands between an oracle's price and the price a venue works with, asset by asset.

Each of these asks another oracle for the prices of all assets and changes those of some.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.oracle import Oracle
from jaxrisk.market.state import Market
from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.indexing import select
from jaxrisk.numerics.pytree import pytree, static


@pytree
class FaceValueOracle:
    """Takes one asset at face value whatever it trades at, and asks another oracle for the rest.

    Source: issuers of a stablecoin count a unit of their own debt as one unit of account.

    Attributes:
        others: oracle of all other assets.
        face_value: of the asset, numeraire.
        asset: its index.
    """

    others: Oracle
    face_value: Float[Array, ""]
    asset: int = static()

    def init(self, market: Market) -> Any:
        """Return the opening state of the other oracle."""
        return self.others.init(market)

    def observe(self, state: Any, market: Market) -> Any:
        """Return the state of the other oracle after a step."""
        return self.others.observe(state, market)

    def seen(self, state: Any, market: Market) -> Float[Array, " asset"]:
        """Return the prices the venue works with."""
        return self.others.seen(state, market).at[self.asset].set(self.face_value)


@pytree
class CappedOracle:
    """Sees no more than a ceiling: a dollar that counts for a dollar at most. Falls pass through.

    Attributes:
        others: oracle of the prices.
        ceiling: `(asset,)` numeraire; infinite where there is none.
    """

    others: Oracle
    ceiling: Float[Array, " asset"]

    def init(self, market: Market) -> Any:
        """Return the opening state of the other oracle."""
        return self.others.init(market)

    def observe(self, state: Any, market: Market) -> Any:
        """Return the state of the other oracle after a step."""
        return self.others.observe(state, market)

    def seen(self, state: Any, market: Market) -> Float[Array, " asset"]:
        """Return the prices the venue works with."""
        return smaller(self.others.seen(state, market), self.ceiling)


@pytree
class Timed:
    """The state of another oracle and the time.

    Attributes:
        inner: state of the other oracle.
        steps: steps since the opening.
    """

    inner: Any
    steps: Float[Array, ""]


@pytree
class GrowthCapOracle:
    """Sees pegged assets at the underlying's price times an exchange rate that cannot jump.

        seen = underlying * min(rate, rate at the opening * (1 + growth * steps))

    The underlying is seen by another oracle; a discount at which the asset trades is not seen.

    Source: capped ratio oracles of liquid-staking collateral (snapshot plus yearly growth).

    Attributes:
        others: oracle of all other assets, the underlyings among them.
        growth: `(asset,)` most that a rate grows in a step, as a fraction of the opening one.
        opening: `(asset,)` rates at the opening.
    """

    others: Oracle
    growth: Float[Array, " asset"]
    opening: Float[Array, " asset"]

    def init(self, market: Market) -> Timed:
        """Return the opening state."""
        return _timed(self.others, market)

    def observe(self, state: Timed, market: Market) -> Timed:
        """Return the state after a step."""
        return _a_step_later(self.others, state, market)

    def seen(self, state: Timed, market: Market) -> Float[Array, " asset"]:
        """Return the prices the venue works with."""
        prices = self.others.seen(state.inner, market)
        if market.underlying is None:
            return prices
        most = self.opening * (1.0 + self.growth * state.steps)
        rate = smaller(jnp.exp(market.log_ratio), most)
        # A free asset is its own underlying, at a rate of 1 that no ceiling below 1 may touch.
        free = jnp.arange(len(market.underlying)) == jnp.asarray(market.underlying)
        return jnp.where(free, prices, select(prices, market.underlying) * rate)


@pytree
class Recalled:
    """The state of another oracle and past exchange rates.

    Attributes:
        inner: state of the other oracle.
        log_ratio: `(time, asset)` log rates, oldest first.
    """

    inner: Any
    log_ratio: Float[Array, "time asset"]


@pytree
class LateRateOracle:
    """Sees exchange rates as they were some steps ago, and prices as another oracle sees them now.

        seen = price * rate some steps ago / rate now

    Source: rates of staked tokens and vault shares that a bridge brings from another chain, where
    the price of the underlying is read on the spot.

    Attributes:
        others: oracle of the prices.
        steps: delay in steps, at least 1.
    """

    others: Oracle
    steps: int = static()

    def init(self, market: Market) -> Recalled:
        """Return the opening state: the opening rates, as if they had always been so."""
        past = jnp.broadcast_to(market.log_ratio, (self.steps + 1, market.price.shape[0]))
        return Recalled(inner=self.others.init(market), log_ratio=past)

    def observe(self, state: Recalled, market: Market) -> Recalled:
        """Return the state after a step."""
        past = jnp.concatenate([state.log_ratio[1:], market.log_ratio[None, :]])
        return Recalled(inner=self.others.observe(state.inner, market), log_ratio=past)

    def seen(self, state: Recalled, market: Market) -> Float[Array, " asset"]:
        """Return the prices the venue works with."""
        late = jnp.exp(state.log_ratio[0] - market.log_ratio)
        return self.others.seen(state.inner, market) * late


@pytree
class LinearDiscountOracle:
    """Sees an asset at its underlying's price less a discount that runs out at maturity.

        seen = underlying * (1 - discount * max(years to maturity, 0))

    Source: linear-discount feeds of principal tokens.

    Attributes:
        others: oracle of all other assets, the underlying among them.
        discount: per year, of simple interest.
        maturity_years: from the opening.
        step_years: length of a step.
        asset: index of the discounted asset.
        underlying: index of what it pays at maturity.
    """

    others: Oracle
    discount: Float[Array, ""]
    maturity_years: Float[Array, ""]
    step_years: Float[Array, ""]
    asset: int = static()
    underlying: int = static()

    def init(self, market: Market) -> Timed:
        """Return the opening state."""
        return _timed(self.others, market)

    def observe(self, state: Timed, market: Market) -> Timed:
        """Return the state after a step."""
        return _a_step_later(self.others, state, market)

    def seen(self, state: Timed, market: Market) -> Float[Array, " asset"]:
        """Return the prices the venue works with."""
        prices = self.others.seen(state.inner, market)
        left = self.maturity_years - state.steps * self.step_years
        discount = self.discount * jnp.where(left > 0, left, jnp.zeros_like(left))
        return prices.at[self.asset].set(prices[self.underlying] * (1.0 - discount))


@pytree
class PrintOracle:
    """Sees a false print for a while: a price that was never the market's.

    A thin source is manipulated, or a feed errs. The market does not move, so whoever sells there
    gets the market's price.

    Attributes:
        others: oracle of the true prices.
        factor: `(asset,)` what the venue sees over what it would; 1 where nothing is false.
        first: `(asset,)` first step with the false print, from 1.
        last: `(asset,)` last such step.
    """

    others: Oracle
    factor: Float[Array, " asset"]
    first: Float[Array, " asset"]
    last: Float[Array, " asset"]

    def init(self, market: Market) -> Timed:
        """Return the opening state."""
        return _timed(self.others, market)

    def observe(self, state: Timed, market: Market) -> Timed:
        """Return the state after a step."""
        return _a_step_later(self.others, state, market)

    def seen(self, state: Timed, market: Market) -> Float[Array, " asset"]:
        """Return the prices the venue works with."""
        false = (state.steps >= self.first) & (state.steps <= self.last)
        return self.others.seen(state.inner, market) * jnp.where(false, self.factor, 1.0)


def _timed(others: Oracle, market: Market) -> Timed:
    return Timed(inner=others.init(market), steps=jnp.zeros((), market.price.dtype))


def _a_step_later(others: Oracle, state: Timed, market: Market) -> Timed:
    return Timed(inner=others.observe(state.inner, market), steps=state.steps + 1.0)
