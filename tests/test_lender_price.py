"""Prices stated by lenders: the collateral test, the lowest price in use, claimable reserves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.lender_price import claimable_reserves, lowest_price_in_use
from jaxrisk.venue.presets.ajna import LOWEST_PRICE, bucket_price, lender_price_test
from tests.helpers import assert_close

AMOUNTS = st.one_of(st.just(0.0), st.floats(0.01, 1e6))


def safe(collateral, debt, price, whole=None, dtype=np.float64):
    one = lambda x: jnp.asarray([x], dtype)
    rule = lender_price_test(dtype, whole=None if whole is None else one(whole))
    return bool(rule.collateralised(one(collateral), one(debt), one(price))[0])


@given(collateral=st.floats(0.01, 1e4), debt=st.floats(0.01, 1e4), price=st.floats(0.01, 1e2))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_collateral_test_is_that_of_the_formula(dtype, collateral, debt, price):
    margin = collateral * price / (1.04 * debt) - 1.0
    if abs(margin) > 1e-5:
        assert safe(collateral, debt, price, dtype=dtype) == (margin > 0)


def test_the_ends_of_the_collateral_test():
    assert safe(1.04, 1.0, 1.0)
    assert not safe(1.0399, 1.0, 1.0)
    # Collectibles count whole.
    assert safe(2.0, 1.9, 1.0, whole=1.0)
    assert not safe(2.9, 2.1, 1.0, whole=1.0)
    assert safe(2.9, 2.1, 1.0)
    # At the lowest price nothing is backed, but no debt needs nothing.
    assert not safe(1e30, 1.0, LOWEST_PRICE)
    assert safe(0.0, 0.0, LOWEST_PRICE)


def test_recorded_prices_of_buckets():
    """`_priceAt`: the highest bucket, the one at 1, and one in between."""
    actual = bucket_price(jnp.array([0.0, 4156.0, 3668.0, 2422.0, 7388.0]))
    expected = [
        1004968987.606512354182, 1.0, 11.403499219578656497, 5701.000587831039837157,
        99836282890e-18,
    ]  # fmt: skip
    assert_close(actual, expected, rtol=1e-10, atol=0.0)


@pytest.mark.parametrize(
    ("debt", "expected"),
    [(0.0, 5.0), (10.0, 5.0), (10.1, 4.0), (30.0, 4.0), (45.0, 3.0), (99.0, 2.0)],
)
def test_the_debt_uses_the_highest_prices_first(debt, expected):
    prices, deposits = jnp.array([5.0, 4.0, 3.0, 2.0]), jnp.array([10.0, 20.0, 30.0, 5.0])
    assert float(lowest_price_in_use(prices, deposits, jnp.array(debt))) == expected


def reserves(debt, cash, deposits, bonds, unclaimed, dtype=np.float64):
    one = lambda x: jnp.asarray([x], dtype)
    held = {"bonds": one(bonds), "unclaimed": one(unclaimed)}
    return float(claimable_reserves(one(debt), one(cash), one(deposits), **held, buffer=1e-9)[0])


@given(debt=AMOUNTS, cash=AMOUNTS, deposits=AMOUNTS, bonds=AMOUNTS, unclaimed=AMOUNTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_claimable_reserves_are_those_of_the_reference(
    dtype, debt, cash, deposits, bonds, unclaimed
):
    debt, cash, deposits, bonds, unclaimed = (
        float(dtype(x)) for x in (debt, cash, deposits, bonds, unclaimed)
    )
    held = bonds + unclaimed
    expected = 0.0
    if cash > held:
        expected = min(max(debt + cash - (1.0 + 1e-9) * deposits - held, 0.0), cash - held)
    actual = reserves(debt, cash, deposits, bonds, unclaimed, dtype)
    slack = 8.0 * float(np.finfo(dtype).eps) * (debt + cash + deposits + held)
    assert_close(actual, expected, rtol=0.0, atol=slack)
    # Lenders, bonds and earlier claims come first.
    assert 0.0 <= actual <= max(cash - held, 0.0) + slack


def test_a_recorded_claim_of_the_contract():
    actual = reserves(
        9773.543057600236486656, 13607.505005401616678912, 15226.742916794388840448,
        2727.380920485056872448, 1821.793959491957161984,
    )  # fmt: skip
    assert_close(actual, 3605.130251003707373894, rtol=1e-12, atol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cash", [0.0, 1.0, 5.0])
def test_derivatives_are_finite_at_the_kinks(dtype, cash):
    one = lambda x: jnp.asarray([x], dtype)
    claim = lambda debt, cash: claimable_reserves(
        debt, cash, one(4.0), bonds=one(1.0), unclaimed=one(0.0), buffer=1e-9
    )[0]
    slopes = jax.grad(claim, argnums=(0, 1))(one(4.0), one(cash))
    assert np.isfinite(np.concatenate(slopes)).all()
