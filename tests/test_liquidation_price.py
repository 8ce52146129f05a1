"""Liquidation and bankruptcy prices: published figures, and bisection on random accounts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jaxrisk as jr
from jaxrisk.market.contract import european_option, perpetual, table
from jaxrisk.venue.haircut import Slice, TieredHaircut
from jaxrisk.venue.liquidation_price import (
    bankruptcy_price,
    liquidation_price,
    safe_prices,
    slab_ranges,
)
from jaxrisk.venue.margin_book import MarginBook
from jaxrisk.venue.margin_tiers import Bracket, MarginTiers, SlabTiers, step_brackets
from jaxrisk.venue.size_margin import LinearSizeMargin
from tests import books
from tests.helpers import assert_close
from tests.reference_liquidation import (
    bisected,
    by_size,
    discounted,
    marginal,
    slab,
    surplus,
)

INF = np.inf
BRACKETS = {
    "A": [
        Bracket(0.0, 50e3, 0.004, 125.0),
        Bracket(50e3, 600e3, 0.005, 100.0),
        Bracket(600e3, 3e6, 0.0065, 75.0),
        Bracket(3e6, 12e6, 0.01, 50.0),
        Bracket(12e6, 70e6, 0.02, 25.0),
        Bracket(70e6, INF, 0.1, 5.0),
    ],
    "B": [Bracket(0.0, 1e5, 0.02, 20.0), Bracket(1e5, INF, 0.25, 2.0)],
    "C": [Bracket(0.0, INF, 0.05, 10.0)],
}
LINEAR = table([perpetual(1.0), perpetual(0.01), perpetual(10.0)])
INVERSE = table([perpetual(100.0, inverse=True)] * 3)
TIERS = MarginTiers.from_brackets(BRACKETS)
# The same tables for inverse contracts, with bounds in the coin.
COIN_BRACKETS = {
    name: [row._replace(floor=row.floor / 1e4, cap=row.cap / 1e4) for row in rows]
    for name, rows in BRACKETS.items()
}
COIN_TIERS = MarginTiers.from_brackets(COIN_BRACKETS)
PRICE = jnp.asarray([30_000.0, 2_000.0, 50.0])
SEEDS = st.integers(0, 2**31 - 1)
ACCOUNTS = 4

prices_of = jax.jit(lambda book, price: (liquidation_price(book, price), safe_prices(book, price)))
bankrupt_at = jax.jit(bankruptcy_price)


def size_margin(slopes, base=0.01):
    """Maintenance rates `base` and more by size; initial rates twice that."""
    slope = jnp.asarray(slopes)[None, :, None] * jnp.ones((2, 1, 1))
    return LinearSizeMargin(base=jnp.asarray([2 * base, base])[:, None, None], slope=slope)


def one(size, entry, **given):
    """A book of one account with one position in a linear contract of one tier."""
    rate, deduction = given.pop("rate", 0.01), given.pop("deduction", 0.0)
    contract = perpetual(1.0, inverse=given.pop("inverse", False))
    tiers = MarginTiers.from_brackets({"X": [Bracket(0.0, INF, rate, 1.0)]})
    tiers = dataclasses.replace(tiers, deduction=jnp.asarray([[deduction]]))
    return MarginBook.from_positions(contract, tiers, size=[[size]], entry=[[entry]], **given)


def single(book, price, rule=liquidation_price):
    return float(rule(book, jnp.asarray([price]))[0, 0])


@pytest.mark.parametrize(
    ("size", "entry", "rate", "deduction", "expected"),
    [
        (3_683.979, 1_456.84, 0.1, 135_365.0, 1_114.78),
        (109.488, 32_481.98, 0.025, 16_300.0, 18_778.73),
    ],
)
def test_published_isolated_prices(size, entry, rate, deduction, expected):
    """Binance, How to Calculate Liquidation Price of USDⓈ-M Futures; to the cent."""
    book = one(size, entry, rate=rate, deduction=deduction, margin=[[1_535_443.01]])
    assert_close(single(book, entry), expected, rtol=0.0, atol=0.005)


def test_published_cross_prices():
    """The same source, both positions in one account; to the cent."""
    tiers = MarginTiers.from_brackets(
        {"ETH": [Bracket(0.0, INF, 0.1, 1.0)], "BTC": [Bracket(0.0, INF, 0.025, 1.0)]}
    )
    tiers = dataclasses.replace(tiers, deduction=jnp.asarray([[135_365.0, 16_300.0]]))
    book = MarginBook.from_positions(
        table([perpetual(1.0)] * 2), tiers, size=[[3_683.979], [109.488]],
        entry=[[1_456.84], [32_481.98]], wallet=[1_535_443.01],
    )  # fmt: skip
    prices = jr.liquidation_price(book, jnp.asarray([1_335.18, 31_967.27]))
    assert_close(prices[:, 0], [1_153.26, 26_316.89], rtol=0.0, atol=0.005)


@pytest.mark.parametrize(
    ("size", "deduction", "fee", "expected"),
    [
        (-1.0, 0.01, 0.0, 11.891089),
        (1.0, 0.01, 0.0, 8.070707),
        (-1.0, 0.0, 0.0006, 11.874134),
        (1.0, 0.0, 0.0006, 8.085709),
    ],
)
def test_published_prices_with_a_fee_to_close(size, deduction, fee, expected):
    """Unit cases of freqtrade, tests/exchange/test_exchange.py: leverage 5, entry 10, rate 1 %."""
    book = one(size, 10.0, deduction=deduction, margin=[[2.0]], fee=fee)
    assert_close(single(book, 10.0), expected, rtol=0.0, atol=5e-7)


def test_a_published_inverse_price_in_cross_margin():
    """COIN-M calculator, dev.binance.vision thread 6292: 33,599.40 of an account of 101 BTC."""
    bounds, rates = [0, 5, 10, 20, 50, 100, 200], [0.004, 0.005, 0.01, 0.025, 0.05, 0.1, 0.125]
    rows = [
        Bracket(low, high, rate, 1.0)
        for low, high, rate in zip(bounds, [*bounds[1:], INF], rates, strict=True)
    ]
    book = MarginBook.from_positions(
        perpetual(100.0, inverse=True), MarginTiers.from_brackets({"BTCUSD": rows}),
        size=[[100_000.0]], entry=[[45_000.0]], wallet=[101.0],
    )  # fmt: skip
    # Their calculator rounds on the way: 33,599.42 follows from the tiers.
    assert_close(single(book, 45_000.0), 33_599.42, rtol=0.0, atol=0.005)


def test_a_published_price_with_the_margin_of_other_positions():
    """TorchTrade, thread 344: 95.40 without the other positions' margin, 99.40 with it."""
    tiers = MarginTiers.from_brackets(
        {"X": [Bracket(0.0, INF, 0.004, 1.0)], "Y": [Bracket(0.0, INF, 0.04, 1.0)]}
    )
    book = MarginBook.from_positions(
        table([perpetual(1.0)] * 2), tiers, size=[[1.0], [1.0]], entry=[[100.0], [100.0]],
        wallet=[5.0],
    )  # fmt: skip
    price = liquidation_price(book, jnp.asarray([100.0, 100.0]))[0, 0]
    assert_close(price, 99.3976, rtol=0.0, atol=5e-5)


