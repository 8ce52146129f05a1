"""Risk arrays: a published covered write, the order of scenarios, the minimum on short options."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.presets.span import futures_array, span_scenarios
from jaxrisk.venue.risk_array import ScanMargin, scan_risk
from tests.helpers import assert_close

CALL = (460.0, -610.0, 2640.0, 1730.0, -1270.0, -2340.0, 5210.0, 4540.0, -2540.0, -3430.0, 8060.0,
        7640.0, -3380.0, -3990.0, 3130.0, -1500.0)  # fmt: skip
PRICE = 100_000.0


def classic():
    """Return the classic scenarios of a range of 10,000: the extreme move is twice it, at 35 %."""
    return span_scenarios(jnp.asarray(0.1), np.float64, extreme=2.0, covered=0.35)


def test_the_array_of_a_future():
    """Thirds of the range, up before down, and 7,000 at the extremes (McMillan)."""
    third = 10_000.0 / 3.0
    expected = [k * third for k in (0, 0, 1, 1, -1, -1, 2, 2, -2, -2, 3, 3, -3, -3)]
    actual = futures_array(classic(), jnp.asarray(PRICE))
    assert_close(actual, [*expected, 7_000.0, -7_000.0], rtol=1e-12, atol=1e-9)
    assert classic().volatility[:4].tolist() == [1.0, -1.0, 1.0, -1.0]


def test_a_published_covered_write():
    """Long the future, short the call: 6,620 is lost in scenario 13 (McMillan)."""
    arrays = jnp.stack([futures_array(classic(), jnp.asarray(PRICE)), jnp.asarray(CALL)], axis=1)
    worst = scan_risk(arrays, jnp.array([[1.0], [-1.0]]))
    assert_close(worst.loss, [6_620.0], rtol=1e-12, atol=0.0)
    assert int(worst.scenario[0]) + 1 == 13


SIZES = st.lists(st.floats(-5.0, 5.0), min_size=2, max_size=2)


@given(first=SIZES, second=SIZES, scale=st.floats(0.1, 10.0))
def test_scanning_risk_is_subadditive_and_scales(first, second, scale):
    arrays = jnp.stack([futures_array(classic(), jnp.asarray(PRICE)), jnp.asarray(CALL)], axis=1)
    one, two = np.array(first), np.array(second)
    book = jnp.asarray(np.stack([one, two, one + two, scale * one], axis=1))
    loss = scan_risk(arrays, book).loss
    assert float(loss[2]) <= float(loss[0] + loss[1]) + 1e-6
    assert_close(loss[3], scale * loss[0], rtol=1e-12, atol=1e-8)
    # Every account against its own sum over contracts.
    by_hand = [-min(sum(a * q for a, q in zip(row, x, strict=True)) for row in np.asarray(arrays))
               for x in (one, two)]  # fmt: skip
    assert_close(loss[:2], by_hand, rtol=1e-12, atol=1e-8)


def test_short_options_have_a_minimum():
    arrays = jnp.zeros((16, 1)).at[3, 0].set(-100.0)
    scan = scan_risk(arrays, jnp.array([[1.0, 10.0, -1.0]]))
    rule = ScanMargin(minimum=jnp.asarray(60.0))
    asked = rule.required(
        scan, charges=jnp.array([5.0, 5.0, 0.0]), credit=jnp.array([0.0, 200.0, 0.0]),
        short_options=jnp.array([0.0, 14.0, 2.0]),
    )  # fmt: skip
    assert_close(asked, [105.0, 840.0, 120.0], rtol=1e-12, atol=0.0)
