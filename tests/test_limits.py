"""Caps and ceilings: how much new risk each still allows, and what is above one already."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrisk.measure.exposure import limit_rows
from jaxrisk.run.build import build
from jaxrisk.run.load import load_config
from jaxrisk.run.summary import book_findings
from jaxrisk.venue.account import Accounts
from jaxrisk.venue.limits import Limit, headroom
from jaxrisk.venue.presets import PRESETS, aave_v3, sky
from tests import systems
from tests.command_line import CONFIG, write_project
from tests.helpers import assert_close

BOOK = Accounts(
    collateral=jnp.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]),
    debt=jnp.array([[0.0, 3.0, 5.0]]),
    category=jnp.array([0, 1, 1], jnp.int32),
    collateral_assets=(0, 1),
    debt_assets=(2,),
)
CAPPED = CONFIG.replace(
    "[venues.pool.assets.WETH]\n",
    "[venues.pool.assets.WETH]\noptions.borrow_cap = 0.5\noptions.supply_cap = 1e6\n",
)


def limit(most, **where):
    return Limit(name="cap", most=jnp.asarray(most), **{"is_debt": True, "row": 0, **where})


def test_what_is_used_is_summed_over_the_accounts_it_counts():
    assert float(limit(10.0).used(BOOK)) == 8.0
    assert float(limit(10.0, category=0).used(BOOK)) == 0.0
    assert float(limit(10.0, is_debt=False, row=1).used(BOOK)) == 56.0
    assert float(limit(10.0, is_debt=False, row=1, category=1).used(BOOK)) == 48.0
    one = jnp.asarray([[1.0, 0.0, 4.0], [0.0, 16.0, 0.0]])
    other = dataclasses.replace(BOOK, collateral=one)
    assert float(limit(10.0, against=1).used(other)) == 3.0
    assert float(limit(10.0, against=0, category=1).used(other)) == 5.0


@pytest.mark.parametrize(
    ("used", "most", "gap", "expected"),
    [
        (8.0, 10.0, None, 2.0),
        (10.0, 10.0, None, 0.0),
        (12.0, 10.0, None, 0.0),
        # A ceiling that is raised to the debt plus a gap, up to a maximum.
        (8.0, 100.0, 5.0, 5.0),
        (98.0, 100.0, 5.0, 2.0),
        (120.0, 100.0, 5.0, 0.0),
    ],
)
def test_headroom_is_what_may_still_come(used, most, gap, expected):
    gap = None if gap is None else jnp.asarray(gap)
    assert float(headroom(jnp.asarray(used), jnp.asarray(most), gap)) == expected


def test_rows_name_venue_limit_and_asset():
    system = systems.random_system(3)
    accounts = system.venues[0].accounts
    capped = aave_v3(
        accounts,
        systems.ASSETS,
        name="pool",
        overrides={"USDC": {"borrow_cap": 5e8}, "wstETH": {"supply_cap": 1e-3}},
    )
    rows = limit_rows(dataclasses.replace(system, venues=(capped, system.venues[1])))
    found = {(row["limit"], row["asset"]): row for row in rows}
    # Shipped caps of the deployment, replaced where the overrides say so.
    assert {key: row["most"] for key, row in found.items()} == {
        ("supply cap", "WETH"): 3.8e6,
        ("supply cap", "wstETH"): 1e-3,
        ("borrow cap", "WETH"): 3.6e6,
        ("borrow cap", "USDC"): 5e8,
    }
    assert {row["venue"] for row in rows} == {"pool"}
    owed = np.asarray(accounts.debt).sum(axis=1)
    dollars = found["borrow cap", "USDC"]
    assert_close(dollars["used"], owed[1], rtol=1e-12, atol=0.0)
    assert_close(dollars["headroom"], 5e8 - owed[1], rtol=1e-12, atol=0.0)
    assert_close(dollars["headroom_usd"], 5e8 - owed[1], rtol=1e-12, atol=0.0)
    assert found["supply cap", "wstETH"]["headroom"] == 0.0


def test_a_vault_type_has_the_room_its_ceiling_leaves():
    accounts = Accounts(
        collateral=jnp.array([[900.0, 900.0, 0.0], [0.0, 0.0, 900.0]]),
        debt=jnp.array([[1e6, 2e6, 1e6]]),
        category=jnp.array([0, 1, 0], jnp.int32),
        collateral_assets=(0, 1),
        debt_assets=(2,),
    )
    venue = sky(accounts, ("WETH", "wstETH", "DAI"), stability_fee=0.05)
    system = dataclasses.replace(systems.random_system(3), venues=(venue,))
    rooms = {row["limit"]: (row["used"], row["headroom"]) for row in limit_rows(system)}
    # The line of ETH-A is raised to 150 million beyond the debt, that of ETH-B to 20 million; of
    # WSTETH-A no gap is recorded.
    assert rooms == {
        "debt ceiling of ETH-A": (1e6, 150e6),
        "debt ceiling of ETH-B": (2e6, 20e6),
        "debt ceiling of WSTETH-A": (1e6, 750e6 - 1e6),
    }


@pytest.mark.parametrize("value", [-1.0, float("nan")])
def test_a_cap_is_an_amount(value):
    accounts = systems.random_system(3).venues[0].accounts
    with pytest.raises(ValueError, match=r"USDC: borrow_cap = .*: expected 0 or more"):
        aave_v3(accounts, systems.ASSETS, overrides={"USDC": {"borrow_cap": value}})


def test_a_book_above_a_cap_is_pointed_out(tmp_path):
    built = build(load_config(write_project(tmp_path, config=CAPPED), [], known_presets=PRESETS))
    findings = [text for text in book_findings(built) if "cap" in text]
    assert len(findings) == 1
    assert "venue pool: borrow cap of 0.5 WETH is below the " in findings[0]


def test_rows_can_be_written(tmp_path):
    built = build(load_config(write_project(tmp_path, config=CAPPED), [], known_presets=PRESETS))
    rows = limit_rows(built.system)
    assert json.loads(json.dumps(rows)) == rows
