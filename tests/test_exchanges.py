"""Exchanges in the step: each against a scalar reference of its own rules, and what must hold."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.numerics.keys import root_key
from jaxrisk.system.margin_book import slot_of
from jaxrisk.system.simulate import Plan, cut_books, final_state, layouts
from jaxrisk.system.system import Flow
from jaxrisk.venue.account import Accounts, Positions
from jaxrisk.venue.presets import PRESETS, binance_coinm, binance_usdm, bitmex, hyperliquid, okx
from jaxrisk.venue.venue import Venue
from tests import margin_systems, systems
from tests import reference_close_out as closing
from tests import reference_margin_step as reference
from tests.margin_systems import ASSETS, COEFFICIENT, PERMANENT, PRICE, USDC, WBTC, WETH
from tests.systems import STEP_YEARS
from tests.test_margin_play import check_accounts, check_against_reference
from tests.test_step import check_conservation

HOURS = 1.0 / 8760.0
OWN = {"maintenance_margin": 0.005, "tier_2_from": 4e5, "tier_2_maintenance_margin": 0.01}
BLOCK = STEP_YEARS * 365.0 * 86_400.0 / 7.0
VAULT = 2.5 * STEP_YEARS
table = lambda rows: [(row.floor, row.rate) for row in rows]
two = lambda *names: dict(zip(("WETH", "WBTC"), names, strict=True))


@dataclasses.dataclass
class Case:
    """An exchange as tests play it, and its rules in scalar form."""

    options: dict
    symbols: dict
    tables: list
    close: object
    funding: object
    score: object = None
    slab: bool = False
    overrides: dict = dataclasses.field(default_factory=dict)
    behind: str = "winners"
    taker: float | None = None
    size: float = 1.0
    face: float = 0.0

    @property
    def fee(self) -> float:
        return self.options.get("clearance_fee", self.options.get("liquidation_fee", 0.0))


def clamped(cap, *, interest=1e-4, clamp=5e-4):
    """Premium moved towards interest, of eight hours; the cap is that of a year."""

    def rate(contract, premium):
        del contract
        paid = premium + max(-clamp, min(clamp, interest - premium))
        return max(-cap, min(cap, paid / (8.0 * HOURS)))

    return rate


def by_contract(rates):
    return lambda contract, premium: rates[contract](contract, premium)


def cases() -> dict[str, Case]:
    """Return every exchange, with fresh memories."""
    bracket = table(binance_usdm.TIERS["BTCUSDT"])
    stated = [(0.0, 0.005), (4e5, 0.01)]
    swaps = [table(okx.brackets(okx.TIERS[f"{a}-USDT-SWAP"], 12)) for a in ("AAVE", "ADA")]
    large = [table(hyperliquid.brackets(*hyperliquid.LEVERAGE[a])) for a in ("ETH", "SOL")]
    limits = table(bitmex.brackets(bitmex.RISK_LIMITS["XBTUSD"]))
    return {
        "binance_usdm": Case(
            options={"clearance_fee": 0.003, "target": 1.3},
            symbols=two("BTCUSDT", "BTCUSDT"),
            tables=[bracket, bracket],
            close=closing.Restored(1.3, 0.003),
            funding=clamped(0.004 / (8.0 * HOURS)),
            score=closing.margin_profit,
        ),
        "bybit": Case(
            options={"funding_cap": 0.002, "taker_fee": 0.001},
            symbols={},
            overrides={"WETH": OWN, "WBTC": OWN},
            tables=[stated, stated],
            close=closing.Whole(0.001),
            funding=clamped(0.002 / (8.0 * HOURS)),
            score=closing.leveraged_profit,
        ),
        "okx": Case(
            options={"funding_cap": 0.003, "liquidation_fee": 0.0007, "contract_value": 0.05},
            symbols=two("AAVE-USDT-SWAP", "ADA-USDT-SWAP"),
            tables=swaps,
            close=closing.TwoTiersDown(swaps, 0.0007),
            funding=clamped(0.003 / (8.0 * HOURS), interest=0.0, clamp=0.0),
            score=closing.leveraged_profit,
            slab=True,
            size=0.05,
        ),
        "hyperliquid": Case(
            options={"vault_hours": VAULT / HOURS},
            symbols=two("ETH", "SOL"),
            tables=large,
            close=closing.Sliced(VAULT, STEP_YEARS),
            funding=clamped(0.04 / HOURS),
        ),
        "dydx_v4": Case(
            options={"block_seconds": BLOCK, "order_seed": 5.0},
            symbols=two("large_cap", "mid_cap"),
            tables=[[(0.0, 0.012)], [(0.0, 0.03)]],
            close=closing.Blocks(7.0),
            funding=by_contract(
                [
                    clamped(6.0 * gap / (8.0 * HOURS), interest=0.0, clamp=0.0)
                    for gap in (0.008, 0.02)
                ]
            ),
            score=drawn_order,
        ),
        "drift_v2": Case(
            options={
                "liquidator_fee": 0.004,
                "insurance_fee": 0.003,
                "initial_share": 0.2,
                "duration_slots": 1.5 * STEP_YEARS * 365.0 * 86_400.0 / 0.4,
            },
            symbols={},
            overrides={
                "WETH": {"maintenance_margin": 0.01, "size_factor": 0.0004},
                "WBTC": {"maintenance_margin": 0.02},
            },
            tables=[],
            close=closing.Buffered(
                [0.01, 0.02], [0.0004, 0.0], 0.004, 0.003, 0.2, 1.5 * STEP_YEARS, STEP_YEARS
            ),
            funding=offset_premium,
            behind="positions",
            taker=0.004,
        ),
        "binance_coinm": Case(
            options={"face": 10.0, "clearance_fee": 0.002},
            symbols={"WETH": "BTCUSD"},
            tables=[table(binance_coinm.BTCUSD)],
            close=closing.Restored(1.1, 0.002),
            funding=clamped(0.004 / (8.0 * HOURS)),
            score=closing.margin_profit,
            face=10.0,
        ),
        "bitmex": Case(
            options={},
            symbols={"WETH": "XBTUSD"},
            tables=[limits],
            close=closing.Whole(0.0),
            funding=clamped(0.75 * 0.006 / (8.0 * HOURS)),
            score=closing.leveraged_profit,
            slab=True,
            face=1.0,
        ),
    }  # fmt: skip


def offset_premium(contract, premium):
    """Premium and a five-thousandth, within a 33rd, paid in a day."""
    del contract
    return max(-1.0 / 33.0, min(1.0 / 33.0, premium + 1.0 / 5000.0)) / (24.0 * HOURS)


def margin_of(case):
    """Return the margin of an account as the reference asks for it."""
    if not isinstance(case.close, closing.Buffered):
        return reference.by_table(case.tables, slab=case.slab, by_count=not case.face)

    def required(rules, held, ahead, quotes, world):
        del quotes, world
        rows = enumerate(zip(held, rules.contracts, ahead, strict=True))
        return sum(case.close.rate(k, abs(q)) * abs(q) * c.notional(f) for k, (q, c, f) in rows)

    return required


def drawn_order(a, *position):
    """An order drawn once."""
    del position
    return float(jax.random.uniform(jax.random.key(5), (margin_systems.ACCOUNTS,))[a])


EXCHANGES = tuple(cases())


def linear_book(seed, case, leverage):
    rng = np.random.default_rng(seed)
    price = np.array([3000.0, 60000.0]) / PRICE["USDC"]
    units = np.array([1.0, 1.0]) * case.size
    return margin_systems.perpetual_book(
        rng, price, units, leverage=leverage, array=jnp.asarray, settlement=USDC
    )


def coin_book(seed, case, leverage):
    rng, count = np.random.default_rng(seed), margin_systems.ACCOUNTS
    notional = 10 ** rng.uniform(4.0, 6.3, (1, count))
    side = np.where(rng.random((1, count)) < 0.6, 1.0, -1.0)
    entry = 3000.0 * np.exp(rng.normal(0.0, 0.02, (1, count)))
    lost = (side * notional * (1.0 / 3000.0 - 1.0 / entry)).sum(axis=0)
    margin = notional.sum(axis=0) / 3000.0 / rng.uniform(0.2 * leverage, leverage, count)
    return Accounts(
        collateral=jnp.asarray(np.maximum(margin + lost, 0.01)[None]),
        debt=jnp.zeros((1, count)),
        category=jnp.zeros(count, jnp.int32),
        collateral_assets=(WETH,),
        debt_assets=(WETH,),
        positions=Positions(
            size=jnp.asarray(side * notional / case.face), entry=jnp.asarray(entry)
        ),
    )


def exchange(name, case, seed=1, leverage=60.0, insurance=1e4, **more) -> Venue:
    """Return the exchange with a book of its kind of contracts."""
    inverse = case.face > 0
    return PRESETS[name].build(
        coin_book(seed, case, leverage) if inverse else linear_book(seed, case, leverage),
        ASSETS,
        instruments=("WETH-PERP",) if inverse else ("WETH-PERP", "WBTC-PERP"),
        prices=PRICE,
        settlement="WETH" if inverse else "USDC",
        insurance=insurance,
        symbols=case.symbols,
        overrides=case.overrides,
        **case.options,
        **more,
    )


def reference_of(system, case):
    venue = system.venues[0]
    slot, positions = slot_of(venue), venue.accounts.positions
    assert positions is not None
    size = np.asarray(positions.size)
    underlying = (WETH,) if case.face else (WETH, WBTC)
    kind, unit = ("inverse", case.face) if case.face else ("linear", case.size)
    rules = reference.Rules(
        contracts=[reference.Contract(kind, unit, asset) for asset in underlying],
        settlement=venue.accounts.debt_assets[0],
        trigger=1.0,
        target=1.0,
        largest=1.0,
        fee=0.015 if isinstance(case.close, closing.Blocks) else case.fee,
        behind=case.behind,
        funding=case.funding,
        margin=margin_of(case),
        depth=np.asarray(system.liquidity.depth.depth),
        coefficient=COEFFICIENT,
        permanent=PERMANENT,
        keep=0.5 ** (1.0 / 6.0),
        years=STEP_YEARS,
        close=case.close,
        score=case.score,
        taker=case.taker,
    )
    world = reference.World(
        price=np.asarray(system.market.price).copy(),
        displacement=np.zeros(3),
        size=size.copy(),
        opening=size,
        entry=np.asarray(positions.entry),
        collateral=np.asarray(venue.accounts.collateral)[0],
        cash=np.zeros(size.shape[1]),
        implied=np.asarray(slot.opening_volatility),
        funds=np.asarray(venue.funds).tolist(),
        posted=np.zeros((0, size.shape[1])),
    )
    return rules, world


@pytest.mark.slow
@pytest.mark.parametrize("name", EXCHANGES)
@given(
    seed=st.integers(0, 2**32 - 1),
    fall=st.floats(-0.03, 0.06),
    log_depth=st.floats(7.0, 10.0),
    log_insurance=st.floats(0.0, 6.0),
    leverage=st.floats(10.0, 120.0),
)
def test_steps_are_those_of_the_exchange(name, seed, fall, log_depth, log_insurance, leverage):
    case = cases()[name]
    venue = exchange(name, case, seed, leverage, 10**log_insurance)
    system = margin_systems.random_system(seed, fall=fall, depth=10**log_depth, venues=(venue,))
    stages = systems.played_verb_by_verb(system)
    check_conservation(system, stages)
    check_accounts(system, stages)
    # Impact is a square root: what rounding leaves of a position moves prices by a millionth.
    check_against_reference(system, *reference_of(system, case), stages, price_rtol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["okx", "hyperliquid", "dydx_v4", "drift_v2"])
def test_derivatives_are_finite_and_the_type_is_kept(name):
    """Rules with a memory, in single precision, through the smooth trigger."""
    venue = exchange(name, cases()[name], 3, 90.0, 1e3)
    system = margin_systems.random_system(3, fall=0.02, depth=1e8, venues=(venue,))
    narrow = lambda x: x.astype(np.float32) if x.dtype == np.float64 else x
    system = jax.tree.map(narrow, system)
    plan = Plan(steps=systems.STEPS, rounds=2, health_groups=1, differentiable=True)
    layout = layouts(system, plan)
    rules = systems.rules_of(system, rounds=2, differentiable=True)
    rules = jax.tree.map(narrow, dataclasses.replace(rules, width=jnp.asarray(0.3)))

    def total(system):
        books = cut_books(system, layout)
        end = final_state(plan, system, books, rules, root_key(1), jnp.zeros((), jnp.uint32))
        return jnp.sum(end.venues[0].flows), end

    (value, end), slopes = jax.jit(jax.value_and_grad(total, has_aux=True, allow_int=True))(system)
    assert np.isfinite(value)
    assert end.venues[0].flows[Flow.LIQUIDATED] > 0
    for leaf in jax.tree.leaves(end.venues):
        assert leaf.dtype in (np.float32, bool)
    floating = [s for s in jax.tree.leaves(slopes) if s.dtype == np.float32]
    assert all(np.isfinite(s).all() for s in floating)
    assert np.abs(slopes.venues[0].accounts.positions.size).max() > 0
