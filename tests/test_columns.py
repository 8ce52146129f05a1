"""The column registry documents everything that is written, and nothing passes it by accident."""

import pytest

from jaxrisk.run import columns


def test_exact_name_comes_before_a_template():
    assert columns.column("scenarios", "bad_debt_usd").required
    assert not columns.column("scenarios", "bad_debt_pool_usd").required


def test_template_fills_its_meaning():
    entry = columns.column("scenarios", "final_price_wstETH_usd")
    assert (entry.unit, entry.meaning) == ("USD", "market price of wstETH at the end")


@pytest.mark.parametrize("bearer", columns.BEARERS)
def test_every_bearer_has_its_column(bearer):
    name = columns.bearer_column(bearer, "my_pool")
    assert columns.slug(bearer) in columns.column("scenarios", name).meaning
    assert "my_pool" in columns.column("scenarios", name).meaning


@pytest.mark.parametrize("name", ["bad_dept_pool_usd", "final_price__usd2", "insurance_usd"])
def test_unknown_column_is_refused(name):
    with pytest.raises(KeyError, match="not in the registry"):
        columns.column("scenarios", name)


def test_check_reports_all_problems_together():
    names = [entry.name for entry in columns.COLUMNS["liquidation_map"]]
    assert list(columns.check_columns("liquidation_map", names)) == names
    with pytest.raises(ValueError, match="unknown table") as error:
        columns.check_columns("nothing", [])
    assert "liquidation_map" in str(error.value)
    with pytest.raises(ValueError, match="required") as error:
        columns.check_columns("liquidation_map", [*names[1:], "colour", "shape"])
    problems = str(error.value).splitlines()
    assert problems == [
        "liquidation_map.colour: not documented in jaxrisk/run/columns.py",
        "liquidation_map.shape: not documented in jaxrisk/run/columns.py",
        "liquidation_map.venue: required column is missing",
    ]


def test_optional_columns_may_be_left_out():
    required = [entry.name for entry in columns.COLUMNS["accounts"] if entry.required]
    assert "owner" not in required
    assert "category" not in required
    columns.check_columns("accounts", required)


def test_every_table_is_described_and_every_column_explained():
    assert columns.TABLES.keys() == columns.COLUMNS.keys()
    text = columns.markdown()
    for table, entries in columns.COLUMNS.items():
        assert f"## {table}.parquet" in text
        names = [entry.name for entry in entries]
        assert len(names) == len(set(names))
        for entry in entries:
            assert f"| `{entry.name}` | {entry.unit} | {entry.meaning} |" in text
            assert entry.unit
            assert entry.meaning


def test_columns_that_end_in_a_unit_have_that_unit():
    for entries in columns.COLUMNS.values():
        for entry in entries:
            if entry.name.endswith("_usd"):
                assert entry.unit == "USD"
            if entry.name.endswith("_frac"):
                assert entry.unit == "fraction"
