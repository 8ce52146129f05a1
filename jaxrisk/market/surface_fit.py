"""Fitting smiles to quoted volatilities by gradient descent, away from arbitrage.

All expiries of one underlying are fitted together, because calendar arbitrage is between them. What
is minimised is the weighted mean square of (fitted - quoted) volatility, plus penalties on a grid
that covers the quotes with a margin: on negative values of Durrleman's function (butterflies), on
total variance falling from one expiry to the next (calendars), and on wings steeper than Lee's
bound. Parameters are sought in units of each expiry's own width, so that a day and a year are
equally hard, and through maps that keep them in range.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float

from jaxrisk.market.smile import Ssvi, Svi, durrleman
from jaxrisk.numerics.gate import smaller
from jaxrisk.numerics.pytree import pytree

Quotes = Float[Array, "expiry quote"]
_UNIT = 1e4
"""Squares of volatilities are tiny: the optimiser sees them in squared percent."""


@pytree
class FitError:
    """How well, and how cleanly, a surface fits.

    Attributes:
        rms: `(expiry,)` weighted root mean square of fitted less quoted volatility.
        worst: `(expiry,)` largest size of that among quotes with weight.
        butterfly: `(expiry,)` least of Durrleman's function on the grid; negative: arbitrage.
        calendar: `(expiry - 1,)` least rise of total variance to the next expiry on the grid.
    """

    rms: Float[Array, " expiry"]
    worst: Float[Array, " expiry"]
    butterfly: Float[Array, " expiry"]
    calendar: Float[Array, " gap"]


def fit_svi(
    years: Float[Array, " expiry"],
    log_moneyness: Quotes,
    volatility: Quotes,
    weight: Quotes,
    *,
    steps: int = 400,
    penalty: float = 100.0,
) -> tuple[Svi, FitError]:
    """Return raw SVI of each expiry, `(expiry,)`, and its errors.

    Args:
        years: `(expiry,)`, positive and increasing.
        log_moneyness: `(expiry, quote)` log(strike / forward); anything where there is no quote.
        volatility: `(expiry, quote)`; anything finite where there is no quote.
        weight: `(expiry, quote)` not negative, 0 where there is no quote; some are positive in
            every expiry.
        steps: of the optimiser (L-BFGS).
        penalty: what an arbitrage costs against the square of a volatility.
    """
    total = volatility**2 * years[:, None]
    level = _at_the_money(log_moneyness, total, weight)
    lowest = jnp.min(jnp.where(weight > 0, total, jnp.inf), axis=1) / level

    def smiles(raw: Float[Array, "five expiry"]) -> Svi:
        width = jnp.sqrt(level)
        rho, b = jnp.tanh(raw[2]), jax.nn.softplus(raw[1]) * width
        sigma = (jax.nn.softplus(raw[4]) + 1e-3) * width
        least = jax.nn.softplus(raw[0]) * level
        a = least - b * sigma * jnp.sqrt(1.0 - rho**2)
        return Svi(a=a, b=b, rho=rho, m=raw[3] * width, sigma=sigma)

    ones = jnp.ones_like(years)
    start = jnp.stack([_softplus_inverse(0.8 * lowest), -1.0 * ones, -0.2 * ones, 0 * ones, ones])
    grid = _grid(log_moneyness, weight, level)
    data = (years, log_moneyness, volatility, weight)

    def loss(raw: Float[Array, "five expiry"]) -> Float[Array, ""]:
        smile = smiles(raw)
        steep = smile.steeper_wing() - 2.0
        lee = jnp.sum(jnp.where(steep > 0, steep, 0.0 * steep) ** 2)
        return _misfit(smile, *data) + penalty * (_arbitrage(smile, grid, level) + lee)

    smile = smiles(_minimise(loss, start, steps))
    return smile, _errors(smile, *data, grid)


def fit_ssvi(
    years: Float[Array, " expiry"],
    log_moneyness: Quotes,
    volatility: Quotes,
    weight: Quotes,
    *,
    steps: int = 400,
    penalty: float = 100.0,
) -> tuple[Ssvi, FitError]:
    """Return one surface SVI for all expiries, and its errors.

    Its parameters are kept where it is free of static arbitrage: variance at the money rises,
    `gamma` lies in (0, 1/2) and `eta (1 + |rho|)` in (0, 2). The penalties then cost nothing.

    Args:
        years: `(expiry,)`, positive and increasing.
        log_moneyness: `(expiry, quote)` log(strike / forward); anything where there is no quote.
        volatility: `(expiry, quote)`; anything finite where there is no quote.
        weight: `(expiry, quote)` not negative, 0 where there is no quote; some are positive in
            every expiry.
        steps: of the optimiser (L-BFGS).
        penalty: what an arbitrage costs against the square of a volatility.
    """
    level = _at_the_money(log_moneyness, volatility**2 * years[:, None], weight)
    rises = jnp.diff(level, prepend=0.0)
    # A start that rises everywhere, whatever the quotes do.
    floor = 1e-3 * level[-1] / level.shape[0]
    rises = jnp.where(rises > floor, rises, floor * jnp.ones_like(rises))

    def smiles(raw: Float[Array, " parameter"]) -> Ssvi:
        rho = jnp.tanh(raw[0])
        return Ssvi(
            theta=jnp.cumsum(rises * jax.nn.softplus(raw[3:])),
            rho=rho,
            eta=2.0 * jax.nn.sigmoid(raw[1]) / (1.0 + jnp.abs(rho)),
            gamma=0.5 * jax.nn.sigmoid(raw[2]),
        )

    ones = jnp.ones_like(years)
    start = jnp.concatenate([jnp.array([-0.2, 0.0, 1.0], ones.dtype), _softplus_inverse(ones)])
    grid = _grid(log_moneyness, weight, level)
    data = (years, log_moneyness, volatility, weight)

    def loss(raw: Float[Array, " parameter"]) -> Float[Array, ""]:
        smile = smiles(raw)
        return _misfit(smile, *data) + penalty * _arbitrage(smile, grid, level)

    smile = smiles(_minimise(loss, start, steps))
    return smile, _errors(smile, *data, grid)


def _misfit(smile: Svi | Ssvi, years: Array, k: Array, volatility: Array, weight: Array) -> Array:
    off = _volatility(smile, years, k) - volatility
    return _UNIT * jnp.sum(weight * off**2) / jnp.sum(weight)


def _arbitrage(smile: Svi | Ssvi, grid: Array, level: Array) -> Array:
    """Return the mean squares of negative densities and of variance lost to the next expiry."""
    density = smaller(_density(smile, grid), jnp.zeros_like(grid))
    # Relative to the level of the two, or a day's calendar would weigh nothing against a year's.
    lost = _rises(smile, grid) / level[None, 1:]
    lost = smaller(lost, jnp.zeros_like(lost))
    return _UNIT * (jnp.mean(density**2) + jnp.sum(lost**2) / max(lost.size, 1))


def _errors(
    smile: Svi | Ssvi, years: Array, k: Array, volatility: Array, weight: Array, grid: Array
) -> FitError:
    off = _volatility(smile, years, k) - volatility
    mean = jnp.sum(weight * off**2, axis=1) / jnp.sum(weight, axis=1)
    return FitError(
        rms=jnp.sqrt(mean),
        worst=jnp.max(jnp.where(weight > 0, jnp.abs(off), jnp.zeros_like(off)), axis=1),
        butterfly=jnp.min(_density(smile, grid), axis=0),
        calendar=jnp.min(_rises(smile, grid), axis=0),
    )


def _volatility(smile: Svi | Ssvi, years: Array, k: Array) -> Array:
    variance = smile.total_variance(k.T).T / years[:, None]
    return jnp.sqrt(jnp.where(variance > 0, variance, jnp.full_like(variance, 1e-12)))


def _density(smile: Svi | Ssvi, grid: Array) -> Array:
    return durrleman(smile.total_variance, grid)


def _rises(smile: Svi | Ssvi, grid: Array) -> Array:
    """Return `(strike, gap)` the rise of total variance, on the grid of the earlier expiry."""
    here = smile.total_variance(grid)[:, :-1]
    following = smile.total_variance(jnp.roll(grid, 1, axis=1))[:, 1:]
    return following - here


def _grid(k: Array, weight: Array, level: Array, points: int = 41) -> Array:
    """Return `(point, expiry)` log-moneyness from beyond the lowest to beyond the highest quote."""
    margin = jnp.sqrt(level)
    low = jnp.min(jnp.where(weight > 0, k, jnp.inf), axis=1) - margin
    high = jnp.max(jnp.where(weight > 0, k, -jnp.inf), axis=1) + margin
    return jnp.linspace(low, high, points)


def _at_the_money(k: Array, total: Array, weight: Array) -> Array:
    """Return `(expiry,)` the total variance of the quote nearest to the forward."""
    nearest = jnp.argmin(jnp.where(weight > 0, jnp.abs(k), jnp.inf), axis=1)
    return jnp.take_along_axis(total, nearest[:, None], axis=1)[:, 0]


def _softplus_inverse(x: Array) -> Array:
    return jnp.log(jnp.expm1(x))


def _minimise(loss: Callable[[Array], Array], start: Array, steps: int) -> Array:
    """Return where L-BFGS is after so many steps, or where it was best."""
    optimiser: Any = optax.lbfgs(memory_size=20)
    value_and_slope = optax.value_and_grad_from_state(loss)

    def step(carry: tuple, _: None) -> tuple[tuple, None]:
        raw, state, best, least = carry
        value, slope = value_and_slope(raw, state=state)
        best = jnp.where(value < least, raw, best)
        least = jnp.where(value < least, value, least)
        change, state = optimiser.update(slope, state, raw, value=value, grad=slope, value_fn=loss)
        return (optax.apply_updates(raw, change), state, best, least), None

    # The optimiser's own counters are of mixed types.
    with jax.numpy_dtype_promotion("standard"):
        opening = (start, optimiser.init(start), start, jnp.full((), jnp.inf, start.dtype))
        (last, _, best, least), _ = lax.scan(step, opening, length=steps)
    return jnp.where(loss(last) < least, last, best)