def test_published_prices_with_requirement_and_fee_at_known_prices():
    """Bybit's help centre; the second is rounded up to a tick of half a dollar."""
    none = size_margin([0.0], base=0.0)
    book = MarginBook.from_positions(
        perpetual(1.0), none, size=[[1.0]], entry=[[2e4]], margin=[[400.0]], reserved=100.0
    )
    assert_close(single(book, 2e4), 19_700.0, rtol=1e-14, atol=0.0)
    value = 10_000.0 / 8_000.0
    bankrupt = 1.00075 * 10_000.0 / (value + 0.5)
    book = MarginBook.from_positions(
        perpetual(1.0, inverse=True), none, size=[[1e4]], entry=[[8e3]], wallet=[0.5],
        reserved=value * 0.005 + 10_000.0 * 0.00075 / bankrupt,
    )  # fmt: skip
    assert_close(bankrupt, 5_718.57, rtol=0.0, atol=0.005)
    assert_close(single(book, 8e3), 5_739.5, rtol=0.0, atol=0.5)


def test_a_hedged_price_is_that_of_the_published_formula():
    """Binance, hedge mode: sums over both legs in numerator and denominator, each with its tier."""
    held, sold, wallet = (2.0, 21e3), (5.0, 19e3), 40e3
    book = MarginBook.from_positions(
        LINEAR, TIERS, size=[[held[0]], [-sold[0]], [20.0]], entry=[[held[1]], [sold[1]], [45.0]],
        wallet=[wallet], rows=(0, 0, 2),
    )  # fmt: skip
    # The other position: profit 1,000, and 5 % of 10,000.
    others = (20.0 * 10.0 * (50.0 - 45.0), 0.05 * 20.0 * 10.0 * 50.0)
    mark = jnp.asarray([2e4, 2e3, 50.0])
    # At that price the short is worth 154,000 and the long 62,000: both in the second tier.
    rate, amount = 0.005, 50.0
    above = wallet - others[1] + others[0] + 2 * amount - held[0] * held[1] + sold[0] * sold[1]
    expected = above / ((held[0] + sold[0]) * rate - held[0] + sold[0])
    assert 25e3 < expected < 120e3
    found = liquidation_price(book, mark)[:, 0]
    assert_close(found[:2], [expected] * 2, rtol=1e-13, atol=0.0)


