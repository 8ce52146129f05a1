"""Collateral in slices: published tables, a slice-by-slice reference, tables that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.haircut import Slice, TieredHaircut
from jaxrisk.venue.presets import binance_usdm
from jaxrisk.venue.presets.okx import COIN_DISCOUNTS, DISCOUNTS
from tests.helpers import assert_close

TABLES = {"BETH": DISCOUNTS["BETH"], "ONE": (Slice(0.0, 0.9),)}
PRICE = jnp.asarray([2_000.0, 0.5])


def counted(slices, held):
    """Each slice at its own weight."""
    ends = [*(s.floor for s in slices[1:]), np.inf]
    return sum(
        s.weight * max(min(held, end) - s.floor, 0.0) for s, end in zip(slices, ends, strict=True)
    )


def test_a_published_table_of_coins():
    """OKX, April 2025: X has 28 tiers, the last of 1 % up to 3,250 million coins."""
    slices = COIN_DISCOUNTS["X"]
    assert len(slices) == 29
    assert slices[3] == Slice(250e6, 0.73)
    assert slices[-3:] == (Slice(3_010e6, 0.04), Slice(3_130e6, 0.01), Slice(3_250e6, 0.0))
    rule = TieredHaircut.from_slices({"X": slices}, by_units=True)
    units = jnp.asarray([[100e6, 150e6, 9_000e6]])
    value, binding = rule.value(units, jnp.asarray([1e-3]))
    expected = [[1e-3 * counted(slices, n) for n in units[0].tolist()]]
    assert_close(value, expected, rtol=1e-12, atol=0.0)
    assert_close(value[0, :2], [85e3, 1e-3 * (120e6 * 0.85 + 30e6 * 0.79)], rtol=1e-12, atol=0.0)
    assert binding.tolist() == [[0, 1, 28]]


AMOUNTS = st.lists(
    st.floats(-1e4, 1e4, allow_subnormal=False), min_size=3, max_size=3
)  # fmt: skip


@given(first=AMOUNTS, second=AMOUNTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_slice_counts_at_its_own_weight(dtype, first, second):
    rule = TieredHaircut.from_slices(TABLES, dtype, liability=1.1)
    units = np.asarray([first, second], dtype)
    value, _ = rule.value(jnp.asarray(units), PRICE.astype(dtype))
    worth = units.astype(float) * np.asarray(PRICE)[:, None]
    expected = [
        [counted(slices, v) if v >= 0 else 1.1 * v for v in row]
        for slices, row in zip(TABLES.values(), worth, strict=True)
    ]
    slack = {np.float32: 1e-5, np.float64: 1e-12}[dtype]
    assert value.dtype == dtype
    assert_close(value, expected, rtol=slack, atol=slack * 1e7)
    # More collateral never counts for less, and never for more than its price.
    ordered = np.asarray(rule.value(jnp.sort(jnp.asarray(units)), PRICE.astype(dtype))[0])
    assert (np.diff(ordered) >= -slack * 1e7).all()
    assert (np.asarray(value) <= worth + slack * 1e7).all()


def test_one_rate_counts_for_what_is_held_alone():
    """Binance Portfolio Margin: `min(v rate, v)`."""
    rule = binance_usdm.collateral({"BTC": 0.95, "USDT": 1.0})
    value, _ = rule.value(jnp.asarray([[2.0, -2.0], [5.0, -5.0]]), jnp.asarray([100.0, 1.0]))
    assert_close(value, [[190.0, -200.0], [5.0, -5.0]], rtol=1e-14, atol=0.0)


@given(first=AMOUNTS, second=AMOUNTS, move=st.floats(0.1, 10.0))
@pytest.mark.parametrize("by_units", [True, False])
def test_lines_say_the_same_of_every_price(by_units, first, second, move):
    rule = TieredHaircut.from_slices(TABLES, liability=1.1, by_units=by_units)
    units, price = jnp.asarray([first, second]), PRICE * move
    lines = rule.lines(units)
    required = jnp.max(lines.rate * price[None, :, None] - lines.deduction, axis=0)
    assert_close(-required, rule.value(units, price)[0], rtol=1e-12, atol=1e-6)


def test_slopes_are_the_weights():
    rule = TieredHaircut.from_slices(TABLES)
    units = jnp.asarray([[500.0, 1_500.0, 5_000.0], [0.0, 1.0, -1.0]])
    slope = jax.grad(lambda n: jnp.sum(rule.value(n, PRICE)[0]))(units)
    expected = [[1_900.0, 1_700.0, 0.0], [0.45, 0.45, 0.5]]
    assert_close(slope, expected, rtol=1e-13, atol=0.0)


@pytest.mark.parametrize(
    ("slices", "message"),
    [
        ((), "X: no slices"),
        ((Slice(1.0, 0.5),), "floor 1.0: expected 0"),
        ((Slice(0.0, 0.5), Slice(0.0, 0.4)), "floor 0.0: expected more than before"),
        ((Slice(0.0, 0.5), Slice(1.0, 0.6)), "weight 0.6: more than before"),
        ((Slice(0.0, 1.5),), r"weight 1.5: expected one in \[0, 1\]"),
        ((Slice(0.0, np.nan),), "weight nan"),
    ],
)
def test_tables_that_are_wrong_are_refused(slices, message):
    with pytest.raises(ValueError, match=message):
        TieredHaircut.from_slices({"X": slices})
    with pytest.raises(ValueError, match=r"liability 0.5: expected 1 or more"):
        TieredHaircut.from_slices(TABLES, liability=0.5)
    with pytest.raises(ValueError, match="no assets"):
        TieredHaircut.from_slices({})
