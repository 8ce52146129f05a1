"""The storefront: a worked figure, a scalar reference, refusals, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.settlement import Refusal
from jaxrisk.venue.storefront import Storefront
from tests.helpers import assert_close


def front(share=0.5, factor=0.93, target=1e6, dtype: type[np.floating] = np.float64):
    """Return a storefront for one sale."""
    one = lambda x: jnp.asarray([x], dtype)
    return Storefront(
        discount_share=one(share), liquidation_factor=one(factor), target_reserves=one(target)
    )


def sale(
    storefront,
    payment,
    price=2_000.0,
    inventory=10.0,
    reserves=-5e3,
    dtype: type[np.floating] = np.float64,
):
    """Return one purchase."""
    one = lambda x: jnp.asarray([x], dtype)
    return storefront.buy(
        one(payment), price=one(price), inventory=one(inventory), reserves=one(reserves)
    )


def test_a_worked_sale():
    """Liquidation factor 93 %, half of the discount passed on: 3.5 % below 2,000 is 1,930."""
    assert_close(front().ask_price(jnp.array([2e3])), [1_930.0], rtol=1e-15, atol=0.0)
    bought = sale(front(), 9_650.0)
    actual = [bought.bought[0], bought.paid[0], bought.refusal[0]]
    assert_close(actual, [5.0, 9_650.0, Refusal.NONE], rtol=1e-15, atol=0.0)


@given(
    payment=st.floats(1.0, 1e5),
    price=st.floats(1e-3, 1e5),
    share=st.floats(0.0, 1.0),
    factor=st.floats(0.5, 1.0),
    reserves=st.floats(-1e6, 2e6),
)
def test_random_sales_are_those_of_the_reference(payment, price, share, factor, reserves):
    bought = sale(front(share, factor), payment, price, 10.0, reserves)
    ask = price * (1.0 - share * (1.0 - factor))
    expected, reason = payment / ask, Refusal.NONE
    if reserves >= 1e6:
        reason = Refusal.NOT_FOR_SALE
    elif expected > 10.0:
        reason = Refusal.EXCEEDS_INVENTORY
    assert bought.refusal[0] == reason
    assert_close(bought.quoted[0], expected, rtol=1e-12, atol=0.0)
    done = reason == Refusal.NONE
    assert_close(bought.bought[0], expected if done else 0.0, rtol=1e-12, atol=0.0)
    assert bought.paid[0] == (payment if done else 0.0)
    # The buyer pays no more than the oracle price and no less than what the borrower was credited.
    assert factor * price * (1 - 1e-12) <= ask <= price
    assert float(bought.bought[0]) <= 10.0


def test_prices_and_amounts_round_down():
    bought = front(share=0.5, factor=0.93).buy(
        jnp.array([100.0]),
        price=jnp.array([7.77]),
        inventory=jnp.array([100.0]),
        reserves=jnp.array([0.0]),
        price_unit=jnp.array(0.01),
        collateral_unit=jnp.array([0.5]),
    )
    # 7.77 x 0.965 = 7.498 -> 7.49; 100 / 7.49 = 13.35 -> 13.0.
    assert_close(bought.bought, [13.0], rtol=0.0, atol=0.0)


def test_a_worthless_asset_is_not_sold():
    bought = sale(front(), 10.0, price=0.0)
    assert bought.refusal[0] == Refusal.EXCEEDS_INVENTORY
    assert bought.bought[0] == 0.0


@pytest.mark.slow
def test_single_precision_agrees():
    single = sale(front(dtype=np.float32), 9_650.0, dtype=np.float32)
    assert single.bought.dtype == np.float32
    assert_close(single.bought, sale(front(), 9_650.0).bought, rtol=1e-6, atol=0.0)


@pytest.mark.slow
def test_gradients():
    """d bought / d price = -bought / price; finite where refused and where worthless."""
    bought = lambda price, reserves: front().buy(
        jnp.array([9_650.0]), price=price, inventory=jnp.array([10.0]), reserves=reserves
    )
    slope = jax.grad(lambda p: bought(p, jnp.array([0.0])).bought.sum())
    assert_close(slope(jnp.array([2e3])), [-5.0 / 2e3], rtol=1e-12, atol=0.0)
    for price, reserves in ((0.0, 0.0), (2e3, 1e6), (1.0, 0.0)):
        refused = jax.grad(lambda p, r=reserves: bought(p, jnp.array([r])).bought.sum())
        assert refused(jnp.array([price]))[0] == 0.0