def test_single_precision_is_near():
    given, _ = drawn(3, "linear")
    book = MarginBook.from_positions(LINEAR, TIERS, **given)
    narrow = lambda tree: jax.tree.map(lambda x: x.astype(jnp.float32), tree)
    small = MarginBook.from_positions(narrow(LINEAR), narrow(TIERS), **given)
    found = liquidation_price(small, PRICE.astype(jnp.float32))
    assert found.dtype == jnp.float32
    expected = np.asarray(liquidation_price(book, PRICE))
    far = np.isnan(expected)
    assert np.array_equal(np.isnan(found), far)
    scale = np.broadcast_to(np.asarray(PRICE)[:, None], far.shape)
    assert (abs(np.asarray(found) - expected) <= 1e-3 * scale)[~far].all()


def drawn(seed, kind):
    """Three contracts, four accounts of any sign and margin mode; some hold nothing in one."""
    rng = np.random.default_rng(seed)
    shape = (3, ACCOUNTS)
    inverse = kind == "inverse"
    value = 10.0 ** rng.uniform(2.0, 8.0, shape)
    price, multiplier = np.asarray(PRICE)[:, None], np.array([[1.0], [0.01], [10.0]])
    size = value / (100.0 if inverse else price * multiplier)
    size *= rng.choice([-1.0, 1.0, 1.0, 0.0], shape)
    entry = price * rng.uniform(0.8, 1.25, shape)
    notional = abs(size) * (100.0 / price if inverse else price * multiplier)
    separate = rng.random(shape) < 0.3
    margin = np.where(separate, notional * 10.0 ** rng.uniform(-2.0, 0.0, shape), np.nan)
    given = {
        "size": size,
        "entry": entry,
        "margin": margin,
        "wallet": notional.sum(axis=0) * 10.0 ** rng.uniform(-2.0, 0.0, ACCOUNTS),
        "reserved": notional * rng.choice([0.0, 0.003], shape),
        "fee": rng.choice([0.0, 0.0005], 3),
    }
    return given, separate


