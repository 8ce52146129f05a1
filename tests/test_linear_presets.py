"""Margins of futures venues as they publish them, and all leverage tiers of one venue."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrisk as jr
from jaxrisk.errors import DataError
from jaxrisk.market.contract import perpetual, table
from jaxrisk.venue.margin_tiers import Bracket, MarginTiers
from jaxrisk.venue.presets import (
    binance_coinm,
    binance_usdm,
    bitmex,
    bybit,
    deribit,
    hyperliquid,
    okx,
)
from tests.helpers import assert_close
from tests.reference_liquidation import bisected, marginal

one = lambda x: jnp.asarray([[x]])


def test_published_deductions_and_margins_of_tiers():
    """Hyperliquid, Margin tiers: 1.875 M off at 150 M of BTC, so 3.125 M of 200 M; ETH 1.3333 M."""
    tiers = hyperliquid.margin(["BTC", "ETH"])
    assert_close(tiers.deduction[1], [1.875e6, 4e6 / 3.0], rtol=1e-12, atol=0.0)
    amount, tier = tiers.of([0]).maintenance(one(200e6))
    assert_close(amount, [[3.125e6]], rtol=1e-12, atol=0.0)
    assert tier.tolist() == [[1]]


def test_margins_that_rise_with_size_of_a_book():
    """Deribit, Linear Perpetual: 25 BTC at 100,000, 6,000 SOL at 200; inverse, 2.5 M dollars."""
    rule = deribit.margin(["BTC", "SOL_USDC"])
    units, price = jnp.asarray([[25.0], [6_000.0]]), jnp.asarray([[1e5], [200.0]])
    initial, maintenance = rule.required(units, price)
    assert_close(initial, [[53_125.0], [84_000.0]], rtol=1e-12, atol=0.0)
    book = jr.MarginBook.from_positions(
        table([perpetual(1.0)] * 2), rule, size=-units, entry=price, wallet=[1e6]
    )
    assert_close(book.maintenance(price[:, 0])[0], maintenance, rtol=1e-12, atol=0.0)
    coin = jr.MarginBook.from_positions(
        deribit.contract(linear=False), deribit.margin(), size=[[25e4]], entry=[[1e5]], wallet=[1.0]
    )
    assert_close(coin.maintenance(price[0])[0], [[0.28125]], rtol=1e-12, atol=0.0)
    assert deribit.contract(linear=True).inverse.tolist() == [0.0]


def test_published_marginal_tiers():
    """Bybit, Maintenance Margin: 1 to 5 % by ten units of value, 25 units; 0.45 by their table."""
    rows = [Bracket(10.0 * k, 10.0 * k + 10.0, 0.01 * (k + 1), 10.0 - k) for k in range(5)]
    amount, tier = MarginTiers.from_brackets({"X": rows}).maintenance(one(25.0))
    assert_close(amount, [[0.45]], rtol=1e-12, atol=0.0)
    assert tier.tolist() == [[2]]


def test_a_fee_to_close_at_the_bankruptcy_price_is_kept_back():
    """Bybit, inverse cross margin: bankruptcy at 5,718.57; liquidation rounded up to 5,739.50."""
    entry, face, balance = 8_000.0, 10_000.0, 0.5
    bankrupt = (1.0 + bybit.TAKER_FEE) * face / (face / entry + balance)
    assert_close(bankrupt, 5_718.57, rtol=0.0, atol=0.005)
    fee = bybit.inverse_fee_to_close(one(face), one(bankrupt), jnp.asarray(bybit.TAKER_FEE))
    tiers = MarginTiers.from_brackets({"X": [Bracket(0.0, np.inf, bybit.BTC_RATE, 100.0)]})
    book = jr.MarginBook.from_positions(
        perpetual(1.0, inverse=True), tiers, size=[[face]], entry=[[entry]], wallet=[balance],
        reserved=fee,
    )  # fmt: skip
    # The page takes maintenance margin at the entry price: with it at the mark the price is higher.
    found = float(jr.liquidation_price(book, jnp.asarray([entry]))[0, 0])
    assert 5_739.5 < found < 5_755.0
    expected = face * (1.0 + bybit.BTC_RATE) / (balance - float(fee[0, 0]) + face / entry)
    assert_close(found, expected, rtol=1e-12, atol=0.0)
    assert_close(
        bybit.fee_to_close(one(-2.0), one(100.0), jnp.asarray(0.001)), [[0.2]], rtol=1e-14, atol=0.0
    )


def test_published_position_tiers_of_contracts():
    """OKX, 15 May 2023: beyond the third tier each step of its size adds 0.5 % to both rates."""
    tiers = okx.margin(["ADA-USDT-SWAP", "AAVE-USDT-SWAP"])
    count = jnp.asarray([[1_500.0, 6_000.0, 12_000.0], [1_001.0, 8_000.0, 16_001.0]])
    _, tier = tiers.maintenance(count, count)
    assert tier.tolist() == [[0, 2, 3], [1, 2, 4]]
    rate = [[0.005, 0.01, 0.015], [0.01, 0.015, 0.025]]
    assert_close(tiers.maintenance(count, count)[0] / count, rate, rtol=1e-12, atol=0.0)
    (initial, _), _ = tiers.required(count, count, jnp.full((2, 3), 1e3))
    expected = [[1 / 75, 0.025, 0.03], [0.025, 0.05, 0.06]]
    assert_close(initial / count, expected, rtol=1e-12, atol=0.0)


def test_published_risk_limits():
    """BitMEX: each step of 150 XBT above 200 adds the base maintenance margin to both."""
    tiers = bitmex.margin(bitmex.RISK_LIMITS["XBTUSD"])
    value = jnp.asarray([[200.0, 201.0, 351.0]])
    (initial, maintenance), tier = tiers.required(value, value, jnp.full((1, 3), 1e3))
    assert tier.tolist() == [[0, 1, 2]]
    assert_close(maintenance / value, [[0.004, 0.008, 0.012]], rtol=1e-12, atol=0.0)
    assert_close(initial / value, [[0.01, 0.014, 0.018]], rtol=1e-12, atol=0.0)
    # One XBT is enough for 200 and not for more: a long is called where its value passes the bound,
    # though 0.4 % would do down to 19,980.
    book = jr.MarginBook.from_positions(
        bitmex.contract(), tiers, size=[[4e6]], entry=[[2e4]], wallet=[1.0]
    )
    found = jr.liquidation_price(book, jnp.asarray([2.1e4]))
    assert_close(found, [[2e4]], rtol=1e-12, atol=0.0)


def test_a_calculator_of_inverse_contracts():
    """COIN-M: 33,599.42 by the tiers, of which the venue's calculator rounds to 33,599.40."""
    book = jr.MarginBook.from_positions(
        binance_coinm.contract(), binance_coinm.margin(), size=[[1e5]], entry=[[45e3]],
        wallet=[101.0],
    )  # fmt: skip
    found = jr.liquidation_price(book, jnp.asarray([45e3]))
    assert_close(found, [[33_599.42]], rtol=0.0, atol=0.005)


