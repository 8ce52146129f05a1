"""Holders who sell by themselves: what is sold is the reference's, and who bears what is left."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxrisk.market.paths import GivenMoves
from jaxrisk.system.system import Flow, System
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.presets import holders
from jaxrisk.venue.stop_orders import StopOrders
from jaxrisk.venue.venue import Venue
from tests import reference_stops as reference
from tests import systems
from tests.command_line import BOOK, CONFIG, write_project
from tests.helpers import assert_close
from tests.reference_systems import check_market, reference_world
from tests.test_step import check_conservation

PRICES = np.array([3000.0, 3600.0, 1.0])


def portfolios(seed: int) -> Venue:
    """Return six holders of ether, staked ether and dollars, half of whom owe dollars."""
    rng = np.random.default_rng(seed)
    held = 10 ** rng.uniform(3.5, 6.0, 6) * rng.dirichlet([1.0, 1.0, 0.2], 6).T
    debt = np.where(np.arange(6) < 3, 0.0, held.sum(axis=0) / rng.uniform(1.22, 1.8, 6))
    accounts = Accounts(
        collateral=jnp.asarray(held / PRICES[:, None]),
        debt=jnp.asarray(debt[None]),
        category=jnp.zeros(6, jnp.int32),
        collateral_assets=(0, 1, 2),
        debt_assets=(2,),
    )
    return holders(accounts, systems.ASSETS, stop_loss=0.3, margin=1.2, target=1.5, insurance=1e3)


def alone(seed: int, fall: float, log_depth: float) -> System:
    system = systems.random_system(seed, fall=fall, depth=10**log_depth)
    return dataclasses.replace(system, venues=(portfolios(seed),))


@given(seed=st.integers(0, 2**32 - 1), fall=st.floats(0.0, 0.4), log_depth=st.floats(6.0, 9.0))
def test_sales_are_those_of_the_scalar_reference(seed, fall, log_depth):
    system = alone(seed, fall, log_depth)
    (venue,) = system.venues
    book = reference.Holders(
        held=np.array(venue.accounts.collateral),
        owed=np.concatenate([np.zeros((2, 6)), np.array(venue.accounts.debt)]),
        opening=PRICES,
        loss=0.3,
        margin=1.2,
        target=1.5,
    )
    world = reference_world(system, "pro_rata", [])
    assert isinstance(system.paths, GivenMoves)
    played = systems.played_verb_by_verb(system)
    check_conservation(system, played)
    absorbed = [s for verb, s in played if verb == "absorb"]
    for state, log_return in zip(absorbed, np.asarray(system.paths.log_return[0]), strict=True):
        reference.step(world, book, log_return, systems.STEP_YEARS, systems.ROUNDS)
        check_market(state, world, rtol=1e-8)
        flows = state.venues[0].flows
        for name, amount in book.flows.items():
            assert_close(flows[Flow[name.upper()]], amount, rtol=1e-8, atol=1e-4)
        lost = flows[Flow.BAD_DEBT]
        borne = state.venues[0].paid.sum() + flows[Flow.RESIDUAL]
        assert_close(borne, lost, rtol=1e-9, atol=1e-6)


def test_stops_sell_all_and_margin_calls_as_much_as_restores_the_target():
    slot = StopOrders(loss=jnp.array(0.3), margin=jnp.array(1.2), target=jnp.array(1.5))
    worth, debt = jnp.array([100.0, 69.0, 100.0, 100.0, 100.0]), jnp.array([0.0, 0, 90, 60, 110])
    part = np.asarray(slot.part(worth, jnp.full(5, 100.0), debt, None))
    assert_close(part, [0.0, 1.0, 0.7, 0.0, 1.0], rtol=1e-12, atol=1e-12)
    left, owed = 100.0 * (1.0 - part[2]), 90.0 - 100.0 * part[2]
    assert_close(left / owed, 1.5, rtol=1e-12, atol=0.0)


def test_their_sales_bring_down_accounts_elsewhere():
    """Of two systems that differ in holders only, the one with them liquidates more."""
    plain = systems.random_system(5, fall=0.15, depth=1e6)
    joined = dataclasses.replace(plain, venues=(*plain.venues, portfolios(5)))
    seized = []
    for system in (plain, joined):
        end = systems.played_verb_by_verb(system)[-1][1]
        lower = end.market.displacement[0]
        seized.append((lower, sum(v.flows[Flow.BAD_DEBT] for v in end.venues[:2])))
    assert seized[1][0] > seized[0][0]
    assert seized[1][1] >= seized[0][1]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "expected stop_loss, or margin and target, or both"),
        ({"stop_loss": 30.0}, "stop_loss 30: expected a fraction in"),
        ({"margin": 1.2}, "margin and target go together"),
        ({"margin": 0.8, "target": 1.5}, "margin 0.8: expected collateral over debt above 1"),
        ({"margin": 1.5, "target": 1.2}, "target 1.2: expected at least margin"),
    ],
)
def test_levels_that_make_no_sense_are_refused(options, problem):
    with pytest.raises(ValueError, match=problem):
        holders(portfolios(1).accounts, systems.ASSETS, **options)


FUNDS = """
[venues.funds]
preset = "holders"

[venues.funds.options]
stop_loss = 0.1
"""


@pytest.mark.slow
def test_a_run_with_holders_who_owe_nothing(call, tmp_path):
    book = BOOK + "h0,funds,WETH,collateral,100.0\nh1,funds,WBTC,collateral,5.0\n"
    config = write_project(tmp_path, config=CONFIG + FUNDS, positions=book)
    ended = call("run", config, "--out", tmp_path / "out", "--quiet")
    assert ended.code == 0, ended.err
    table = pq.read_table(tmp_path / "out" / "scenarios.parquet").to_pydict()
    assert np.max(table["liquidated_funds_usd"]) > 1e5
    assert np.max(table["bad_debt_funds_usd"]) == 0
