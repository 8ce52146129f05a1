"""Layers of a system against stacks in closed form, bumps, and graphs of claims at one moment."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.measure.carry import nested_liquidation_prices
from jaxrisk.measure.claims import effective_leverage as graph_leverage
from jaxrisk.measure.claims import layer_debt_to_equity_delta
from jaxrisk.measure.exposure import liquidation_map
from jaxrisk.measure.layers import Stack, effective_leverage, first_calls, layer_rows
from jaxrisk.run.build import build
from jaxrisk.run.load import load_config
from jaxrisk.system.loop import nested_claims
from jaxrisk.system.system import System
from jaxrisk.venue.presets import PRESETS
from tests import claim_systems
from tests.conftest import ROOT
from tests.helpers import assert_close

LEVERAGE = (3.0, 2.5, 1.8)
THRESHOLD = (0.8, 0.75, 0.7)
# L, L L', ...; -L (L - 1) times the leverage of what is held.
EFFECTIVE = [3.0, 7.5, 13.5]
DELTA = [-6.0, -3.75 * 3.0, -1.44 * 7.5]


def looped_stack() -> System:
    """Return ether looped against dollars, and twice a loop on shares of the loop below."""
    return claim_systems.nested_system(LEVERAGE, THRESHOLD)


def figures(stack: Stack):
    """Return equity, effective leverage and delta of each layer by the price of ether."""
    still = jnp.zeros_like(stack.system.market.price)

    @jax.jit
    def found():
        equity = stack.equity(still)
        delta = stack.debt_to_equity_delta()[:, claim_systems.WETH]
        return equity, effective_leverage(stack.exposure(), equity), delta

    return found()


def test_leverage_multiplies_and_a_loops_delta_is_known():
    _, leverage, delta = figures(Stack(looped_stack()))
    assert_close(leverage, EFFECTIVE, rtol=1e-9, atol=0.0)
    assert_close(delta, DELTA, rtol=1e-9, atol=0.0)
    lowest = LEVERAGE[0]
    assert delta[0] == pytest.approx(-lowest * (lowest - 1.0), rel=1e-12)


def test_the_step_and_the_snapshot_of_claims_agree():
    graph = nested_claims(
        list(LEVERAGE), asset="ETH", debt_asset="USD", price=3000.0, debt_price=1.0
    )
    price = jnp.array([3000.0, 1.0])
    _, leverage, delta = figures(Stack(looped_stack()))
    assert_close(leverage, jax.jit(graph_leverage)(graph, price), rtol=1e-9, atol=0.0)
    expected = jax.jit(layer_debt_to_equity_delta)(graph, price)[:, 0]
    assert_close(delta, expected, rtol=1e-9, atol=0.0)


@pytest.mark.parametrize("make", [looped_stack, lambda: claim_systems.layered_system(4)])
def test_the_delta_of_a_stack_is_that_of_a_bump(make):
    stack = Stack(make())
    ratio = jax.jit(lambda move: stack.balance_sheets(move).debt_to_equity)
    found, bump = np.asarray(jax.jit(stack.debt_to_equity_delta)()), 1e-4
    for asset in range(len(claim_systems.ASSETS)):
        at = lambda size, asset=asset: ratio(size * jnp.eye(len(claim_systems.ASSETS))[asset])
        # Fourth order: the second is off by more than the tolerance where leverage is high.
        near, far = at(bump) - at(-bump), at(2 * bump) - at(-2 * bump)
        assert_close(found[:, asset], (8 * near - far) / (12 * bump), rtol=1e-6, atol=1e-6)
    # Receipts of dollars against dollars do not move with any price.
    assert (np.abs(found[:2]).max(axis=1) > 1.0).all()


def test_each_layer_is_called_at_the_price_of_the_closed_form():
    stack = Stack(looped_stack())
    ether = np.arange(len(claim_systems.ASSETS)) == claim_systems.WETH
    found = jax.jit(lambda: first_calls(stack.lowest_health, ether))()
    expected = 1.0 - nested_liquidation_prices(jnp.array(LEVERAGE), jnp.array(THRESHOLD))
    assert_close(found, expected, rtol=1e-9, atol=0.0)


def test_a_layer_that_no_fall_calls_says_so():
    never = first_calls(lambda move: 2.0 + 0.0 * move[:2], np.array([True, False, False]))
    assert np.isnan(never).all()
    at_once = first_calls(lambda move: 0.5 + 0.0 * move[:2], np.array([True, False, False]))
    assert_close(at_once, [0.0, 0.0], rtol=0.0, atol=0.0)


def test_rows_name_what_stands_on_what():
    system = claim_systems.layered_system(4)
    joint = np.array([True, True, False, True, False])
    rows = layer_rows(system, joint)
    assert [row["layer"] for row in rows] == ["share", "receipt", "second"]
    assert [row["holds"] for row in rows] == [[], ["share"], ["receipt"]]
    assert [row["accounts"] for row in rows] == [1, 3, 3]
    assert [row["breaks_first"] for row in rows].count(True) == 1
    # Receipts of dollars are dollars as long as nobody defaults.
    assert math.isnan(rows[2]["called_at_fall_frac"])
    assert layer_rows(claim_systems.without_claims(system), joint) == []


@pytest.mark.slow
def test_margin_in_shares_of_a_loop_moves_with_both():
    """Equity falls with the contracts and, by the vault's leverage, with the margin."""
    built = build(load_config(ROOT / "configs" / "three_layers.toml", known_presets=PRESETS))
    vault, traders = layer_rows(built.system, built.volatile)
    assert vault["effective_leverage"] == pytest.approx(2.5)
    assert vault["debt_to_equity_delta"] == pytest.approx(-2.5 * 1.5)
    through, direct = (traders[key] for key in ("effective_leverage", "leverage"))
    assert through - direct == pytest.approx(1.5, rel=1e-6)
    assert traders["breaks_first"]
    plain = dataclasses.replace(built.system, claims=())
    assert layer_rows(plain, built.volatile) == []


def test_the_map_of_a_fall_sees_through_claims():
    """A fall of 5 % calls the top of the stack and nobody below it."""
    ether = np.arange(len(claim_systems.ASSETS)) == claim_systems.WETH
    falls = jnp.array([-0.048, -0.05, -0.068])
    found = jax.jit(liquidation_map)(looped_stack(), falls, jnp.asarray(ether))
    called = np.asarray(found.debt) > 0
    assert called.tolist() == [[False] * 3, [False, False, True], [False, True, True]]
