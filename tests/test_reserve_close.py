"""A close factor on the called debt alone."""

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.position import Position
from jaxrisk.venue.presets.aave_v3_legacy import close_rule
from tests.helpers import assert_close


def position(debt, total_debt, health, unit=None, dtype=float):
    """Return positions of a stated health."""
    array = lambda x: jnp.asarray(x, dtype)
    owed, total = array(debt), array(total_debt)
    return Position(
        collateral=2.0 * total,
        debt=owed,
        total_collateral=2.0 * total,
        total_debt=total,
        backing=array(health) * total,
        credit=array(1.05),
        fee_share=array(0.1),
        debt_unit=None if unit is None else jnp.full_like(owed, unit),
    )


def test_figures_worked_out_by_hand():
    """Half of the called debt above health 0.95, all of it at or below; size does not matter."""
    p = position([1e3, 1e3, 1e3, 10.0], [1e6, 1e6, 1e6, 10.0], [0.99, 0.96, 0.95, 0.99])
    actual = close_rule().allowance(p, None)
    assert_close(actual, [500.0, 500.0, 1e3, 5.0], rtol=1e-15, atol=0.0)
    assert close_rule().refuses(p, actual, actual) is None


def test_the_fraction_is_rounded_half_up():
    p = position([7.0, 8.0, 0.0], [7.0, 8.0, 1.0], [0.99, 0.99, 0.99], unit=1.0)
    assert close_rule().allowance(p, None).tolist() == [4.0, 4.0, 0.0]


@given(
    debt=st.lists(st.floats(1e-6, 1e6), min_size=3, max_size=3),
    other=st.floats(0.0, 1e6),
    health=st.floats(0.1, 1.5),
    width=st.floats(1e-6, 0.2),
)
def test_other_debt_changes_nothing(debt, other, health, width):
    total = [d + other for d in debt]
    p = position(debt, total, [health] * 3)
    expected = [d if health <= 0.95 else 0.5 * d for d in debt]
    if abs(health - 0.95) > 1e-12:
        assert_close(close_rule().allowance(p, None), expected, rtol=1e-14, atol=0.0)
    smooth = close_rule().allowance(p, jnp.array(width))
    assert bool(((smooth <= p.debt * (1 + 1e-12)) & (smooth >= 0.5 * p.debt * (1 - 1e-12))).all())
    if abs(health - 0.95) > width:
        assert_close(smooth, expected, rtol=1e-12, atol=0.0)


@pytest.mark.slow
def test_single_precision_and_derivatives():
    arguments = [1e3, 1e3, 0.0, 5.0], [1e6, 1e3, 0.0, 9.0], [0.99, 0.95, 1.0, 0.5]
    exact = close_rule().allowance(position(*arguments), None)
    rough = close_rule(jnp.float32).allowance(position(*arguments, dtype=jnp.float32), None)
    assert rough.dtype == jnp.float32
    assert_close(rough, exact, rtol=1e-6, atol=0.0)
    for width in (None, jnp.array(0.02)):
        slopes = jax.grad(lambda p: close_rule().allowance(p, width).sum())(position(*arguments))  # noqa: B023
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(slopes))
