"""What a pool may pay, what its depositors keep, and how the rest is handed on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.stability_pool import (
    collateral_ratio,
    deposits_after,
    redistribute,
    spendable,
)
from tests.helpers import assert_close

AMOUNTS = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e5)), min_size=4, max_size=4)


def test_a_recorded_offset():
    """Liquity v1 StabilityPool.offset (14de1c1b): five deposits, one of which is followed."""
    deposits = jnp.array([3212.16562239158878, 35076.166045702377, 77.445267875415753,
                          8215.307963634455, 204.888515559009452])  # fmt: skip
    left, gain = deposits_after(
        deposits,
        total=jnp.array(46785.973415162846838784),
        repaid=jnp.array(41481.922517263135287541),
        seized=jnp.array(16.728275875237819249),
    )
    assert_close(left[0], 364.158073670153010164, rtol=1e-12, atol=0.0)
    assert_close(gain[0], 1.148506459649865429, rtol=1e-12, atol=0.0)


@given(
    deposits=AMOUNTS,
    share=st.one_of(st.just(0.0), st.floats(1e-6, 1.0)),
    seized=st.one_of(st.just(0.0), st.floats(1e-6, 1e3)),
)
def test_depositors_lose_what_the_pool_pays_and_gain_what_it_gets(deposits, share, seized):
    held = np.array(deposits) + 1.0
    total = held.sum()
    paid = share * total
    left, gain = deposits_after(
        jnp.asarray(held), total=jnp.array(total), repaid=jnp.array(paid), seized=jnp.array(seized)
    )
    assert_close(held.sum() - np.sum(left), paid, rtol=1e-12, atol=1e-9)
    assert_close(np.sum(gain), seized, rtol=1e-12, atol=1e-12)
    assert (np.asarray(left) >= 0).all()
    # In proportion: everyone keeps the same share.
    assert_close(np.asarray(left) * total, held * (total - paid), rtol=1e-11, atol=1e-6)


def test_a_pool_that_pays_everything_leaves_exactly_nothing():
    deposits = jnp.array([0.1, 0.2, 0.7])
    total = jnp.sum(deposits)
    left, _ = deposits_after(deposits, total=total, repaid=total, seized=jnp.array(1.0))
    assert left.tolist() == [0.0, 0.0, 0.0]


def test_the_minimum_stays():
    deposits = jnp.array([0.0, 0.5, 1.0, 3.0])
    assert spendable(deposits, jnp.ones(4)).tolist() == [0.0, 0.0, 0.0, 2.0]
    assert spendable(deposits, jnp.zeros(4)).tolist() == deposits.tolist()


@given(
    amount=st.one_of(st.just(0.0), st.floats(1e-6, 1e6)),
    stake=AMOUNTS,
    receives=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_what_is_handed_on_arrives_in_proportion_to_stakes(amount, stake, receives):
    weights = np.array(stake) + 1.0
    got = np.asarray(redistribute(jnp.array(amount), jnp.asarray(weights), jnp.array(receives)))
    expected = np.zeros(4)
    total = sum(w for w, r in zip(weights, receives, strict=True) if r)
    for n in range(4):
        if receives[n]:
            expected[n] = amount * weights[n] / total
    assert_close(got, expected, rtol=1e-12, atol=0.0)


@pytest.mark.slow
def test_a_ratio_without_debt_is_infinite_and_its_gradient_finite():
    collateral, debt = jnp.array([2.0, 2.0]), jnp.array([100.0, 0.0])
    price = jnp.array([75.0, 75.0])
    assert collateral_ratio(collateral, debt, price).tolist() == [1.5, np.inf]
    slope = jax.grad(lambda d: jnp.sum(jnp.clip(collateral_ratio(collateral, d, price), 0.0, 9.0)))(
        debt
    )
    assert np.isfinite(slope).all()


@pytest.mark.slow
def test_nobody_and_nothing_give_zeros_and_finite_gradients():
    def total(amount, stake, deposits):
        handed = redistribute(amount, stake, jnp.zeros(3, bool))
        left, gain = deposits_after(deposits, total=jnp.sum(deposits), repaid=amount, seized=amount)
        return jnp.sum(handed) + jnp.sum(left) + jnp.sum(gain)

    zero = jnp.zeros(3)
    assert float(total(jnp.array(1.0), zero, zero)) == 0.0
    gradients = jax.grad(total, argnums=(0, 1, 2))(jnp.array(1.0), zero, zero)
    for leaf in gradients:
        assert np.isfinite(leaf).all()
