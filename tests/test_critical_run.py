"""Critical points of a run: tables that are documented, a summary others can script against."""

import numpy as np
import pytest

from jaxrisk.run.build import build
from jaxrisk.run.columns import check_columns
from jaxrisk.run.critical import critical_tables
from jaxrisk.run.load import load_config
from tests.command_line import Call, write_project
from tests.helpers import assert_close


def made(folder, *settings):
    config = load_config(write_project(folder), settings)
    return critical_tables(config, build(config))


def test_tables_are_documented_and_the_summary_names_the_nearest_point(tmp_path):
    tables, summary = made(tmp_path)
    assert set(tables) == {"critical_points", "feedback", "survival"}
    for name, table in tables.items():
        check_columns(name, table)
        assert len({len(values) for values in table.values()}) == 1
    feedback = tables["feedback"]
    sold = set(zip(feedback["asset"], feedback["sold_asset"], strict=True))
    assert sold == {("WETH", "WETH"), ("WETH", "wstETH"), ("WBTC", "WBTC")}
    assert summary["survival_assets"] == ["WETH", "wstETH"]
    assert summary["spectral_radius"] > 0.0
    assert set(summary["feedback_gain"]) == {"WETH", "wstETH", "WBTC"}
    points = tables["critical_points"]
    for row in summary["nearest"]:
        same = (points["asset"] == row["asset"]) & (points["price_change_frac"] < 0.0)
        assert_close(
            row["price_change_frac"], points["price_change_frac"][same].max(), rtol=0.0, atol=0.0
        )
    standing = tables["survival"]["standing_debt_frac"]
    assert standing[0] == 1.0
    assert standing.min() < 0.5
    everything = tables["feedback"]["forced_sales_usd"]
    assert (np.diff(everything.reshape(3, -1), axis=1) >= 0.0).all()


def test_the_assets_of_the_survival_map_are_configured(tmp_path):
    tables, summary = made(tmp_path, 'report.survival_assets=["WBTC", "WETH"]')
    assert summary["survival_assets"] == ["WBTC", "WETH"]
    assert set(tables["survival"]["first_asset"]) == {"WBTC"}


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ('report.survival_assets=["WETH", "WETH"]', "expected two different assets"),
        ('report.survival_assets=["WETH", "WBTX"]', "no such asset"),
        ('report.survival_assets=["WETH"]', "survival_assets"),
    ],
)
def test_bad_assets_of_the_survival_map_are_refused(call: Call, tmp_path, setting, text):
    ended = call("validate", write_project(tmp_path), "--set", setting)
    assert ended.code == 2
    assert text in ended.err
    assert "Traceback" not in ended.err
