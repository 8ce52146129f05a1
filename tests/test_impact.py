"""Impact laws: closed forms, proceeds as an integral, inverses, and derivatives at zero volume."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market import concentrated_liquidity, constant_product
from jaxrisk.market.concentrated_liquidity import ConcentratedPool
from jaxrisk.market.constant_product import ConstantProductPool
from jaxrisk.market.impact import (
    DepthCurveImpact,
    ExponentialImpact,
    ImpactLaw,
    LinearImpact,
    SquareRootImpact,
)
from jaxrisk.market.pool_impact import PoolImpact
from tests import reference
from tests.helpers import assert_close

FALL = [0.01, 0.02, 0.05, 0.10]
SHARE = [0.25, 0.5, 1.0, 2.0]
RANGE_ENDS = [0.02, 0.10, 0.30]
RANGES = [8.0, 2.0, 0.5, 0.1]
LAWS: dict[str, ImpactLaw] = {
    "linear": LinearImpact(coefficient=jnp.array([0.1])),
    "square_root": SquareRootImpact(coefficient=jnp.array([0.1])),
    "exponential": ExponentialImpact(coefficient=jnp.array([0.1]), largest=jnp.array([0.4])),
    "depth_curve": DepthCurveImpact(fall=jnp.array(FALL), share=jnp.array([SHARE])),
    "constant_product": PoolImpact.from_ranges([], [1.0], fee=0.0, assets=1),
    "concentrated": PoolImpact.from_ranges(RANGE_ENDS, RANGES, fee=0.0, assets=1),
}
POOLS = ("constant_product", "concentrated")
# Volumes, in multiples of depth, at which a range is used up.
RANGE_VOLUMES = np.cumsum(np.diff(1.0 / np.sqrt(1.0 - np.array([0.0, *RANGE_ENDS]))) * RANGES[:-1])
DEPTH = jnp.array([4e7])


def volumes(*multiples):
    return [jnp.array([m * 4e7]) for m in multiples]


def average_price(law, volume):
    return float(law.proceeds(volume, DEPTH)[0] / volume[0])


@pytest.mark.parametrize("volume", [0.0, 1.0, 1e7, 4e7, 3e9])
def test_log_drops_are_those_of_the_formulas(volume):
    sold = jnp.array([volume])
    linear = reference.linear_impact(volume, 0.1, 4e7)
    root = reference.square_root_impact(volume, 0.1, 4e7)
    assert_close(LAWS["linear"].log_drop(sold, DEPTH), [linear], rtol=1e-14, atol=0.0)
    assert_close(LAWS["square_root"].log_drop(sold, DEPTH), [root], rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("kind", LAWS)
# Within the book, at its edge, beyond it, and on both sides of where series take over.
@pytest.mark.parametrize("multiple", [1e-9, 1e-4, 0.009, 0.0101, 0.09, 0.11, 0.7, 1.9, 2.1, 15.0])
def test_proceeds_are_the_integral_of_the_price(kind, multiple):
    law, total = LAWS[kind], multiple * 4e7
    node, weight = np.polynomial.legendre.leggauss(40)
    # Panels end at the bands; the square spreads nodes towards the root's steep start.
    edges = np.sqrt(
        np.unique(np.minimum([0.0, *RANGE_VOLUMES, *SHARE, 4.0, 8.0, multiple], multiple))
    )
    parts = []
    for low, high in itertools.pairwise(edges):
        s = low + (high - low) * (node + 1.0) / 2.0
        drop = np.array([float(law.log_drop(v, DEPTH)[0]) for v in volumes(*(s**2))])
        parts.append((high - low) / 2.0 * (weight * 2.0 * s * 4e7 * np.exp(-drop)).sum())
    actual = law.proceeds(jnp.array([total]), DEPTH)
    assert_close(actual, [sum(parts)], rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("kind", LAWS)
def test_selling_more_never_brings_less(kind):
    # Up to far beyond what any book holds.
    brought = [
        float(LAWS[kind].proceeds(v, DEPTH)[0]) for v in volumes(*np.geomspace(0.1, 100, 60))
    ]
    assert (np.diff(brought) >= -1e-9 * np.array(brought[1:])).all()


@pytest.mark.parametrize("kind", LAWS)
@given(discount=st.floats(1e-6, 0.15))
def test_the_volume_within_a_discount_is_sold_within_it(kind, discount):
    law = LAWS[kind]
    volume = law.volume_within(jnp.array([discount]), DEPTH)
    paid = 1.0 - average_price(law, volume)
    if kind in POOLS:
        # Solved exactly.
        assert_close(paid, discount, rtol=1e-8, atol=1e-14)
        return
    assert 0.0 < paid <= discount
    if kind == "depth_curve":
        # A book of bids promises the marginal fall, not the average.
        fall = -np.expm1(-float(law.log_drop(volume, DEPTH)[0]))
        assert_close(fall, discount, rtol=1e-12, atol=0.0)
    else:
        # Solved to first order in the discount, on the safe side.
        bend = 0.4 if kind == "exponential" else 1.0
        assert paid > discount * (1.0 - discount / bend)


@pytest.mark.parametrize("kind", LAWS)
@pytest.mark.parametrize("discount", [0.0, -0.1])
def test_nothing_is_sold_within_no_discount(kind, discount):
    assert float(LAWS[kind].volume_within(jnp.array([discount]), DEPTH)[0]) == 0.0


@pytest.mark.parametrize("kind", LAWS)
def test_derivatives_at_zero_volume_are_finite_in_both_modes(kind):
    law, zero = LAWS[kind], jnp.array([0.0])

    def both(volume, depth):
        return law.log_drop(volume, depth)[0], law.proceeds(volume, depth)[0]

    forward = jax.jit(jax.jacfwd(both, argnums=(0, 1)))(zero, DEPTH)
    reverse = jax.jit(jax.jacrev(both, argnums=(0, 1)))(zero, DEPTH)
    for f, r in zip(jax.tree.leaves(forward), jax.tree.leaves(reverse), strict=True):
        assert np.isfinite(f).all()
        assert_close(r, f, rtol=1e-14, atol=0.0)
    if kind != "depth_curve":
        # The first unit sells at the price itself.
        assert_close(reverse[1][0], [1.0], rtol=1e-14, atol=0.0)
    # And the budget of a keeper with nothing to gain has no slope that is not a number.
    slope = jax.jit(jax.grad(lambda d: law.volume_within(d, DEPTH)[0]))(zero)
    assert np.isfinite(slope).all()


def test_the_depth_curve_walks_the_bids():
    law = LAWS["depth_curve"]
    for share, fall in zip(SHARE, FALL, strict=True):
        drop = law.log_drop(jnp.array([share * 4e7]), DEPTH)
        assert_close(drop, [-np.log1p(-fall)], rtol=1e-13, atol=0.0)
    # Half of the second band: from 1 % to 2 % over a quarter of the depth.
    assert_close(
        law.log_drop(jnp.array([0.375 * 4e7]), DEPTH), [-np.log1p(-0.015)], rtol=1e-13, atol=0.0
    )
    first = 0.25 * (1.0 - 0.005) + 0.125 * (1.0 - 0.0125)
    assert_close(law.proceeds(jnp.array([1.5e7]), DEPTH), [first * 4e7], rtol=1e-13, atol=0.0)


def test_beyond_its_book_the_depth_curve_is_not_clamped():
    law = LAWS["depth_curve"]
    # The last band falls by 5 % over one depth, which at its end is 5/90 of the price: the log
    # price goes on falling at that rate.
    expected = -np.log1p(-0.10) + 3.0 * 0.05 / 0.90
    assert_close(law.log_drop(jnp.array([2e8]), DEPTH), [expected], rtol=1e-13, atol=0.0)
    drops = [float(law.log_drop(v, DEPTH)[0]) for v in volumes(2.0, 2.1, 10.0, 21.0, 40.0, 400.0)]
    assert np.isfinite(drops).all()
    assert (np.diff(drops) > 0).all()


def test_the_exponential_law_has_a_floor():
    drops = [float(LAWS["exponential"].log_drop(v, DEPTH)[0]) for v in volumes(1.0, 10.0, 1e4)]
    assert drops == sorted(drops)
    assert_close(drops[-1], -np.log1p(-0.4), rtol=1e-12, atol=0.0)
    assert LAWS["exponential"].volume_for(jnp.array([0.6]), DEPTH) == jnp.inf


@given(share=st.floats(1e-6, 50.0), fee=st.floats(0.0, 0.05), log_price=st.floats(-8.0, 8.0))
def test_a_constant_product_pool_is_the_swap_itself(share, fee, log_price):
    price, quote = float(np.exp(log_price)), 2e6
    one = lambda x: jnp.asarray([x])
    pool = ConstantProductPool(base=one(quote / price), quote=one(quote), fee=one(fee))
    swapped, after = constant_product.swap(pool, one(share * quote / price), jnp.array([True]))
    law = PoolImpact.from_ranges([], [1.0], fee=fee, assets=1)
    volume, depth = one(share * quote), one(quote)
    assert_close(law.proceeds(volume, depth), swapped.received, rtol=1e-10, atol=0.0)
    # What is charged stays in the pool, which the law, without a memory, leaves out.
    left = quote - swapped.received
    expected = 2.0 * np.log(quote / left)
    assert_close(law.log_drop(volume, depth), expected, rtol=1e-9, atol=1e-12)
    assert after.quote[0] == left[0]


@given(share=st.floats(1e-6, 30.0), fee=st.floats(0.0, 0.05))
def test_ranges_of_liquidity_are_the_swap_itself(share, fee):
    depth, price = 2e6, 3000.0
    falls = np.array([1.0 - 1e-12, *RANGE_ENDS[::-1], 0.0])
    pool = ConcentratedPool(
        root_price=jnp.asarray([np.sqrt(price)]),
        edges=jnp.asarray(np.sqrt(price * (1.0 - falls))[:, None]),
        # Liquidity of a pool is in root units: that of the law over the root of the price.
        liquidity=jnp.asarray(np.array(RANGES[::-1])[:, None] * depth / np.sqrt(price)),
        fee=jnp.asarray([fee]),
    )
    amount = jnp.asarray([share * depth / price])
    yes, no = jnp.array([True]), jnp.array([False])
    swapped, after = concentrated_liquidity.swap(pool, amount, yes, jnp.array([1e-6]), no)
    law = PoolImpact.from_ranges(RANGE_ENDS, RANGES, fee=fee, assets=1)
    volume = jnp.asarray([share * depth])
    brought = law.proceeds(volume, jnp.asarray([depth]))
    assert_close(brought, swapped.received, rtol=1e-9, atol=0.0)
    drop = law.log_drop(volume, jnp.asarray([depth]))
    assert_close(drop, np.log(price / after.price()), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(
    ("ends", "liquidity", "fee", "problem"),
    [
        ([], [0.0], 0.0, "a range without any has no price"),
        ([0.1, 0.05], [1.0, 1.0, 1.0], 0.0, "expected fractions in (0, 1) that rise"),
        ([0.1], [1.0], 0.0, "liquidity: expected 2 numbers"),
        ([], [1.0], 1.0, "fee 1: expected a fraction in"),
    ],
)
def test_pools_that_cannot_be_are_refused(ends, liquidity, fee, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        PoolImpact.from_ranges(ends, liquidity, fee=fee, assets=1)


@pytest.mark.parametrize(
    ("fall", "share", "problem"),
    [
        ([0.01, 0.02], [1.0, 0.5], "share [1.0, 0.5]: expected numbers above 0 that rise"),
        ([0.02, 0.01], [0.5, 1.0], "fall [0.02, 0.01]: expected numbers above 0 that rise"),
        ([0.01, 1.0], [0.5, 1.0], "expected fractions below 1"),
        ([0.01], [0.5, 1.0], "expected as many"),
    ],
)
def test_books_that_cannot_be_are_refused(fall, share, problem):
    with pytest.raises(ValueError, match=re.escape(problem)):
        DepthCurveImpact.from_bands(fall, share, assets=1)


def test_a_book_from_bands_is_the_book():
    made = DepthCurveImpact.from_bands(FALL, SHARE, assets=1)
    law = LAWS["depth_curve"]
    assert isinstance(law, DepthCurveImpact)
    assert_close(made.share, law.share, rtol=0.0, atol=0.0)
    assert_close(made.fall, law.fall, rtol=0.0, atol=0.0)


def test_small_volumes_lose_no_digits_in_float32():
    for kind in ("linear", "square_root"):
        law = jax.tree.map(lambda x: x.astype(jnp.float32), LAWS[kind])
        for volume in volumes(1e-6, 1e-3, 0.0099, 0.0101, 0.02, 0.5, 3.0):
            single = law.proceeds(volume.astype(jnp.float32), DEPTH.astype(jnp.float32))
            double = LAWS[kind].proceeds(volume, DEPTH)
            # The closed form cancels two leading terms just above where the series ends.
            assert_close(np.asarray(single, np.float64), double, rtol=1e-4, atol=0.0)


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@given(share=st.floats(0.0, 3.0))
def test_a_purchase_costs_the_integral_of_the_price_it_moves(law, share):
    depth = jnp.array([1e6])
    volume = share * depth
    parts = np.linspace(0.0, 1.0, 20001)[:, None] * np.asarray(volume)
    price = np.exp(jax.vmap(lambda v: law.log_drop(v, depth))(jnp.asarray(parts)))
    expected = np.trapezoid(price, parts, axis=0)
    assert_close(law.cost(volume, depth), expected, rtol=1e-5, atol=1e-9)
    assert (law.cost(volume, depth) >= volume * (1 - 1e-12)).all()


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@given(share=st.floats(0.0, 3.0))
def test_a_volume_is_found_again_from_the_move_it_makes(law, share):
    depth = jnp.array([1e6])
    volume = share * depth
    found = law.volume_for(law.log_drop(volume, depth), depth)
    assert_close(found, volume, rtol=1e-9, atol=1e-6)