RULES = {
    "linear": (LINEAR, TIERS, lambda j: marginal(list(BRACKETS.values())[j])),
    "inverse": (INVERSE, COIN_TIERS, lambda j: marginal(list(COIN_BRACKETS.values())[j])),
    "count": (
        LINEAR,
        SlabTiers.from_brackets(
            {name: step_brackets(50.0, 100.0, rate=0.01, initial=0.02, added=0.02, tiers=5)
             for name in BRACKETS}, by_count=True,
        ),
        lambda j: slab(
            step_brackets(50.0, 100.0, rate=0.01, initial=0.02, added=0.02, tiers=5), by_count=True
        ),
    ),
    "size": (
        LINEAR,
        size_margin([1e-5, 1e-6, 0.0]),
        lambda j: by_size(0.01, [1e-5, 1e-6, 0.0][j]),
    ),
}  # fmt: skip


def as_lists(book, rule, account):
    """The positions of an account as the reference takes them."""
    pick = lambda leaf: np.asarray(leaf)[:, account].tolist()
    rows = zip(pick(book.size), pick(book.entry), pick(book.margin), pick(book.isolated),
               pick(book.reserved), book.rows, strict=True)  # fmt: skip
    return [
        {
            "contract": row, "size": size, "entry": entry, "reserved": reserved,
            "margin": margin if isolated else None, "fee": float(book.fee[row]),
            "multiplier": float(book.contracts.multiplier[row]),
            "inverse": bool(book.contracts.inverse[row]), "rule": rule(row),
        }
        for size, entry, margin, isolated, reserved, row in rows
    ]  # fmt: skip


@pytest.mark.parametrize("kind", RULES)
@given(seed=SEEDS)
def test_prices_are_those_of_bisection(kind, seed):
    contracts, tiers, rule = RULES[kind]
    given, _ = drawn(seed, kind)
    book = MarginBook.from_positions(contracts, tiers, **given)
    price, _ = prices_of(book, PRICE)
    empty = bankrupt_at(book, PRICE)
    marks, wallet = np.asarray(PRICE).tolist(), np.asarray(book.wallet)
    for account in range(ACCOUNTS):
        positions = as_lists(book, rule, account)
        free = [{**p, "reserved": 0.0, "fee": 0.0, "rule": lambda *_: 0} for p in positions]
        for row in range(3):
            for found, them in ((price, positions), (empty, free)):
                expected = bisected(them, wallet[account], marks, row)
                actual = float(found[row, account])
                if np.isnan(expected):
                    assert np.isnan(actual) or not 1e-8 < actual < 1e8
                else:
                    assert_close(actual, expected, rtol=1e-12, atol=1e-12 * marks[row])


@given(seed=SEEDS)
def test_quadratic_margins_of_inverse_contracts_are_safe_between_two_prices(seed):
    rng = np.random.default_rng(seed)
    rule = size_margin([5e-5] * 3)
    given, _ = drawn(seed, "inverse")
    book = MarginBook.from_positions(INVERSE, rule, **given)
    check_range(book, lambda j: by_size(0.01, 5e-5), rng)


HEDGED = (0, 0, 1)


@pytest.mark.parametrize("kind", ["linear", "inverse"])
@given(seed=SEEDS)
def test_hedged_accounts_are_safe_exactly_within_the_range(kind, seed):
    contracts, tiers, rule = RULES[kind]
    given, _ = drawn(seed, kind)
    given["size"] = abs(given["size"]) * [[1.0], [-1.0], [1.0]]
    given["entry"][1] = given["entry"][1] * 15.0
    book = MarginBook.from_positions(contracts, tiers, **given, rows=HEDGED)
    check_range(book, rule, np.random.default_rng(seed))


SLICES = {
    "A": (Slice(0.0, 0.95), Slice(1e5, 0.8), Slice(1e6, 0.0)),
    "B": (Slice(0.0, 0.9),),
    "C": (Slice(0.0, 0.5), Slice(1e4, 0.25)),
}


