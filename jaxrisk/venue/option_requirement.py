"""How much equity a portfolio with options needs: by a grid of scenarios, or by formula.

Both leave out what the portfolio is worth now, which is in the equity already.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrisk.market.chain import OptionChain
from jaxrisk.market.contract import Contracts, Quotes, mark_price, settlement_value
from jaxrisk.numerics.matmul import full_matmul
from jaxrisk.numerics.pytree import pytree, static
from jaxrisk.venue.scenario_grid import ScenarioGrid, worst_scenario
from jaxrisk.venue.short_option import ShortOptionMargin


@pytree
class GridMargin:
    """The largest loss over a grid of scenarios, and a least amount for every short option.

    Each underlying has its own worst scenario; losses of several add up, gains do not offset them.
    Initial margin is a multiple of maintenance margin.

    Source: portfolio margin of Deribit, OKX and Derive v2.

    Attributes:
        grid: moves of spot and volatility.
        short: `(contract,)` least margin of a short option, as a share of its underlying's worth.
        initial: initial margin over maintenance margin, at least 1.
        underlying: which underlying each contract is on; any labels.
    """

    grid: ScenarioGrid
    short: Float[Array, " contract"]
    initial: Float[Array, ""]
    underlying: tuple[int, ...] = static()

    def required(
        self, size: Float[Array, "contract account"], contracts: Contracts, quotes: Quotes
    ) -> Float[Array, "2 account"]:
        """Return initial and maintenance margin, in the units of `quotes.settlement`.

        Args:
            size: signed positions.
            contracts: their terms.
            quotes: the market as the venue sees it.
        """
        gains = self.grid.scenarios.weight[:, None] * self._moves(contracts, quotes)
        total = _of_shorts(self.short, size, contracts, quotes)
        for own in dict.fromkeys(self.underlying):
            here = jnp.asarray(np.asarray(self.underlying) == own, gains.dtype)
            loss = worst_scenario(full_matmul(gains * here[None, :], size)).loss
            total = total + jnp.where(loss > 0, loss, jnp.zeros_like(loss))
        return jnp.stack([self.initial * total, total])

    def _moves(self, contracts: Contracts, quotes: Quotes) -> Float[Array, "scenario contract"]:
        """Return what a unit of each contract gains in each scenario."""
        years = contracts.expiry - quotes.time
        chain = OptionChain(
            years=years,
            forward=quotes.forward,
            fixed=jnp.zeros_like(years),
            discount=jnp.ones_like(years),
            strike=contracts.strike[:, None],
            volatility=quotes.volatility[:, None],
            is_call=contracts.option[:, None] > 0,
        )

        def worth(forward: Array, volatility: Array) -> Float[Array, " contract"]:
            moved = dataclasses.replace(quotes, forward=forward, volatility=volatility)
            return quotes.settlement * settlement_value(contracts, mark_price(contracts, moved))

        ahead = (1.0 + self.grid.scenarios.move)[:, None] * quotes.forward[None, :]
        volatility = self.grid.volatilities(chain)[:, :, 0]
        now = worth(quotes.forward, quotes.volatility)
        return jax.vmap(worth)(ahead, volatility) - now[None, :]


@pytree
class FormulaMargin:
    """A formula for each short option, a rate for each perpetual or future; nothing is netted.

    For contracts quoted and settled in one currency.

    Source: standard margin of Deribit, OKX, Aevo and Derive v2.

    Attributes:
        short: of options sold.
        rate: `(2, contract)` initial and maintenance rates of the others.
    """

    short: ShortOptionMargin
    rate: Float[Array, "2 contract"]

    def required(
        self, size: Float[Array, "contract account"], contracts: Contracts, quotes: Quotes
    ) -> Float[Array, "2 account"]:
        """Return initial and maintenance margin, in the units of `quotes.settlement`.

        Args:
            size: signed positions.
            contracts: their terms.
            quotes: the market as the venue sees it.
        """
        mark, unit = mark_price(contracts, quotes), contracts.multiplier * quotes.settlement
        own = jax.vmap(self.short.required)(
            quotes.forward, contracts.strike, contracts.option > 0, mark
        ).T
        sold = (own - mark[None, :]) * unit[None, :]
        held = self.rate * (quotes.forward * unit)[None, :]
        none = jnp.zeros_like(size)
        units = jnp.where(size < 0, -size, none)
        some = jnp.where((contracts.option == 0)[:, None], jnp.abs(size), none)
        options = jnp.where((contracts.option != 0)[:, None], units, none)
        return full_matmul(sold, options) + full_matmul(held, some)


def _of_shorts(
    share: Float[Array, " contract"],
    size: Float[Array, "contract account"],
    contracts: Contracts,
    quotes: Quotes,
) -> Float[Array, " account"]:
    """Return a share of the worth of the underlying for every option sold."""
    about = jnp.where(contracts.coin_quoted > 0, jnp.ones_like(quotes.forward), quotes.forward)
    unit = share * contracts.multiplier * quotes.settlement * about
    unit = jnp.where(contracts.option != 0, unit, jnp.zeros_like(unit))
    return full_matmul(unit, jnp.where(size < 0, -size, jnp.zeros_like(size)))
