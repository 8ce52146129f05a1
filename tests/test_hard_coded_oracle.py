"""The stablecoins of November 2025 through the engine, against the record of their markets."""

import importlib.util
import sys

import numpy as np
import pytest

from jaxrisk.errors import ConfigError
from jaxrisk.run.build import build
from jaxrisk.run.load import load_config
from jaxrisk.venue.vault_share import VaultLoss
from tests.helpers import assert_close
from tests.test_examples import ROOT

FOLDER = "data/lending/morpho_xusd_deusd_2025_11"
DEPTH = 1e6


@pytest.fixture(scope="module")
def example():
    path = ROOT / "docs/examples/hard_coded_oracle.py"
    spec = importlib.util.spec_from_file_location("hard_coded_oracle", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def played(example, folder, index, *, hard_coded):
    case = example.CASES[index]
    hours = int(example.recorded(folder, case)["hours"])
    one = example.system(folder, case, hours=hours, hard_coded=hard_coded, depth_usd=DEPTH)
    return example.recorded(folder, case), example.play(one, hours)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("index", "debt_error", "bad_debt_error"), [(0, 0.035, 0.04), (1, 0.07, None), (2, 0.13, 0.25)]
)
def test_with_the_price_written_in_nobody_is_liquidated_and_debts_grow_as_recorded(
    example, shared, index, debt_error, bad_debt_error
):
    """Debts are too large because the contract accrues rarely, with a series of three terms.

    The record has no bad debt of sdeUSD: its source values that market's collateral at nothing
    and leaves it out.
    """
    told, done = played(example, shared / FOLDER, index, hard_coded=True)
    assert float(done.outcome.liquidated.sum()) == 0.0
    assert float(done.outcome.bad_debt.sum()) == 0.0
    assert_close(done.owed, told["owed"], rtol=debt_error, atol=0.0)
    assert done.owed > told["owed"]
    if bad_debt_error is not None:
        assert_close(done.bad_debt_by_oracle, told["bad_debt"], rtol=bad_debt_error, atol=0.0)
    assert done.bad_debt_by_oracle < float(done.outcome.shortfall.sum()) <= done.owed
    assert float(done.outcome.conservation_error[0]) < 1e-9


@pytest.mark.slow
def test_an_oracle_that_sees_the_market_would_have_saved_most_lenders_of_the_slow_fall(
    example, shared
):
    """xUSD fell over two days, sdeUSD by nine tenths within an hour."""
    told, done = played(example, shared / FOLDER, 0, hard_coded=False)
    assert float(done.outcome.liquidated.sum()) > 6e5
    assert float(done.outcome.bad_debt.sum()) < 0.02 * told["bad_debt"]
    assert done.owed < 10.0
    told, done = played(example, shared / FOLDER, 1, hard_coded=False)
    loans = example.owed(shared / FOLDER, example.CASES[1])[example.CASES[1].start]
    assert float(done.outcome.bad_debt.sum()) > 0.9 * loans
    assert float(done.outcome.bad_debt.sum()) < 0.15 * told["owed"]


@pytest.mark.slow
@pytest.mark.parametrize("index", range(6))
def test_vault_shares_fall_as_recorded_once_losses_are_marked(example, shared, index):
    told = example.vault_case(shared / FOLDER, index, hard_coded=True, depth_usd=DEPTH)
    assert told.name == example.VAULT_CASES[index][0]
    if example.VAULT_CASES[index][-1] is VaultLoss.HELD:
        # Nothing was written down: the stated price goes on rising with the interest owed.
        assert_close(told.stated, told.recorded, rtol=0.0, atol=0.005)
        assert told.marked < -0.9 * told.weight
    else:
        # The manager gave the whole claim up; its worth at the market differs by a few percent.
        assert_close(told.marked, told.recorded, rtol=0.0, atol=0.07 * told.weight)


def test_a_rate_grows_the_loans_of_a_full_market_as_recorded(example, shared):
    """Independent: the closed form against adding up hours."""
    case, folder = example.CASES[0], shared / FOLDER
    rate = example.rate_at_target(folder, case)
    loans = example.owed(folder, case)
    hours = example.hours_between(case.start, example.moment(example.LAST_HOURLY))
    years = (np.arange(hours) + 0.5) / 8760.0
    growth = (4.0 * rate * np.exp(50.0 * years) / 8760.0).sum()
    assert_close(
        loans[case.start] * np.exp(growth), loans[example.LAST_HOURLY], rtol=1e-5, atol=0.0
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ('rate = "adaptive"\nrate_at_target = 3.0', r"rate_at_target = 3: expected .*\[0.001, 2\]"),
        ("rate_at_target = 0.1", 'only with rate = "adaptive"'),
    ],
)
def test_a_rate_at_target_that_cannot_be_is_refused(tmp_path, options, text):
    config = (ROOT / "configs/morpho_vault.toml").read_text(encoding="utf-8")
    config = config.replace(
        'oracle = "fixed"', f'oracle = "fixed"\n[venues.dollar.options]\n{options}'
    ).replace("morpho_vault_positions.csv", str(ROOT / "configs/morpho_vault_positions.csv"))
    path = tmp_path / "run.toml"
    path.write_text(config, encoding="utf-8")
    with pytest.raises(ConfigError, match=text):
        build(load_config(path))