def test_what_may_be_withdrawn_leaves_a_tenth_of_notional():
    value, initial = jnp.asarray([50.0, 9.0]), jnp.asarray([20.0, 1.0])
    taken = hyperliquid.withdrawable(value, initial, jnp.asarray([300.0, 100.0]))
    assert_close(taken, [20.0, 0.0], rtol=1e-14, atol=0.0)


def test_the_liquidation_price_of_a_spot_loan():
    """OKX quick margin: equity over maintenance and fee is 1 there."""
    numbers = [jnp.asarray([x]) for x in (0.0, 2.0, 500.0, 0.0)]
    rate, fee = jnp.asarray(0.03), jnp.asarray(0.001)
    found = okx.loan_price(*numbers, rate=rate, fee=fee)
    assert_close(found, [500.0 / (2.0 * 1.03 * 1.001)], rtol=1e-13, atol=0.0)
    assert np.isnan(okx.loan_price(numbers[1], *numbers[:1] * 3, rate=rate, fee=fee))[0]


@pytest.mark.parametrize("preset", [binance_usdm, hyperliquid, okx, deribit])
def test_unknown_contracts_are_refused(preset):
    with pytest.raises(ValueError, match="DOGE-X: expected one of"):
        preset.margin(["DOGE-X"])


@pytest.fixture(scope="module")
def leverage_tiers(shared):
    path = shared / "margin" / "binance_usdm_leverage_tiers_2026_09.parquet"
    path = path if path.exists() else shared / "data" / path.relative_to(shared)
    if not path.exists():
        pytest.skip(f"no {path.name} among the shared data")
    return path


