"""A stake that is slashed as a fund: its rule, its order among funds, and its balance sheet."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.presets.umbrella import MINIMUM_STAKE
from jaxrisk.venue.staked_coverage import StakedCoverage
from jaxrisk.venue.waterfall import Capacity, Fund, Loss, Settled, pay_in_order
from tests import reference
from tests.helpers import assert_close

SEEN = np.array([2000.0, 1.0, 1.05])
"""Ether, a dollar and a share of a vault of dollars."""

OWED = (0, 1)
"""Ether and dollars are owed."""

AMOUNTS = st.one_of(st.just(0.0), st.floats(1e-3, 1e6))


def coverage(*, staked=2, offset=0.0, fee=0.0, kept=0.0, pool_share=False, dtype=np.float64):
    """Return a stake behind the dollar deficit."""
    number = lambda x: jnp.asarray(x, dtype)
    return StakedCoverage(
        offset=number(offset),
        fee=number(fee),
        kept=number(kept),
        row=1,
        covered=OWED[1],
        staked=staked,
        pool_share=pool_share,
    )


def settled(
    rules: tuple[Fund, ...],
    funds: Sequence[float],
    units: Sequence[float],
    *,
    offsets: Sequence[float] | None = None,
    seen: np.ndarray = SEEN,
    dtype: Any = np.float64,
    value: float | None = None,
) -> Settled:
    """Return what funds pay of `units` of ether and dollars."""
    array = lambda x: jnp.asarray(x, dtype)
    price = array(seen)[: len(OWED)]
    worth = jnp.sum(array(units) * price) if value is None else array(value)
    waiting = [float(rule.opening_offset(dtype)) for rule in rules] if offsets is None else offsets
    return pay_in_order(
        rules, Loss.opening(array(units), worth, price), array(funds), array(waiting), array(seen)
    )


@given(
    deficits=st.lists(AMOUNTS, min_size=4, max_size=4),
    prices=st.lists(st.floats(0.5, 2.0), min_size=4, max_size=4),
    stake=AMOUNTS,
    offset=AMOUNTS,
    fee=st.sampled_from([0.0, 0.1, 1.0]),
    slashable=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_deficits_in_turn_are_those_of_the_reference(
    deficits, prices, stake, offset, fee, slashable
):
    kept = (1.0 - slashable) * stake
    rule = coverage(offset=offset, fee=fee, kept=kept)
    expected = reference.staked_coverage(
        deficits, [1.0 / p for p in prices], stake=stake, offset=offset, fee=fee, kept=kept
    )
    fund, waiting = stake, offset
    for deficit, price, (covered, charged, slashed) in zip(deficits, prices, expected, strict=True):
        seen = np.array([2000.0, 1.0, price])
        found = settled((rule,), [fund], [0.0, deficit], offsets=[waiting], seen=seen)
        slack = {"rtol": 1e-9, "atol": 1e-9 * (1.0 + sum(deficits) + stake)}
        assert_close(found.loss.cash, [0.0, covered], **slack)
        assert_close(found.loss.fee, charged, **slack)
        assert_close(fund - float(found.funds[0]), slashed, **slack)
        # What the stake pays for is paid once, and the rest is open.
        assert_close(found.paid.sum() + found.loss.left, deficit, rtol=1e-12, atol=1e-12)
        assert_close(found.loss.open()[1], found.loss.left, **slack)
        fund, waiting = float(found.funds[0]), float(found.offsets[0])


def test_the_played_rule_is_the_recorded_one(shared):
    """Every recorded slash, as a fund that meets the deficit beyond what is pending."""
    path = shared / "vectors" / "aave_umbrella_slashing.json"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    recorded = json.loads(path.read_text())["cases"]
    slashes = [c for c in recorded if c["action"] == "slash"]
    assert {c["reverted"] for c in slashes} == {True, False}
    column = lambda key: jnp.asarray([float(c["before"][key]) for c in slashes])
    prices = jnp.asarray([[float(c["reservePrice"]), float(c["underlyingPrice"])] for c in slashes])
    fee = jnp.asarray([c["liquidationFee"] / 1e4 for c in slashes])
    loss = column("poolDeficit") - column("pendingDeficit")

    def one(loss, fund, offset, seen, fee):
        rule = StakedCoverage(
            offset=offset,
            fee=fee,
            kept=jnp.asarray(MINIMUM_STAKE),
            row=0,
            covered=0,
            staked=1,
            pool_share=False,
        )
        opening = Loss.opening(loss[None], loss * seen[0], seen[:1])
        found = pay_in_order((rule,), opening, fund[None], offset[None], seen)
        return found.loss.cash[0], found.loss.fee / seen[0], found.funds[0]

    played = jax.jit(jax.vmap(one))(
        loss, column("stakeTotalAssets"), column("deficitOffset"), prices, fee
    )
    figure = lambda case, name: 0.0 if case["reverted"] else float(case["args"][name])
    deficits = np.asarray(column("poolDeficit"))
    stakes = np.asarray(column("stakeTotalAssets"))
    for actual, name in zip(played, ("newCoveredAmount", "feeAmount"), strict=False):
        expected = np.array([figure(c, name) for c in slashes])
        error = np.abs(np.asarray(actual) - expected)
        # Whole raw units in the contract, and differences of amounts of up to 1e25 of them.
        assert (error <= 2.0 + 1e-9 * expected + 4e-15 * deficits).all()
        assert (expected > 0).sum() > 50
    left = np.array([float(c["after"]["stakeTotalAssets"]) for c in slashes])
    assert (np.abs(np.asarray(played[2]) - left) <= 2.0 + 1e-9 * left + 4e-15 * stakes).all()


def test_funds_pay_in_the_order_of_the_list():
    """Ether and dollars are missing; money covers both in proportion, the stake dollars alone."""
    money, stake = Capacity(), coverage(staked=1, offset=100.0, fee=0.1)
    first = settled((money, stake, money), [500.0, 1e6, 1e9], [1.0, 3000.0])
    # 500 of 5,000 is a tenth of both: 2,700 dollars reach the stake, 2,600 beyond the offset.
    assert_close(first.paid, [500.0, 2600.0, 1900.0], rtol=1e-12, atol=0.0)
    assert_close(first.loss.fee, 260.0, rtol=1e-12, atol=0.0)
    assert_close(first.funds, [0.0, 1e6 - 2860.0, 1e9 - 1900.0], rtol=1e-12, atol=0.0)
    assert first.offsets.tolist() == [0.0, 0.0, 0.0]
    assert_close(first.loss.cash, [1.0, 3000.0], rtol=1e-12, atol=0.0)
    assert_close(first.loss.left, 0.0, rtol=0.0, atol=1e-9)
    behind = settled((stake, money), [1e6, 500.0], [1.0, 3000.0])
    assert_close(behind.paid, [2900.0, 500.0], rtol=1e-12, atol=0.0)
    # The last 2,100 is what the offset left and the ether, in proportion.
    share = 500.0 / 2100.0
    assert_close(behind.loss.cash, [share, 2900.0 + 100.0 * share], rtol=1e-12, atol=0.0)
    # No stake pays for another asset, and one without stake for none.
    assert settled((stake,), [1e6], [1.0, 0.0]).paid.tolist() == [0.0]
    assert settled((stake,), [0.0], [1.0, 3000.0]).paid.tolist() == [0.0]


@given(
    units=st.tuples(AMOUNTS, AMOUNTS),
    funds=st.tuples(AMOUNTS, AMOUNTS, AMOUNTS),
    offset=AMOUNTS,
    fee=st.floats(0.0, 1.0),
    pool_share=st.booleans(),
    loss_price=st.floats(0.9, 1.1),
)
def test_units_and_value_are_conserved(units, funds, offset, fee, pool_share, loss_price):
    rules = (
        Capacity(),
        coverage(offset=offset, fee=fee, kept=0.2 * funds[1], pool_share=pool_share),
        Capacity(),
    )
    # A loss that was booked at other prices than those of now.
    value = loss_price * float(np.dot(units, SEEN[:2]))
    end = settled(rules, funds, units, value=value)
    met = np.asarray(end.loss.cash) + end.loss.cancelled + end.loss.open()
    slack = {"rtol": 1e-12, "atol": 1e-9}
    assert_close(met, units, **slack)
    assert_close(end.paid.sum() + end.loss.left, value, rtol=1e-12, atol=1e-12 * value)
    assert (np.asarray(end.paid) >= 0.0).all()
    assert (np.asarray(end.loss.open()) >= -1e-12 * np.array(units)).all()
    assert float(end.loss.left) >= 0.0
    # The stake in units: what left it is worth what it covered and the fee, at seen prices.
    covered = np.asarray(end.loss.cancelled)[1] if pool_share else None
    slashed = funds[1] - float(end.funds[1])
    assert slashed <= 0.8 * funds[1] * (1.0 + 1e-12) + 1e-12
    if covered is not None:
        given_up = covered + float(end.loss.treasury[1])
        assert_close(slashed * SEEN[2], given_up * SEEN[1], rtol=1e-9, atol=1e-9 * funds[1])
        assert_close(end.loss.treasury[1] * SEEN[1], end.loss.fee, **slack)
    else:
        assert not np.asarray(end.loss.cancelled).any()
        assert not np.asarray(end.loss.treasury).any()
    assert float(end.offsets[1]) <= offset


@given(loss=st.floats(1e-3, 1e6), stake=AMOUNTS, more=AMOUNTS, offset=AMOUNTS)
def test_more_stake_or_less_offset_never_leaves_more(loss, stake, more, offset):
    left = lambda rule, fund: float(settled((rule,), [fund], [0.0, loss]).loss.left)
    base = left(coverage(offset=offset), stake)
    assert left(coverage(offset=offset), stake + more) <= base * (1.0 + 1e-12) + 1e-9
    assert left(coverage(offset=0.5 * offset), stake) <= base * (1.0 + 1e-12) + 1e-9


@pytest.mark.slow
def test_derivatives_are_finite_and_say_who_pays_the_next_unit():
    rules = lambda offset: (
        dataclasses.replace(coverage(staked=1, fee=0.1), offset=offset),
        Capacity(),
    )

    def left(loss, stake, offset):
        opening = Loss.opening(jnp.stack([0.0 * loss, loss]), loss, jnp.ones(2))
        funds, waiting = jnp.stack([stake, 5.0 * jnp.ones(())]), jnp.stack([offset, 0.0 * offset])
        return pay_in_order(rules(offset), opening, funds, waiting, jnp.ones(3)).loss.left

    slope = jax.grad(left, argnums=(0, 1, 2))
    at = lambda *values: [float(x) for x in slope(*map(jnp.asarray, values))]
    # Within the offset money pays; beyond it the stake does; then nobody does.
    assert at(3.0, 11.0, 4.0) == [0.0, 0.0, 0.0]
    assert_close(at(30.0, 11.0, 4.0), [1.0, -1.0 / 1.1, 0.0], rtol=1e-12, atol=1e-12)
    for kink in ((0.0, 0.0, 0.0), (4.0, 11.0, 4.0), (0.0, 11.0, 0.0), (10.0, 11.0, 0.0)):
        assert np.isfinite(at(*kink)).all(), kink


def test_single_precision_stays_single():
    rules = lambda dtype: (Capacity(), coverage(offset=10.0, fee=0.1, dtype=dtype))
    units, funds = [1.0, 3000.0], [100.0, 1e4]
    rough, exact = (settled(rules(d), funds, units, dtype=d) for d in (np.float32, np.float64))
    for a, b in zip(jax.tree.leaves(rough), jax.tree.leaves(exact), strict=True):
        assert a.dtype == jnp.float32
        assert_close(a, b, rtol=1e-6, atol=1e-3)
