"""The adapter for books known by totals: the rule by hand, and on the recorded book."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaxrisk.errors import ConfigError, DataError
from jaxrisk.run.book_config import FamilySection, UserTotalsSection
from jaxrisk.run.real_book import read_user_totals
from tests.helpers import assert_close

PRICES = {
    "WETH": 2824.94,
    "wstETH": 3447.38,
    "weETH": 3056.91,
    "rsETH": 2990.0,
    "WBTC": 87_154.7,
    "cbBTC": 87_363.6,
    "LINK": 12.19,
    "sUSDe": 1.2,
    "USDC": 0.99971,
    "USDT": 0.99999,
    "USDe": 0.99924,
    "DAI": 0.99958,
    "GHO": 0.99961,
}
THRESHOLDS = {
    "WETH": 0.83,
    "wstETH": 0.81,
    "weETH": 0.80,
    "rsETH": 0.75,
    "WBTC": 0.78,
    "LINK": 0.71,
    "sUSDe": 0.75,
}
CATEGORIES = {"ether": 0.95, "restaked": 0.95, "dollar": 0.92}
FAMILIES = {
    "ether": FamilySection(
        debts=("WETH",), collaterals=("wstETH", "weETH", "rsETH"), category="ether", loop_ratio=0.6
    ),
    "restaked": FamilySection(
        debts=("wstETH", "weETH"), collaterals=("weETH", "rsETH"), category="restaked"
    ),
    "dollar": FamilySection(
        debts=("USDC", "USDT", "USDe", "DAI", "GHO"), collaterals=("sUSDe",), category="dollar"
    ),
}


@pytest.fixture
def spec(tmp_path):
    return UserTotalsSection(
        users=tmp_path / "users.parquet",
        debts=tmp_path / "debts.parquet",
        venue="pool",
        base_collaterals=("WETH", "wstETH", "weETH", "WBTC", "rsETH", "LINK"),
        fallback_debt="USDC",
        substitutes={"EURC": "USDC", "USDtb": "USDC", "RLUSD": "USDC", "PYUSD": "USDC"}
        | {"USDS": "USDC"},
        families=FAMILIES,
    )


def read(spec, **changes):
    options = {"prices": PRICES, "thresholds": THRESHOLDS, "category_thresholds": CATEGORIES}
    return read_user_totals(spec, **{**options, **changes})


def write(spec, users, debts):
    names = ("user_address", "total_debt_usd", "total_collateral_usd", "health_factor")
    pq.write_table(pa.table(dict(zip(names, zip(*users, strict=True), strict=True))), spec.users)
    names = ("user_address", "symbol", "amount_usd", "price_usd")
    priced = [(*debt, PRICES.get(debt[1], 1.0)) for debt in debts]
    pq.write_table(pa.table(dict(zip(names, zip(*priced, strict=True), strict=True))), spec.debts)


def holdings(table, account):
    """Return {side: {asset: USD}} and the category of one account."""
    own = table.account_id == account
    rows = zip(table.side[own], table.asset[own], table.amount[own], strict=True)
    found = {"collateral": {}, "debt": {}}
    for side, asset, amount in rows:
        found[side][str(asset)] = amount * PRICES[asset]
    return found, set(table.category[own].tolist())


USERS = [
    # Implied threshold 0.80 with health below 1 and debt in WETH: a loop on weETH.
    ("loop", 900.0, 1000.0, 0.80 * 1000 / 900),
    # Implied threshold 0.82: half WETH (0.83), half wstETH (0.81).
    ("blend", 400.0, 1000.0, 0.82 * 1000 / 400),
    # Half of the debt is not listed; a tenth is a symbol under a substitute.
    ("partial", 500.0, 1000.0, 0.78 * 1000 / 500),
    # Health above 1, debt in WETH and 0.7 of collateral: above the loop ratio of the family.
    ("lofty", 700.0, 1000.0, 0.81 * 1000 / 700),
    # Collateral below debt: unpriced.
    ("bare", 300.0, 0.0, 0.0),
]
DEBTS = [
    ("loop", "WETH", 900.0),
    ("blend", "USDT", 400.0),
    ("partial", "USDT", 200.0),
    ("partial", "EURC", 50.0),
    ("lofty", "WETH", 700.0),
    ("bare", "USDe", 300.0),
]


def test_rule_by_hand(spec):
    write(spec, USERS, DEBTS)
    table, report = read(spec)
    expected = {
        "loop": ({"collateral": {"weETH": 1000.0}, "debt": {"WETH": 900.0}}, {"ether"}),
        "blend": ({"collateral": {"WETH": 500.0, "wstETH": 500.0}, "debt": {"USDT": 400.0}}, {""}),
        "partial": ({"collateral": {"WBTC": 1000.0}, "debt": {"USDC": 300.0, "USDT": 200.0}}, {""}),
        "lofty": ({"collateral": {"wstETH": 1000.0}, "debt": {"WETH": 700.0}}, {"ether"}),
    }
    assert set(table.account_id) == set(expected)
    for account, (sides, category) in expected.items():
        found, categories = holdings(table, account)
        assert categories == category
        for side, assets in sides.items():
            assert found[side].keys() == assets.keys(), account
            values = [found[side][asset] for asset in assets]
            assert_close(values, list(assets.values()), rtol=1e-9, atol=0)
    assert (report.accounts, report.emode_accounts, report.excluded_accounts) == (4, 2, 1)
    assert_close(report.emode_debt_share, 1600 / 2500, rtol=1e-12, atol=0)
    assert_close(report.imputed_debt_share, 250 / 2500, rtol=1e-12, atol=0)
    assert_close(report.substituted_debt_share, 50 / 2500, rtol=1e-12, atol=0)
    assert_close(report.health_error, 0.0, rtol=0, atol=1e-12)
    assert (report.misfit_accounts, report.below_one_accounts) == (0, 0)
    assert not table.synthetic
    assert table.source == "users.parquet and debts.parquet, collateral mix imputed"


def test_undercollateralised_accounts_can_be_kept_as_they_are(spec):
    write(spec, USERS, DEBTS)
    table, report = read(spec.model_copy(update={"undercollateralised": "keep"}))
    assert holdings(table, "bare")[0]["collateral"] == {}
    assert (report.excluded_accounts, report.below_one_accounts) == (0, 1)


def test_thresholds_beyond_the_candidates_are_reported_as_misfits(spec):
    write(spec, [("low", 400.0, 1000.0, 0.5 * 1000 / 400)], [("low", "USDT", 400.0)])
    table, report = read(spec)
    assert holdings(table, "low")[0]["collateral"].keys() == {"LINK"}
    assert (report.misfit_accounts, report.misfit_debt_share) == (1, 1.0)
    assert_close(report.health_error, (0.71 - 0.5) * 1000 / 400, rtol=1e-12, atol=0)


def test_file_problems(spec):
    write(spec, USERS, [*DEBTS, ("loop", "USDTT", 1.0), ("nobody", "USDT", 1.0)])
    with pytest.raises(DataError) as caught:
        read(spec)
    assert [p.replace(f"{spec.debts.parent}/", "") for p in caught.value.problems] == [
        'debts.parquet: symbol "USDTT" (0.0 MUSD) has no price; add it to [assets], or name a '
        "substitute in [book.user_totals.substitutes]; did you mean USDT?",
        "debts.parquet:8: user_address: this user is not in users.parquet",
    ]
    write(spec, [*USERS, ("loop", -1.0, 1.0, float("nan"))], DEBTS)
    with pytest.raises(DataError) as caught:
        read(spec)
    assert [p.replace(f"{spec.debts.parent}/", "") for p in caught.value.problems] == [
        "users.parquet:6: health_factor: nan is not a finite number; "
        "give the value or drop the row",
        "users.parquet:6: total_debt_usd: -1 is negative; expected 0 or more",
        "users.parquet:6: user_address: this user is listed before",
    ]


def test_rule_without_threshold_or_category_is_refused(spec):
    write(spec, USERS, DEBTS)
    with pytest.raises(ConfigError) as caught:
        read(
            spec,
            thresholds={k: v for k, v in THRESHOLDS.items() if k != "LINK"},
            category_thresholds={"ether": 0.95, "restaked": 0.95, "dollars": 0.92},
        )
    assert caught.value.problems == (
        "book.user_totals.base_collaterals: LINK: expected an asset with a liquidation threshold "
        "above 0 at pool",
        'book.user_totals.families.dollar.category = "dollar": '
        "expected one of ether, restaked, dollars; did you mean dollars?",
    )


def test_recorded_book(shared, spec):
    folder = shared / "data/lending"
    files = {
        "users": folder / "aave_v3_eth_top1000_users_2025_12.parquet",
        "debts": folder / "aave_v3_eth_top1000_debt_positions_2025_12.parquet",
    }
    table, report = read(spec.model_copy(update=files))
    usd = table.amount * np.array([PRICES[asset] for asset in table.asset])
    debt = table.side == "debt"
    assert_close(usd[debt].sum(), report.debt_usd, rtol=1e-9, atol=0)
    assert_close(usd[~debt].sum(), report.collateral_usd, rtol=1e-9, atol=0)
    # Totals of the source: 14.81 billion USD of debt on 23.52 of collateral, 1,000 users.
    assert_close(report.debt_usd + report.excluded_debt_usd, 14.8105e9, rtol=1e-4, atol=0)
    assert report.accounts + report.excluded_accounts == 1000
    assert report.excluded_debt_usd < 0.02 * report.debt_usd
    assert report.observed_debt_share > 0.98
    assert 0.45 < report.emode_debt_share < 0.6
    # The rule explains the recorded health factors of all but about 1 % of the debt.
    assert report.misfit_debt_share < 0.02
    assert report.health_error < 0.02
    assert report.below_one_debt_share < 0.01
    assert report.largest_price_gap < 1e-3
    assert len(report.lines()) == 7
    # The largest borrower of the source: 1,536 MUSD of WETH on 1,661 MUSD, a loop.
    found, category = holdings(table, "0x9600a48ed0f931d0c422d574e3275a90d8b22745")
    assert category == {"ether"}
    assert found["collateral"].keys() <= {"weETH", "wstETH"}
    assert_close(found["debt"]["WETH"], 1_536_111_331.19, rtol=1e-9, atol=0)
