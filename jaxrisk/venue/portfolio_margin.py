"""Portfolio margin: the worst scenario of everything held on one underlying, plus add-ons.

One branch-free function for all accounts that hold options of a chain. Chains are padded to a fixed
number of expiries and options, so portfolios with chains of their own can be mapped over.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxrisk.market.chain import OptionChain
from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.contingency import ConfidenceCharge, PegCharge, naked_shorts
from jaxrisk.venue.requirement import INITIAL, MarginState
from jaxrisk.venue.scenario_grid import ScenarioGrid, Scenarios, worst_scenario


@pytree
class TimeDiscount:
    """What an expiry worth something, or less than nothing, counts in a scenario.

    A positive value is taken times `long e^(-T (long_rate r + long_spread))`, a negative one times
    `short e^(T (short_rate r + short_spread))`, but no more than `1 / D`.

    Source: Derive v2 PMRMLib_2.sol `_addStaticDiscount`; PMRMLib.sol, where only positive values
    are discounted (`short = 1` and no rates or spreads).

    Attributes:
        long: factor of positive values.
        long_rate: share of the interest rate in their discount.
        long_spread: added to the rate, per year.
        short: factor of negative values.
        short_rate: share of the interest rate in their growth.
        short_spread: added to the rate, per year.
    """

    long: Float[Array, ""]
    long_rate: Float[Array, ""]
    long_spread: Float[Array, ""]
    short: Float[Array, ""]
    short_rate: Float[Array, ""]
    short_spread: Float[Array, ""]

    def factors(
        self, chain: OptionChain, rate: Float[Array, " expiry"]
    ) -> Float[Array, "2 expiry"]:
        """Return factors of positive and of negative values."""
        positive = jnp.exp(-chain.years * (self.long_rate * rate + self.long_spread))
        negative = jnp.exp(chain.years * (self.short_rate * rate + self.short_spread))
        whole = 1.0 / chain.discount
        return jnp.stack([self.long * positive, smaller(self.short * negative, whole)])


@pytree
class BasisCharge:
    """What is lost if the forward of each expiry moves against the account on its own.

    `sum over expiries of min(V(up) - V, V(down) - V, 0) (flat + per_year T)`.

    Source: Derive v2 PMRMLib.sol `_addBasisContingency`.

    Attributes:
        up: move up, as a fraction of the spot.
        down: move down, negative.
        flat: factor at no time to expiry.
        per_year: added to it per year.
    """

    up: Float[Array, ""]
    down: Float[Array, ""]
    flat: Float[Array, ""]
    per_year: Float[Array, ""]


@pytree
class PortfolioTerms:
    """Portfolio margin of one underlying; rows are initial and maintenance.

    Attributes:
        grid: scenarios.
        basis: alternative to the worst scenario.
        discount: of options in scenarios.
        loss_factor: `(2,)` multiple of the worst loss that is asked.
        peg: added to the initial factor while the settlement currency is off its peg.
        perpetual: `(2,)` charge on the notional of perpetuals.
        naked: `(2,)` charge on the notional of options written and not covered at their strike.
        multiplied: whether charges are multiplied by the factor of losses too.
        confidence: initial charge on notional while prices are unsure.
    """

    grid: ScenarioGrid
    basis: BasisCharge
    discount: TimeDiscount
    loss_factor: Float[Array, "2"]
    peg: PegCharge
    perpetual: Float[Array, "2"]
    naked: Float[Array, "2"]
    multiplied: Bool[Array, ""]
    confidence: ConfidenceCharge


@pytree
class PortfolioMarket:
    """Prices of one underlying, with how sure their oracles are, in [0, 1].

    Attributes:
        spot: price of the underlying.
        perpetual: mark price of the perpetual.
        currency: price of the settlement currency.
        chain: options.
        rate: `(expiry,)` interest rate to each expiry a year, at least 0.
        confidence: of spot and perpetual.
        expiry_confidence: `(expiry,)` of forward, rate and volatilities.
        collateral_confidence: `(collateral,)` of the price of each collateral.
    """

    spot: Float[Array, ""]
    perpetual: Float[Array, ""]
    currency: Float[Array, ""]
    chain: OptionChain
    rate: Float[Array, " expiry"]
    confidence: Float[Array, ""]
    expiry_confidence: Float[Array, " expiry"]
    collateral_confidence: Float[Array, " collateral"]


@pytree
class PortfolioHoldings:
    """What accounts hold on one underlying.

    Attributes:
        cash: `(account,)` settlement currency, negative where borrowed.
        perpetual: `(account,)` units of the perpetual, negative where short.
        earned: `(account,)` cash earned by it and not yet settled.
        options: `(expiry, option, account)` units of each option, negative where short.
        collateral: `(collateral, account)` value in the settlement currency.
        charged: `(collateral, account)` value that haircuts and charges are taken on.
        haircut: `(2, collateral)` initial and maintenance haircut.
        cancels: `(collateral,)` whether a collateral moves with the spot in scenarios.
    """

    cash: Float[Array, " account"]
    perpetual: Float[Array, " account"]
    earned: Float[Array, " account"]
    options: Float[Array, "expiry option account"]
    collateral: Float[Array, "collateral account"]
    charged: Float[Array, "collateral account"]
    haircut: Float[Array, "2 collateral"]
    cancels: Bool[Array, " collateral"]


def portfolio_margin(
    terms: PortfolioTerms, market: PortfolioMarket, held: PortfolioHoldings
) -> MarginState:
    """Return surplus, value and the binding scenario.

    With the worst gain `m = min(scenarios, basis)`, `surplus = V + factor m - charges`, and the
    initial row less what unsure prices cost. `binding` has one row: the number of the worst
    scenario, or the number of scenarios where the basis charge is worse or equal.

    Source: Derive v2 PMRMLib.sol, PMRMLib_2.sol `getMarginAndMarkToMarket`.
    """
    gains, basis, value = scenario_gains(terms, market, held)
    worst = worst_scenario(jnp.concatenate([basis[None], gains]))
    count = gains.shape[0]
    binding = jnp.where(worst.scenario == 0, count, worst.scenario - 1)
    off_peg = terms.peg.rate(market.currency)
    factor = terms.loss_factor.at[INITIAL].add(off_peg)
    scale = jnp.where(terms.multiplied, factor, jnp.ones_like(factor))
    charges = scale[:, None] * _charges(terms, market, held)
    value = value + held.cash + held.earned + held.collateral.sum(0)
    surplus = value[None] - factor[:, None] * worst.loss[None] - charges
    surplus = surplus.at[INITIAL].add(-_unsure(terms, market, held))
    return MarginState(surplus=surplus, value=value, binding=binding[None])


def scenario_gains(
    terms: PortfolioTerms, market: PortfolioMarket, held: PortfolioHoldings
) -> tuple[Float[Array, "scenario account"], Float[Array, " account"], Float[Array, " account"]]:
    """Return gains in every scenario, the basis charge (at most 0), and the options' value.

    Where a scenario moves the smile, each expiry counts as a loss whichever way it comes out: the
    opposite move is as likely, and expiries do not offset each other.
    """
    scenarios, chain = terms.grid.scenarios, market.chain
    still = jnp.stack([jnp.zeros_like(terms.basis.up), terms.basis.up, terms.basis.down])
    values = _with_moves(terms.grid, still).values(chain, held.options)
    now, up, down = values[0], values[1], values[2]
    shocked = values[still.shape[0] :]
    zero = jnp.zeros_like(now)
    least = smaller(smaller(up - now, down - now), zero)
    weight = terms.basis.flat + terms.basis.per_year * chain.years
    positive, negative = terms.discount.factors(chain, market.rate)
    counted = jnp.where(shocked >= 0, positive[None, :, None], negative[None, :, None])
    change = (shocked * counted - now[None]) * scenarios.weight[:, None, None]
    either_way = (scenarios.tilt + scenarios.wings)[:, None, None] > 0
    change = jnp.where(either_way, -jnp.abs(change), change)
    moving = jnp.where(held.cancels[:, None], held.collateral, jnp.zeros_like(held.collateral))
    linear = held.perpetual * market.perpetual + moving.sum(0)
    gains = change.sum(1) + (scenarios.move * scenarios.weight)[:, None] * linear[None]
    return gains, (weight[:, None] * least).sum(0), now.sum(0)


def _with_moves(grid: ScenarioGrid, moves: Float[Array, " first"]) -> ScenarioGrid:
    """Return the grid with scenarios in front in which only the spot moves: one pricing for all."""
    nothing = jnp.zeros_like(moves)
    first = Scenarios(
        move=moves,
        volatility=nothing,
        tilt=nothing,
        wings=nothing,
        weight=jnp.ones_like(moves),
    )
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, grid.scenarios)
    return ScenarioGrid(scenarios=both, volatility=grid.volatility, smile=grid.smile)


def _charges(
    terms: PortfolioTerms, market: PortfolioMarket, held: PortfolioHoldings
) -> Float[Array, "2 account"]:
    """Return charges on perpetuals, uncovered options and collateral."""
    naked = jax.vmap(naked_shorts)(market.chain.strike, held.options).sum(0)
    perpetual = jnp.abs(held.perpetual)
    by_unit = terms.perpetual[:, None] * perpetual[None] + terms.naked[:, None] * naked[None]
    haircut = (held.haircut[:, :, None] * held.charged[None]).sum(1)
    return market.spot * by_unit + haircut


def _unsure(
    terms: PortfolioTerms, market: PortfolioMarket, held: PortfolioHoldings
) -> Float[Array, " account"]:
    """Return what is charged initially while prices are unsure."""
    expiry = smaller(market.expiry_confidence, market.confidence)
    options = jnp.abs(held.options).sum(1)
    units = terms.confidence.rate(market.confidence) * jnp.abs(held.perpetual)
    units = units + (terms.confidence.rate(expiry)[:, None] * options).sum(0)
    collateral = terms.confidence.rate(market.collateral_confidence)
    return market.spot * units + (collateral[:, None] * held.charged).sum(0)
