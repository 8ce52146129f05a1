"""The table of single calls: six protocols, one account, five loans to value, to the cent.

One collateral of 10,000 USD, debt = LTV x 10,000, one maximal call by a keeper who never pays more
than the collateral is worth at the bonus. Each figure is what one round of the preset moves, in a
market without impact. What an emptied account owed beyond what was repaid is its bad debt: written
off (Aave, Morpho, Euler), left standing (Silo) or paid by the reserves (Comet, where the repayment
is the credit that the collateral brings).
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.system.book import Layout
from jaxrisk.system.cascade import cascade_round
from jaxrisk.system.simulate import Plan, cut_books, layouts
from jaxrisk.system.system import Flow, StepRules, System, VenueState, opening_state
from jaxrisk.venue import presets
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.health_bonus import HealthLinearBonus
from jaxrisk.venue.position import Position
from jaxrisk.venue.presets.aave_v4 import BASIS_POINT, close_rule
from jaxrisk.venue.settlement import Refusal
from jaxrisk.venue.target_close import TargetClose
from jaxrisk.venue.target_health import TargetPosition, target_call
from jaxrisk.venue.venue import Pool, Venue
from tests import call_venues, systems
from tests.helpers import assert_close

COLLATERAL = 1e4
CENT = {"rtol": 0.0, "atol": 0.005}
NOTHING = (0.00, 0.00, 0.00)

# (repaid, seized, bad debt) by protocol and loan to value.
TABLE: dict[str, dict[float, tuple[float, float, float]]] = {
    "aave_v3": {
        0.85: (4_250.00, 4_462.50, 0.00),
        0.90: (9_000.00, 9_450.00, 0.00),
        0.95: (9_500.00, 9_975.00, 0.00),
        0.98: (9_523.81, 10_000.00, 276.19),
        1.05: (9_523.81, 10_000.00, 976.19),
    },
    "aave_v4": {
        0.85: (5_278.29, 5_570.15, 0.00),
        0.90: (9_000.00, 9_720.00, 0.00),
        0.95: (9_259.26, 10_000.00, 240.74),
        0.98: (9_259.26, 10_000.00, 540.74),
        1.05: (9_259.26, 10_000.00, 1_240.74),
    },
    "morpho_blue": {
        0.85: NOTHING,
        0.90: (9_000.00, 9_394.57, 0.00),
        0.95: (9_500.00, 9_916.49, 0.00),
        0.98: (9_580.00, 10_000.00, 220.00),
        1.05: (9_580.00, 10_000.00, 920.00),
    },
    "euler_v2": {
        0.85: NOTHING,
        0.90: (9_000.00, 9_418.60, 0.00),
        0.95: (9_052.63, 10_000.00, 447.37),
        0.98: (8_775.51, 10_000.00, 1_024.49),
        1.05: (8_500.00, 10_000.00, 2_000.00),
    },
    "silo_v2": {
        0.85: NOTHING,
        0.90: (6_861.50, 7_204.57, 0.00),
        0.95: (9_500.00, 9_975.00, 0.00),
        # All of the debt or nothing: the contract refuses the 9,523.81 that the full fee pays for.
        0.98: (9_800.00, 10_000.00, 0.00),
        1.05: (9_523.81, 10_000.00, 976.19),
    },
    "compound_v3": {
        0.85: NOTHING,
        0.90: NOTHING,
        0.95: (9_500.00, 10_000.00, 0.00),
        0.98: (9_500.00, 10_000.00, 300.00),
        1.05: (9_500.00, 10_000.00, 1_000.00),
    },
}
CELLS = [(kind, ltv, cell) for kind, column in TABLE.items() for ltv, cell in column.items()]

CASH = {"USDC": {"available_liquidity": 1e6}}


def terms(**collateral: float) -> dict[str, dict[str, float]]:
    """Return overrides of the collateral's terms."""
    return {"wstETH": collateral, **CASH}


OPTIONS: dict[str, dict[str, Any]] = {
    "aave_v3": {
        "overrides": terms(liquidation_threshold=0.83, loan_to_value=0.8, liquidation_bonus=0.05)
    },
    "aave_v4": {
        "overrides": terms(liquidation_threshold=0.8, liquidation_bonus=0.08),
        "target_health": 1.1,
        "health_for_maximum_bonus": 0.9,
        "minimum_bonus_share": 0.25,
    },
    "morpho_blue": {"overrides": CASH, "liquidation_loan_to_value": 0.86},
    "euler_v2": {"overrides": terms(liquidation_threshold=0.86), "maximum_discount": 0.15},
    "silo_v2": {
        "overrides": call_venues.LENT,
        "liquidation_loan_to_value": 0.85,
        "target_loan_to_value": 0.765,
        "liquidation_fee": 0.05,
    },
    # Nothing is passed on to buyers, so that what was taken is still in sale after the round.
    "compound_v3": {
        "overrides": terms(loan_to_value=0.85, liquidation_threshold=0.9, liquidation_factor=0.95),
        "discount_share": 0.0,
    },
}


