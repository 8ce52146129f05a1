"""Risk premium: least risky collateral first, up to the debt, and the debt it accrues."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.risk_premium import Premium, premium_at, risk_premium
from tests.helpers import assert_close

# Nothing, or at least a little: the compiler flushes subnormal numbers to zero.
VALUES = st.lists(st.one_of(st.just(0.0), st.floats(1.0, 1e6)), min_size=6, max_size=6)
SHARE = st.one_of(st.just(0.0), st.floats(1e-6, 1.0))
RISKS = st.lists(st.sampled_from([0.0, 0.05, 0.15, 0.5, 1.0]), min_size=3, max_size=3)


def reference_premium(collateral, risk, debt):
    left, weighted = debt, 0.0
    for k, value in sorted(zip(risk, collateral, strict=True)):
        part = min(value, left)
        weighted += part * k
        left -= part
    return weighted / (debt - left) if debt > left else 0.0


def test_figures_worked_out_by_hand():
    """60 without risk, 30 at 10 %, 100 at 50 %: a debt of 100 rests on 60, 30 and 10 of them."""
    collateral = jnp.array([[100.0] * 4, [60.0] * 4, [30.0] * 4])
    risk = jnp.array([[0.5], [0.0], [0.1]])
    actual = risk_premium(collateral, risk, jnp.array([100.0, 50.0, 0.0, 300.0]))
    assert_close(actual, [0.08, 0.0, 0.0, 53.0 / 190.0], rtol=1e-14, atol=0.0)


def test_a_recorded_premium_is_rounded_up():
    """Restated from `getUserAccountData` of Aave v4 contracts: 3,849 basis points.

    223.398 USD of bitcoin at 15 % and 618.748 USD of a stablecoin at 50 %, debt 678.917 USD.
    """
    collateral = jnp.array([[618.747794 * 1.0], [846430 * 26392.7861176e-8]])
    premium = lambda unit: risk_premium(
        collateral, jnp.array([[0.5], [0.15]]), jnp.array([678.91720903981815]), unit=unit
    )
    assert_close(premium(jnp.array(1e-4)), [0.3849], rtol=1e-12, atol=0.0)
    assert 0.3848 < float(premium(None)[0]) < 0.3849


@given(collateral=VALUES, risk=RISKS, debt=VALUES)
def test_the_reference(collateral, risk, debt):
    held, debt = np.array(collateral).reshape(3, 2), 3.0 * np.array(debt[:2])
    common = np.array(risk)[:, None]
    actual = risk_premium(jnp.asarray(held), jnp.asarray(common), jnp.asarray(debt))
    expected = [reference_premium(held[:, n], risk, debt[n]) for n in range(2)]
    assert_close(actual, expected, rtol=1e-9, atol=1e-12)
    # The same with the risks stated an account.
    each = jnp.asarray(np.repeat(common, 2, axis=1))
    assert_close(
        risk_premium(jnp.asarray(held), each, jnp.asarray(debt)), actual, rtol=1e-14, atol=0.0
    )


@given(collateral=VALUES, risk=RISKS, debt=st.floats(1.0, 1e6), more=st.floats(1.0, 1e6))
def test_it_rises_with_debt_and_falls_with_safe_collateral(collateral, risk, debt, more):
    held = np.array(collateral).reshape(3, 2)
    held[:, 1] = held[:, 0]
    rate = lambda held, debt: np.asarray(
        risk_premium(jnp.asarray(held), jnp.asarray(risk)[:, None], jnp.asarray(debt))
    )
    less, same = rate(held, np.array([debt + more, debt]))
    assert less >= same - 1e-12
    safest = int(np.argmin(risk))
    held[safest, 0] += more
    safer, same = rate(held, np.array([debt, debt]))
    assert safer <= same + 1e-12 or not held[:, 1].any()
    assert min(risk) - 1e-12 <= safer <= max(risk) + 1e-12


@given(
    shares=st.floats(1.0, 1e6),
    rate=SHARE,
    index=st.floats(1.0, 2.0),
    owed=st.one_of(st.just(0.0), st.floats(1e-6, 1e5)),
    growth=st.floats(1.0, 1.5),
    then=SHARE,
)
def test_premium_is_interest_on_shadow_shares(shares, rate, index, owed, growth, then):
    array = lambda x: jnp.array([x])
    stored = premium_at(array(shares), array(rate), array(index), array(owed))
    assert_close(stored.debt(array(index)), [owed], rtol=1e-9, atol=1e-8)
    later = index * growth
    due = owed + shares * rate * (later - index)
    assert_close(stored.debt(array(later)), [due], rtol=1e-9, atol=1e-8)
    # A new rate changes what accrues from then on, not what is owed.
    changed = premium_at(array(shares), array(then), array(later), stored.debt(array(later)))
    assert_close(changed.debt(array(later)), [due], rtol=1e-9, atol=1e-8)


def test_a_recorded_premium_debt():
    """Restated from an Aave v4 hub after a year at 1.03 %: premium of 15 % on a debt of 1.4 M."""
    stored = Premium(shares=jnp.array([214867.439092]), offset=jnp.array([214867.439092]))
    index = jnp.array([1.010313621932546148])
    assert_close(stored.debt(index), [2216.061532409275], rtol=1e-9, atol=0.0)
    now = premium_at(
        jnp.array([1432449.593942]), jnp.array([0.15]), index, stored.debt(index),
        unit=jnp.array(1e-6),
    )  # fmt: skip
    assert_close(now.shares, [214867.439092], rtol=1e-14, atol=0.0)


@pytest.mark.slow
def test_single_precision_and_derivatives():
    held = np.array([[0.0, 10.0, 50.0, 50.0], [0.0, 20.0, 50.0, 0.0]])
    debt = np.array([0.0, 10.0, 50.0, 70.0])
    risk = np.array([[0.1], [0.4]])
    cast = lambda dtype: [jnp.asarray(x, dtype) for x in (held, risk, debt)]
    exact, rough = risk_premium(*cast(jnp.float64)), risk_premium(*cast(jnp.float32))
    assert rough.dtype == jnp.float32
    assert_close(rough, exact, rtol=1e-6, atol=0.0)
    assert_close(exact, [0.0, 0.1, 0.1, 0.1], rtol=1e-14, atol=0.0)
    slopes = jax.grad(lambda *x: risk_premium(*x).sum(), argnums=(0, 1, 2))(*cast(jnp.float64))
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in slopes)
