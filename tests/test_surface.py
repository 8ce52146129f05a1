"""Smiles and surfaces: closed forms, arbitrage with its place, interpolation, buckets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.arbitrage import Breach, breaches, butterfly_values, calendar_values
from jaxrisk.market.black import black_greeks, black_price
from jaxrisk.market.smile import Ssvi, Svi, durrleman
from jaxrisk.market.surface import GridSurface, bucketed_vega, option_volatility
from jaxrisk.numerics.interpolate import bracket
from tests.helpers import assert_close

K = jnp.linspace(-1.5, 1.5, 61)
YEARS = jnp.array([0.1, 0.5, 1.0])
array = lambda *x: jnp.asarray(x, float)
# An example with a butterfly: Gatheral and Jacquier (2014), example 3.1, after Vogt.
VOGT = Svi(
    a=array(-0.0410), b=array(0.1331), rho=array(0.3060), m=array(0.3586), sigma=array(0.4153)
)
SMOOTH = Ssvi(
    theta=array(0.04, 0.15, 0.25), rho=jnp.array(-0.3), eta=jnp.array(1.2), gamma=jnp.array(0.4)
)


def test_vogts_smile_has_a_butterfly_where_its_authors_say():
    g = durrleman(VOGT.total_variance, K)
    negative = np.asarray(K)[np.asarray(g) < 0]
    # Their figure 2: negative between about 0.6 and 1.3, positive elsewhere.
    assert 0.55 < negative.min() < 0.75
    assert 1.1 < negative.max() < 1.45
    assert float(VOGT.least_variance()[0]) > 0
    assert float(VOGT.steeper_wing()[0]) < 2
    found = breaches(array(1.0), K, VOGT.total_variance(K)[None, :])
    # Beyond its butterflies calls get dearer with the strike.
    assert {b.kind for b in found} == {"butterfly", "vertical"}
    found = [b for b in found if b.kind == "butterfly"]
    assert all(negative.min() - 0.06 < b.log_moneyness < negative.max() + 0.06 for b in found)
    assert found[0].amount == max(b.amount for b in found)
    assert found[0].years == 1.0


@pytest.mark.parametrize("smile", [VOGT, SMOOTH], ids=["svi", "ssvi"])
def test_durrleman_is_the_density(smile):
    """The second derivative of calls by strike, from prices alone."""
    expiries = jnp.ravel(getattr(smile, "theta", array(1.0))).size
    k = jnp.linspace(-1.0, 1.0, 21)[:, None] + jnp.zeros(expiries)[None, :]
    call = lambda strike: black_price(
        1.0, strike, 1.0, jnp.sqrt(smile.total_variance(jnp.log(strike))), 1.0
    )
    ones = jnp.ones_like(k)
    slope = lambda strike: jax.jvp(call, (strike,), (ones,))[1]
    density = jax.jit(lambda x: jax.jvp(slope, (x,), (ones,))[1])(jnp.exp(k))
    w = smile.total_variance(k)
    d2 = -k / jnp.sqrt(w) - 0.5 * jnp.sqrt(w)
    normal = jnp.exp(-0.5 * d2**2) / jnp.sqrt(2 * jnp.pi * w)
    expected = np.asarray(durrleman(smile.total_variance, k) * normal) / np.exp(np.asarray(k))
    assert_close(density, expected, rtol=1e-7, atol=1e-9)


@given(
    st.floats(-0.95, 0.95), st.floats(0.05, 0.999), st.floats(0.05, 0.5), st.floats(0.005, 0.5),
    st.lists(st.floats(0.001, 1.0), min_size=2, max_size=2),
)  # fmt: skip
def test_a_power_law_within_its_bound_has_no_arbitrage(rho, share, gamma, first, rises):
    smile = Ssvi(
        theta=jnp.cumsum(array(first, *rises)),
        rho=jnp.array(rho),
        eta=jnp.array(2.0 * share / (1.0 + abs(rho))),
        gamma=jnp.array(gamma),
    )
    assert all((margin > -1e-12).all() for margin in smile.butterfly_margins())
    assert (smile.calendar_margins() >= 0).all()
    k = jnp.linspace(-3.0, 3.0, 81)
    w = smile.total_variance(k[:, None])
    assert breaches(YEARS, k, w.T, tolerance=1e-12) == []
    assert (durrleman(smile.total_variance, k[:, None] + jnp.zeros((1, 3))) > -1e-12).all()
    assert_close(smile.total_variance(jnp.zeros((1, 3)))[0], smile.theta, rtol=1e-13, atol=0.0)


def test_a_calendar_is_named_with_its_expiry_and_strike():
    w = np.asarray(SMOOTH.total_variance(K[:, None])).T.copy()
    w[1, 40] = w[2, 40] + 0.003
    found = breaches(YEARS, K, jnp.asarray(w))
    assert Breach("calendar", 0.5, float(K[40]), float(w[1, 40] - w[2, 40]), later=1.0) in found
    # The bump makes a butterfly too, dear in the middle, and calls dearer there than before it.
    places = {(b.kind, b.years, round(b.log_moneyness, 6)) for b in found}
    assert places == {("calendar", 0.5, 0.5), ("butterfly", 0.5, 0.5), ("vertical", 0.5, 0.45)}
    assert breaches(YEARS, K, SMOOTH.total_variance(K[:, None]).T) == []
    assert butterfly_values(K, jnp.asarray(w)).shape == (3, 59)
    assert calendar_values(jnp.asarray(w)).shape == (2, 61)


def test_interpolation_is_linear_and_says_what_lies_beyond():
    grid = array(0.0, 1.0, 3.0)
    x = array(-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 5.0)
    values = array(10.0, 20.0, 0.0)
    for beyond, ends in (("flat", (10.0, 0.0)), ("linear", (0.0, -20.0))):
        i, t = bracket(x, grid, beyond=beyond)
        actual = (1 - t) * values[i] + t * values[i + 1]
        assert_close(actual, [ends[0], 10, 15, 20, 10, 0, ends[1]], rtol=1e-15, atol=1e-15)
    i, t = bracket(x, array(2.0), beyond="linear")
    assert (np.asarray(i) == 0).all()
    assert (np.asarray(t) == 0).all()
    with pytest.raises(ValueError, match="cubic"):
        bracket(x, grid, beyond="cubic")


def surface(wings="flat"):
    return GridSurface(
        years=YEARS,
        log_moneyness=K[::10],
        total_variance=SMOOTH.total_variance(K[::10, None]).T,
        wings=wings,
    )


def test_a_surface_is_exact_at_nodes_and_linear_in_variance_between():
    s = surface()
    nodes = np.sqrt(np.asarray(s.total_variance) / np.asarray(YEARS)[:, None])
    at_nodes = s.volatility(s.log_moneyness[None, :], YEARS[:, None])
    assert_close(at_nodes, nodes, rtol=1e-14, atol=0.0)
    w = np.asarray(s.total_variance)
    middle = s.volatility(0.25, 0.75)
    expected = (w[1:, 3:5].mean() / 0.75) ** 0.5
    assert_close(middle, expected, rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("wings", ["flat", "linear"])
def test_beyond_its_nodes_a_surface_does_what_it_says(wings):
    s = surface(wings)
    w = np.asarray(s.total_variance)
    # In time: the volatility of the first and of the last expiry.
    for years, row in ((0.05, 0), (0.0, 0), (-1.0, 0), (2.0, 2)):
        expected = s.volatility(0.3, YEARS[row])
        assert_close(s.volatility(0.3, years), expected, rtol=1e-14, atol=0.0)
    out = {"flat": w[0, 0], "linear": w[0, 0] + (w[0, 0] - w[0, 1])}[wings]
    assert_close(s.volatility(-2.0, 0.1), (out / 0.1) ** 0.5, rtol=1e-14, atol=0.0)
    low = GridSurface(
        years=array(1.0), log_moneyness=array(0.0, 1.0),
        total_variance=array(0.1, 0.3)[None, :], wings=wings,
    )  # fmt: skip
    expected = {"flat": 0.1**0.5, "linear": 0.0}[wings]
    assert_close(low.volatility(-2.0, 1.0), expected, rtol=1e-14, atol=0.0)
    slope = jax.grad(lambda k: low.volatility(k, 1.0))(jnp.array(-2.0))
    assert float(slope) == 0.0


def test_stickiness_says_what_stays_when_the_forward_moves():
    s, strike = surface(), array(80.0, 100.0, 130.0)
    read = lambda forward, ratio: option_volatility(
        s, strike, forward, 0.3, reference=100.0, stickiness=ratio
    )
    before = read(100.0, 1.0)
    assert_close(read(100.0, 0.0), before, rtol=1e-15, atol=0.0)
    # Sticky strike: nothing happens to an option's volatility.
    assert_close(read(110.0, 1.0), before, rtol=1e-13, atol=0.0)
    # Sticky moneyness: the option as far from the new forward has it.
    moved = option_volatility(s, 1.1 * strike, 110.0, 0.3, reference=100.0, stickiness=0.0)
    assert_close(moved, before, rtol=1e-13, atol=0.0)
    # In between in proportion: the slope by the forward at the money is (ratio - 1) x skew.
    skew = jax.grad(lambda k: s.volatility(k, 0.3))(jnp.array(0.1))
    for ratio in (0.0, 0.5, 2.0):
        at = lambda f, r=ratio: option_volatility(
            s, 100.0 * jnp.exp(0.1), f, 0.3, reference=100.0, stickiness=r
        )
        slope = 100.0 * jax.grad(at)(jnp.array(100.0))
        assert_close(slope, (ratio - 1.0) * float(skew), rtol=1e-10, atol=1e-14)


def test_vega_falls_into_the_buckets_an_option_is_read_from():
    s, forward = surface(), 100.0
    strike = forward * jnp.exp(s.log_moneyness[3])
    at_node = lambda s: 5.0 * black_price(forward, strike, 0.5, s.volatility(0.0, 0.5), 1.0)
    buckets = np.asarray(bucketed_vega(at_node, s))
    vega = black_greeks(forward, strike, 0.5, s.volatility(0.0, 0.5), 1.0).vega
    assert_close(buckets[1, 3], 5.0 * float(vega), rtol=1e-12, atol=0.0)
    others = buckets.copy()
    others[1, 3] = 0.0
    assert_close(others, np.zeros_like(others), rtol=0.0, atol=1e-12)


def test_buckets_are_bumps_of_a_books_nodes():
    s = surface("linear")
    draw = np.random.default_rng(4)
    strike, years = draw.uniform(30.0, 300.0, 40), draw.uniform(0.05, 1.5, 40)
    size, sign = draw.normal(size=40), draw.choice([-1.0, 1.0], 40)

    @jax.jit
    def worth(s):
        volatility = s.volatility(jnp.log(strike / 100.0), years)
        return jnp.sum(size * black_price(100.0, strike, years, volatility, sign))

    buckets = bucketed_vega(worth, s)
    nodes = jnp.sqrt(s.total_variance / YEARS[:, None])
    at = lambda v: worth(GridSurface.of_volatility(YEARS, s.log_moneyness, v, wings="linear"))
    h = 1e-5
    for node in np.ndindex(*nodes.shape):
        step = jnp.zeros_like(nodes).at[node].set(h)
        bump = (float(at(nodes + step)) - float(at(nodes - step))) / (2 * h)
        assert_close(buckets[node], bump, rtol=1e-6, atol=1e-6)
