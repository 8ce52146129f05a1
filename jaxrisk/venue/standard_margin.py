"""Margin contract by contract, without credit between markets.

Short options count by formula or by their worst payoff together, whichever asks less; perpetuals by
notional; collateral by weight.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from jaxrisk.market.chain import OptionChain
from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.matmul import full_matmul
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.contingency import ConfidenceCharge, PegCharge
from jaxrisk.venue.expiry_payoff import PayoffMargin, worst_payoff
from jaxrisk.venue.requirement import INITIAL, MarginState
from jaxrisk.venue.short_option import ShortOptionMargin

ISOLATED, PAYOFF = 0, 1
"""Which of two requirements of an expiry is the smaller and binds."""


@pytree
class StandardTerms:
    """Margin terms of one market, the market of an underlying.

    Attributes:
        option: of a short option alone.
        payoff: of the options of an expiry together.
        perpetual: `(2,)` initial and maintenance margin of a perpetual, as a share of notional.
        collateral: `(2,)` weight of the underlying held as collateral.
        perpetual_confidence: charge on perpetuals while prices are unsure.
        option_confidence: charge on short options while prices are unsure.
        collateral_confidence: charge on collateral while its price is unsure.
        peg: charge on perpetuals and short options while the settlement currency is off its peg.
    """

    option: ShortOptionMargin
    payoff: PayoffMargin
    perpetual: Float[Array, "2"]
    collateral: Float[Array, "2"]
    perpetual_confidence: ConfidenceCharge
    option_confidence: ConfidenceCharge
    collateral_confidence: ConfidenceCharge
    peg: PegCharge


@pytree
class StandardMarket:
    """Prices of one market, with how sure their oracles are, in [0, 1].

    Attributes:
        spot: price of the underlying.
        perpetual: mark price of the perpetual.
        currency: price of the settlement currency.
        chain: options.
        spot_confidence: of `spot`.
        perpetual_confidence: of `perpetual`.
        expiry_confidence: `(expiry,)` least of forward and volatilities.
    """

    spot: Float[Array, ""]
    perpetual: Float[Array, ""]
    currency: Float[Array, ""]
    chain: OptionChain
    spot_confidence: Float[Array, ""]
    perpetual_confidence: Float[Array, ""]
    expiry_confidence: Float[Array, " expiry"]


@pytree
class StandardHoldings:
    """What accounts hold in one market.

    Attributes:
        perpetual: `(account,)` units of the perpetual, negative where short.
        earned: `(account,)` cash earned by it and not yet settled.
        collateral: `(account,)` units of the underlying.
        options: `(expiry, option, account)` units of each option, negative where short.
    """

    perpetual: Float[Array, " account"]
    earned: Float[Array, " account"]
    collateral: Float[Array, " account"]
    options: Float[Array, "expiry option account"]


def standard_margin(
    terms: StandardTerms, market: StandardMarket, held: StandardHoldings
) -> MarginState:
    """Return surplus and value of one market without cash; markets and cash are added to them.

    `binding` has a row an expiry and for each of the two requirements, initial rows first: 0 where
    the formulas bind, 1 where the worst payoff does. Long options back nothing, but may bound the
    worst payoff.

    Source: Derive v2 StandardManager.sol `_getMarketMargin`.
    """
    options, value, binding = _options(terms, market, held)
    short = jnp.where(held.options < 0, -held.options, jnp.zeros_like(held.options)).sum(1)
    size = jnp.abs(held.perpetual)
    rates = terms.perpetual * market.perpetual
    required = options + rates[:, None] * size[None]
    charge = market.spot * _charges(terms, market, short, size)
    notional = held.collateral * market.spot
    weighted = terms.collateral[:, None] * notional[None]
    unsure = terms.collateral_confidence.rate(market.spot_confidence)
    # Collateral that counts for nothing is not charged either.
    unsure = jnp.where(terms.collateral[INITIAL] > 0, unsure, jnp.zeros_like(unsure))
    surplus = weighted - required + held.earned[None]
    surplus = surplus.at[INITIAL].add(-charge - unsure * notional)
    worth = value + held.earned + notional / market.currency
    return MarginState(surplus=surplus, value=worth, binding=binding)


def _options(
    terms: StandardTerms, market: StandardMarket, held: StandardHoldings
) -> tuple[Float[Array, "2 account"], Float[Array, " account"], Int[Array, "row account"]]:
    """Return requirement and value of all options, and what binds in each expiry."""
    chain = market.chain
    mark = chain.marks()
    alone = terms.option.required(market.spot, chain.strike, chain.is_call, mark)
    short = jnp.where(held.options < 0, -held.options, jnp.zeros_like(held.options))
    isolated = full_matmul(alone.swapaxes(0, 1), short)
    worst = jax.vmap(worst_payoff)(chain.strike, chain.is_call, held.options)
    forward = chain.forward + chain.fixed
    bounded = jax.vmap(terms.payoff.required)(forward, worst)
    binds = bounded < isolated
    required = jnp.where(binds, bounded, isolated).sum(0)
    value = full_matmul(mark[:, None], held.options)[:, 0].sum(0)
    rows = jnp.where(binds, PAYOFF, ISOLATED).swapaxes(0, 1)
    return required, value, rows.reshape(-1, value.shape[0])


def _charges(
    terms: StandardTerms,
    market: StandardMarket,
    short: Float[Array, "expiry account"],
    perpetual: Float[Array, " account"],
) -> Float[Array, " account"]:
    """Return what is charged initially, in units of the underlying."""
    unsure = smaller(market.spot_confidence, market.perpetual_confidence)
    rates = terms.option_confidence.rate(smaller(market.expiry_confidence, market.spot_confidence))
    charge = terms.perpetual_confidence.rate(unsure) * perpetual + (rates[:, None] * short).sum(0)
    return charge + terms.peg.rate(market.currency) * (perpetual + short.sum(0))
