"""Every preset in one system, in one jitted step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxrisk.market.paths import GivenMoves
from jaxrisk.system.simulate import Plan, cut_books, layouts, outcome
from jaxrisk.system.step import step
from jaxrisk.system.system import Flow, StepRules, System, opening_state
from jaxrisk.venue.account import Accounts, Positions
from jaxrisk.venue.band_conversion import BandConversion
from jaxrisk.venue.deposit_pool import DepositPool
from jaxrisk.venue.lender_auctions import LenderAuctions
from jaxrisk.venue.pool_liquidation import PenaltyLiquidation, RecoveryLiquidation
from jaxrisk.venue.presets import PRESETS
from jaxrisk.venue.takeover import AbsorbedStock, AuctionedLots
from jaxrisk.venue.venue import Venue
from tests import band_venues, call_venues, lender_systems, pool_systems, systems, takeover_systems
from tests.test_stop_orders import portfolios

FUNDS = 1e4


def on_the_common_market(venue: Venue) -> Venue:
    """Return a venue of the small market of `systems`, its dollars those of the larger market."""
    place = {0: pool_systems.WETH, 1: pool_systems.WSTETH, 2: pool_systems.USDC}
    accounts = venue.accounts
    moved = dataclasses.replace(
        accounts,
        collateral_assets=tuple(place[a] for a in accounts.collateral_assets),
        debt_assets=tuple(place[a] for a in accounts.debt_assets),
    )
    return dataclasses.replace(venue, accounts=moved)


def every_preset() -> System:
    """Return one venue of every preset, in the market of the stablecoin issuers."""
    system = pool_systems.random_system(1, fall=0.25)
    taken_over = takeover_systems.random_system(1, funds=FUNDS).venues[1:]
    bands = dataclasses.replace(band_venues.band_venue(1, dtype=np.float64), name="crvusd")
    lenders = lender_systems.lender_venue(1)
    others = [*call_venues.every_venue(1, funds=FUNDS), portfolios(1), *taken_over, lenders, bands]
    return dataclasses.replace(
        system, venues=(*system.venues[:2], *map(on_the_common_market, others), *on_margin())
    )


def on_margin() -> list[Venue]:
    """Return the venues of contracts, in the larger market; half of the accounts are long."""
    size = jnp.asarray([[20.0, 40.0, -30.0, -10.0]])
    accounts = Accounts(
        collateral=jnp.asarray([[9e3, 3e4, 3e4, 9e3]]),
        debt=jnp.zeros((1, 4)),
        category=jnp.zeros(4, jnp.int32),
        collateral_assets=(pool_systems.USDC,),
        debt_assets=(pool_systems.USDC,),
        positions=Positions(size=size, entry=jnp.full((1, 4), jnp.nan)),
    )
    common = {"prices": pool_systems.PRICE, "settlement": "USDC", "insurance": FUNDS}
    in_coins = dataclasses.replace(
        accounts,
        collateral=accounts.collateral / pool_systems.PRICE["WETH"],
        collateral_assets=(pool_systems.WETH,),
        debt_assets=(pool_systems.WETH,),
    )
    assert accounts.positions is not None
    short = dataclasses.replace(accounts.positions, size=-jnp.abs(size))
    written = dataclasses.replace(accounts, positions=short)
    put, smile, margin = "WETH-30D-2800-P", {"volatility": 0.8}, {"maintenance_margin": 0.02}
    terms = {
        "perpetuals": (accounts, "WETH-PERP", margin, {}),
        "binance_usdm": (accounts, "WETH-PERP", margin, {}),
        "bybit": (accounts, "WETH-PERP", margin, {"funding_cap": 0.01}),
        "okx": (accounts, "WETH-PERP", margin, {"funding_cap": 0.01}),
        "hyperliquid": (accounts, "WETH-PERP", margin, {}),
        "dydx_v4": (accounts, "WETH-PERP", margin, {}),
        "drift_v2": (
            accounts,
            "WETH-PERP",
            margin,
            {"liquidator_fee": 0.005, "insurance_fee": 0.005},
        ),
        "options": (accounts, put, smile, {}),
        "deribit": (in_coins, put, smile, {"settlement": "WETH"}),
        "derive": (accounts, put, smile, {}),
        "opyn": (written, put, smile, {}),
        "span": (accounts, put, smile, {"scan_range": 0.1, "volatility_range": 0.2}),
    }
    linear = [
        PRESETS[name].build(
            book,
            pool_systems.ASSETS,
            instruments=(contract,),
            overrides={"WETH": own},
            **{**common, **more},
        )
        for name, (book, contract, own, more) in terms.items()
    ]
    return [*on_coins(accounts), *linear]


def on_coins(accounts: Accounts) -> list[Venue]:
    """Return the venues of inverse contracts, settled in ether."""
    price = pool_systems.PRICE["WETH"]
    collateral = accounts.collateral / price
    places = {"collateral_assets": (pool_systems.WETH,), "debt_assets": (pool_systems.WETH,)}
    assert accounts.positions is not None
    venues = []
    for name, face in (("binance_coinm", 100.0), ("bitmex", 1.0)):
        size = accounts.positions.size * price / face
        held = dataclasses.replace(accounts.positions, size=size)
        book = dataclasses.replace(accounts, collateral=collateral, positions=held, **places)
        venues.append(
            PRESETS[name].build(
                book,
                pool_systems.ASSETS,
                instruments=("WETH-PERP",),
                prices=pool_systems.PRICE,
                settlement="WETH",
                overrides={"WETH": {"maintenance_margin": 0.02}},
                insurance=FUNDS,
            )
        )
    return venues


@pytest.mark.slow
def test_every_preset_plays_in_one_jitted_step():
    system = every_preset()
    names = {"stock": "compound_v3", "vaults": "sky"}
    kinds = {names.get(venue.name, venue.name) for venue in system.venues}
    issuers = {"liquity_v1", "liquity_v2"}
    executions = [type(venue.execution) for venue in system.venues]
    assert executions[:2] == [DepositPool, DepositPool]
    rules = [
        type(venue.execution.liquidation)
        for venue in system.venues
        if isinstance(venue.execution, DepositPool)
    ]
    assert rules == [RecoveryLiquidation, PenaltyLiquidation]
    assert executions[-18:-14] == [AbsorbedStock, AuctionedLots, LenderAuctions, BandConversion]
    assert len(set(kinds)) == len(system.venues)
    assert set(PRESETS) <= kinds | issuers
    plan = Plan(steps=systems.STEPS, health_groups=1)
    books = cut_books(system, layouts(system, plan))
    # Auctions between lenders take hours to come down to the market.
    step_rules = StepRules(step_years=jnp.asarray(lender_systems.STEP_YEARS), rounds=2)
    assert isinstance(system.paths, GivenMoves)

    @jax.jit
    def play(system, books, rules, moves):
        opening = opening_state(system, books)
        advance = lambda state, noise: (step(system, books, rules, state, noise), None)
        state, _ = lax.scan(advance, opening, moves)
        return outcome(system, books, state, systems.STEPS)

    ended = jax.device_get(play(system, books, step_rules, system.paths.log_return[0]))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(ended))
    assert ended.conservation_error < 1e-9
    active = (ended.flows[Flow.LIQUIDATED] > 0) | (ended.flows[Flow.CONVERTED] > 0)
    idle = [venue.name for venue, acts in zip(system.venues, active, strict=True) if not acts]
    assert idle == []
