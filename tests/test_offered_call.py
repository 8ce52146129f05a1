"""Named repayments under a close factor: worked figures, a scalar reference, refusals, slopes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.offered_call import OfferedClose
from jaxrisk.venue.position import Position
from jaxrisk.venue.settlement import Refusal, Settlement
from tests.helpers import assert_close

EXACT = {"rtol": 1e-13, "atol": 1e-9}
ACCOUNTS = 4

# One collateral of 10,000 USD at a collateral factor of 80 %, incentive 1.08, close factor 50 %,
# protocol share of the seizure 2.8 %: (debt, offer, refusal, seized, fee). Worked out by hand from
# Comptroller `liquidateCalculateSeizeTokens` and CToken `seizeInternal`.
WORKED_CASES = [
    (8_000.0, 100.0, Refusal.HEALTHY, 0.0, 0.0),
    (8_500.0, 4_250.0, Refusal.NONE, 4_590.0, 128.52),
    (8_500.0, 4_250.01, Refusal.EXCEEDS_ALLOWANCE, 0.0, 0.0),
    (20_000.0, 9_259.0, Refusal.NONE, 9_999.72, 279.99216),
    (20_000.0, 9_260.0, Refusal.EXCEEDS_POSITION, 0.0, 0.0),
    (8_500.0, 0.0, Refusal.NOTHING_ASKED, 0.0, 0.0),
]


def rule(close_factor=0.5, fee=0.028, dtype: type[np.floating] = np.float64):
    """Return the rule with one close factor and one share for all accounts."""
    return OfferedClose(
        close_factor=jnp.asarray(close_factor, dtype), seizure_fee=jnp.asarray(fee, dtype)
    )


def position(held, owed, weight=0.8, credit=1.08, dtype: type[np.floating] = np.float64, **more):
    """Return accounts of one collateral and one debt unless totals are given."""
    array = lambda x: jnp.atleast_1d(jnp.asarray(x, dtype))
    held, owed = array(held), array(owed)
    return Position(
        collateral=held,
        debt=owed,
        total_collateral=held,
        total_debt=array(more.get("total_debt", owed)),
        backing=array(more.get("backing", weight * held)),
        credit=jnp.full_like(held, credit),
        fee_share=jnp.zeros_like(held),
        collateral_unit=more.get("collateral_unit"),
        debt_unit=more.get("debt_unit"),
    )


def reference(held, owed, backing, total, offer, close_factor, credit, share):
    """Return (reason, seized, fee) of one account, in plain Python."""
    if not total > backing:
        return Refusal.HEALTHY, 0.0, 0.0
    if offer > close_factor * owed:
        return Refusal.EXCEEDS_ALLOWANCE, 0.0, 0.0
    if offer == 0:
        return Refusal.NOTHING_ASKED, 0.0, 0.0
    if offer * credit > held:
        return Refusal.EXCEEDS_POSITION, 0.0, 0.0
    return Refusal.NONE, offer * credit, offer * credit * share


@jax.jit
def called(close, p, offer) -> Settlement:
    return close.call(p, offer)


@pytest.mark.parametrize(("owed", "offer", "reason", "seized", "fee"), WORKED_CASES)
def test_worked_cases(owed, offer, reason, seized, fee):
    call = rule().call(position(1e4, owed), jnp.array([offer]))
    assert call.refusal[0] == reason
    repaid = offer if reason == Refusal.NONE else 0.0
    assert_close([call.repaid[0], call.seized[0], call.fee[0]], [repaid, seized, fee], **EXACT)


VALUES = st.lists(st.floats(10.0, 1e5), min_size=ACCOUNTS, max_size=ACCOUNTS)


@given(
    collateral=VALUES, debt=VALUES, share=st.one_of(st.just(0.0), st.floats(1e-6, 1.2)),
    close_factor=st.floats(0.05, 0.9), credit=st.floats(1.0, 1.2), fee=st.floats(0.0, 0.1),
    weight=st.floats(0.3, 0.9),
)  # fmt: skip
def test_random_accounts_are_those_of_the_reference(
    collateral, debt, share, close_factor, credit, fee, weight
):
    """The neighbouring account's values are a second collateral and a second debt."""
    held, owed = np.array(collateral), np.array(debt)
    backing = weight * (held + 0.3 * np.roll(held, 1))
    total = owed + 0.2 * np.roll(owed, 1)
    p = position(held, owed, credit=credit, backing=backing, total_debt=total)
    offer = share * close_factor * owed
    call = called(rule(close_factor, fee), p, jnp.asarray(offer))
    for n in range(ACCOUNTS):
        reason, seized, kept = reference(
            held[n], owed[n], backing[n], total[n], offer[n], close_factor, credit, fee
        )
        assert call.refusal[n] == reason
        assert_close([call.seized[n], call.fee[n]], [seized, kept], **EXACT)
        assert call.repaid[n] == (offer[n] if reason == Refusal.NONE else 0.0)
    # Limited: no more than there is, and nothing is forgiven or returned.
    assert bool(jnp.all(call.seized <= p.collateral))
    assert bool(jnp.all(call.repaid <= p.debt))
    assert bool(jnp.all((call.fee >= 0) & (call.fee <= call.seized)))
    assert float(jnp.max(call.bad_debt)) == float(jnp.max(call.refund)) == 0.0


