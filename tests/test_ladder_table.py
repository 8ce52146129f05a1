"""The table is its ladder at nodes, within its stated error between them, and continuous."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.numerics.keys import root_key
from jaxrisk.system.ladder import LadderRules, play_ladder
from jaxrisk.system.ladder_scope import ladder_of, simulate_ladder
from jaxrisk.system.ladder_table import LadderTable
from tests import ladders
from tests.helpers import assert_close

SYSTEM = ladders.system_of(11, strength=2.0, spread=0.2, fall=0.01)
LADDER, MARKET = ladder_of(SYSTEM, ladders.STEP_YEARS)
MOVES = ladders.array([-0.05, -0.02, 0.05, -0.1])


def sums_below(table, log_cover):
    """Return the sums of a table at log covers, shape `(2, cover)`."""
    below = jax.vmap(table._below)(ladders.array(log_cover))
    return jnp.stack([below.held, below.owed])


def exact_below(log_cover):
    """Return the sums of the ladder at log covers."""
    count = np.searchsorted(np.asarray(LADDER.log_cover.values), log_cover)
    return np.asarray(LADDER.sums)[count].T


@pytest.mark.parametrize("nodes", [2, 33, 500])
def test_it_is_the_ladder_at_nodes_and_within_the_stated_error_between(nodes):
    table = LadderTable.of(LADDER, nodes)
    at = np.asarray(table.first) + np.arange(1, nodes - 1) / np.asarray(table.per_log)
    total = exact_below([1e3])
    # A hair inside the interval: which side a node itself rounds to is open.
    assert_close(sums_below(table, at + 1e-9), exact_below(at), rtol=0.0, atol=1e-5 * total.max())
    first, last = np.asarray(LADDER.log_cover.values)[[0, -2]]
    between = np.random.default_rng(0).uniform(first, last, 2000)
    gap = abs(np.asarray(sums_below(table, between)) - exact_below(between)).max(axis=1)
    book = np.asarray(LADDER.sums[-1])
    assert (gap <= np.asarray(table.error) * book * (1.0 + 1e-9)).all()
    assert (np.asarray(table.error) > 0.0).all()
    assert_close(sums_below(table, [1e3]), total, rtol=1e-12, atol=0.0)


def test_more_nodes_come_closer_to_the_ladder():
    play = jax.jit(lambda book: play_ladder(book, MARKET, MOVES, rules=LadderRules()))
    exact = play(LADDER)
    errors = []
    for nodes in (16, 256, 65536):
        table = LadderTable.of(LADDER, nodes)
        outcome = play(table)
        errors.append(abs(float(outcome.liquidated / exact.liquidated) - 1.0))
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 1e-6


def test_what_is_closed_stays_closed():
    table = LadderTable.of(LADDER, 100)
    reached, first = table.close(ladders.UNTOUCHED, jnp.log(ladders.array(1500.0)))
    again, closed = table.close(reached, jnp.log(ladders.array(1900.0)))
    assert float(first.repaid) > 0.0
    assert (float(again.held), float(again.owed)) == (float(reached.held), float(reached.owed))
    assert (float(closed.seized), float(closed.repaid), float(closed.written_off)) == (0, 0, 0)


def test_below_the_lowest_price_it_says_nan():
    table = LadderTable.of(LADDER, 100, lowest_price=1000.0)
    inside, outside = (
        table.close(ladders.UNTOUCHED, jnp.log(ladders.array(price)))[1]
        for price in (1001.0, 900.0)
    )
    assert np.isfinite(inside.repaid)
    assert np.isnan(outside.repaid)
    assert (np.asarray(table.error) < np.asarray(LadderTable.of(LADDER, 100).error)).all()


def test_what_is_closed_has_a_derivative_in_threshold_and_price_as_in_bumps():
    # So few nodes that there are accounts in every interval.
    table = LadderTable.of(LADDER, 8)

    def losses(threshold, shift, depth):
        book = dataclasses.replace(table, threshold=threshold)
        market = dataclasses.replace(MARKET, depth=depth)
        return play_ladder(book, market, MOVES + shift, rules=LadderRules()).liquidated

    at = (table.threshold, ladders.array(0.0), MARKET.depth)
    losses = jax.jit(losses)
    slopes = jax.grad(losses, argnums=(0, 1, 2))(*at)
    for k, (slope, bump) in enumerate(zip(slopes, (1e-6, 1e-6, 10.0), strict=True)):
        up, down = (
            losses(*(x + sign * bump if i == k else x for i, x in enumerate(at)))
            for sign in (1.0, -1.0)
        )
        assert abs(float(slope * bump)) > 1e-6
        assert_close(slope, (up - down) / (2.0 * bump), rtol=1e-4, atol=0.0)
    rules = LadderRules()
    exact = lambda threshold: (
        play_ladder(
            dataclasses.replace(LADDER, threshold=threshold), MARKET, MOVES, rules=rules
        ).liquidated
    )
    # The ladder itself is a step function of the threshold.
    assert float(jax.grad(exact)(LADDER.threshold)) == 0.0


def test_a_simulation_can_read_it():
    play = lambda nodes: simulate_ladder(
        SYSTEM,
        root_key(0),
        scenarios=1,
        steps=ladders.STEPS,
        step_years=ladders.STEP_YEARS,
        rounds=1,
        nodes=nodes,
    )
    exact, read = play(None), play(512)
    assert float(exact.liquidated[0]) > 0.0
    assert_close(read.price, exact.price, rtol=0.02, atol=0.0)
    assert float(read.price[0]) != float(exact.price[0])