@pytest.mark.slow
@pytest.mark.parametrize("rows", [None, HEDGED])
@given(seed=SEEDS)
def test_collateral_in_the_underlying_moves_with_the_price(rows, seed):
    given, _ = drawn(seed, "linear")
    rng = np.random.default_rng(seed + 1)
    value = 10.0 ** rng.uniform(2.0, 7.0, (3, ACCOUNTS)) * rng.choice(
        [-0.1, 0.0, 1.0], (3, ACCOUNTS)
    )
    if rows is not None:
        given["size"] = abs(given["size"]) * [[1.0], [-1.0], [1.0]]
        given["entry"][1] = given["entry"][1] * 15.0
    haircut = TieredHaircut.from_slices(SLICES, liability=1.1)
    book = MarginBook.from_positions(
        LINEAR, TIERS, **given, rows=rows, haircut=haircut,
        collateral=value / np.asarray(PRICE)[:, None],
    )  # fmt: skip

    def backing(moved, account):
        units = np.asarray(book.collateral)[:, account]
        each = zip(SLICES.values(), units, moved, strict=True)
        return sum(discounted(slices, 1.1, held, x) for slices, held, x in each)

    check_range(book, RULES["linear"][2], rng, backing)
    # Nothing left: collateral at its full price, and no requirement.
    found = np.asarray(bankrupt_at(book, PRICE))
    for account in range(ACCOUNTS):
        for row, position in enumerate(as_lists(book, lambda j: lambda *_: 0, account)):
            if position["margin"] is None and np.isfinite(found[row, account]):
                moved = np.asarray(PRICE).tolist()
                moved[position["contract"]] = float(found[row, account])
                free = [
                    {**p, "reserved": 0.0, "fee": 0.0}
                    for p in as_lists(book, lambda j: lambda *_: 0, account)
                ]
                left = surplus(free, float(book.wallet[account]), moved, row)
                left += np.asarray(book.collateral)[:, account] @ moved
                assert abs(left) <= 1e-10 * (abs(value).sum() + float(book.wallet[account]) + 1e9)


def check_range(book, rule, rng, backing=lambda moved, account: 0):
    """Zero surplus at the bounds, more between them, less outside; the nearer one is the price."""
    price, safe = prices_of(book, PRICE)
    marks, wallet = np.asarray(PRICE).tolist(), np.asarray(book.wallet)
    for account in range(ACCOUNTS):
        positions = as_lists(book, rule, account)
        for row, position in enumerate(positions):
            mark = marks[position["contract"]]

            def at(x, row=row, position=position, positions=positions, account=account):
                moved = [*marks]
                moved[position["contract"]] = x
                cross = backing(moved, account) if position["margin"] is None else 0
                return surplus(positions, wallet[account], moved, row) + cross

            low, high = float(safe.lower[row, account]), float(safe.upper[row, account])
            scale = wallet[account] + sum(
                abs(at(x)) + abs(at(mark)) for x in (low, high) if 1e-9 < x < 1e12
            )
            if np.isnan(low):
                assert all(at(mark * f) <= 1e-12 * scale for f in 10.0 ** rng.uniform(-3, 3, 9))
                continue
            units = 0 if book.collateral is None else book.collateral[position["contract"], account]
            held = position["size"] != 0 or (position["margin"] is None and units != 0)
            if low > 0 and held:
                assert abs(at(low)) <= 1e-11 * scale * max(1.0, mark / low)
                assert at(low * (1 - 1e-6)) < at(low * (1 + 1e-6)) or low * 1.000001 > high
            if high < 1e12 and held:
                assert abs(at(high)) <= 1e-11 * scale * max(1.0, mark / high)
            top = min(high, max(1e9, 2.0 * low))
            inside = np.exp(rng.uniform(np.log(max(low, 1e-6 * top)), np.log(top), 5))
            assert all(at(x) >= -1e-11 * scale * max(1.0, mark / x) for x in inside)
            bounds = [x for x in (low, high) if 0 < x < INF]
            if held and bounds:
                nearer = min(bounds, key=lambda x, mark=mark: abs(np.log(x / mark)))
                assert float(price[row, account]) == nearer
            else:
                assert np.isnan(price[row, account])


