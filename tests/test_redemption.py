"""Redemptions: fee, split over branches, the queue one by one, dormant accounts, shutdown."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.typing import DTypeLike

from jaxrisk.venue.redemption import (
    RedemptionFee,
    RedemptionQueue,
    RedemptionRefusal,
    redeem,
    redeem_urgently,
    split_by_unbacked,
)
from tests.helpers import assert_close

MINIMUM = 2_000.0


def fee_law(dtype: DTypeLike = np.float64):
    number = lambda x: jnp.asarray(x, dtype)
    return RedemptionFee(
        floor=number(0.005), sensitivity=number(1.0), decay=number(0.9980764435756288)
    )


def queue(collateral, debt, rate, listed=None, first=None, dtype: DTypeLike = np.float64):
    array = lambda x: jnp.asarray(x, dtype)
    flags = lambda x, default: jnp.asarray(np.full(len(debt), default) if x is None else x)
    return RedemptionQueue(
        collateral=array(collateral),
        debt=array(debt),
        rate=array(rate),
        listed=flags(listed, True),
        first=flags(first, False),
    )


def redeemed(q, amount, price=1.0, fee_rate=0.0, limit=np.inf, largest=1.0):
    number = lambda x: jnp.asarray(x, q.debt.dtype)
    return redeem(
        q, number(amount), price=number(price), fee_rate=number(fee_rate),
        minimum_debt=number(MINIMUM), limit=number(limit), largest_fee=number(largest),
    )  # fmt: skip


def one_by_one(collateral, debt, rate, listed, first, amount, price, fee_rate, limit):
    """Return debt, collateral, listed and the head of the queue after going down it."""
    debt, collateral, listed = list(debt), list(collateral), list(listed)
    order = [n for n in range(len(debt)) if first == n]
    order += sorted((n for n in range(len(debt)) if listed[n]), key=lambda n: (rate[n], n))
    for n in order[: int(min(limit, len(order)))]:
        if amount <= 0:
            break
        if debt[n] > 0 and collateral[n] * price / debt[n] < 1:
            continue
        lot = min(amount, debt[n])
        amount -= lot
        debt[n] -= lot
        collateral[n] -= lot / price * (1 - fee_rate)
        if n == first:
            first = -1 if debt[n] == 0 else n
        elif lot > 0 and debt[n] < MINIMUM:
            listed[n] = False
            first = n if debt[n] > 0 else first
    return debt, collateral, listed, first


DEBTS = st.lists(st.floats(2e3, 1e5), min_size=5, max_size=5)


@pytest.mark.slow
@given(
    debt=DEBTS,
    ratio=st.lists(st.floats(0.9, 2.0), min_size=5, max_size=5),
    rate=st.lists(st.sampled_from([0.005, 0.01, 0.02, 0.07]), min_size=5, max_size=5),
    first=st.integers(-1, 4),
    share=st.one_of(st.just(0.0), st.floats(1e-6, 1.2)),
    limit=st.sampled_from([1.0, 2.0, np.inf]),
    fee_rate=st.floats(0.005, 1.0),
)
def test_accounts_are_redeemed_one_by_one(debt, ratio, rate, first, share, limit, fee_rate):
    owed, price = np.array(debt), 1700.0
    listed = np.arange(5) != first
    owed[~listed] /= 100.0
    held = np.array(ratio) * owed / price
    amount = share * owed.sum()
    q = queue(held, owed, rate, listed, ~listed)
    done = redeemed(q, amount, price, fee_rate, limit)
    expected = one_by_one(
        held.tolist(), owed.tolist(), rate, listed.tolist(), first, amount, price, fee_rate, limit
    )
    assert_close(owed - np.asarray(done.repaid), expected[0], rtol=0.0, atol=1e-9)
    assert_close(held - np.asarray(done.seized), expected[1], rtol=0.0, atol=1e-11)
    assert done.listed.tolist() == expected[2]
    assert [*np.flatnonzero(done.first), -1][0] == expected[3]
    # The redeemer pays for all that leaves, fee included, and nobody is worse covered for it.
    paid = np.asarray(done.repaid)
    assert_close(np.asarray(done.seized + done.fee) * price, paid, rtol=1e-12, atol=0.0)
    assert paid.sum() <= amount * (1 + 1e-12)
    value = held * price - np.asarray(done.seized) * price
    assert (value - (owed - paid) >= (held * price - owed) - 1e-9).all()


def test_the_lowest_rate_goes_first_whatever_the_cover():
    q = queue([2e4, 3e4, 9e4], [1e4, 1e4, 1e4], [0.05, 0.005, 0.05])
    assert redeemed(q, 12_500.0).repaid.tolist() == [2_500.0, 1e4, 0.0]


def test_accounts_that_are_not_covered_are_passed_over_but_counted():
    q = queue([0.999e4, 1e4, 2e4], [1e4, 1e4, 1e4], [0.01, 0.02, 0.03])
    assert redeemed(q, 3e4).repaid.tolist() == [0.0, 1e4, 1e4]
    assert redeemed(q, 3e4, limit=2.0).repaid.tolist() == [0.0, 1e4, 0.0]


def test_a_fee_above_the_limit_is_refused():
    q = queue([2e4, 2e4], [1e4, 1e4], [0.01, 0.02])
    done = redeemed(q, 1e4, fee_rate=0.051, largest=0.05)
    assert done.refusal.tolist() == [RedemptionRefusal.FEE_ABOVE_LIMIT] * 2
    assert float(done.repaid.sum()) == 0.0
    assert done.listed.all()
    assert redeemed(q, 1e4, fee_rate=0.05, largest=0.05).refusal[0] == RedemptionRefusal.NONE


def test_a_recorded_redemption():
    """Liquity v2 CollateralRegistry.redeemCollateral (405f9122): a dormant account, then a rate."""
    law, supply = fee_law(), 319495.408533437641800097
    offered, price = 36104.578354807195406389, 1841.706854658005270528
    base, counted = law.decayed(jnp.array(0.013469849233538181), jnp.array(2_592_040.0))
    assert float(counted) == 2_592_000.0
    raised = law.raised(base, jnp.array(offered / supply))
    assert_close(raised, 0.113004999103229913, rtol=1e-12, atol=0.0)
    q = queue(
        [0.504572851130742057, 218.579525275419175534, 2.772072827529401261],
        [119.098560982055670625, 274612.854173917532899171, 5358.531485172569380353],
        [0.034, 0.0612, 0.1144], [False, True, True], [True, False, False],
    )  # fmt: skip
    done = redeemed(q, offered, price, float(law.rate(raised)))
    assert_close(done.seized.sum(), 17.290513709001176923, rtol=1e-12, atol=0.0)
    assert_close(done.fee.sum(), 2.313354443789954969, rtol=1e-12, atol=0.0)
    left = [0.447536447571458803, 201.346047969977281865, 2.772072827529401261]
    assert_close(q.collateral - done.seized, left, rtol=1e-12, atol=0.0)
    assert not done.first.any()


def test_the_fee_has_a_half_life_of_six_hours_and_counts_whole_minutes():
    law = fee_law()
    rate, counted = law.decayed(jnp.array(0.4), jnp.array(6 * 3600.0 + 59.0))
    assert_close(rate, 0.2, rtol=1e-12, atol=0.0)
    assert float(counted) == 6 * 3600.0
    assert float(law.raised(jnp.array(0.9), jnp.array(0.2))) == 1.0
    assert float(law.rate(jnp.array(0.9999))) == 1.0
    assert float(law.rate(jnp.array(0.0))) == 0.005


@pytest.mark.parametrize(
    ("amount", "unbacked", "redeemable", "parts"),
    [
        (100.0, [300.0, 100.0, 0.0], [True, True, True], [75.0, 25.0, 0.0]),
        (100.0, [300.0, 100.0, 0.0], [False, True, True], [0.0, 100.0, 0.0]),
        (900.0, [300.0, 100.0, 0.0], [True, True, True], [300.0, 100.0, 0.0]),
        (100.0, [0.0, 0.0, 0.0], [True, True, False], [25.0, 75.0, 0.0]),
        (9e3, [0.0, 0.0, 0.0], [True, True, False], [2250.0, 6750.0, 0.0]),
        (100.0, [300.0, 100.0, 0.0], [False, False, False], [0.0, 0.0, 0.0]),
    ],
)
def test_branches_share_by_unbacked_debt_and_otherwise_by_debt(amount, unbacked, redeemable, parts):
    actual = split_by_unbacked(
        jnp.array(amount), unbacked=jnp.array(unbacked), debt=jnp.array([1e3, 3e3, 6e3]),
        redeemable=jnp.array(redeemable),
    )  # fmt: skip
    assert_close(actual, parts, rtol=1e-12, atol=0.0)


def urgent(amount, collateral, debt, order, price, shut_down=True, least=0.0, bonus=0.02):
    return redeem_urgently(
        jnp.array(amount), collateral=jnp.array(collateral), debt=jnp.array(debt),
        order=jnp.array(order), price=jnp.array(price), bonus=jnp.array(bonus),
        shut_down=jnp.array(shut_down), least=jnp.array(least),
    )  # fmt: skip


def test_recorded_urgent_redemptions():
    """Liquity v2 TroveManager.urgentRedemption (405f9122): whole debt, then all collateral."""
    whole = urgent(843979.4, [196.349133395638134048], [309839.409544161274845662], [0.0],
                   1637.165562188246286336)  # fmt: skip
    assert_close(whole.repaid, [309839.409544161274845662], rtol=0.0, atol=0.0)
    assert_close(whole.seized, [193.038630321925678928], rtol=1e-12, atol=0.0)
    capped = urgent(7715027.07, [397.215645048396390598], [167130.729705128374521470], [2.0],
                    341.299595768205082624)  # fmt: skip
    assert_close(capped.repaid, [132911.312831200510720105], rtol=1e-12, atol=0.0)
    assert_close(capped.seized, [397.215645048396390598], rtol=0.0, atol=0.0)


@given(
    debt=DEBTS,
    ratio=st.lists(st.floats(0.3, 2.0), min_size=5, max_size=5),
    order=st.permutations([0.0, 1.0, 2.0, 3.0, np.inf]),
    share=st.one_of(st.just(0.0), st.floats(1e-6, 1.2)),
)
def test_urgent_redemptions_are_those_of_the_rule(debt, ratio, order, share):
    price, left = 3.0, share * sum(debt)
    held = (np.array(ratio) * np.array(debt) / price).tolist()
    done = urgent(left, held, debt, order, price)
    for n in sorted(range(5), key=lambda n: order[n]):
        lot = min(left, debt[n]) if np.isfinite(order[n]) else 0.0
        got = lot * 1.02 / price
        if got > held[n]:
            lot, got = held[n] * price / 1.02, held[n]
        left -= lot
        assert_close(done.repaid[n], lot, rtol=1e-11, atol=1e-8)
        assert_close(done.seized[n], got, rtol=1e-11, atol=1e-8)
        assert float(done.seized[n]) <= held[n] * (1 + 1e-15)


def test_urgent_redemption_needs_a_shutdown_and_what_the_redeemer_insists_on():
    closed = urgent(1e3, [1e3], [1e3], [0.0], 2.0, shut_down=False)
    assert closed.refusal.tolist() == [RedemptionRefusal.NOT_SHUT_DOWN]
    assert float(closed.repaid.sum()) == 0.0
    assert urgent(1e3, [1e3], [1e3], [0.0], 2.0, least=510.0).refusal[0] == RedemptionRefusal.NONE
    refused = urgent(1e3, [1e3], [1e3], [0.0], 2.0, least=510.1)
    assert refused.refusal[0] == RedemptionRefusal.TOO_LITTLE
    assert float(refused.seized.sum()) == 0.0


@pytest.mark.slow
def test_single_precision_agrees():
    rng = np.random.default_rng(7)
    debt = rng.uniform(2e3, 1e5, 16)
    held, rate = rng.uniform(1.01, 2.0, 16) * debt, rng.uniform(0.005, 0.1, 16)
    double, single = (
        redeemed(queue(held, debt, rate, dtype=t), 3e5, 1.0, 0.01) for t in (np.float64, np.float32)
    )
    assert single.seized.dtype == np.float32
    assert_close(single.repaid, double.repaid, rtol=1e-5, atol=0.1)
    assert (single.listed == double.listed).all()


@pytest.mark.slow
def test_gradients_are_finite_at_the_kinks():
    def total(collateral, debt, amount, price, fee_rate):
        q = queue([0.0] * 3, [0.0] * 3, [0.01, 0.02, 0.03])
        q = RedemptionQueue(
            collateral=collateral, debt=debt, rate=q.rate, listed=q.listed, first=q.first
        )
        done = redeem(
            q, amount, price=price, fee_rate=fee_rate, minimum_debt=jnp.array(MINIMUM),
            limit=jnp.array(jnp.inf), largest_fee=jnp.array(1.0),
        )  # fmt: skip
        late = redeem_urgently(
            amount, collateral=collateral, debt=debt, order=q.rate, price=price, bonus=fee_rate,
            shut_down=jnp.array(True), least=jnp.array(0.0),
        )  # fmt: skip
        return jnp.sum(done.repaid + done.seized + done.fee + late.repaid + late.seized)

    held, owed = jnp.array([0.0, 4e3, 9e3]), jnp.array([0.0, 4e3, 5e3])
    for amount in (0.0, 4e3, 9e3, 1e5):
        gradients = jax.grad(total, argnums=(0, 1, 2, 3, 4))(
            held, owed, jnp.array(amount), jnp.array(1.0), jnp.array(0.01)
        )
        for leaf in gradients:
            assert np.isfinite(leaf).all()
