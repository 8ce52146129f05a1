"""The run directory: whole files only, nothing foreign touched, an interrupted run goes on."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jaxrisk.errors import ConfigError, DataError
from jaxrisk.run import store
from jaxrisk.run.columns import COLUMNS
from jaxrisk.run.store import RunDirectory, plain

SCENARIO_COLUMNS = [entry.name for entry in COLUMNS["scenarios"] if entry.required]


def _scenarios(first, count):
    table = {name: np.linspace(first, first + 1, count) for name in SCENARIO_COLUMNS}
    return table | {"scenario": np.arange(first, first + count), "converged": np.ones(count, bool)}


def _create(path, *, force=False, resume=False, config_hash="aaa"):
    return RunDirectory.create(path, force=force, resume=resume, config_hash=config_hash)


def _files(path):
    return sorted(str(entry.relative_to(path)) for entry in path.rglob("*") if entry.is_file())


def test_fresh_directory_is_made_with_its_parents(tmp_path):
    run = _create(tmp_path / "deep" / "run")
    assert json.loads((run.path / "progress.json").read_text()) == {"config_hash": "aaa"}
    assert _files(run.path) == ["progress.json"]


def test_occupied_directory_is_refused_with_the_remedies(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError) as error:
        _create(tmp_path)
    for word in (str(tmp_path), "--force", "--resume", "--out"):
        assert word in str(error.value)
    assert _files(tmp_path) == ["notes.txt"]


def test_force_removes_only_what_a_run_writes(tmp_path):
    foreign = ["notes.txt", "other.parquet", "parts/mine.csv", "plots/report.html"]
    own = ["report.html", "run.json", "summary.json", "scenarios.parquet", "accounts.parquet"]
    own += ["parts/part-0000000000.parquet", ".jaxrisk-half"]
    for name in foreign + own:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    run = _create(tmp_path, force=True)
    assert _files(tmp_path) == sorted([*foreign, "progress.json"])
    assert run.completed_parts() == []


def test_force_and_resume_exclude_each_other(tmp_path):
    with pytest.raises(ConfigError, match="--force, --resume"):
        _create(tmp_path, force=True, resume=True)


def test_parts_are_read_back_in_order_whatever_order_they_came_in(tmp_path):
    run = _create(tmp_path / "run")
    run.write_part(64, _scenarios(64, 36))
    run.write_part(0, _scenarios(0, 64))
    assert run.completed_parts() == [(0, 64), (64, 36)]
    again = _create(tmp_path / "run", resume=True)
    assert again.completed_parts() == [(0, 64), (64, 36)]
    parts = again.read_parts()
    np.testing.assert_array_equal(parts["scenario"], np.arange(100))
    np.testing.assert_array_equal(parts["bad_debt_usd"][:64], np.linspace(0, 1, 64))


def test_overlapping_parts_are_refused(tmp_path):
    run = _create(tmp_path / "run")
    run.write_part(0, _scenarios(0, 64))
    run.write_part(63, _scenarios(63, 2))
    with pytest.raises(DataError, match="scenario 63 is in two parts"):
        run.completed_parts()


def test_damaged_part_is_named(tmp_path):
    run = _create(tmp_path / "run")
    run.write_part(0, _scenarios(0, 4)).write_bytes(b"PAR1 nonsense")
    with pytest.raises(DataError, match=r"part-0000000000\.parquet"):
        run.completed_parts()


def test_resume_with_another_configuration_names_both(tmp_path):
    _create(tmp_path / "run", config_hash="aaa")
    with pytest.raises(ConfigError) as error:
        _create(tmp_path / "run", resume=True, config_hash="bbb")
    assert "aaa" in str(error.value)
    assert "bbb" in str(error.value)


def test_resume_of_a_finished_run_is_refused(tmp_path):
    run = _create(tmp_path / "run")
    run.write_part(0, _scenarios(0, 8))
    run.write_table("scenarios", run.read_parts())
    run.finish()
    assert _files(run.path) == ["scenarios.parquet"]
    assert not (run.path / "parts").exists()
    with pytest.raises(ConfigError, match="no interrupted run here"):
        _create(tmp_path / "run", resume=True)


def test_resume_with_nothing_there_starts(tmp_path):
    assert _create(tmp_path / "run", resume=True).completed_parts() == []


def test_resume_stands_a_broken_progress_file(tmp_path):
    (tmp_path / "progress.json").write_text("{")
    with pytest.raises(ConfigError, match="not a progress file"):
        _create(tmp_path, resume=True)


def test_parts_stay_until_the_result_is_in_place(tmp_path):
    run = _create(tmp_path / "run")
    run.write_part(0, _scenarios(0, 8))
    with pytest.raises(FileNotFoundError):
        run.finish()
    assert run.completed_parts() == [(0, 8)]


def test_table_carries_unit_and_meaning(tmp_path):
    run = _create(tmp_path / "run")
    path = run.write_table("scenarios", _scenarios(0, 8))
    schema = pq.read_schema(path)
    metadata = schema.field("bad_debt_usd").metadata
    assert metadata[b"unit"] == b"USD"
    assert metadata[b"meaning"] == b"bad debt recognised over the horizon"
    assert pq.read_metadata(path).row_group(0).column(0).compression == "ZSTD"
    np.testing.assert_array_equal(run.read_table("scenarios")["scenario"], np.arange(8))


def test_table_of_unknown_or_unequal_columns_is_refused_and_leaves_nothing(tmp_path):
    run = _create(tmp_path / "run")
    with pytest.raises(ValueError, match="not documented"):
        run.write_table("scenarios", {**_scenarios(0, 8), "surprise": np.zeros(8)})
    with pytest.raises(ValueError, match="differ in length"):
        run.write_table("scenarios", {**_scenarios(0, 8), "rounds": np.zeros(7)})
    assert _files(run.path) == ["progress.json"]


def test_missing_table_says_so(tmp_path):
    with pytest.raises(DataError, match=r"accounts\.parquet: no such table"):
        _create(tmp_path / "run").read_table("accounts")


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    run = _create(tmp_path / "run")
    run.write_json("summary.json", {"mean": 1.0})

    def interrupt(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(store.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run.write_json("summary.json", {"mean": 2.0})
    assert json.loads((run.path / "summary.json").read_text()) == {"mean": 1.0}
    assert _files(run.path) == ["progress.json", "summary.json"]


def test_unwritable_directory_names_the_remedy(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(store.tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(ConfigError, match=r"cannot be written \(Permission denied\).*--out"):
        _create(tmp_path / "run")


def test_output_path_that_is_a_file_names_the_remedy(tmp_path):
    (tmp_path / "run").write_text("a file")
    for path in (tmp_path / "run", tmp_path / "run" / "below"):
        with pytest.raises(ConfigError, match="cannot be written") as error:
            _create(path)
        assert str(path) in str(error.value)


def test_json_is_plain_and_strict(tmp_path):
    value = {
        "mean": np.float64(1.5),
        "error": float("nan"),
        "counts": np.array([1, 2]),
        "tails": (np.inf, np.float32(0.5)),
        "flag": np.bool_(True),
        "path": Path("a") / "b",
    }
    expected = {
        "mean": 1.5,
        "error": None,
        "counts": [1, 2],
        "tails": [None, 0.5],
        "flag": True,
        "path": "a/b",
    }
    assert plain(value) == expected
    path = _create(tmp_path / "run").write_json("run.json", value)
    assert json.loads(path.read_text()) == expected
