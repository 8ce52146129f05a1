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
from jaxrisk.venue.risk_array import ScanMargin, scan_risk
from jaxrisk.venue.scenario_grid import ScenarioGrid, worst_scenario
from jaxrisk.venue.short_option import ShortOptionMargin
from jaxrisk.venue.size_margin import LinearSizeMargin


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
        gains = risk_arrays(self.grid, contracts, quotes)
        total = _of_shorts(self.short, size, contracts, quotes)
        for own in dict.fromkeys(self.underlying):
            here = jnp.asarray(np.asarray(self.underlying) == own, gains.dtype)
            loss = worst_scenario(full_matmul(gains * here[None, :], size)).loss
            total = total + jnp.where(loss > 0, loss, jnp.zeros_like(loss))
        return jnp.stack([self.initial * total, total])


@pytree
class ScanRequirement:
    """The worst loss over risk arrays on each underlying, and a minimum on options sold.

    Charges for spreads between months and credits between commodities are left out.

    Source: SPAN.

    Attributes:
        grid: scenarios that the arrays are priced in.
        margin: minimum of a short option.
        initial: initial margin over maintenance margin, at least 1.
        underlying: which underlying each contract is on; any labels.
    """

    grid: ScenarioGrid
    margin: ScanMargin
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
        arrays = risk_arrays(self.grid, contracts, quotes)
        nothing = jnp.zeros_like(size[0])
        sold = (contracts.option != 0)[:, None] & (size < 0)
        short = jnp.where(sold, -size, jnp.zeros_like(size))
        total = nothing
        for own in dict.fromkeys(self.underlying):
            rows = np.flatnonzero(np.asarray(self.underlying) == own)
            total = total + self.margin.required(
                scan_risk(arrays[:, rows], size[rows]),
                charges=nothing,
                credit=nothing,
                short_options=jnp.sum(short[rows], axis=0),
            )
        return jnp.stack([self.initial * total, total])


@pytree
class FormulaMargin:
    """A formula for each short option, a rate for each perpetual or future; nothing is netted.

    For contracts in one currency, or settled in their underlying.

    Source: standard margin of Deribit, OKX, Aevo and Derive v2.

    Attributes:
        short: of options sold.
        futures: of the others; leaves `(2, contract, 1)`.
    """

    short: ShortOptionMargin
    futures: LinearSizeMargin

    def required(
        self, size: Float[Array, "contract account"], contracts: Contracts, quotes: Quotes
    ) -> Float[Array, "2 account"]:
        """Return initial and maintenance margin, in the units of `quotes.settlement`.

        Args:
            size: signed positions.
            contracts: their terms.
            quotes: the market as the venue sees it.
        """
        one, worth = jnp.ones_like(quotes.forward), 1.0 / quotes.forward
        in_coins = (contracts.coin_quoted > 0) | (contracts.inverse > 0)
        unit = jnp.where(in_coins, worth, one) * quotes.settlement
        mark = mark_price(contracts, quotes)
        mark = jnp.where(contracts.coin_quoted > 0, mark * quotes.forward, mark)
        alone = jax.vmap(self.short.required)(
            quotes.forward, contracts.strike, contracts.option > 0, mark
        ).T
        sold = (alone - mark[None, :]) * (contracts.multiplier * unit)[None, :]
        none = jnp.zeros_like(size)
        is_option = (contracts.option != 0)[:, None]
        units = jnp.where(is_option & (size < 0), -size, none)
        # Units of the underlying that a future is about, at what one is worth.
        about = contracts.multiplier * jnp.where(contracts.inverse > 0, worth, one)
        held = jnp.where(is_option, none, size) * about[:, None]
        futures = self.futures.required(held, (quotes.forward * unit)[:, None])
        return full_matmul(sold, units) + jnp.sum(futures, axis=1)


def risk_arrays(
    grid: ScenarioGrid, contracts: Contracts, quotes: Quotes
) -> Float[Array, "scenario contract"]:
    """Return what a unit of each contract gains in each scenario, as far as it counts."""
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

    ahead = (1.0 + grid.scenarios.move)[:, None] * quotes.forward[None, :]
    volatility = grid.volatilities(chain)[:, :, 0]
    now = worth(quotes.forward, quotes.volatility)
    return grid.scenarios.weight[:, None] * (jax.vmap(worth)(ahead, volatility) - now[None, :])


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
