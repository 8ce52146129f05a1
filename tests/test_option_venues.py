"""Option exchanges in the step, by their own margin, against a scalar reference."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.system.margin_book import figures, opened, slot_of
from jaxrisk.system.system import Flow
from jaxrisk.venue.account import Accounts, Positions
from jaxrisk.venue.presets import PRESETS
from jaxrisk.venue.presets.derive import portfolio_terms_2
from tests import margin_systems, systems
from tests import reference_margin as formulas
from tests import reference_margin_step as reference
from tests.helpers import assert_close
from tests.margin_systems import ASSETS, PRICE, WETH
from tests.systems import STEP_YEARS
from tests.test_chain_requirement import DERIBIT, SECOND
from tests.test_margin_play import check_against_reference
from tests.test_step import check_conservation

HOUR_AND_A_HALF = "0.0625D"
NAMES = ("WETH-PERP", f"WETH-{HOUR_AND_A_HALF}-FUT", f"WETH-{HOUR_AND_A_HALF}-3000-C",
         "WETH-30D-3300-C", "WETH-30D-2700-P", "WETH-30D-FUT")  # fmt: skip
SMILE = {"volatility": 0.7, "skew": -0.2, "beta": -0.8}
FACE = 10.0


def book_of(seed: int, settlement: int, leverage: float, names: tuple[str, ...]) -> Accounts:
    """Return accounts in all contracts; sellers of options among them have their premium."""
    rng = np.random.default_rng(seed)
    count = margin_systems.ACCOUNTS
    units = 10 ** rng.uniform(0.5, 2.5, (len(names), count))
    units[rng.random(units.shape) < 0.4] = 0.0
    size = units * np.where(rng.random(units.shape) < 0.5, 1.0, -1.0)
    linear = np.array([name.endswith(("PERP", "FUT")) for name in names])[:, None]
    if settlement == WETH:
        size = np.where(linear, size * 3000.0 / FACE, size)
    worst = units.sum(axis=0) * 0.2 * (1.0 if settlement == WETH else 3000.0)
    held = worst / rng.uniform(0.2 * leverage, leverage, count) + 0.01
    entry = np.broadcast_to(np.where(linear, np.nan, 0.0), size.shape)
    return Accounts(
        collateral=jnp.asarray(held[None]),
        debt=jnp.zeros((1, count)),
        category=jnp.zeros(count, jnp.int32),
        collateral_assets=(settlement,),
        debt_assets=(settlement,),
        positions=Positions(size=jnp.asarray(size), entry=jnp.asarray(entry)),
    )


def system_of(preset: str, numbers: dict, names: tuple[str, ...] = NAMES, **options):
    """Return a system with one venue of the preset."""
    settlement = options.get("settlement", "USDC")
    book = book_of(numbers["seed"], ASSETS.index(settlement), numbers["leverage"], names)
    venue = PRESETS[preset].build(
        book, ASSETS, instruments=names, prices=PRICE, overrides={"WETH": SMILE},
        insurance=1e4, **{"settlement": settlement, **options},
    )  # fmt: skip
    return margin_systems.random_system(
        numbers["seed"], fall=numbers["fall"], depth=10 ** numbers["log_depth"], venues=(venue,)
    )


def in_coins(rules, held, ahead, quotes, world):
    """Portfolio margin of one account in coins, maintenance."""
    del quotes
    options, futures = [], []
    for k, c in enumerate(rules.contracts):
        years = max(c.expiry - world.time, 0.0)
        if held[k] == 0:
            continue
        if c.kind == "inverse":
            futures.append((years, held[k] * c.multiplier / ahead[k]))
        else:
            options.append((years, c.strike, c.kind == "call", held[k], world.implied[k]))
    return 0.8 * formulas.coin_portfolio(options, futures, ahead[0], DERIBIT)


def by_formula(rules, held, ahead, quotes, world):
    """Standard margin of one account in coins, maintenance, without the price of options sold."""
    total = 0.0
    for k, c in enumerate(rules.contracts):
        if c.kind == "inverse":
            coins = abs(held[k]) * c.multiplier / ahead[k]
            total += coins * (0.01 + 0.00005 * coins)
        elif held[k] < 0:
            total -= held[k] * (0.075 if c.kind == "call" else max(0.075, 0.075 * quotes[k]))
    return total


def contracts_of(*, coin: bool) -> list[reference.Contract]:
    terms = [("", 1.0, 0.0), ("", 1.0, 1.5), ("call", 3000.0, 1.5), ("call", 3300.0, 720.0),
             ("put", 2700.0, 720.0), ("", 1.0, 720.0)]  # fmt: skip
    linear = "inverse" if coin else "linear"
    return [
        reference.Contract(
            kind or linear,
            FACE if coin and not kind else 1.0,
            WETH,
            strike,
            hours * STEP_YEARS,
            coin=coin and bool(kind),
        )
        for kind, strike, hours in terms
    ]


def reference_of(system, margin, contracts, **closing):
    """Return the rules and the opening of the reference."""
    slot, venue = slot_of(system.venues[0]), system.venues[0]
    positions = venue.accounts.positions
    assert positions is not None
    size, opening = np.asarray(positions.size), np.asarray(slot.opening_volatility)
    forward = np.asarray(slot.opening_forward)

    def volatility(ahead, world):
        del world
        out = []
        for k, f in enumerate(ahead):
            r = np.log(f / forward[k])
            out.append(max((opening[k] - 0.5 * -0.2 * r) * np.exp(-0.8 * r), 0.05))
        return out

    rules = reference.Rules(
        contracts=contracts, settlement=venue.accounts.debt_assets[0], trigger=1.0, largest=1.0,
        behind=slot.behind.value, funding=None, margin=margin,
        depth=np.asarray(system.liquidity.depth.depth), coefficient=margin_systems.COEFFICIENT,
        permanent=margin_systems.PERMANENT, keep=0.5 ** (1.0 / 6.0), years=STEP_YEARS,
        volatility=volatility, **closing,
    )  # fmt: skip
    world = reference.World(
        price=np.asarray(system.market.price).copy(),
        displacement=np.zeros(3),
        size=size.copy(),
        opening=size,
        entry=np.asarray(positions.entry),
        collateral=np.asarray(venue.accounts.collateral)[0],
        cash=np.zeros(size.shape[1]),
        implied=opening,
        funds=np.asarray(venue.funds).tolist(),
        began=[c.quote(f, v, 0.0) for c, f, v in zip(contracts, forward, opening, strict=True)],
        posted=np.zeros((0, size.shape[1])),
    )
    return rules, world


on_random_books = given(
    numbers=st.fixed_dictionaries(
        {
            "seed": st.integers(0, 2**32 - 1),
            "fall": st.floats(-0.15, 0.15),
            "log_depth": st.floats(7.0, 10.0),
            "leverage": st.floats(0.5, 8.0),
        }
    )
)


@pytest.mark.slow
@pytest.mark.parametrize(("margin", "rule"), [("portfolio", in_coins), ("standard", by_formula)])
@on_random_books
def test_steps_in_coins_are_those_of_the_reference(margin, rule, numbers):
    system = system_of("deribit", numbers, settlement="WETH", margin=margin, funding_cap=0.0)
    stages = systems.played_verb_by_verb(system)
    check_conservation(system, stages)
    rules, world = reference_of(system, rule, contracts_of(coin=True), target=1.05, fee=0.002)
    check_against_reference(system, rules, world, stages)


class Auctions:
    """Auctions at the price of the start, account by account."""

    def __init__(self) -> None:
        self.due, self.discount = {}, {}

    def wait(self, years: float) -> None:
        """Nothing is kept between steps."""

    def orders(self, a, has, required, notional, held):
        """Return shares of positions, whether the account is called, what it forfeits."""
        del notional
        self.due[a] = self.discount[a] = 0.0
        if has >= required:
            return [0.0] * len(held), 0.0, 0.0
        if has <= 0:
            return [1.0] * len(held), 1.0, 0.0
        short = 1.15 * required - has
        share = short / (short + 0.95 * has)
        self.due[a] = 0.1 * short / (short + has) * has
        self.discount[a] = 0.05 * share * has
        return [share] * len(held), 1.0, 0.0


def by_expiry(rules, held, ahead, world):
    """Return the net perpetual, and by expiry (years, [(strike, call, amount, volatility)])."""
    perpetual, expiries = 0.0, {}
    for k, c in enumerate(rules.contracts):
        if c.kind == "linear":
            perpetual += held[k]
        elif held[k] != 0:
            own = expiries.setdefault(c.expiry - world.time, [])
            own.append((c.strike, c.kind == "call", held[k], world.implied[k]))
    return perpetual, [(years, own) for years, own in sorted(expiries.items())]


def standard(rules, held, ahead, quotes, world):
    """Standard margin of one account, maintenance, and what its options are worth."""
    del quotes
    spot = ahead[0]
    perpetual, expiries = by_expiry(rules, held, ahead, world)
    total = 0.065 * abs(perpetual) * spot
    for years, own in expiries:
        alone = 0.0
        for strike, call, amount, implied in own:
            mark = formulas.black(spot, strike, years, implied, 1.0, call)
            asked = formulas.short_option(
                spot, strike, call, mark, highest=0.15, lowest=0.13, share=0.09, cover=1.05
            )
            alone += max(-amount, 0.0) * asked[1]
            total += amount * mark
        calls = sum(amount for _, call, amount, _ in own if call)
        bounded = formulas.worst_payoff([o[:3] for o in own]) + 1.1 * spot * max(-calls, 0.0)
        total += min(alone, bounded)
    return total


def portfolio(rules, held, ahead, quotes, world):
    """Second portfolio margin of one account, maintenance."""
    del quotes
    spot = ahead[0]
    perpetual, own = by_expiry(rules, held, ahead, world)
    expiries = [(years, spot, 0.0, 1.0, options) for years, options in own]
    rows = [
        tuple(float(x) for x in row)
        for row in zip(*jax.tree.leaves(portfolio_terms_2(np.float64).grid.scenarios), strict=True)
    ]
    gains, basis, _ = formulas.portfolio(expiries, perpetual * spot, rows, SECOND)
    naked = sum(formulas.naked([o[:3] for o in options]) for _, options in own)
    return -0.8 * min(*gains, basis) + spot * (0.03 * abs(perpetual) + 0.003 * naked)


@pytest.mark.slow
@pytest.mark.parametrize(("margin", "rule"), [("standard", standard), ("portfolio_2", portfolio)])
@on_random_books
def test_auctions_of_portfolios_are_those_of_the_reference(margin, rule, numbers):
    names = tuple(name for name in NAMES if not name.endswith("FUT"))
    system = system_of("derive", numbers, names, margin=margin)
    stages = systems.played_verb_by_verb(system)
    check_conservation(system, stages)
    contracts = [c for c in contracts_of(coin=False) if c.kind != "linear" or c.expiry == 0]
    rules, world = reference_of(system, rule, contracts, target=1.0, fee=0.0, close=Auctions())
    year = 8760.0
    rules.funding = (8.0 / year, 0.0000125 * year, 0.004 * year)
    check_against_reference(system, rules, world, stages)
    # Whoever takes portfolios gains the discount where closing costs less.
    state = stages[-1][1].venues[0]
    gained = state.flows[Flow.PROCEEDS] - state.flows[Flow.KEEPER_PAID]
    assert_close(gained, world.flows.get("taken", 0.0), rtol=1e-5, atol=1e-5 * 1e4)


class Repaid:
    """Options are repaid whole where collateral is short."""

    def wait(self, years: float) -> None:
        """Nothing is kept between steps."""

    def orders(self, a, has, required, notional, held):
        """Return shares of positions, whether the account is called, what it forfeits."""
        del a, notional
        called = float(has < required)
        return [called] * len(held), called, 0.0


WRITTEN = {"P": ("WETH-0.0625D-2900-P", "WETH-7D-2700-P", "WETH-56D-3000-P"),
           "C": ("WETH-0.0625D-3100-C", "WETH-7D-3300-C", "WETH-56D-3000-C")}  # fmt: skip
BOUNDS = ((7.0, 0.1678), (14.0, 0.237), (28.0, 0.3326), (42.0, 0.4032), (56.0, 0.4603))


def naked(rules, held, ahead, quotes, world):
    """Collateral behind written options, and what they are worth."""
    total = 0.0
    for k, c in enumerate(rules.contracts):
        days = (c.expiry - world.time) * 365.0
        bound = next(u for most, u in BOUNDS if days <= most * (1 + 1e-12))
        if c.kind == "put":
            shocked = 0.75 * ahead[k]
            alone = bound * min(c.strike, shocked) + max(c.strike - shocked, 0.0)
        else:
            shocked = 0.75 * c.strike / ahead[k]
            alone = bound * min(1.0, shocked) + max(1.0 - shocked, 0.0)
        total += max(-held[k], 0.0) * alone + held[k] * quotes[k]
    return total


def full(rules, held, ahead, quotes, world):
    """The most that options of each expiry can lose, and what they are worth."""
    del ahead, world
    total = 0.0
    for k, c in enumerate(rules.contracts):
        pays = lambda price, c=c: max(
            c.strike - price if c.kind == "put" else 1.0 - c.strike / price,
            0.0,
        )
        prices = [1e-12, c.strike, 1e12]
        total += max(0.0, *(-held[k] * pays(price) for price in prices)) + held[k] * quotes[k]
    return total


@pytest.mark.slow
@pytest.mark.parametrize(("margin", "rule"), [("naked", naked), ("full", full)])
@pytest.mark.parametrize("kind", ["P", "C"])
@on_random_books
def test_vaults_are_those_of_the_reference(margin, rule, kind, numbers):
    coin = kind == "C"
    settlement = "WETH" if coin else "USDC"
    book = book_of(numbers["seed"], ASSETS.index(settlement), numbers["leverage"], WRITTEN[kind])
    assert book.positions is not None
    positions = dataclasses.replace(book.positions, size=-jnp.abs(book.positions.size))
    venue = PRESETS["opyn"].build(
        dataclasses.replace(book, positions=positions), ASSETS, instruments=WRITTEN[kind],
        prices=PRICE, settlement=settlement, overrides={"WETH": SMILE}, insurance=1e4,
        margin=margin,
    )  # fmt: skip
    system = margin_systems.random_system(
        numbers["seed"], fall=numbers["fall"], depth=10 ** numbers["log_depth"], venues=(venue,)
    )
    stages = systems.played_verb_by_verb(system)
    check_conservation(system, stages)
    terms = {"P": (2900.0, 2700.0, 3000.0), "C": (3100.0, 3300.0, 3000.0)}[kind]
    contracts = [
        reference.Contract("call" if coin else "put", 1.0, WETH, strike, days / 365.0, coin=coin)
        for strike, days in zip(terms, (0.0625, 7.0, 56.0), strict=True)
    ]
    rules, world = reference_of(system, rule, contracts, target=1.0, fee=0.0, close=Repaid())
    check_against_reference(system, rules, world, stages)


REFUSED = {
    "deribit": [
        ({"margin": "cross"}, NAMES, "margin 'cross': expected one of portfolio, standard"),
        ({"futures": "SOL"}, NAMES, "futures 'SOL': expected one of BTC, ETH"),
        ({}, ("WBTC-7D-60000-C",), "WBTC: its contract is settled in WBTC"),
        ({"settlement": "USDC"}, NAMES, "expected contracts on USDC alone"),
    ],
    "derive": [
        ({"margin": "pmrm"}, NAMES[:1], "margin 'pmrm': expected one of standard, portfolio_1"),
        ({"market": "DOGE"}, NAMES[:1], "market 'DOGE': expected one of ETH, BTC, SNX"),
        ({}, NAMES, "WETH-0.0625D-FUT: a future"),
    ],
    "opyn": [
        ({"margin": "half"}, WRITTEN["P"], "margin 'half': expected one of naked, full"),
        ({"product": "wbtc"}, WRITTEN["P"], "product 'wbtc': expected one of weth_tests"),
        ({}, NAMES[:1], "WETH-PERP: no option"),
        ({}, WRITTEN["C"], "calls are backed in kind; .* settled in WETH"),
        ({}, ("WETH-57D-3000-P",), "no bound is known beyond 56 days"),
        ({}, WRITTEN["P"], "a naked vault has written options alone"),
    ],
    "span": [
        ({"scan_range": 0.4, "volatility_range": 0.1}, NAMES, "expected below 1"),
        ({"scan_range": 0.1, "volatility_range": -0.1}, NAMES, "volatility_range -0.1: expected"),
    ],
}


@pytest.mark.parametrize(
    ("preset", "options", "names", "text"),
    [(preset, *case) for preset, cases in REFUSED.items() for case in cases],
)
def test_what_no_venue_of_the_kind_has_is_refused(preset, options, names, text):
    settlement = options.get("settlement", "WETH" if preset == "deribit" else "USDC")
    numbers = {"seed": 1, "fall": 0.0, "log_depth": 8.0, "leverage": 1.0}
    with pytest.raises(ValueError, match=text):
        system_of(preset, numbers, names, **{**options, "settlement": settlement})


@pytest.mark.slow
def test_the_standard_margin_asks_more_of_a_hedged_book_than_the_portfolio_margin():
    numbers = {"seed": 1, "fall": 0.0, "log_depth": 8.0, "leverage": 1.0}
    asked = [
        figures(
            system_of("deribit", numbers, settlement="WETH", margin=margin).venues[0],
            jnp.asarray([3000.0, 60000.0, 0.999]),
        )
        for margin in ("portfolio", "standard")
    ]
    assert_close(asked[0].equity, asked[1].equity, rtol=1e-12, atol=0.0)
    assert float(asked[0].maintenance.min()) >= 0
    assert not np.allclose(asked[0].maintenance, asked[1].maintenance)


def test_what_gainers_have_gained_counts_from_the_opening():
    numbers = {"seed": 3, "fall": 0.0, "log_depth": 8.0, "leverage": 1.0}
    venue = system_of("deribit", numbers, settlement="WETH").venues[0]
    held, kept = opened(venue, [venue.accounts]), slot_of(venue).opening(venue.accounts)
    profit = jnp.sum(held.profit(kept, slot_of(venue).opening_mark()), axis=0)
    assert_close(profit, held.begun, rtol=1e-12, atol=1e-12)
