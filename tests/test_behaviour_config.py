"""Owners and halts from a configuration: what is refused, and what a run with them says."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxrisk.run.build import build
from jaxrisk.run.load import load_config
from jaxrisk.venue.presets import PRESETS
from tests.command_line import BOOK, CONFIG, write_project
from tests.helpers import assert_close

RESCUE = """
[owners]
wallet_of_debt = 0.1

[owners.wallets]
ada = 100.0

[policies.rescue]
venue = "pool"
kind = "top_up"
below = 1.1
target = 1.3

[policies.elsewhere]
venue = "blue"
kind = "withdraw"
keep = 1.2
"""


def owned_book() -> str:
    """Return the small book; ada holds a weak account on one venue, a safe one on another."""
    header, *rows = BOOK.splitlines()
    owner = {"p0": "ada", "b5": "ada", "p1": "ben"}
    lines = [f"{header},owner", *(f"{row},{owner.get(row.split(',')[0], '')}" for row in rows)]
    return "\n".join(lines) + "\n"


def project(folder, policies):
    return write_project(folder, config=CONFIG + policies, positions=owned_book())


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("wallet_of_debt = 0.1", "wallet_usd = -1.0", "owners.wallet_usd = -1.0: expected"),
        ("ada = 100.0", "adda = 1.0", "owners.wallets.adda: no account has this owner"),
        ("below = 1.1", "below = 1.4", "policies.rescue.target = 1.3: expected at least below"),
        ("below = 1.1\n", "", 'policies.rescue.below: missing; needed by kind = "top_up"'),
        ('venue = "pool"', 'venue = "pol"', 'policies.rescue.venue = "pol": no such venue'),
        ("below", 'category = "eth"\nbelow', "policies.rescue.category"),
        ("keep", "largest = 0.2\nkeep", 'not a key of kind = "withdraw", which takes keep'),
        (
            'kind = "withdraw"\nkeep = 1.2',
            'kind = "band"\nlowest = 1.6\nhighest = 1.4\ntarget = 1.5',
            "policies.elsewhere.lowest = 1.6: expected at most highest (1.4)",
        ),
        (
            'kind = "withdraw"\nkeep = 1.2',
            'kind = "band"\nlowest = 1.3\nhighest = 1.4\ntarget = 1.5',
            "policies.elsewhere.target = 1.5: expected a number in [1.3, 1.4], the band",
        ),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(call, tmp_path, old, new, line):
    assert old in RESCUE
    ended = call("validate", project(tmp_path, RESCUE.replace(old, new, 1)))
    assert ended.code == 2
    assert line in ended.err


def test_cash_without_a_policy_and_two_ways_to_give_are_refused(call, tmp_path):
    ended = call("validate", project(tmp_path / "a", "\n[owners]\nwallet_usd = 1.0\n"))
    assert ended.code == 2
    assert "owners: nobody uses this cash" in ended.err
    twice = '\n[policies.again]\nvenue = "blue"\nkind = "unwind"\nlargest = 0.5\n'
    ended = call("validate", project(tmp_path / "b", RESCUE + twice))
    assert ended.code == 2
    assert "policies.again: accounts on blue give by elsewhere already" in ended.err


HALTS = """
[halts]
market_move = 0.3
market_steps = 2

[halts.venues.blue]
move = 0.2
steps = 1
"""


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("market_steps = 2\n", "", "halts.market_steps: missing; market_move and market_steps go"),
        ("market_move = 0.3", "market_move = 30", "did you mean 0.3?"),
        ("venues.blue", "venues.blu", "halts.venues.blu: no such venue"),
        ("steps = 1", "steps = 0", "halts.venues.blue.steps = 0: expected a whole number"),
    ],
)
def test_halts_that_do_not_fit_are_refused_by_name(call, tmp_path, old, new, line):
    assert old in HALTS
    ended = call("validate", project(tmp_path, HALTS.replace(old, new, 1)))
    assert ended.code == 2
    assert line in ended.err


def test_halts_are_in_the_system_and_among_its_assumptions(tmp_path):
    built = build(load_config(project(tmp_path, HALTS), known_presets=PRESETS))
    halts = built.system.halts
    assert halts is not None
    assert halts.markets is not None
    assert_close(halts.markets.move, -np.log(0.7), rtol=1e-12, atol=0.0)
    assert [breaker is None for breaker in halts.venues] == [True, False]
    text = "; ".join(built.assumptions)
    assert "blue stops for 1 steps once a price moves by 20% within one" in text
    assert "a market closes for 2 steps once its price moves by 30% within one" in text
    assert build(load_config(project(tmp_path, ""), known_presets=PRESETS)).system.halts is None


@pytest.mark.slow
def test_a_run_says_what_owners_did(call, tmp_path):
    ended = call("run", project(tmp_path, RESCUE), "--out", tmp_path / "out", "--quiet")
    assert ended.code == 0
    table = pq.read_table(tmp_path / "out" / "scenarios.parquet").to_pydict()
    cash, freed = np.array(table["owner_cash_pool_usd"]), np.array(table["owner_freed_blue_usd"])
    assert cash.max() > 0
    assert freed.max() > 0
    assert np.array(table["owner_slippage_pool_usd"]).max() > 0
    assert (np.array(table["owner_cash_blue_usd"]) == 0).all()
    assert np.array(table["conservation_error_frac"]).max() < 1e-9
    bare = call("run", project(tmp_path, ""), "--out", tmp_path / "bare", "--quiet")
    assert bare.code == 0
    without = pq.read_table(tmp_path / "bare" / "scenarios.parquet").to_pydict()
    assert "owner_cash_pool_usd" not in without
    assert np.mean(table["liquidated_pool_usd"]) < np.mean(without["liquidated_pool_usd"])