def test_a_slab_may_be_safe_at_prices_that_lie_apart():
    """A quarter of the value above 1,000: a long of one unit at 990 is called when prices rise."""
    tiers = SlabTiers.from_brackets(
        {"X": [Bracket(0.0, 1e3, 0.02, 20.0), Bracket(1e3, INF, 0.25, 4.0)]}
    )
    book = MarginBook.from_positions(
        perpetual(1.0), tiers, size=[[1.0, 1.0, -1.0]], entry=[[990.0, 990.0, 1_300.0]],
        margin=[[100.0, 300.0, 200.0]],
    )  # fmt: skip
    price = jnp.asarray([990.0])
    ranges = slab_ranges(book, price)
    # Safe from 890 / 0.98 on, in the first tier; in the second from 890 / 0.75.
    lower = [[890.0 / 0.98, 690.0 / 0.98, 0.0], [890.0 / 0.75, 1e3, 1e3]]
    upper = [[1e3, 1e3, 1e3], [INF, INF, 1_500.0 / 1.25]]
    assert_close(ranges.lower[:, 0], lower, rtol=1e-13, atol=0.0)
    assert_close(ranges.upper[:, 0], upper, rtol=1e-13, atol=0.0)
    # Around the present price: the ends of the first range, of both ranges where they touch.
    safe = safe_prices(book, price)
    assert_close(safe.lower[0], [lower[0][0], lower[0][1], 0.0], rtol=1e-13, atol=0.0)
    assert_close(safe.upper[0], [1e3, INF, 1_200.0], rtol=1e-13, atol=0.0)
    expected = [[1e3, lower[0][1], 1_200.0]]
    assert_close(liquidation_price(book, price), expected, rtol=1e-13, atol=0.0)
    # An account that is not safe now is in no range.
    assert np.isnan(liquidation_price(book, jnp.asarray([1_100.0]))[0, 0])
    with pytest.raises(ValueError, match="one position a contract"):
        slab_ranges(dataclasses.replace(book, rows=(0, 0)), price)
    with pytest.raises(ValueError, match="expected SlabTiers by notional"):
        slab_ranges(dataclasses.replace(book, requirement=TIERS.of([0])), price)


@given(seed=SEEDS)
def test_slab_ranges_are_where_the_reference_is_safe(seed):
    rng = np.random.default_rng(seed)
    given, _ = drawn(seed, "linear")
    tiers = SlabTiers.from_brackets(BRACKETS)
    book = MarginBook.from_positions(LINEAR, tiers, **given)
    found = jax.jit(slab_ranges)(book, PRICE)
    marks = np.asarray(PRICE).tolist()
    rule = lambda j: slab(list(BRACKETS.values())[j])
    for account in range(ACCOUNTS):
        positions = as_lists(book, rule, account)
        for row in range(3):
            low, high = (np.asarray(x)[:, row, account] for x in (found.lower, found.upper))
            for x in marks[row] * 10.0 ** rng.uniform(-1.0, 1.0, 6):
                moved = [*marks]
                moved[row] = x
                left = surplus(positions, float(book.wallet[account]), moved, row)
                if abs(left) > 1e-9 * abs(float(book.wallet[account])):
                    assert ((low <= x) & (x <= high)).any() == (left > 0)


@given(seed=SEEDS)
def test_more_behind_a_position_moves_its_price_away_and_bankruptcy_lies_beyond(seed):
    given, _ = drawn(seed, "linear")
    given["margin"] = np.full((3, ACCOUNTS), np.nan)
    book = MarginBook.from_positions(LINEAR, TIERS, **given)
    richer = dataclasses.replace(book, wallet=book.wallet * 1.1)
    price, more = np.asarray(prices_of(book, PRICE)[0]), np.asarray(prices_of(richer, PRICE)[0])
    empty = np.asarray(bankrupt_at(book, PRICE))
    side = np.sign(np.asarray(book.size))
    both = ~np.isnan(price) & ~np.isnan(more)
    assert (side * (price - more) >= -1e-9)[both].all()
    both = ~np.isnan(price) & ~np.isnan(empty)
    assert (side * (price - empty) >= -1e-9)[both].all()
    # Accounts do not see each other, and the numeraire has no scale but that of the tiers.
    turned = jax.tree.map(lambda x: x[..., ::-1] if x.shape[-1:] == (ACCOUNTS,) else x, book)
    assert np.array_equal(np.asarray(prices_of(turned, PRICE)[0]), price[:, ::-1], equal_nan=True)


