"""Liquidity: sales move the market, depth thins out, and both recover."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.market.impact import SquareRootImpact
from jaxrisk.market.liquidity import ConstantDepth, Liquidity, RespondingDepth
from jaxrisk.market.state import Market
from tests import reference
from tests.helpers import assert_close

HALF_LIFE = 0.5
DEPTH = np.array([1e6, 5e5])
PRICE = {"ether": 2000.0, "staked": 2400.0}


def responding(**changes):
    return RespondingDepth(
        **{
            "depth": jnp.array(DEPTH),
            "calm_volatility": jnp.array([0.5, 0.5]),
            "volatility_sensitivity": jnp.array(0.5),
            "flow_sensitivity": jnp.array(0.4),
            **changes,
        }
    )


def liquidity(depth=None):
    return Liquidity(
        law=SquareRootImpact(coefficient=jnp.array([0.1, 0.2])),
        depth=depth or ConstantDepth(depth=jnp.array(DEPTH)),
        permanent_share=jnp.array(0.3),
        recovery_rate=jnp.array(np.log(2.0) / HALF_LIFE),
        variance_rate=jnp.array(2.0),
    )


def market(**changes):
    return dataclasses.replace(Market.opening(PRICE, volatility=0.5), **changes)


def test_a_sale_moves_the_mid_by_its_impact_and_only_in_part_for_good():
    units = jnp.array([50.0, 0.0])
    after, proceeds = liquidity().sell(market(), units)
    drop = reference.square_root_impact(1e5, 0.1, 1e6)
    assert_close(after.mid, [2000.0 * np.exp(-drop), 2400.0], rtol=1e-14, atol=0.0)
    assert_close(after.price, [2000.0 * np.exp(-0.3 * drop), 2400.0], rtol=1e-14, atol=0.0)
    assert_close(after.recent_sales, [1e5, 0.0], rtol=1e-14, atol=0.0)
    assert 1e5 * np.exp(-drop) < float(proceeds[0]) < 1e5
    assert float(proceeds[1]) == 0.0


def test_slippage_is_what_a_sale_would_lose_and_nothing_is_sold():
    units = jnp.array([50.0, 0.0])
    price, discount = liquidity().slippage(market(), units)
    _, proceeds = liquidity().sell(market(), units)
    assert_close(price, [float(proceeds[0]) / 50.0, 2400.0], rtol=1e-14, atol=0.0)
    assert_close(discount, [1.0 - float(proceeds[0]) / 1e5, 0.0], rtol=1e-12, atol=1e-15)


def test_the_transient_part_halves_in_a_half_life():
    impacts = [reference.square_root_impact(v, 0.1, 1e6) for v in (1e5, 0.0, 4e5)]
    path = reference.impact_path(
        impacts, permanent_share=0.3, half_life_years=HALF_LIFE, step_years=HALF_LIFE
    )
    state, years = market(), jnp.array(HALF_LIFE)
    for t, impact in enumerate(impacts):
        if t:
            state = liquidity().relax(state, jnp.zeros(2), years)
        volume = 1e6 * (impact / 0.1) ** 2
        units = jnp.array([volume, 0.0]) / state.mid
        state, _ = liquidity().sell(state, units)
        assert_close(np.log(2000.0 / state.mid[0]), path[t], rtol=1e-12, atol=0.0)


def test_flow_is_forgotten_and_variance_learned():
    state = market(recent_sales=jnp.array([8.0, 2.0]))
    relaxed = liquidity().relax(state, jnp.array([0.1, 0.0]), jnp.array(HALF_LIFE))
    assert_close(relaxed.recent_sales, [4.0, 1.0], rtol=1e-14, atol=0.0)
    memory = np.exp(-2.0 * HALF_LIFE)
    expected = [memory * 0.25 + (1 - memory) * 0.01 / HALF_LIFE, memory * 0.25]
    assert_close(relaxed.variance, expected, rtol=1e-14, atol=0.0)


@pytest.mark.parametrize(
    ("volatility", "sales"), [(0.5, 0.0), (0.2, 0.0), (0.9, 0.0), (0.5, 1e5), (1.5, 4e5)]
)
def test_depth_falls_with_volatility_and_flow(volatility, sales):
    state = market(variance=jnp.full(2, volatility**2), recent_sales=jnp.array([sales, 0.0]))
    expected = [
        reference.depth_after_stress(1e6, volatility / 0.5, 0.5, sales, 0.4),
        reference.depth_after_stress(5e5, volatility / 0.5, 0.5, 0.0, 0.4),
    ]
    assert_close(responding().now(state), expected, rtol=1e-13, atol=0.0)


def test_a_hundredth_of_the_depth_is_always_left():
    state = market(variance=jnp.full(2, 100.0), recent_sales=jnp.array([1e9, 0.0]))
    assert_close(responding().now(state), 0.01 * DEPTH, rtol=1e-14, atol=0.0)


def test_thinner_books_fall_further():
    thin = responding().now(market(recent_sales=jnp.array([1e6, 0.0])))
    assert float(thin[0]) < DEPTH[0]
    units = jnp.array([50.0, 0.0])
    calm, _ = liquidity(responding()).sell(market(), units)
    after, _ = liquidity(responding()).sell(market(recent_sales=jnp.array([1e6, 0.0])), units)
    assert float(after.mid[0]) < float(calm.mid[0])


def test_a_pegged_asset_falls_with_its_underlying_but_not_the_other_way():
    state = Market.opening(PRICE, volatility=0.5, pegs={"staked": "ether"})
    only_ether, _ = liquidity().sell(state, jnp.array([50.0, 0.0]))
    drop = reference.square_root_impact(1e5, 0.1, 1e6)
    assert_close(only_ether.mid / state.mid, np.exp([-drop, -drop]), rtol=1e-14, atol=0.0)
    only_staked, _ = liquidity().sell(state, jnp.array([0.0, 50.0]))
    drop = reference.square_root_impact(1.2e5, 0.2, 5e5)
    assert_close(only_staked.mid / state.mid, np.exp([0.0, -drop]), rtol=1e-14, atol=0.0)


@pytest.mark.parametrize("variance", [0.0, 0.25, 4.0])
def test_derivatives_are_finite_with_nothing_sold_and_nothing_learned(variance):
    def outcome(depth, sensitivity, variance):
        rules = liquidity(responding(depth=depth, volatility_sensitivity=sensitivity))
        after, proceeds = rules.sell(market(variance=variance), jnp.zeros(2))
        return jnp.sum(after.mid) + jnp.sum(proceeds)

    slopes = jax.grad(outcome, argnums=(0, 1, 2))(
        jnp.array(DEPTH), jnp.array(0.5), jnp.full(2, variance)
    )
    for slope in slopes:
        assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("price", "pegs", "message"),
    [
        ({"ether": 0.0}, {}, "price of ether"),
        ({"ether": np.nan}, {}, "price of ether"),
        ({"ether": 1.0}, {"staked": "ether"}, "peg of staked"),
        ({"a": 1.0, "b": 1.0, "c": 1.0}, {"a": "b", "b": "c"}, "peg of a"),
    ],
)
def test_markets_that_make_no_sense_are_refused(price, pegs, message):
    with pytest.raises(ValueError, match=message):
        Market.opening(price, pegs=pegs)


def test_a_purchase_takes_back_what_a_sale_of_as_much_did():
    market = Market.opening({"A": 2.0, "B": 50.0})
    liquidity = Liquidity(
        law=SquareRootImpact(coefficient=jnp.array([0.1, 0.2])),
        depth=ConstantDepth(depth=jnp.array([1e6, 1e6])),
        permanent_share=jnp.array(0.3),
        recovery_rate=jnp.array(1.0),
        variance_rate=jnp.array(1.0),
    )
    units = jnp.array([1e4, 0.0])
    bought, cost = liquidity.buy(market, units)
    rise = 0.1 * np.sqrt(2e4 / 1e6)
    assert_close(bought.mid, [2.0 * np.exp(rise), 50.0], rtol=1e-12, atol=0.0)
    assert_close(bought.price, [2.0 * np.exp(0.3 * rise), 50.0], rtol=1e-12, atol=0.0)
    assert 2e4 < cost[0] < 2e4 * np.exp(rise)
    assert cost[1] == 0
    # Of another volume at a higher price, so not to the last digit.
    sold, _ = liquidity.sell(bought, units)
    assert_close(sold.mid, market.mid, rtol=1e-3, atol=0.0)
