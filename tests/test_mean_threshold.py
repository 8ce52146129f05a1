"""Mean thresholds in whole basis points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.mean_threshold import mean_threshold, mean_threshold_backing
from tests.helpers import assert_close

BASIS_POINT = jnp.array(1e-4)
VALUES = st.lists(st.one_of(st.just(0.0), st.floats(1e-3, 1e6)), min_size=6, max_size=6)
LINES = st.lists(st.integers(0, 9500), min_size=3, max_size=3)


def test_figures_worked_out_by_hand():
    """100 at 80 % and 50 at 75.01 %: 78.3366 %, kept as 78.33 %; then nothing; then one alone."""
    held = jnp.array([[100.0, 0.0, 0.0], [50.0, 0.0, 7.0]])
    lines = jnp.array([[0.80], [0.7501]])
    kept = mean_threshold(held, lines, unit=BASIS_POINT)
    assert_close(kept, [0.7833, 0.0, 0.7501], rtol=1e-12, atol=0.0)
    assert_close(mean_threshold(held, lines), [0.78336666667, 0.0, 0.7501], rtol=1e-9, atol=0.0)
    backing = mean_threshold_backing(held, lines, unit=BASIS_POINT)
    assert_close(backing, [150 * 0.7833, 0.0, 7 * 0.7501], rtol=1e-12, atol=0.0)


def test_a_recorded_account():
    """Restated from Aave v3.0.2: ether, a stablecoin and LINK at health 0.952449032636942.

    The exact mean would give 0.952490: whole basis points are what the contract sees.
    """
    value = [[638.7836073711], [1986.6882953012], [2064.6461024608]]
    lines = [[0.8942], [0.6873], [0.7040]]
    held, lines = jnp.array(value), jnp.array(lines)
    backing = mean_threshold_backing(held, lines, unit=BASIS_POINT)
    assert_close(backing / 3559.26372765, [0.952449032636942], rtol=1e-9, atol=0.0)
    exact = mean_threshold_backing(held, lines) / 3559.26372765
    assert_close(exact, [0.952490], rtol=0.0, atol=5e-7)


@given(held=VALUES, lines=LINES)
def test_whole_basis_points_as_integers_have_them(held, lines):
    values = np.array(held).reshape(3, 2)
    thresholds = np.array(lines)[:, None] / 1e4
    kept = np.asarray(
        mean_threshold(jnp.asarray(values), jnp.asarray(thresholds), unit=BASIS_POINT)
    )
    exact = np.asarray(mean_threshold(jnp.asarray(values), jnp.asarray(thresholds)))
    for n in range(2):
        # Amounts in billionths of a dollar, as integers.
        whole = [round(v * 1e9) for v in values[:, n]]
        total = sum(whole)
        weighted = sum(w * t for w, t in zip(whole, lines, strict=True))
        assert abs(exact[n] * 1e4 - (weighted / total if total else 0.0)) < 0.1
        near = total and abs((weighted / total) - round(weighted / total)) < 1e-3
        if not near or len({t for w, t in zip(whole, lines, strict=True) if w}) == 1:
            assert round(kept[n] * 1e4) == (weighted // total if total else 0)
    assert ((kept <= exact + 1e-12) & (kept >= exact - 1.0001e-4)).all()


@pytest.mark.slow
def test_single_precision_and_derivatives():
    held, lines = [[100.0, 0.0], [50.0, 0.0]], [[0.80], [0.7501]]
    exact = mean_threshold_backing(jnp.array(held), jnp.array(lines))
    rough = mean_threshold_backing(jnp.array(held, jnp.float32), jnp.array(lines, jnp.float32))
    assert rough.dtype == jnp.float32
    assert_close(rough, exact, rtol=1e-6, atol=0.0)
    total = lambda *x: mean_threshold_backing(*x).sum()
    slopes = jax.grad(total, argnums=(0, 1))(jnp.array(held), jnp.array(lines))
    assert_close(slopes[0][:, 0], [0.80, 0.7501], rtol=1e-12, atol=0.0)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in slopes)