@pytest.mark.parametrize(("kind", "rows"), [("linear", None), ("inverse", HEDGED)])
def test_slopes_are_those_of_central_differences(kind, rows):
    contracts, tiers, _ = RULES[kind]
    given, _ = drawn(5, kind)
    if rows is not None:
        given["size"] = abs(given["size"]) * [[1.0], [-0.5], [1.0]]
    book = MarginBook.from_positions(contracts, tiers, **given, rows=rows)

    def total(wallet, size, entry, rate):
        rule = dataclasses.replace(tiers, rate=rate)
        moved = dataclasses.replace(book, wallet=wallet, size=size, entry=entry, requirement=rule)
        found = liquidation_price(moved, PRICE)
        return jnp.sum(jnp.where(jnp.isnan(found), 0.0, jnp.log(jnp.abs(found))))

    point = [book.wallet, book.size, book.entry, tiers.rate]
    value = jax.jit(total)
    slopes = jax.jit(jax.grad(total, argnums=(0, 1, 2, 3)))(*point)
    assert all(bool(jnp.isfinite(slope).all()) for slope in slopes)
    for which, leaf in enumerate(point):
        place = (0,) if leaf.ndim == 1 else (0, 1)
        step = 1e-6 * float(abs(leaf[place]))
        moved = []
        for sign in (1, -1):
            bumped = [*point]
            bumped[which] = leaf.at[place].add(sign * step)
            moved.append(float(value(*bumped)))
        expected = (moved[0] - moved[1]) / (2 * step)
        assert_close(slopes[which][place], expected, rtol=1e-5, atol=1e-9)


def test_slopes_of_quadratic_margins_and_of_collateral():
    """In the wallet, the slope of margin and units of collateral, against central differences."""
    given, _ = drawn(7, "inverse")
    rule = size_margin([5e-5] * 3)
    quadratic = MarginBook.from_positions(INVERSE, rule, **given)
    given, _ = drawn(7, "linear")
    held = MarginBook.from_positions(
        LINEAR, TIERS, **given, haircut=TieredHaircut.from_slices(SLICES),
        collateral=abs(given["size"]) * 0.1,
    )  # fmt: skip
    total = lambda book: jnp.sum(jnp.nan_to_num(jnp.log(liquidation_price(book, PRICE))))
    cases = [
        (quadratic, lambda book, x: dataclasses.replace(book, wallet=x), quadratic.wallet),
        (
            quadratic,
            lambda book, x: dataclasses.replace(
                book, requirement=dataclasses.replace(book.requirement, slope=x)
            ),
            rule.slope,
        ),
        (held, lambda book, x: dataclasses.replace(book, collateral=x), held.collateral),
    ]
    for book, place, point in cases:
        value = jax.jit(lambda x, book=book, place=place: total(place(book, x)))
        slope = jax.grad(value)(point)
        assert bool(jnp.isfinite(slope).all())
        direction = jnp.cos(jnp.arange(point.size, dtype=point.dtype)).reshape(point.shape)
        step = 1e-6 * point * direction
        expected = (value(point + step) - value(point - step)) / 2.0
        assert_close(jnp.sum(slope * step), expected, rtol=1e-5, atol=1e-12)


