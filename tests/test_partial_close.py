"""What liquidation engines close at a time, by the rules two venues publish."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.partial_close import TierStep
from jaxrisk.venue.presets import hyperliquid, okx
from tests.helpers import assert_close

row = lambda *values: jnp.asarray([values])


def test_a_large_position_is_sliced_once_and_the_weak_are_taken_over():
    """Hyperliquid: 20 % of more than 100,000 USDC, 30 s, two thirds of maintenance margin."""
    rule = hyperliquid.partial_close()
    notional = row(1e5, 2e5, 2e5, 2e5, 2e5, 2e5)
    value = row(9.0, 9.0, 9.0, 9.0, 10.0, 6.0)
    since = row(np.inf, np.inf, 29.0, 31.0, np.inf, np.inf)
    share = rule.share(notional, value, jnp.full((1, 6), 10.0), since)
    assert_close(share, [[1.0, 0.2, 1.0, 0.2, 0.0, 0.0]], rtol=0.0, atol=0.0)
    taken = rule.taken_over(value, jnp.full((1, 6), 10.0))
    assert taken.tolist() == [[False, False, False, False, False, True]]


def test_positions_step_down_two_tiers_at_a_time():
    """OKX: tiers from 0; 1,500; 3,000; 6,000; 12,000; ... contracts of ADA."""
    rule = TierStep(tiers=okx.margin(["ADA-USDT-SWAP"]))
    count = row(13e3, 7e3, 5e3, 2e3, 13e3, 13e3)
    # Rates of the tiers 4, 3, 2, 1: 2, 1.5, 1 and 0.75 %; of the first 0.5 %.
    equity = count * row(0.019, 0.014, 0.009, 0.007, 0.004, 0.02)
    left = rule.standing(count, count, equity, jnp.zeros((1, 1)))
    assert_close(left, [[6e3, 3e3, 1.5e3, 0.0, 0.0, 13e3]], rtol=0.0, atol=0.0)
    # A fee to close is asked for besides.
    left = rule.standing(count, count, equity, jnp.full((1, 1), 0.0005))
    assert_close(left[0, -1:], [6e3], rtol=0.0, atol=0.0)


@given(count=st.floats(1.0, 6e4), ratio=st.floats(0.0, 0.08))
def test_steps_end_with_the_margin_that_is_left_to_ask_for(count, ratio):
    """Repeated at one price, a liquidation ends safe or with nothing, and never adds."""
    rule = TierStep(tiers=okx.margin(["ADA-USDT-SWAP"]))
    equity, held = row(ratio * count), row(count)
    for _ in range(7):
        left = rule.standing(held, held, equity, jnp.zeros((1, 1)))
        assert left[0, 0] <= held[0, 0]
        if left[0, 0] == held[0, 0]:
            break
        held = left
    required, _ = rule.tiers.maintenance(held, held)
    assert held[0, 0] == 0 or equity[0, 0] >= required[0, 0]
    # Where the first tier's margin is not there, nothing is left.
    assert ratio >= 0.005 or held[0, 0] == 0
