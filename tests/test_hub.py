"""A hub: accrual, shares, and deficits that suppliers do not see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.hub import Hub, accrue, cover_deficit, report_deficit, supply
from jaxrisk.venue.interest import utilisation
from jaxrisk.venue.risk_premium import Premium
from tests.helpers import assert_close

# Nothing, or at least a little: the compiler flushes subnormal numbers to zero.
AMOUNT = st.one_of(st.just(0.0), st.floats(1.0, 1e7))
SHARE = st.one_of(st.just(0.0), st.floats(1e-6, 1.0))


def hub(dtype=float, **changes):
    """Return a hub with one asset."""
    values = {
        "cash": 5e5, "swept": 1e4, "drawn_shares": 1e6, "index": 1.1, "deficit": 2e3, "fees": 50.0,
        "supply_shares": 1.5e6, "virtual": 1.0, **changes,
    }  # fmt: skip
    shares, offset = values.pop("premium_shares", 1e5), values.pop("premium_offset", 1.09e5)
    array = lambda x: jnp.array([x], dtype)
    premium = Premium(shares=array(shares), offset=array(offset))
    return Hub(premium=premium, **{name: array(value) for name, value in values.items()})


def owned(h):
    """Return what suppliers and the protocol own, from the definition."""
    leaf = lambda x: float(np.asarray(x)[0])
    premium = leaf(h.premium.shares) * leaf(h.index) - leaf(h.premium.offset)
    return (
        leaf(h.cash) + leaf(h.swept) + leaf(h.drawn_shares) * leaf(h.index) + premium
        + leaf(h.deficit)
    )  # fmt: skip


def array(x):
    return jnp.array([x])


def test_a_recorded_year():
    """Restated from an Aave v4 hub: 1.43 M of 203 M lent for a year at 1.03 %, fee 10 %."""
    before = hub(
        cash=201564916.950422, swept=0.0, drawn_shares=1432449.593942, index=1.0, deficit=0.0,
        fees=0.0, supply_shares=202997366.544364, premium_shares=214867.439092,
        premium_offset=214867.439092,
    )  # fmt: skip
    rate = array(0.010313621932546148)
    accrued = accrue(before, rate, array(0.1), array(1.0))
    after, shares = supply(accrued, array(1.0))
    assert_close(accrued.supplied(), [203012657.368938], rtol=0.0, atol=2e-6)
    assert_close(accrued.index, [1.010313621932546148], rtol=1e-14, atol=0.0)
    assert_close(accrued.fees, [1698.980508], rtol=0.0, atol=2e-6)
    assert_close(shares, [0.999924], rtol=0.0, atol=2e-6)
    use = utilisation(after.drawn(), after.cash + after.swept)
    # 1 % + 2 % at the optimum of 45 %.
    assert_close(0.01 + 0.02 * use / 0.45, [0.010316833450803485], rtol=1e-9, atol=0.0)


@given(
    drawn=AMOUNT,
    premium=AMOUNT,
    rate=SHARE,
    fee=SHARE,
    years=SHARE,
)
def test_interest_goes_to_suppliers_and_the_protocol(drawn, premium, rate, fee, years):
    before = hub(drawn_shares=drawn, premium_shares=premium, premium_offset=1.05 * premium)
    after = accrue(before, array(rate), array(fee), array(years))
    interest = (drawn + premium) * 1.1 * rate * years
    assert_close(owned(after) - owned(before), interest, rtol=1e-9, atol=1e-6)
    kept = float((after.fees - before.fees)[0])
    assert_close(kept, fee * interest, rtol=1e-9, atol=1e-9)
    gained = float((after.supplied() - before.supplied())[0])
    assert_close(gained, (1.0 - fee) * interest, rtol=1e-9, atol=1e-6)
    expected = 1.1 * (1.0 + rate * years) if drawn + premium > 0 else 1.1
    assert_close(after.index, [expected], rtol=1e-14, atol=0.0)
    # A deficit earns nothing, however long.
    assert float(after.deficit[0]) == 2e3


@given(amount=AMOUNT, deficit=AMOUNT)
def test_a_supply_leaves_the_worth_of_a_share(amount, deficit):
    before = hub(deficit=deficit)
    after, shares = supply(before, array(amount))
    assert_close(after.share_worth(), before.share_worth(), rtol=1e-12, atol=0.0)
    assert_close(shares * before.share_worth(), [amount], rtol=1e-12, atol=0.0)
    assert_close(owned(after) - owned(before), amount, rtol=1e-9, atol=1e-6)


@given(
    given_up=SHARE,
    premium=SHARE,
    covered=AMOUNT,
)
def test_suppliers_do_not_see_a_deficit(given_up, premium, covered):
    before = hub()
    lost_shares, lost_premium = given_up * 1e6, premium * 1e3
    after = report_deficit(before, array(lost_shares), array(lost_premium))
    lost = lost_shares * 1.1 + lost_premium
    assert_close(after.deficit, [2e3 + lost], rtol=1e-12, atol=0.0)
    assert_close(after.drawn(), [1.1 * (1e6 - lost_shares)], rtol=1e-12, atol=1e-6)
    assert_close(after.share_worth(), before.share_worth(), rtol=1e-12, atol=0.0)
    # Covering it takes shares for it and leaves the others what they were worth.
    rest, burned = cover_deficit(after, array(covered))
    paid = min(covered, 2e3 + lost)
    assert_close(rest.deficit, [2e3 + lost - paid], rtol=1e-9, atol=1e-6)
    assert_close(burned * after.share_worth(), [paid], rtol=1e-12, atol=0.0)
    assert_close(rest.share_worth(), before.share_worth(), rtol=1e-9, atol=0.0)


def test_debt_is_rounded_up_to_whole_units():
    h = hub(drawn_shares=10.0, index=1.11)
    assert_close(h.drawn(unit=jnp.array(1.0)), [12.0], rtol=1e-14, atol=0.0)
    assert_close(h.drawn(), [11.1], rtol=1e-14, atol=0.0)


@pytest.mark.slow
def test_single_precision_and_an_empty_hub():
    exact, rough = hub(), hub(jnp.float32)
    number = lambda x, like: jnp.array([x], like.cash.dtype)
    for h in (exact, rough):
        h = accrue(h, number(0.05, h), number(0.1, h), number(0.5, h))
        assert h.fees.dtype == h.cash.dtype
        assert_close(
            h.supplied(), [owned(hub()) + 0.9 * 1.1e6 * 1.1 * 0.025 - 50.0], rtol=1e-6, atol=0.0
        )
    empty = hub(
        cash=0.0, swept=0.0, drawn_shares=0.0, deficit=0.0, fees=0.0, supply_shares=0.0,
        virtual=0.0, premium_shares=0.0, premium_offset=0.0,
    )  # fmt: skip
    assert empty.share_worth().tolist() == [1.0]

    def worth(h):
        after, shares = supply(accrue(h, array(0.1), array(0.1), array(1.0)), array(1.0))
        covered, _ = cover_deficit(report_deficit(after, array(0.0), array(0.0)), array(1.0))
        return jnp.sum(covered.share_worth() + shares + covered.fees)

    for h in (empty, exact):
        slopes = jax.grad(worth)(h)
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(slopes))
