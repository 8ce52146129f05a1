"""Borrow rates without a kink: their anchors, shapes and derivatives."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.exponential_rate import HyperbolicRate, LogLinearRate, PegRate
from tests.helpers import assert_close

row = lambda *values: jnp.array(values)
share = st.floats(0.0, 1.0, allow_subnormal=False)


def peg(price=1.0, reserve=0.0, maximum=3.0):
    # crvUSD's terms: sensitivity 2 %, a reserve of 10 % of debt divides the rate by e.
    return PegRate(
        base=row(0.1), sensitivity=row(0.02), target=row(0.1), maximum=row(maximum),
        price=row(price), reserve_share=row(reserve),
    )  # fmt: skip


@given(share)
def test_log_linear(use):
    rule = LogLinearRate(minimum=row(0.005), maximum=row(0.5))
    expected = math.exp((1 - use) * math.log(0.005) + use * math.log(0.5))
    assert_close(rule.borrow_rate(row(use)), [expected], rtol=1e-12, atol=0.0)


def test_log_linear_anchors():
    # wstETH/USDC on Optimism: 0.5 % to 50 %; the geometric mean at half use.
    rule = LogLinearRate(minimum=jnp.full(3, 0.005), maximum=jnp.full(3, 0.5))
    assert_close(rule.borrow_rate(row(0.0, 0.5, 1.0)), [0.005, 0.05, 0.5], rtol=1e-12, atol=0.0)


@given(st.floats(0.6, 0.95), st.floats(0.1, 0.6), st.floats(3.0, 20.0), share, share)
def test_hyperbolic_anchors_and_shape(target, lowest, highest, a, b):
    full = lambda x: jnp.full(5, x)
    rule = HyperbolicRate(
        reference=full(0.08), target=full(target), lowest=full(lowest), highest=full(highest),
        shift=full(0.01),
    )  # fmt: skip
    low, high = sorted((a, b))
    rate = rule.borrow_rate(row(0.0, target, 1.0, low, high))
    anchors = np.array([lowest, 1.0, highest]) * 0.08 + 0.01
    assert_close(rate[:3], anchors, rtol=1e-9, atol=0.0)
    assert rate[4] >= rate[3] * (1 - 1e-12)


def test_the_peg_rate_at_its_anchors():
    at = lambda **terms: float(peg(**terms).borrow_rate(row(0.0))[0])
    assert_close(at(), 0.1, rtol=1e-12, atol=0.0)
    assert_close(at(price=0.98), 0.1 * math.e, rtol=1e-12, atol=0.0)
    assert_close(at(reserve=0.1), 0.1 / math.e, rtol=1e-12, atol=0.0)
    # Nine tenths of the ceiling in use: 0.9 + 0.1 / 0.1, so 1.9 times the rate.
    assert_close(peg().borrow_rate(row(0.9)), [0.19], rtol=1e-12, atol=0.0)
    assert at(price=0.5) == 3.0
    assert float(peg(maximum=1e9).borrow_rate(row(1.5))[0]) < 0.1 * 1001


@given(st.floats(0.9, 1.05), st.floats(0.0, 0.3, allow_subnormal=False), share)
def test_the_peg_rate_follows_its_formula(price, reserve, use):
    in_use = min(use, 1 - 1e-4)
    expected = 0.1 * math.exp((1 - price) / 0.02 - reserve / 0.1) * (0.9 + 0.1 / (1 - in_use))
    got = peg(price, reserve).borrow_rate(row(use))
    assert_close(got, [min(expected, 3.0)], rtol=1e-11, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("use", [0.0, 0.9, 0.9999, 1.0])
def test_derivatives_are_finite(use):
    rules = (
        LogLinearRate(minimum=row(0.005), maximum=row(0.5)),
        HyperbolicRate(
            reference=row(0.08), target=row(0.85), lowest=row(0.35), highest=row(1.5),
            shift=row(0.0),
        ),
        peg(price=0.0),
        peg(),
    )  # fmt: skip
    for rule in rules:
        slopes = jax.grad(lambda r, u: jnp.sum(r.borrow_rate(u)), argnums=(0, 1))(rule, row(use))
        assert all(np.all(np.isfinite(np.asarray(s))) for s in jax.tree.leaves(slopes))
        small = jax.tree.map(lambda x: x.astype(jnp.float32), rule)
        single = small.borrow_rate(row(use).astype(jnp.float32))
        assert single.dtype == jnp.float32
        assert_close(single, rule.borrow_rate(row(use)), rtol=2e-3, atol=0.0)