def test_all_tiers_of_a_venue_load_and_bind_as_published(leverage_tiers):
    brackets = jr.read_margin_tiers(leverage_tiers)
    assert len(brackets) == 907
    assert sum(len(rows) for rows in brackets.values()) == 7_276
    tiers = MarginTiers.from_brackets(brackets)
    assert tiers.rate.shape == (12, 907)
    # A notional in the middle of every tier, and at its cap: the published lookup, exactly.
    for share in (0.5, 1.0):
        notional, expected, place = (np.zeros((907, 12)) for _ in range(3))
        for j, rows in enumerate(brackets.values()):
            for k in range(12):
                row = rows[min(k, len(rows) - 1)]
                notional[j, k] = row.floor + share * (row.cap - row.floor)
                expected[j, k] = notional[j, k] * row.rate - row.deduction
                place[j, k] = min(k, len(rows) - 1)
        amount, tier = jax.jit(lambda rule, n: rule.maintenance(n))(tiers, jnp.asarray(notional))
        assert_close(amount, expected, rtol=1e-12, atol=1e-6)
        if share < 1:
            assert np.array_equal(np.asarray(tier), place)
    assert tuple(brackets["BTC/USDT:USDT"]) == binance_usdm.TIERS["BTCUSDT"]
    # A long in every contract, at half the notional of its highest tier.
    size = jnp.asarray(notional[:, -1:] * 0.5)
    book = jr.MarginBook.from_positions(
        perpetual(1.0), tiers.of([0]), size=[[1.0]], entry=[[1.0]], wallet=[1.0]
    )
    contracts = jax.tree.map(lambda leaf: jnp.repeat(leaf, 907), book.contracts)
    book = jr.MarginBook.from_positions(
        contracts, tiers, size=size, entry=jnp.ones_like(size), margin=size * 0.6
    )
    found = np.asarray(jax.jit(jr.liquidation_price)(book, jnp.ones(907)))[:, 0]
    for j, rows in list(enumerate(brackets.values()))[::60]:
        position = {
            "contract": 0, "size": float(size[j, 0]), "entry": 1.0, "multiplier": 1.0, "fee": 0.0,
            "inverse": False, "margin": 0.6 * float(size[j, 0]), "reserved": 0.0,
            "rule": marginal([*rows[:-1], rows[-1]._replace(cap=np.inf)]),
        }  # fmt: skip
        assert_close(found[j], bisected([position], 0.0, [1.0], 0), rtol=1e-12, atol=0.0)


def test_a_table_that_is_wrong_says_where(tmp_path, leverage_tiers):
    with pytest.raises(DataError, match=r'no contract "BTC/USDT:USDX".*mean BTC/USDT:USDT'):
        jr.read_margin_tiers(leverage_tiers, ["BTC/USDT:USDX"])
    assert list(jr.read_margin_tiers(leverage_tiers, ["ETH/USDT:USDT"])) == ["ETH/USDT:USDT"]
    table = tmp_path / "tiers.csv"
    head = "symbol,tier,min_notional,max_notional,maintenance_margin_rate,max_leverage,cum\n"
    table.write_text(head + "X,2,100,200,0.01,50,0\nX,1,0,90,0.02,25,0\n")
    with pytest.raises(DataError) as caught:
        jr.read_margin_tiers(table)
    assert "X, tier 2: floor 100.0: expected 90.0" in str(caught.value)
    assert "X, tier 2: rate 0.01: expected more than 0.02" in str(caught.value)
    table.write_text(head + "X,1,0,ninety,0.02,25,0\n")
    with pytest.raises(DataError, match="max_notional"):
        jr.read_margin_tiers(table)
    table.write_text("symbol,tier\nX,1\n")
    with pytest.raises(DataError, match="missing column min_notional"):
        jr.read_margin_tiers(table)