class Cell(NamedTuple):
    """What one round moved, USD, and where what was missing is booked."""

    repaid: float
    seized: float
    written_off: float
    standing: float
    in_sale: float

    @property
    def bad_debt(self) -> float:
        """Debt of an emptied account beyond what was repaid."""
        return self.written_off + self.standing + max(self.in_sale - self.repaid, 0.0)


@jax.jit
def _round(system: System, layout: tuple[Layout, ...]) -> VenueState:
    books = cut_books(system, layout)
    state = opening_state(system, books)
    rules = StepRules(step_years=jnp.asarray(0.0))
    return cascade_round(system, books, rules, state)[0].venues[0]


def owed(kind: str, ltv: float) -> float:
    """Return the debt: a hair less where nothing is called, for on a threshold a digit decides."""
    return ltv * COLLATERAL * (1.0 - (1e-9 if TABLE[kind][ltv] is NOTHING else 0.0))


def account(kind: str, ltv: float) -> Venue:
    """Return the preset with one account, whose collateral and debt have prices of 1."""
    accounts = Accounts(
        collateral=jnp.array([[COLLATERAL]]),
        debt=jnp.array([[owed(kind, ltv)]]),
        category=jnp.zeros(1, jnp.int32),
        collateral_assets=(1,),
        debt_assets=(2,),
    )
    return presets.PRESETS[kind].build(accounts, systems.ASSETS, name=kind, **OPTIONS[kind])


def called(kind: str, ltv: float) -> Cell:
    """Return what one round of the preset does to the account."""
    system = call_venues.without_impact((account(kind, ltv),))
    market = dataclasses.replace(system.market, price=jnp.ones_like(system.market.price))
    system = dataclasses.replace(system, market=market)
    state = _round(system, layouts(system, Plan(steps=1, health_groups=1)))
    emptied = not np.asarray(state.collateral[0]).any()
    flows, pool = np.asarray(state.flows), np.asarray(state.pool)[:, 0]
    return Cell(
        repaid=flows[Flow.REPAID],
        seized=flows[Flow.LIQUIDATED],
        written_off=flows[Flow.BAD_DEBT],
        standing=pool[Pool.DEBT] if emptied else 0.0,
        in_sale=pool[Pool.IN_SALE],
    )


@pytest.mark.parametrize(("kind", "ltv", "cell"), CELLS)
def test_one_call_is_that_of_the_table(kind, ltv, cell):
    found = called(kind, ltv)
    assert_close([found.repaid, found.seized, found.bad_debt], cell, **CENT)
    if found.seized == COLLATERAL:
        assert_close(found.repaid + found.bad_debt, owed(kind, ltv), rtol=1e-12, atol=0.0)


def test_bad_debt_is_booked_where_the_protocol_has_it():
    where = {kind: called(kind, 1.05) for kind in TABLE}
    for kind in ("aave_v3", "aave_v4", "morpho_blue", "euler_v2"):
        assert where[kind].written_off == where[kind].bad_debt > 0
    assert where["silo_v2"].standing == where["silo_v2"].bad_debt > 0
    assert_close(where["compound_v3"].in_sale, owed("compound_v3", 1.05), rtol=1e-12, atol=0.0)


def test_a_silo_whose_collateral_pays_less_than_the_fee_is_closed_whole_or_not_at_all():
    one = jnp.ones(1)
    position = Position(
        collateral=1e4 * one,
        debt=9_800.0 * one,
        total_collateral=1e4 * one,
        total_debt=9_800.0 * one,
        backing=8_500.0 * one,
        credit=1.05 * one,
    )
    rule = TargetClose(target=jnp.array(0.765), whole_above=jnp.array(0.9))
    assert rule.call(position, 9_523.81 * one).refusal[0] == Refusal.WHOLE_REQUIRED
    whole = rule.call(position, 9_800.0 * one)
    assert_close([whole.repaid[0], whole.seized[0]], [9_800.0, 10_000.0], **CENT)


def test_basis_points_of_the_bonus_move_a_call_to_the_target_by_dollars():
    """The contract rounds the bonus at health 0.9412 down from 5.529 % to 5.52 %."""
    one = jnp.ones(1)
    bonus = HealthLinearBonus(
        maximum_bonus=jnp.array(0.08),
        minimum_share=jnp.array(0.25),
        health_for_maximum=jnp.array(0.9),
    )
    health = jnp.array([8_000.0 / 8_500.0])
    calls = []
    for unit in (None, jnp.array(BASIS_POINT)):
        pair = Position(
            collateral=1e4 * one,
            debt=8_500.0 * one,
            total_collateral=1e4 * one,
            total_debt=8_500.0 * one,
            backing=8_000.0 * one,
            credit=1.0 + bonus.bonus(health, unit=unit),
        )
        target = TargetPosition(pair=pair, collateral_weight=0.8 * one, premium=0.0 * one)
        call = target_call(close_rule(jnp.array(1.1)), target, jnp.full(1, jnp.inf))
        calls.append((call.repaid[0], call.seized[0]))
    assert_close(calls, [(5_278.29, 5_570.15), (5_276.74, 5_568.01)], **CENT)
