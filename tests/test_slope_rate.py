"""Rates by slopes on either side of a kink: worked figures, a scalar reference, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.interest import KinkedRate
from jaxrisk.venue.slope_rate import SharedSlopeRate, SlopeRate, TwoSlopeRates, per_period
from tests.helpers import assert_close


def curve(
    base=0.015, below=0.035, above=0.25, kink=0.8, dtype: type[np.floating] = np.float64, **units
):
    """Return a curve of one asset; the defaults are the borrow curve of the USDC market on Ethereum
    (compound-finance/comet, deployments/mainnet/usdc/configuration.json)."""
    one = lambda x: jnp.asarray([x], dtype)
    return SlopeRate(
        base=one(base), slope_below=one(below), slope_above=one(above), kink=one(kink), **units
    )


def at(rate, *uses, dtype: type[np.floating] = np.float64):
    """Return the rates of a one-asset curve at several utilisations."""
    return [float(rate.borrow_rate(jnp.asarray([u], dtype))[0]) for u in uses]


def test_worked_rates():
    """1.5 % + 3.5 % u up to 80 %, then 25 % a unit."""
    expected = [0.015, 0.029, 0.043, 0.068, 0.093, 0.143]
    assert_close(at(curve(), 0.0, 0.4, 0.8, 0.9, 1.0, 1.2), expected, rtol=1e-14, atol=0.0)


COEFFICIENT = st.floats(0.0, 3.0)


@given(
    base=COEFFICIENT, below=COEFFICIENT, above=COEFFICIENT, kink=st.floats(0.05, 0.95),
    uses=st.lists(st.floats(0.0, 1.5), min_size=2, max_size=2),
)  # fmt: skip
def test_random_curves_are_those_of_the_reference(base, below, above, kink, uses):
    low, high = sorted(uses)
    expected = [
        base + (below * u if u <= kink else below * kink + above * (u - kink)) for u in (low, high)
    ]
    actual = at(curve(base, below, above, kink), low, high)
    assert_close(actual, expected, rtol=1e-13, atol=1e-13)
    assert actual[0] <= actual[1] + 1e-13
    # No jump at the kink.
    left, right = at(curve(base, below, above, kink), kink * (1 - 1e-12), kink * (1 + 1e-12))
    assert abs(left - right) < 1e-10


@given(use=st.floats(0.0, 1.0), kink=st.floats(0.1, 0.9))
def test_the_other_statement_of_the_same_curve(use, kink):
    """`KinkedRate` names what is added up to and beyond the kink, this one the slopes."""
    one = lambda x: jnp.array([x])
    named = KinkedRate(
        base=one(0.01), slope1=one(0.04), slope2=one(0.6), optimal_utilisation=one(kink),
        reserve_factor=one(0.1),
    )  # fmt: skip
    same = curve(0.01, 0.04 / kink, 0.6 / (1.0 - kink), kink)
    assert_close(at(same, use), at(named, use), rtol=1e-12, atol=1e-15)


def test_two_curves_are_independent():
    rates = TwoSlopeRates(borrow=curve(), supply=curve(0.0, 0.0325, 0.4))
    use = jnp.array([0.9])
    assert_close(rates.borrow_rate(use), [0.068], rtol=1e-14, atol=0.0)
    assert_close(rates.supply_rate(use), [0.066], rtol=1e-14, atol=0.0)


@given(use=st.floats(0.0, 1.0), factor=st.floats(0.0, 1.0))
def test_suppliers_share_what_borrowers_pay(use, factor):
    """What borrowers pay on the debt is what suppliers and reserves earn on the supply."""
    rates = SharedSlopeRate(borrow=curve(), reserve_factor=jnp.array([factor]))
    paid = use * at(curve(), use)[0]
    earned = float(rates.supply_rate(jnp.array([use]))[0])
    assert_close(earned + factor * paid, paid, rtol=1e-12, atol=1e-18)
    assert_close(rates.borrow_rate(jnp.array([use])), at(curve(), use), rtol=0.0, atol=0.0)


def test_contract_units_round_down():
    """9 % a year in 365 days is 0.024657... % a day; stored in hundredths of a per cent."""
    unit = jnp.array(1e-4)
    assert_close(per_period(jnp.array(0.09), jnp.array(365.0), unit), 2e-4, rtol=1e-14, atol=0.0)
    assert_close(per_period(jnp.array(0.09), jnp.array(365.0)), 0.09 / 365.0, rtol=1e-15, atol=0.0)
    stored = curve(0.0, 0.5, 3.0, 0.8, rate_unit=jnp.array(0.01), utilisation_unit=jnp.array(0.1))
    # 0.57 counts as 0.5: 0.25; 0.97 counts as 0.9: 0.40 + 0.30.
    assert_close(at(stored, 0.57, 0.97), [0.25, 0.70], rtol=1e-12, atol=0.0)


@pytest.mark.slow
def test_single_precision_agrees():
    uses = (0.0, 0.37, 0.8, 0.93)
    single = at(curve(dtype=np.float32), *uses, dtype=np.float32)
    assert_close(single, at(curve(), *uses), rtol=1e-6, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize(("use", "slope"), [(0.0, 0.035), (0.8, 0.035), (0.9, 0.25), (1.3, 0.25)])
def test_gradients(use, slope):
    total = lambda u: jnp.sum(curve().borrow_rate(u))
    derivative = float(jax.grad(total)(jnp.array([use]))[0])
    assert derivative == pytest.approx(slope, rel=1e-12)
    coefficients = jax.grad(lambda c: jnp.sum(c.borrow_rate(jnp.array([use]))))(curve())
    assert all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(coefficients))
