"""A book over a grid of scenarios: the sum of its options' values, and its derivatives."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jaxrisk.market.black import black_greeks, black_price
from jaxrisk.market.option_grid import OptionBook, book_values
from tests.helpers import assert_close

DRAW = np.random.default_rng(3)
BOOK = OptionBook(
    forward=jnp.asarray(DRAW.uniform(50.0, 200.0, 30)),
    strike=jnp.asarray(DRAW.uniform(50.0, 200.0, 30)),
    years=jnp.asarray(DRAW.uniform(0.0, 1.0, 30)).at[0].set(0.0),
    volatility=jnp.asarray(DRAW.uniform(0.1, 1.0, 30)).at[1].set(0.0),
    sign=jnp.asarray(DRAW.choice([-1.0, 1.0], 30)),
    size=jnp.asarray(DRAW.normal(size=30)),
)
PRICE = jnp.array([0.3, 0.9, 1.0, 1.1, 4.0])
VOLATILITY = jnp.array([1.6, 0.0, 1.0, 1.25, 0.7])
grid = jax.jit(book_values)


def one_by_one(book):
    return [
        float(jnp.sum(book.size * black_price(
            p * book.forward, book.strike, book.years, v * book.volatility, book.sign
        )))
        for p, v in zip(PRICE, VOLATILITY, strict=True)
    ]  # fmt: skip


def test_a_scenario_is_the_sum_of_its_options():
    assert_close(grid(BOOK, PRICE, VOLATILITY), one_by_one(BOOK), rtol=1e-12, atol=1e-11)


def test_single_precision_keeps_its_digits():
    book, price, volatility = jax.tree.map(
        lambda x: x.astype(jnp.float32), (BOOK, PRICE, VOLATILITY)
    )
    gross = float(jnp.sum(jnp.abs(BOOK.size) * BOOK.forward))
    error = np.asarray(grid(book, price, volatility), np.float64) - one_by_one(BOOK)
    assert np.abs(error).max() < 4e-7 * gross


def test_gradients_are_values_and_vegas():
    weight = jnp.array([0.1, -0.2, 1.0, 0.5, 0.3])
    total = lambda b: jnp.sum(weight * book_values(b, PRICE, VOLATILITY))
    slope = jax.jit(jax.grad(total))(BOOK)
    shocked = (PRICE[:, None] * BOOK.forward[None, :], BOOK.strike[None, :], BOOK.years[None, :],
               VOLATILITY[:, None] * BOOK.volatility[None, :], BOOK.sign[None, :])  # fmt: skip
    greeks, w = black_greeks(*shocked), weight[:, None]
    by_size = jnp.sum(w * black_price(*shocked), axis=0)
    assert_close(slope.size, by_size, rtol=1e-11, atol=1e-11)
    by_volatility = BOOK.size * jnp.sum(w * greeks.vega * VOLATILITY[:, None], axis=0)
    assert_close(slope.volatility, by_volatility, rtol=1e-11, atol=1e-11)
    by_forward = BOOK.size * jnp.sum(w * greeks.delta * PRICE[:, None], axis=0)
    assert_close(slope.forward, by_forward, rtol=1e-10, atol=1e-11)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def test_factors_can_be_differentiated_too():
    by_price, by_volatility = jax.jit(
        jax.grad(lambda p, v: jnp.sum(book_values(BOOK, p, v)), argnums=(0, 1))
    )(PRICE, VOLATILITY)
    h = 1e-5
    for i in (0, 2, 3):
        step = jnp.zeros(5).at[i].set(h)
        up, down = (grid(BOOK, PRICE + d * step, VOLATILITY)[i] for d in (1.0, -1.0))
        assert_close(by_price[i], (up - down) / (2 * h), rtol=1e-6, atol=1e-6)
        up, down = (grid(BOOK, PRICE, VOLATILITY + d * step)[i] for d in (1.0, -1.0))
        assert_close(by_volatility[i], (up - down) / (2 * h), rtol=1e-6, atol=1e-6)


def test_an_empty_size_adds_nothing():
    double = jax.tree.map(lambda x: jnp.concatenate([x, x]), BOOK)
    padded = dataclasses.replace(double, size=double.size.at[30:].set(0.0))
    expected = grid(BOOK, PRICE, VOLATILITY)
    assert_close(grid(padded, PRICE, VOLATILITY), expected, rtol=1e-13, atol=1e-11)
