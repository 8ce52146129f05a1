"""Normal steps across triggers: values are the plain ones, derivatives those of the written law."""

import math
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.numerics.crossing import (
    Hard,
    Scored,
    Smooth,
    Stratified,
    scored_normal,
    stratified_normal,
)
from tests.helpers import assert_close

NORMAL = NormalDist()
AT = np.array([0.3, 0.5, -0.4, 0.9])  # mean, deviation, lower edge, upper edge
DRAW = 0.6


def written_out(at: np.ndarray, draw: float, quantile: float) -> tuple[float, float]:
    """Return x at a constant quantile of its stratum, and the log-probability of the stratum."""
    mean, deviation, low, high = at
    below = NORMAL.cdf((low - mean) / deviation) if math.isfinite(low) else 0.0
    above = NORMAL.cdf((high - mean) / deviation) if math.isfinite(high) else 1.0
    x = mean + deviation * NORMAL.inv_cdf(below + quantile * (above - below))
    return x, math.log(above - below)


def quantile_of(at: np.ndarray, draw: float) -> float:
    mean, deviation, low, high = at
    below = NORMAL.cdf((low - mean) / deviation) if math.isfinite(low) else 0.0
    above = NORMAL.cdf((high - mean) / deviation) if math.isfinite(high) else 1.0
    return (NORMAL.cdf(draw) - below) / (above - below)


def bumped(at: np.ndarray, draw: float, step: float = 1e-4) -> np.ndarray:
    """Return central differences of both, extrapolated: rows x and score."""
    quantile, slopes = quantile_of(at, draw), []
    for i in range(4):
        ways = []
        for h in (step, 0.5 * step):
            up, down = at.copy(), at.copy()
            up[i], down[i] = at[i] + h, at[i] - h
            ends = [np.array(written_out(end, draw, quantile)) for end in (up, down)]
            ways.append((ends[0] - ends[1]) / (2.0 * h))
        slopes.append((4.0 * ways[1] - ways[0]) / 3.0)
    return np.stack(slopes, axis=1)


def stratified(at, draw=DRAW):
    return jnp.stack(stratified_normal(at[0], at[1], jnp.asarray(draw, at.dtype), at[2], at[3]))


@pytest.mark.parametrize(
    ("at", "draw"),
    [
        (AT, 0.6),
        (AT, -1.2),
        (np.array([0.0, 1.0, 2.9, 3.6]), 3.1),  # an upper tail
        (np.array([0.0, 1.0, -4.6, -3.9]), -4.1),  # a lower one
        (np.array([0.0, 0.1, 0.0499, 0.0501]), 0.5),  # narrow
    ],
)
def test_derivatives_are_those_at_a_constant_quantile_of_the_stratum(at, draw):
    x, score = stratified(jnp.asarray(at), draw)
    assert float(x) == at[0] + at[1] * draw
    assert float(score) == 0.0
    narrow = at[3] - at[2] < 1e-3
    slope = jax.jacrev(stratified)(jnp.asarray(at), draw)
    step = 1e-6 if narrow else 1e-4
    assert_close(slope, bumped(at, draw, step), rtol=1e-3 if narrow else 1e-7, atol=1e-7)
    assert_close(jax.jacfwd(stratified)(jnp.asarray(at), draw), slope, rtol=1e-12, atol=1e-12)


def test_second_derivatives_are_those_of_the_first():
    quantile = quantile_of(AT, DRAW)

    def slope(at: np.ndarray) -> np.ndarray:
        draw = (written_out(at, 0.0, quantile)[0] - at[0]) / at[1]
        return np.asarray(jax.jacfwd(stratified)(jnp.asarray(at), draw))

    second = jax.jacfwd(jax.jacrev(stratified))(jnp.asarray(AT), DRAW)
    for i, h in enumerate([1e-5] * 4):
        up, down = AT.copy(), AT.copy()
        up[i], down[i] = AT[i] + h, AT[i] - h
        expected = (slope(up) - slope(down)) / (2.0 * h)
        assert_close(second[:, :, i], expected, rtol=1e-7, atol=1e-8)


