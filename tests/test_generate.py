"""Synthetic books: reproducible, solvent, and with the marginals asked for."""

import numpy as np
import pytest

from jaxrisk.errors import ConfigError
from jaxrisk.run.book_config import LoopSection, SyntheticSection
from jaxrisk.run.generate import generate_positions
from tests.helpers import assert_close

PRICES = {"WETH": 3000.0, "WBTC": 90_000.0, "wstETH": 3600.0, "USDC": 1.0, "DAI": 0.999}
THRESHOLDS = {"WETH": 0.83, "WBTC": 0.78, "wstETH": 0.81, "USDC": 0.78}
CATEGORIES = {"correlated": 0.95}
SPEC = SyntheticSection(
    accounts=4000,
    venue="pool",
    seed=7,
    median_debt_usd=2e4,
    size_sigma=1.8,
    median_health=1.5,
    health_sigma=0.6,
    collateral={"WETH": 0.6, "WBTC": 0.4},
    debt={"USDC": 0.7, "DAI": 0.3},
    emode_share=0.2,
    emode=LoopSection(
        collateral="wstETH", debt="WETH", category="correlated", median_health=1.04, size_multiple=3
    ),
)


def generate(**changes):
    spec = SPEC.model_copy(update=changes)
    return generate_positions(
        spec, prices=PRICES, thresholds=THRESHOLDS, category_thresholds=CATEGORIES
    )


def by_account(table):
    """Return debt in USD, health factor, and whether the account is a loop."""
    names, account = np.unique(table.account_id, return_inverse=True)
    usd = table.amount * np.array([PRICES[asset] for asset in table.asset])
    collateral = table.side == "collateral"
    threshold = np.array([THRESHOLDS.get(asset, 0.0) for asset in table.asset])
    threshold = np.where(table.category == "correlated", CATEGORIES["correlated"], threshold)
    debt = np.bincount(account, np.where(collateral, 0.0, usd), len(names))
    backing = np.bincount(account, np.where(collateral, usd * threshold, 0.0), len(names))
    loop = np.bincount(account, table.category == "correlated", len(names)) > 0
    return debt, backing / debt, loop


def test_equal_seed_equal_book_and_another_seed_another():
    first, again, other = generate(), generate(), generate(seed=8)
    for key, value in vars(first).items():
        assert np.array_equal(getattr(again, key), value), key
    assert not np.array_equal(first.amount[:50], other.amount[:50])


def test_book_says_that_it_is_synthetic():
    table = generate(accounts=3)
    assert table.synthetic
    assert table.source == "synthetic: generated from stated marginals, seed 7"


def test_marginals_are_those_stated():
    table = generate()
    debt, health, loop = by_account(table)
    assert len(debt) == 4000
    assert health.min() > 1.0
    # Tolerances are four standard errors of 3,200 and 800 draws.
    assert_close(loop.mean(), 0.2, rtol=0, atol=0.026)
    assert_close(np.median(np.log(debt[~loop])), np.log(2e4), rtol=0, atol=0.16)
    assert_close(np.log(debt[~loop]).std(), 1.8, rtol=0, atol=0.09)
    assert_close(np.log(health[~loop] - 1).mean(), np.log(0.5), rtol=0, atol=0.045)
    assert_close(np.log(health[~loop] - 1).std(), 0.6, rtol=0, atol=0.03)
    assert_close(np.median(np.log(debt[loop])), np.log(6e4), rtol=0, atol=0.32)
    assert_close(np.log(health[loop] - 1).mean(), np.log(0.04), rtol=0, atol=0.075)


def test_mixes_average_near_the_weights():
    table = generate(size_sigma=0.0, health_sigma=0.0, emode_share=0.0)
    usd = table.amount * np.array([PRICES[asset] for asset in table.asset])
    for side, weights in (("collateral", SPEC.collateral), ("debt", SPEC.debt)):
        own = table.side == side
        for asset, weight in weights.items():
            share = usd[own & (table.asset == asset)].sum() / usd[own].sum()
            assert_close(share, weight, rtol=0, atol=0.03)


def test_loops_hold_their_pair_alone():
    table = generate()
    loop = table.category == "correlated"
    assert set(table.asset[loop & (table.side == "collateral")]) == {"wstETH"}
    assert set(table.asset[loop & (table.side == "debt")]) == {"WETH"}
    assert "wstETH" not in table.asset[~loop]


def test_collateral_without_threshold_and_unknown_category_are_refused():
    spec = SPEC.model_copy(update={"collateral": {"WETH": 1.0, "DAI": 1.0}})
    with pytest.raises(ConfigError) as caught:
        generate_positions(
            spec, prices=PRICES, thresholds=THRESHOLDS, category_thresholds={"correlate": 0.9}
        )
    assert caught.value.problems == (
        "book.synthetic.collateral.DAI: pool gives it no liquidation threshold above 0",
        'book.synthetic.emode.category = "correlated": expected one of correlate; '
        "did you mean correlate?",
    )
