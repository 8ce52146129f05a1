"""Vault shares: who sees a loss and when, interest netted first, conservation of moves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.venue.vault_share import (
    VaultBook,
    VaultLoss,
    VaultRefusal,
    VaultShare,
    available_assets,
    claim_value,
)
from tests.helpers import assert_close

AMOUNTS = st.floats(1.0, 1e6)
KINDS = st.sampled_from(list(VaultLoss))
TOLERANCE = {np.float32: {"rtol": 1e-4, "atol": 1e-4}, np.float64: {"rtol": 1e-10, "atol": 1e-9}}


def rule(loss, fee=0.1, dtype=np.float64, virtual=0.0):
    one = lambda x: jnp.asarray([x], dtype)
    return VaultShare(
        fee=one(fee), virtual_assets=one(virtual), virtual_shares=one(virtual), loss=loss
    )


def book(shares, last, lost=0.0, dtype=np.float64):
    one = lambda x: jnp.asarray([x], dtype)
    return VaultBook(shares=one(shares), last_assets=one(last), lost_assets=one(lost))


def reference(loss, fee, shares, last, lost, assets):
    """Return (stated, lost, fee shares, price) from the formula, in scalars."""
    carried = 0.0
    if loss is VaultLoss.HELD:
        carried = last - assets if assets < last - lost else lost
    stated = assets + carried
    fee_assets = fee * max(stated - last, 0.0)
    fee_shares = fee_assets * shares / (stated - fee_assets)
    return stated, carried, fee_shares, stated / (shares + fee_shares)


def accrue(vault, written, assets, dtype=np.float64):
    accrued, fee_shares = jax.jit(vault.accrue)(written, jnp.asarray([assets], dtype))
    return accrued, float(fee_shares[0])


def moved(vault, written, assets, *, units=0.0, shares=0.0, available=np.inf):
    one = lambda x: jnp.asarray([x])
    return vault.move(
        written, one(assets), one(available), moved_assets=one(units), moved_shares=one(shares)
    )


@pytest.mark.slow
@given(
    loss=KINDS,
    fee=st.floats(0.0, 0.5),
    shares=AMOUNTS,
    last=AMOUNTS,
    lost=st.floats(0.0, 0.9),
    assets=AMOUNTS,
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_accrual_is_that_of_the_reference(dtype, loss, fee, shares, last, lost, assets):
    fee, shares, last, assets = (float(dtype(x)) for x in (fee, shares, last, assets))
    lost = float(dtype(lost * last)) if loss is VaultLoss.HELD else 0.0
    accrued, fee_shares = accrue(
        rule(loss, fee, dtype), book(shares, last, lost, dtype), assets, dtype
    )
    stated, carried, expected_fee, price = reference(loss, fee, shares, last, lost, assets)
    actual = [accrued.last_assets[0], accrued.lost_assets[0]]
    tolerance = dict(TOLERANCE[dtype])
    tolerance["atol"] += float(np.finfo(dtype).eps) * 8.0 * (last + assets)
    assert_close(actual, [stated, carried], **tolerance)
    tolerance["atol"] *= 1.0 + shares / stated
    assert_close(fee_shares, expected_fee, **tolerance)
    actual_price = float(rule(loss, fee, dtype).share_price(accrued)[0])
    assert_close(actual_price, price, rtol=TOLERANCE[dtype]["rtol"], atol=0.0)


def test_a_loss_is_seen_at_once_or_carried():
    """A vault of 1,000 loses 64. Recognised: 0.936 a share; held: 1 a share, 64 carried."""
    written = book(1_000.0, 1_000.0)
    recognised, _ = accrue(rule(VaultLoss.RECOGNISED), written, 936.0)
    held, _ = accrue(rule(VaultLoss.HELD), written, 936.0)
    assert rule(VaultLoss.RECOGNISED).share_price(recognised).tolist() == [0.936]
    assert rule(VaultLoss.HELD).share_price(held).tolist() == [1.0]
    assert held.lost_assets.tolist() == [64.0]


def test_interest_since_the_last_interaction_is_netted_first():
    """Recorded: interest 2,540.73 not yet accrued, then a loss of 4,726.50 (thousandths of 1e18).

    The share falls from 1.0300 to exactly 1 where losses are held, and to 0.9656 where they are
    recognised.
    """
    start, interest, loss = 63456.540085147337, 2540.734298589146, 4726.501176285807
    written = book(start, start)
    for kind, expected in ((VaultLoss.RECOGNISED, 0.965554899861168), (VaultLoss.HELD, 1.0)):
        vault = rule(kind, fee=0.25)
        before, _ = accrue(vault, written, start + interest)
        assert_close(float(vault.share_price(before)[0]), 1.030029225063089, rtol=1e-12, atol=0.0)
        after, fee_shares = accrue(vault, written, start + interest - loss)
        assert_close(float(vault.share_price(after)[0]), expected, rtol=1e-12, atol=0.0)
        assert fee_shares == 0.0


def test_an_interaction_in_between_keeps_the_interest():
    """The same interest and loss, but with the interest written down first: nothing to net."""
    start, interest, loss = 63456.540085147337, 2540.734298589146, 4726.501176285807
    vault = rule(VaultLoss.HELD, fee=0.0)
    written, _ = accrue(vault, book(start, start), start + interest)
    after, _ = accrue(vault, written, start + interest - loss)
    assert_close(float(after.lost_assets[0]), loss, rtol=1e-12, atol=0.0)
    assert float(vault.share_price(after)[0]) > 1.03


@given(shares=AMOUNTS, last=AMOUNTS, assets=AMOUNTS, fee=st.floats(0.0, 0.5))
def test_a_held_price_falls_only_by_interest_never_seen(shares, last, assets, fee):
    vault = rule(VaultLoss.HELD, fee)
    accrued, _ = accrue(vault, book(shares, last), assets)
    assert float(vault.share_price(accrued)[0]) >= last / shares * (1 - 1e-12)


@given(
    loss=KINDS,
    shares=AMOUNTS,
    last=AMOUNTS,
    assets=AMOUNTS,
    size=st.floats(-0.9, 2.0),
    by_shares=st.booleans(),
)
def test_a_move_leaves_the_price_and_adds_up(loss, shares, last, assets, size, by_shares):
    vault, written = rule(loss), book(shares, last)
    accrued, fee_shares = accrue(vault, written, assets)
    named = {"shares": size * shares} if by_shares else {"units": size * assets}
    move = moved(vault, written, assets, **named)
    assert int(move.refusal[0]) == VaultRefusal.NONE
    assert float(move.assets[0]) * float(move.shares[0]) >= 0.0
    issued = float(move.book.shares[0]) - shares
    assert_close(issued, float(move.shares[0]) + fee_shares, rtol=1e-9, atol=1e-9 * shares)
    stated = float(move.book.last_assets[0] - accrued.last_assets[0])
    assert_close(stated, float(move.assets[0]), rtol=1e-9, atol=1e-9 * (last + assets))
    before, after = vault.share_price(accrued), vault.share_price(move.book)
    assert_close(after, before, rtol=1e-7, atol=0.0)


def test_rounding_favours_the_vault():
    one = lambda x: jnp.asarray([x])
    vault = VaultShare(
        fee=one(0.0), virtual_assets=one(1.0), virtual_shares=one(1.0), asset_unit=one(1.0),
        share_unit=one(1.0), loss=VaultLoss.RECOGNISED,
    )  # fmt: skip
    written = book(20.0, 29.0)  # 30 / 21 a share
    assert moved(vault, written, 29.0, units=10.0).shares.tolist() == [7.0]
    assert moved(vault, written, 29.0, units=-10.0).shares.tolist() == [-7.0]
    assert moved(vault, written, 29.0, units=-9.0).shares.tolist() == [-7.0]
    assert moved(vault, written, 29.0, shares=5.0).assets.tolist() == [8.0]
    assert moved(vault, written, 29.0, shares=-5.0).assets.tolist() == [-7.0]


def test_withdrawals_above_cash_or_shares_are_refused_and_change_nothing():
    vault, written = rule(VaultLoss.HELD), book(100.0, 100.0)
    for amount, available, expected in (
        (-60.0, 60.0, VaultRefusal.NONE),
        (-60.1, 60.0, VaultRefusal.ILLIQUID),
        (-101.0, np.inf, VaultRefusal.EXCEEDS_SHARES),
        (60.0, 0.0, VaultRefusal.NONE),
    ):
        move = moved(vault, written, 90.0, units=amount, available=available)
        assert int(move.refusal[0]) == expected
        if expected != VaultRefusal.NONE:
            assert move.book.shares.tolist() == [100.0]
            assert (move.book.last_assets[0], move.book.lost_assets[0]) == (100.0, 0.0)


def test_the_last_to_leave_are_short_by_what_is_carried():
    vault, assets = rule(VaultLoss.HELD, fee=0.0), 90.0
    first = moved(vault, book(100.0, 100.0), assets, units=-60.0, available=assets)
    assert int(first.refusal[0]) == VaultRefusal.NONE
    rest = moved(vault, first.book, 30.0, shares=-40.0, available=30.0)
    assert int(rest.refusal[0]) == VaultRefusal.ILLIQUID
    assert_close(-float(rest.assets[0]) - 30.0, 10.0, rtol=1e-12, atol=0.0)


def test_claims_and_cash_of_markets():
    table = lambda *rows: jnp.asarray(rows)[:, None]
    claims = claim_value(table(50.0, 0.0, 20.0), table(120.0, 0.0, 20.0), table(100.0, 0.0, 20.0))
    assert claims[:, 0].tolist() == [60.0, 0.0, 20.0]
    available = available_assets(claims, table(120.0, 0.0, 20.0), table(100.0, 0.0, 0.0))
    assert available.tolist() == [40.0]


@pytest.mark.slow
@pytest.mark.parametrize("loss", list(VaultLoss))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_derivatives_are_finite_at_the_kinks(loss, dtype):
    vault = rule(loss, dtype=dtype)

    def price(shares, last, assets):
        accrued, fee_shares = vault.accrue(
            VaultBook(shares=shares, last_assets=last, lost_assets=jnp.zeros_like(last)), assets
        )
        return (vault.share_price(accrued) + fee_shares)[0]

    one = lambda x: jnp.asarray([x], dtype)
    for state in ((1.0, 1.0, 1.0), (1.0, 1.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0)):
        slopes = jax.grad(price, argnums=(0, 1, 2))(*map(one, state))
        assert np.isfinite(np.concatenate(slopes)).all()
