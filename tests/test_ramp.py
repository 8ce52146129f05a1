"""Ramps: the ends, the middle, rounding down to basis points, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.ramp import LinearRamp
from tests.helpers import assert_close

VALUES = st.floats(0.0, 1.0)


def ramp(initial, final, start, duration, dtype=np.float64, unit=None):
    one = lambda x: jnp.asarray([x], dtype)
    return LinearRamp(
        initial=one(initial), final=one(final), start=one(start), duration=one(duration),
        unit=None if unit is None else one(unit),
    )  # fmt: skip


@given(
    initial=VALUES,
    final=VALUES,
    start=st.floats(-10.0, 10.0),
    duration=st.one_of(st.just(0.0), st.floats(0.1, 10.0)),
    time=st.floats(-30.0, 30.0),
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_value_is_that_of_interpolation(dtype, initial, final, start, duration, time):
    start, duration, time = (float(dtype(x)) for x in (start, duration, time))
    actual = float(ramp(initial, final, start, duration, dtype).at(jnp.asarray([time], dtype))[0])
    if duration > 0:
        expected = np.interp(time, [start, start + duration], [initial, final])
    else:
        expected = initial if time <= start else final
    tolerance = 1e-3 if dtype is np.float32 else 1e-12
    assert_close(actual, expected, rtol=0.0, atol=tolerance)


def test_recorded_thresholds_of_the_contract():
    """Basis points at time 0: a week's ramp begun 32,236 s ago, and one of a day begun earlier."""
    for initial, final, start, duration, expected in (
        (9246, 7515, -32236.0, 604800.0, 9153),
        (7554, 5906, -478385.0, 604800.0, 6250),
        (6970, 5226, -26754.0, 86400.0, 6429),
        (9414, 7424, -687973.0, 604800.0, 7424),
        (9292, 6432, 573425.0, 86400.0, 9292),
    ):
        moving = ramp(initial / 1e4, final / 1e4, start, duration, unit=1e-4)
        assert_close(moving.at(jnp.zeros(1)) * 1e4, [expected], rtol=1e-12, atol=0.0)


@given(initial=VALUES, final=VALUES, first=st.floats(-5.0, 20.0), second=st.floats(-5.0, 20.0))
def test_it_moves_one_way_and_stays_between_its_ends(initial, final, first, second):
    moving = ramp(initial, final, 0.0, 10.0)
    early, late = (float(moving.at(jnp.array([t]))[0]) for t in sorted((first, second)))
    assert (late - early) * (final - initial) >= -1e-12
    assert min(initial, final) - 1e-12 <= early <= max(initial, final) + 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("time", [0.0, 5.0, 10.0])
@pytest.mark.parametrize("duration", [0.0, 10.0])
def test_derivatives_are_finite_at_the_kinks(dtype, time, duration):
    one = lambda x: jnp.asarray([x], dtype)

    def value(initial, start, duration, time):
        moving = LinearRamp(initial=initial, final=one(0.5), start=start, duration=duration)
        return moving.at(time)[0]

    slopes = jax.grad(value, argnums=(0, 1, 2, 3))(one(0.8), one(0.0), one(duration), one(time))
    assert np.isfinite(np.concatenate(slopes)).all()
