"""A bonus linear in health: figures, a scalar reference, basis points, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.health_bonus import HealthLinearBonus
from tests.helpers import assert_close


def curve(maximum, share, floor, dtype=float):
    number = lambda x: jnp.asarray(x, dtype)
    return HealthLinearBonus(
        maximum_bonus=number(maximum), minimum_share=number(share), health_for_maximum=number(floor)
    )


def reference_bonus(health, maximum, share, floor):
    if health <= floor:
        return maximum
    least = share * maximum
    return least + (maximum - least) * (1 - min(health, 1)) / (1 - floor)


def test_figures_worked_out_by_hand():
    """Maximum 8 % at 0.9, a quarter of it at 1: 2 % at 1, 5 % half way."""
    health = jnp.array([0.2, 0.9, 0.95, 1.0, 1.7, np.inf])
    actual = curve(0.08, 0.25, 0.9).bonus(health)
    assert_close(actual, [0.08, 0.08, 0.05, 0.02, 0.02, 0.02], rtol=1e-12, atol=0.0)


def test_recorded_bonuses_in_basis_points():
    """Restated from `getLiquidationBonus` of Aave v4 contracts: (health, maximum, share, floor)."""
    recorded = [
        (0.979659009439215532, 0.01, 0.2, 0.8, 0.0028),
        (0.950539064160925725, 0.10, 0.0, 0.5, 0.0098),
        (0.878791605090555449, 0.05, 0.5, 0.8, 0.0401),
        (0.821247458789353892, 0.075, 1.0, 0.8, 0.0750),
        (0.705111454417819974, 0.075, 1.0, 0.8, 0.0750),
        (0.987357342417755755, 0.03, 0.0, 0.5, 0.0007),
    ]
    health, maximum, share, floor, bonus = (
        np.array(column) for column in zip(*recorded, strict=True)
    )
    actual = curve(maximum, share, floor).bonus(jnp.asarray(health), unit=jnp.array(1e-4))
    assert_close(actual, bonus, rtol=0.0, atol=1e-12)


@given(
    health=st.lists(st.floats(1e-3, 2.0), min_size=3, max_size=3),
    maximum=st.floats(1e-4, 0.2),
    share=st.floats(1e-6, 1.0),
    floor=st.floats(0.0, 0.99),
)
def test_the_reference_and_that_it_falls_with_health(health, maximum, share, floor):
    ordered = np.sort(health)
    actual = np.asarray(curve(maximum, share, floor).bonus(jnp.asarray(ordered)))
    expected = [reference_bonus(h, maximum, share, floor) for h in ordered]
    assert_close(actual, expected, rtol=1e-9, atol=1e-15)
    assert (np.diff(actual) <= 1e-15).all()
    assert (actual <= maximum * (1 + 1e-12)).all()
    assert (actual >= share * maximum * (1 - 1e-12)).all()
    rounded = np.asarray(
        curve(maximum, share, floor).bonus(jnp.asarray(ordered), unit=jnp.array(1e-4))
    )
    assert (rounded <= np.maximum(actual, maximum) + 1e-12).all()
    assert (rounded >= actual - 2e-4).all()


@pytest.mark.slow
def test_single_precision_and_derivatives():
    health = np.array([0.5, 0.9, 0.93, 1.0, 1.2, np.inf])
    exact = curve(0.08, 0.25, 0.9).bonus(jnp.asarray(health))
    rough = curve(0.08, 0.25, 0.9, jnp.float32).bonus(jnp.asarray(health, jnp.float32))
    assert rough.dtype == jnp.float32
    assert_close(rough, exact, rtol=1e-5, atol=0.0)
    slope = jax.grad(lambda h: curve(0.08, 0.25, 0.9).bonus(h).sum())(jnp.asarray(health))
    assert_close(slope[jnp.array([0, 2, 4, 5])], [0.0, -0.6, 0.0, 0.0], rtol=1e-12, atol=0.0)
    assert bool(jnp.isfinite(slope).all())
