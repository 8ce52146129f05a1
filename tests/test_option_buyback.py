"""The auction of written options: recorded prices, a reference, bounds, slopes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.presets.opyn import AUCTION_YEARS, buyback
from tests.helpers import assert_close
from tests.test_upper_bound_margin import reference as margin_reference
from tests.test_upper_bound_margin import short

SPOTS = st.floats(500.0, 4000.0)
SHARES = st.floats(0.0, 1.5)


def offered(strike, is_put, size, collateral, spot, share, dtype: Any = np.float64):
    """Return the offer when a share of the auction's time has passed, 20 days before expiry."""
    number = lambda x: jnp.asarray(x, dtype)
    return buyback(dtype).offer(
        short(strike, 20.0, is_put, size, dtype), number(collateral), number(spot),
        number(share * AUCTION_YEARS),
    )  # fmt: skip


def reference(strike, is_put, size, collateral, spot, share):
    """Return what one option repaid is paid, 0 where it may not be, in plain Python."""
    if margin_reference(strike, spot, 20.0, is_put, size) <= collateral:
        return 0.0
    start = strike - 1.05 * spot if is_put else (0.95 * spot - strike) / spot
    end = collateral / size
    if share >= 1.0:
        return end
    return min((1.0 - share) * max(start, 0.0) + share * end, end)


@given(
    strike=SPOTS, is_put=st.booleans(), size=st.floats(0.1, 50.0), cover=st.floats(0.05, 1.2),
    spot=SPOTS, share=SHARES,
)  # fmt: skip
def test_the_offer_is_that_of_the_reference(strike, is_put, size, cover, spot, share):
    needed = margin_reference(strike, spot, 20.0, is_put, size)
    if abs(cover - 1.0) < 1e-9:
        return
    collateral = cover * needed
    offer = offered(strike, is_put, size, collateral, spot, share)
    assert bool(offer.callable) == (cover < 1.0)
    expected = reference(strike, is_put, size, collateral, spot, share)
    assert_close(offer.price, expected, rtol=1e-11, atol=1e-12 * (strike if is_put else 1.0))
    # Never more than the account holds, and no less as time passes.
    assert float(offer.price) * size <= collateral * (1 + 1e-12)
    later = offered(strike, is_put, size, collateral, spot, share + 0.1)
    assert float(later.price) >= float(offer.price) * (1 - 1e-12)
    # Less collateral makes no account safe.
    assert bool(offered(strike, is_put, size, 0.9 * collateral, spot, share).callable) >= bool(
        offer.callable
    )


def test_exactly_the_margin_is_enough():
    rule = buyback(np.float64)
    option, spot = short(2000.0, 20.0, True, 7.3), jnp.asarray(1900.0)
    held = rule.margin.margin(option, spot).required
    at_start = jnp.asarray(0.0)
    assert not rule.offer(option, held, spot, at_start).callable
    assert rule.offer(option, held * (1 - 1e-12), spot, at_start).callable


def test_an_insolvent_account_offers_all_it_has_at_once():
    offer = offered(2000.0, True, 2.0, 300.0, 1000.0, 0.0)
    assert_close(offer.price, 150.0, rtol=1e-14, atol=0.0)


def test_single_precision_and_slopes():
    rough = offered(2000.0, False, 3.0, 0.5, 2400.0, 0.3, np.float32)
    exact = offered(2000.0, False, 3.0, 0.5, 2400.0, 0.3)
    assert rough.price.dtype == jnp.float32
    assert_close(rough.price, exact.price, rtol=1e-5, atol=0.0)
    price = lambda collateral, spot, share: (
        offered(2000.0, False, 3.0, collateral, spot, share).price
    )
    point = (1.0, 2400.0, 0.3)
    slopes = jax.grad(price, argnums=(0, 1, 2))(*point)
    for position, step in enumerate((1e-6, 1e-3, 1e-6)):
        up, down = list(point), list(point)
        up[position] += step
        down[position] -= step
        bump = (price(*up) - price(*down)) / (2 * step)
        assert_close(slopes[position], bump, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("is_put", [True, False])
def test_an_account_without_options_is_never_called(is_put):
    offer = offered(2000.0, is_put, 0.0, 0.0, 2000.0, 0.5)
    assert not offer.callable
    assert offer.price == 0.0
