"""A lending pool, perpetuals and options in one market: one step, one ledger a venue, one owner."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxrisk.market.oracle import SpotOracle
from jaxrisk.market.paths import GivenMoves
from jaxrisk.measure.owner import (
    account_equity,
    account_exposure,
    account_health,
    owner_table,
)
from jaxrisk.run.build import build
from jaxrisk.run.load import load_config
from jaxrisk.system.simulate import Plan, cut_books, layouts, outcome
from jaxrisk.system.step import step
from jaxrisk.system.system import Flow, StepRules, System, opening_state
from jaxrisk.venue.presets import PRESETS
from jaxrisk.venue.venue import Venue
from tests import margin_systems, systems
from tests.conftest import ROOT
from tests.helpers import assert_close
from tests.margin_systems import USDC, WETH


def lending_venue(seed: int, repeat: int) -> Venue:
    """Return an isolated lending pool of dollars against ether, `4 * repeat` accounts."""
    venue = systems.stochastic_system(seed, repeat=repeat).venues[1]
    accounts = dataclasses.replace(
        venue.accounts,
        collateral=venue.accounts.collateral * 1.2,
        collateral_assets=(WETH,),
        debt_assets=(USDC,),
    )
    return dataclasses.replace(venue, accounts=accounts, oracle=SpotOracle(), name="pool")


def mixed_system(repeat: int, perps: int, options: int) -> System:
    """Return a falling market with a lending pool and two venues of contracts."""
    venues = (
        lending_venue(3, repeat),
        margin_systems.perpetual_venue(3, count=perps, leverage=40.0),
        margin_systems.option_venue(3, count=options, leverage=4.0),
    )
    return margin_systems.random_system(3, fall=0.08, depth=1e10, venues=venues)


@pytest.mark.slow
def test_ten_thousand_accounts_on_three_kinds_of_venue_play_in_one_jitted_step():
    system = mixed_system(1000, 3000, 3000)
    assert sum(venue.accounts.count for venue in system.venues) == 10_000
    plan = Plan(steps=systems.STEPS, health_groups=1)
    books = cut_books(system, layouts(system, plan))
    rules = StepRules(step_years=jnp.asarray(systems.STEP_YEARS), rounds=3)
    assert isinstance(system.paths, GivenMoves)

    @jax.jit
    def play(system, books, rules, moves):
        opening = opening_state(system, books)
        advance = lambda state, noise: (step(system, books, rules, state, noise), None)
        state, _ = lax.scan(advance, opening, moves)
        return outcome(system, books, state, systems.STEPS), state.venues

    ended, states = jax.device_get(play(system, books, rules, system.paths.log_return[0]))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(ended))
    assert ended.conservation_error < 1e-9
    assert (ended.flows[Flow.LIQUIDATED] > 0).all()
    borne = ended.deleveraged + ended.socialised + ended.supplier_loss + ended.paid.sum(axis=1)
    assert_close(ended.bad_debt, borne, rtol=1e-9, atol=1e-3)
    assert ended.deleveraged[1] > 0
    for state in states[1:]:
        assert state.execution.fraction.min() >= -1e-12


@pytest.mark.slow
def test_one_venue_feels_what_is_sold_on_another():
    system = mixed_system(2, 8, 8)
    depth = dataclasses.replace(
        system.liquidity, depth=margin_systems.random_system(1, depth=2e7).liquidity.depth
    )
    system = dataclasses.replace(system, liquidity=depth)
    together = systems.played_verb_by_verb(system)[-1][1]
    alone = dataclasses.replace(system, venues=system.venues[:1])
    apart = systems.played_verb_by_verb(alone)[-1][1]
    assert together.market.price[WETH] < apart.market.price[WETH]


@pytest.mark.slow
def test_an_owner_is_netted_over_venues_but_every_account_stands_alone():
    system = mixed_system(2, 8, 8)
    owners = [["a", "b", *[""] * 5, "a"], ["a", *"cdefghi"], ["b", *"cdefghi"]]
    table = owner_table(system, owners)
    rows = {name: i for i, name in enumerate(table["owner"])}
    assert len(rows) == 5 + 9
    mid = system.market.mid
    equity = [np.asarray(account_equity(venue, mid)) for venue in system.venues]
    health = [np.asarray(account_health(venue, mid)) for venue in system.venues]
    assert table["accounts"][rows["a"]] == 3
    assert table["venues"][rows["a"]] == 2
    total = equity[0][0] + equity[0][7] + equity[1][0]
    assert table["equity_usd"][rows["a"]] == pytest.approx(total)
    lowest = min(health[0][0], health[0][7], health[1][0])
    assert table["lowest_health"][rows["a"]] == pytest.approx(lowest)
    assert (table["net_exposure_usd"] <= table["gross_exposure_usd"] * (1 + 1e-12)).all()
    with pytest.raises(ValueError, match="owners of"):
        owner_table(system, [["a"], *owners[1:]])


def test_a_hedge_on_another_venue_nets_the_owner_and_saves_no_account():
    system = mixed_system(2, 8, 8)
    loan, perps = (system.venues[v].accounts for v in (0, 1))
    assert perps.positions is not None
    units, owed = float(loan.collateral[0, 0]), float(loan.debt[0, 0])
    hedge = perps.positions.size.at[:, 0].set(jnp.array([-units, 0.0]))
    entry = float(perps.positions.entry[0, 0])
    positions = dataclasses.replace(perps.positions, size=hedge)
    venue = dataclasses.replace(
        system.venues[1], accounts=dataclasses.replace(perps, positions=positions)
    )
    system = dataclasses.replace(system, venues=(system.venues[0], venue))
    table = owner_table(system, [["a", *[""] * 7], ["a", *[""] * 7]])
    dollars = 0.999 * (float(perps.collateral[0, 0]) + units * entry)
    net, gross = (table[f"{kind}_exposure_usd"][0] for kind in ("net", "gross"))
    assert net == pytest.approx(abs(dollars - 0.999 * owed))
    assert gross == pytest.approx(2.0 * units * 3000.0 + dollars + 0.999 * owed)
    healths = [float(account_health(v, system.market.mid)[0]) for v in system.venues]
    assert table["lowest_health"][0] == pytest.approx(min(healths))


def test_a_fall_breaks_the_loan_of_a_basis_trade_and_a_squeeze_its_short():
    built = build(load_config(ROOT / "configs" / "basis_trade.toml", known_presets=PRESETS))
    venues, mid = built.system.venues, built.system.market.mid
    traders = len(built.books[0].owner)
    assert built.books[0].owner == built.books[1].owner[:traders]
    ether = np.array([asset != "USDC" for asset in built.system.assets])
    exposures = jax.jit(lambda price: [account_exposure(v, price)[:, :traders] for v in venues])
    health = jax.jit(lambda price: [account_health(v, price)[:traders] for v in venues])
    loan, short = (np.asarray(each)[ether].sum(axis=0) for each in exposures(mid))
    assert loan.min() > 0
    assert_close(loan + short, np.zeros(traders), rtol=0.0, atol=1e-4 * float(loan.min()))

    def called(move: float) -> list[int]:
        at = health(jnp.where(ether, move, 1.0) * mid)
        return [int(np.sum(np.asarray(each) < 1)) for each in at]

    assert called(1.0) == [0, 0]
    assert called(0.8) == [19, 0]
    assert called(1.2) == [0, 28]