def test_without_edges_a_step_is_the_plain_one():
    at = jnp.array([0.3, 0.5, -jnp.inf, jnp.inf])
    slope = jax.jacrev(stratified)(at)
    assert slope.tolist() == [[1.0, DRAW, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]


def test_edges_of_no_probability_leave_numbers_finite():
    """A draw beside an edge, one that seems outside by rounding, and a stratum in a far tail."""
    for dtype in (jnp.float32, jnp.float64):
        for at, draw in (
            ([0.0, 1.0, 5.0, 5.0 + 1e-6], 5.0),
            ([0.0, 1.0, 1.0, jnp.inf], 1.0 - 1e-7),
            ([0.0, 1e-6, -1.0, 1.0], 5.4),
            ([0.0, 1.0, -5.5, -5.4], -5.45),
        ):
            slope = jax.jacrev(stratified)(jnp.asarray(at, dtype), draw)
            assert bool(jnp.isfinite(slope).all()), (at, draw, slope)


def test_float32_agrees_with_float64():
    expected = jax.jacrev(stratified)(jnp.asarray(AT))
    assert_close(
        jax.jacrev(stratified)(jnp.asarray(AT, jnp.float32)), expected, rtol=2e-6, atol=2e-6
    )


def test_a_score_is_that_of_the_density_and_the_step_stands_still():
    mean, deviation, draw = jnp.array(0.2), jnp.array(0.5), jnp.array(0.7)
    x = float(mean + deviation * draw)
    both = lambda m, s: jnp.stack(scored_normal(m, s, draw))
    assert both(mean, deviation).tolist() == [x, 0.0]
    by_mean, by_deviation = jax.jacrev(both, argnums=(0, 1))(mean, deviation)
    assert by_mean[0] == by_deviation[0] == 0.0
    h = 1e-5
    log = lambda m, s: math.log(NormalDist(m, s).pdf(x))
    assert_close(by_mean[1], (log(0.2 + h, 0.5) - log(0.2 - h, 0.5)) / (2 * h), rtol=1e-7, atol=0.0)
    expected = (log(0.2, 0.5 + h) - log(0.2, 0.5 - h)) / (2 * h)
    assert_close(by_deviation[1], expected, rtol=1e-7, atol=0.0)
    # -1 / s^2 for the mean, whatever was drawn.
    second = jax.grad(jax.grad(lambda m: both(m, deviation)[1]))(mean)
    assert_close(second, -4.0, rtol=1e-12, atol=0.0)


def test_every_crossing_plays_the_same_step():
    edges = jnp.array([0.4, -0.1, jnp.inf, 2.0])
    arguments = jnp.array(0.3), jnp.array(0.5), jnp.array(-0.35), edges
    crossings = Hard(), Stratified(), Scored(), Smooth(width=jnp.array(0.0))
    steps = [c.normal(*arguments) for c in crossings]
    assert len({(float(x), float(score)) for x, score in steps}) == 1
    for excess, answer in ((1e-9, 1.0), (0.0, 0.0), (-1e-9, 0.0)):
        assert {float(c.gate(jnp.array(excess))) for c in crossings} == {answer}


def test_the_neighbouring_edges_are_found_in_any_order():
    """Of many edges only the two around the step count."""
    mean, deviation, draw = jnp.array(0.0), jnp.array(1.0), jnp.array(0.3)
    many = jnp.array([1.0, -2.0, 0.1, 0.5, jnp.inf, -jnp.inf])

    def step(edges):
        return jnp.stack(Stratified().normal(mean, deviation, draw, edges))

    slope = jax.jacrev(step)(many)
    assert np.flatnonzero(np.abs(np.asarray(slope)).sum(axis=0)).tolist() == [2, 3]
    assert_close(slope[:, [2, 3]], jax.jacrev(step)(many[2:4]), rtol=1e-15, atol=0.0)
