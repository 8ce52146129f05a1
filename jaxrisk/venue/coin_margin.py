"""Portfolio margin of a book settled in its own underlying: a matrix of prices and volatilities.

What options and futures pay is counted in coins, and a coin is worth less where its price has
fallen: a short call loses less in coins than in dollars, a long future more.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrisk.market.black import black_greeks
from jaxrisk.market.chain import OptionChain
from jaxrisk.numerics.gate import positive_or_one, smaller
from jaxrisk.numerics.matmul import full_matmul
from jaxrisk.numerics.pytree import pytree
from jaxrisk.venue.requirement import INITIAL, MarginState
from jaxrisk.venue.scenario_grid import ScenarioGrid, worst_scenario


@pytree
class RollCharge:
    """A charge on the net delta of every expiry: its basis may move against the others.

    `sum over expiries of |delta| max(per_year T, least)`.

    Source: Deribit `private/pme/simulate`, `roll_shock`.

    Attributes:
        per_year: move of the basis a year, as a fraction of the price.
        least: least move.
    """

    per_year: Float[Array, ""]
    least: Float[Array, ""]

    def charge(
        self, years: Float[Array, " expiry"], delta: Float[Array, "expiry account"]
    ) -> Float[Array, " account"]:
        """Return the charge, in the unit of `delta`."""
        move = self.per_year * years
        move = jnp.where(move > self.least, move, self.least)
        return (move[:, None] * jnp.abs(delta)).sum(0)


@pytree
class CoinTerms:
    """Portfolio margin in coins.

    Attributes:
        grid: the matrix of moves.
        roll: charge on deltas by expiry.
        maintenance: maintenance requirement as a share of the matrix, below 1.
    """

    grid: ScenarioGrid
    roll: RollCharge
    maintenance: Float[Array, ""]


@pytree
class CoinHoldings:
    """What accounts hold, in coins; a perpetual stands in an expiry of its own without time left.

    Attributes:
        equity: `(account,)` worth of the account, profit not yet settled included.
        futures: `(expiry, account)` value of futures at the present price, negative where short.
        options: `(expiry, option, account)` units of each option, negative where short.
        orders: `(account,)` what open orders and minimum charges ask for, initially.
    """

    equity: Float[Array, " account"]
    futures: Float[Array, "expiry account"]
    options: Float[Array, "expiry option account"]
    orders: Float[Array, " account"]


def coin_gains(
    grid: ScenarioGrid, chain: OptionChain, held: CoinHoldings
) -> Float[Array, "scenario account"]:
    """Return gains in coins in every scenario.

    `q (1 - 1 / (1 + x))` of futures worth `q` coins, and `V(x) / (F (1 + x)) - V / F` of options.

    Source: Deribit `private/pme/simulate`, `risk_vectors`.
    """
    rise = 1.0 + grid.scenarios.move
    forward = chain.forward[None] * rise[:, None] + chain.fixed[None]
    ahead = positive_or_one(forward)[:, :, None]
    then = grid.values(chain, held.options) / ahead
    now = full_matmul(chain.marks()[:, None], held.options)[:, 0]
    now = now / positive_or_one(chain.forward + chain.fixed)[:, None]
    linear = (1.0 - 1.0 / rise)[:, None] * held.futures.sum(0)[None]
    return grid.scenarios.weight[:, None] * ((then - now[None]).sum(1) + linear)


def coin_margin(terms: CoinTerms, chain: OptionChain, held: CoinHoldings) -> MarginState:
    """Return surplus and equity in coins, and the number of the worst scenario.

    The matrix asks for the worst loss plus the roll charge, initially with what orders ask for, and
    a share of it to be left alone.

    Source: Deribit `private/pme/simulate`: `risk_matrix_margin`, `projected_im`, `projected_mm`.
    """
    worst = worst_scenario(coin_gains(terms.grid, chain, held))
    loss = -smaller(-worst.loss, jnp.zeros_like(worst.loss))
    matrix = loss + terms.roll.charge(chain.years, held.futures + _option_deltas(chain, held))
    required = jnp.stack([matrix, terms.maintenance * matrix]).at[INITIAL].add(held.orders)
    return MarginState(
        surplus=held.equity[None] - required,
        value=held.equity,
        binding=worst.scenario[None],
    )


def _option_deltas(chain: OptionChain, held: CoinHoldings) -> Float[Array, "expiry account"]:
    """Return Black-76 deltas of options by expiry, in coins."""
    one = jnp.ones_like(chain.strike)
    greeks = black_greeks(
        *jnp.broadcast_arrays(
            (chain.forward + chain.fixed)[:, None],
            chain.strike,
            chain.years[:, None],
            chain.volatility,
            jnp.where(chain.is_call, one, -one),
        )
    )
    return full_matmul(greeks.delta[:, None], held.options)[:, 0]
