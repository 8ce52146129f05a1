"""Margin of whole portfolios of options in the step: the rules of venues as requirements.

Each asks the function that holds the venue's rule for what it asks of positions alone. That is set
against equity at market prices, so where a rule gives options no credit, or takes their price into
its formula, what they are worth is added to what it asks.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.contract import Contracts, Quotes
from jaxrisk.numerics.gate import positive_or_one
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.coin_margin import CoinHoldings, CoinTerms, coin_margin
from jaxrisk.venue.contract_chain import ChainPlaces
from jaxrisk.venue.margin_accounts import Requirement
from jaxrisk.venue.portfolio_margin import (
    PortfolioHoldings,
    PortfolioMarket,
    PortfolioTerms,
    portfolio_margin,
)
from jaxrisk.venue.standard_margin import (
    StandardHoldings,
    StandardMarket,
    StandardTerms,
    standard_margin,
)

PerContract = Float[Array, "contract account"]
Asked = Float[Array, "2 account"]


@pytree
class SumOfMargins:
    """Margin underlying by underlying: gains on one are not set against losses on another.

    Attributes:
        parts: a requirement of each; every one is shown all contracts and looks at its own.
    """

    parts: tuple[Requirement, ...]

    def required(self, size: PerContract, contracts: Contracts, quotes: Quotes) -> Asked:
        """Return initial and maintenance margin, in the units of `quotes.settlement`."""
        total = self.parts[0].required(size, contracts, quotes)
        for part in self.parts[1:]:
            total = total + part.required(size, contracts, quotes)
        return total


@pytree
class CoinPortfolioMargin:
    """Portfolio margin of contracts on one coin that are settled in it, see `coin_margin`.

    Futures and perpetuals are inverse, options quoted in the coin. Forwards are those of the step,
    which has no basis between spot and expiries.

    Attributes:
        terms: matrix, charge on deltas, share that is asked to be left alone.
        places: of the contracts on the coin.
    """

    terms: CoinTerms
    places: ChainPlaces

    def required(self, size: PerContract, contracts: Contracts, quotes: Quotes) -> Asked:
        """Return initial and maintenance margin, in the units of `quotes.settlement`."""
        face = size * contracts.multiplier[:, None]
        coins = face / positive_or_one(quotes.forward)[:, None]
        nothing = jnp.zeros_like(size[0])
        held = CoinHoldings(
            equity=nothing,
            futures=self.places.of_futures(coins),
            options=self.places.of_options(face),
            orders=nothing,
        )
        state = coin_margin(self.terms, self.places.chain(contracts, quotes), held)
        return -state.surplus * quotes.settlement[self.places.first[0]]


@pytree
class ChainPortfolioMargin:
    """Portfolio margin of contracts on one underlying in one currency, see `portfolio_margin`.

    Oracles are sure, rates are nil and the settlement currency stands at its peg: what is charged
    where they are not is left out. Collateral in other assets is margined by its own haircut.

    Attributes:
        terms: scenarios, basis, discounts, charges.
        places: of the contracts on the underlying.
    """

    terms: PortfolioTerms
    places: ChainPlaces

    def required(self, size: PerContract, contracts: Contracts, quotes: Quotes) -> Asked:
        """Return initial and maintenance margin, in the units of `quotes.settlement`."""
        units = size * contracts.multiplier[:, None]
        chain, nothing = self.places.chain(contracts, quotes), jnp.zeros_like(size[0])
        spot, one = chain.forward[0], jnp.ones_like(quotes.time)
        none = jnp.zeros((0, *nothing.shape), nothing.dtype)
        state = portfolio_margin(
            self.terms,
            PortfolioMarket(
                spot=spot,
                perpetual=spot,
                currency=one,
                chain=chain,
                rate=jnp.zeros_like(chain.years),
                confidence=one,
                expiry_confidence=jnp.ones_like(chain.years),
                collateral_confidence=jnp.ones_like(none[:, 0]),
            ),
            PortfolioHoldings(
                cash=nothing,
                perpetual=jnp.sum(self.places.of_futures(units), axis=0),
                earned=nothing,
                options=self.places.of_options(units),
                collateral=none,
                charged=none,
                haircut=jnp.zeros((2, 0), nothing.dtype),
                cancels=jnp.zeros(0, bool),
            ),
        )
        return (state.value[None] - state.surplus) * quotes.settlement[self.places.first[0]]


@pytree
class ChainStandardMargin:
    """Margin contract by contract, or by the worst payoff of an expiry, see `standard_margin`.

    Long options back nothing. Oracles are sure and the settlement currency stands at its peg.

    Attributes:
        terms: of short options, payoffs and perpetuals.
        places: of the contracts on the underlying.
    """

    terms: StandardTerms
    places: ChainPlaces

    def required(self, size: PerContract, contracts: Contracts, quotes: Quotes) -> Asked:
        """Return initial and maintenance margin, in the units of `quotes.settlement`."""
        units = size * contracts.multiplier[:, None]
        chain, nothing = self.places.chain(contracts, quotes), jnp.zeros_like(size[0])
        spot, one = chain.forward[0], jnp.ones_like(quotes.time)
        state = standard_margin(
            self.terms,
            StandardMarket(
                spot=spot,
                perpetual=spot,
                currency=one,
                chain=chain,
                spot_confidence=one,
                perpetual_confidence=one,
                expiry_confidence=jnp.ones_like(chain.years),
            ),
            StandardHoldings(
                perpetual=jnp.sum(self.places.of_futures(units), axis=0),
                earned=nothing,
                collateral=nothing,
                options=self.places.of_options(units),
            ),
        )
        return (state.value[None] - state.surplus) * quotes.settlement[self.places.first[0]]