@given(low=st.floats(1.0, 4_000.0), more=st.floats(0.0, 250.0))
def test_more_repaid_is_more_seized(low, more):
    call = rule().call(position([1e4, 1e4], [8.5e3, 8.5e3]), jnp.array([low, low + more]))
    assert call.refusal.tolist() == [Refusal.NONE] * 2
    assert_close(call.seized[1] - call.seized[0], 1.08 * more, rtol=1e-9, atol=1e-9)


def test_amounts_round_down_to_contract_units():
    p = position(
        1e4, 9e3, credit=1.0819, collateral_unit=jnp.array([10.0]), debt_unit=jnp.array([1.0])
    )
    call = rule(0.5, 0.5).call(p, jnp.array([1_000.0]), ratio_unit=jnp.array([0.01]))
    # The ratio counts as 1.08: 1,080 are seized; half of it, 540, is kept.
    assert_close([call.seized[0], call.fee[0]], [1_080.0, 540.0], rtol=0.0, atol=1e-9)
    whole = rule(0.5, 0.028).call(p, jnp.array([1_000.0]))
    # 1,081.9 seized in tens is 1,080; 2.8 % of it, 30.24, in tens is 30.
    assert_close([whole.seized[0], whole.fee[0]], [1_080.0, 30.0], rtol=0.0, atol=1e-9)


@pytest.mark.slow
def test_single_precision_agrees():
    held, owed = np.linspace(5e3, 2e4, ACCOUNTS), np.linspace(4.5e3, 1.9e4, ACCOUNTS)
    offer = 0.49 * owed
    results = {
        dtype: rule(dtype=dtype).call(position(held, owed, dtype=dtype), jnp.asarray(offer, dtype))
        for dtype in (np.float32, np.float64)
    }
    single, double = results[np.float32], results[np.float64]
    assert single.seized.dtype == np.float32
    assert single.refusal.tolist() == double.refusal.tolist()
    assert Refusal.NONE in double.refusal.tolist()
    for name in ("repaid", "seized", "fee"):
        assert_close(getattr(single, name), getattr(double, name), rtol=1e-6, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(("owed", "offer"), [(8e3, 1.0), (8.5e3, 4_250.0), (0.0, 0.0)])
def test_gradients(owed, offer):
    """Finite at health exactly 1, at the allowance itself and without debt."""

    def kept(x, held, fee):
        return jnp.sum(rule(fee=fee).call(position(held, owed), x).fee)

    gradients = jax.grad(kept, (0, 1, 2))(jnp.array([offer]), jnp.array([1e4]), jnp.array(0.028))
    assert all(bool(jnp.all(jnp.isfinite(g))) for g in gradients)
    expected = 1.08 * 0.028 if owed == 8.5e3 else 0.0
    assert_close(gradients[0], [expected], rtol=1e-12, atol=0.0)