def test_lending_accounts_have_both_prices():
    """Health 1 at the liquidation price, as much debt as collateral at the bankruptcy price."""
    venue, price = books.loops([2.0, 4.0], threshold=0.9), jnp.asarray([1.2, 1.0])
    called = np.asarray(jr.liquidation_price(venue, price))
    empty = np.asarray(jr.bankruptcy_price(venue, price))
    assert_close(empty[0] / called[0], [0.9, 0.9], rtol=1e-12, atol=0.0)


def test_without_a_position_there_is_no_price():
    assert np.isnan(single(one(0.0, 0.0, wallet=[-5.0]), 10.0))
    assert np.isnan(single(one(1.0, 10.0, wallet=[50.0]), 10.0))
    # A long without debt cannot go bankrupt above a price of zero; an account under water has one.
    assert np.isnan(single(one(1.0, 10.0, wallet=[10.0]), 10.0, bankruptcy_price))
    assert_close(single(one(1.0, 10.0, wallet=[-1.0]), 10.0), 11.0 / 0.99, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rows": (0, 1, 7)}, "contract 7: unknown, there are 3"),
        ({"rows": (0, 1, -1)}, "contract -1: unknown"),
        ({"rows": (0, 0, 0)}, "contract 0: 3 positions"),
        ({"size": np.ones((2, ACCOUNTS))}, r"size: shape \(2, 4\), expected \(3, 4\)"),
        ({"size": np.full((3, ACCOUNTS), np.nan)}, "size: not finite"),
        ({"entry": np.zeros((3, ACCOUNTS))}, "entry: expected a positive price"),
        ({"wallet": np.full(ACCOUNTS, INF)}, "wallet: not finite"),
        ({"reserved": -1.0}, "reserved: expected at least 0"),
        ({"fee": 1.0}, "fee: expected a fraction"),
    ],
)
def test_books_that_are_wrong_are_refused(changed, message):
    given, _ = drawn(5, "linear")
    given["size"] = np.ones((3, ACCOUNTS))
    with pytest.raises(ValueError, match=message):
        MarginBook.from_positions(LINEAR, TIERS, **{**given, **changed})


@pytest.mark.parametrize(
    ("contracts", "changed", "message"),
    [
        (LINEAR, {"haircut": None}, "haircut: missing"),
        (
            LINEAR,
            {"haircut": TieredHaircut.from_slices({"A": SLICES["A"]})},
            "haircut: of 1 assets",
        ),
        (LINEAR, {"collateral": np.ones((2, ACCOUNTS))}, r"collateral: shape \(2, 4\)"),
        (LINEAR, {"collateral": np.full((3, ACCOUNTS), np.nan)}, "collateral: not finite"),
        (INVERSE, {}, "settled in its underlying; use wallet"),
    ],
)
def test_collateral_that_cannot_be_valued_is_refused(contracts, changed, message):
    given, _ = drawn(5, "linear")
    given |= {"collateral": np.ones((3, ACCOUNTS)), "haircut": TieredHaircut.from_slices(SLICES)}
    with pytest.raises(ValueError, match=message):
        MarginBook.from_positions(contracts, TIERS, **{**given, **changed})


def test_options_are_refused():
    with pytest.raises(ValueError, match="an option"):
        MarginBook.from_positions(
            european_option(100.0, 0.1, call=True), TIERS.of([0]), size=[[1.0]], entry=[[5.0]]
        )


def test_the_state_of_an_account_is_what_the_price_brings_to_zero():
    given, _ = drawn(11, "linear")
    given["margin"] = np.full((3, ACCOUNTS), np.nan)
    book = MarginBook.from_positions(LINEAR, TIERS, **given)
    found = np.asarray(liquidation_price(book, PRICE))
    row, account = np.argwhere(np.isfinite(found))[0]
    moved = PRICE.at[row].set(found[row, account])
    state = book.state(moved, leverage=jnp.full((3, ACCOUNTS), 5.0))
    assert abs(state.surplus[1, account]) <= 1e-11 * float(abs(book.wallet[account]) + 1e6)
    assert (state.surplus[0] <= state.surplus[1]).all()
    assert (state.binding >= 0).all()
