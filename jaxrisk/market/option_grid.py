"""A book of options revalued over a grid of scenarios: what margin models and stress tests do."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxrisk.market.black import log_ratio, value_at
from jaxrisk.numerics.pytree import pytree
from jaxrisk.numerics.smooth import safe_sqrt

Options = Float[Array, " option"]
Scenarios = Float[Array, " scenario"]


@pytree
class OptionBook:
    """European options, each held in some size; every leaf is `(option,)`.

    Attributes:
        forward: price of the underlying for delivery at expiry; positive.
        strike: positive.
        years: to expiry.
        volatility: per square root of a year.
        sign: 1 for calls, -1 for puts.
        size: what an option's value is multiplied by: contracts, negative where sold, times the
            multiplier and the worth of the settlement currency. Of a coin-settled option that is
            coins over the forward.
    """

    forward: Options
    strike: Options
    years: Options
    volatility: Options
    sign: Options
    size: Options


def book_values(
    book: OptionBook, price_factor: Scenarios, volatility_factor: Scenarios
) -> Scenarios:
    """Return the value of the whole book in each scenario, `(scenario,)`.

    Scenarios are taken one after the other, and reverse mode computes each again rather than keep
    it: memory does not grow with their number, and a gradient in all sizes and volatilities costs
    a little more than twice the values.

    Args:
        book: the options.
        price_factor: `(scenario,)` every forward is multiplied by; positive.
        volatility_factor: `(scenario,)` every volatility is multiplied by; not negative.
    """
    moneyness = log_ratio(book.forward, book.strike)
    deviation = book.volatility * safe_sqrt(book.years)

    @jax.checkpoint
    def value(factors: tuple[Array, Array, Array]) -> Float[Array, ""]:
        price, log_price, volatility = factors
        values = value_at(
            book.forward * price,
            book.strike,
            moneyness + log_price,
            deviation * volatility,
            book.sign,
        )
        return jnp.sum(book.size * values)

    return lax.map(value, (price_factor, jnp.log(price_factor), volatility_factor))
