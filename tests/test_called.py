"""Reverse mode over those who are called: the derivatives of the step that looks at everybody."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.numerics.keys import root_key
from jaxrisk.system.called import Called
from jaxrisk.system.cascade import cascade_round
from jaxrisk.system.simulate import Plan, cut_books, final_state, layouts, step_rules
from jaxrisk.system.system import opening_state
from tests import systems
from tests.helpers import assert_close

STEPS = 4


def slopes(system, width, one_by_one, *, rounds=2):
    """Return the value and its derivatives in prices, thresholds, funds and everybody's units."""
    plan = Plan(steps=STEPS, rounds=rounds, differentiable=True)
    layout = layouts(system, plan)
    rules = step_rules(system, plan, systems.STEP_YEARS, width)
    rules = dataclasses.replace(rules, one_by_one=one_by_one)
    moving = (
        system.market.price,
        [v.collateral for v in system.venues],
        [(v.accounts.collateral, v.accounts.debt) for v in system.venues],
    )

    @functools.partial(jax.jit, static_argnums=1)
    def value_and_slopes(moving, _):
        def loss(moving):
            price, weights, books = moving
            venues = tuple(
                dataclasses.replace(
                    v,
                    collateral=weight,
                    accounts=dataclasses.replace(v.accounts, collateral=held, debt=owed),
                )
                for v, weight, (held, owed) in zip(system.venues, weights, books, strict=True)
            )
            market = dataclasses.replace(system.market, price=price)
            changed = dataclasses.replace(system, venues=venues, market=market)
            end = final_state(
                plan, changed, cut_books(changed, layout), rules, root_key(0), jnp.uint32(0)
            )
            return sum(jnp.sum(v.flows) for v in end.venues) + jnp.sum(end.market.mid)

        return jax.value_and_grad(loss)(moving)

    return value_and_slopes(moving, one_by_one)


def longer(system):
    """Return the system with a table of moves of `STEPS` steps."""
    moves = jnp.concatenate([system.paths.log_return] * 2, axis=1)[:, :STEPS]
    return dataclasses.replace(system, paths=dataclasses.replace(system.paths, log_return=moves))


@pytest.mark.slow
@pytest.mark.parametrize("width", [None, 0.05])
@pytest.mark.parametrize(("policy", "has_cost"), [("pro_rata", True), ("best_pair", False)])
def test_derivatives_are_those_of_looking_at_everybody(policy, has_cost, width):
    system = longer(systems.random_system(11, policy=policy, has_cost=has_cost, fall=0.2))
    found, expected = (slopes(system, width, one_by_one) for one_by_one in (True, False))
    assert_close(found[0], expected[0], rtol=1e-12, atol=0.0)
    moved = 0
    for own, other in zip(*map(jax.tree.leaves, (found[1], expected[1])), strict=True):
        assert np.isfinite(own).all()
        size = float(np.max(np.abs(other), initial=0.0))
        assert_close(own, other, rtol=1e-8, atol=1e-10 * size)
        moved += size > 0
    assert moved > len(system.venues)


def test_one_by_one_a_round_knows_who_is_called():
    system = systems.random_system(5)
    plan = Plan(steps=1, differentiable=True)
    books = cut_books(system, layouts(system, plan))
    state = opening_state(system, books)
    for one_by_one in (True, False):
        rules = dataclasses.replace(
            step_rules(system, plan, systems.STEP_YEARS), one_by_one=one_by_one
        )
        assert rules.called_only == one_by_one
        play = lambda rules=rules: cascade_round(system, books, rules, state)
        searches = str(jax.make_jaxpr(play)()).count("decided")
        assert (searches > 0) == one_by_one
    assert {f.name for f in dataclasses.fields(Called)} >= {"chosen", "moved"}
