"""Ctrl-C: a run stopped at any moment exits alike and is finished with the same numbers."""

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.command_line import (
    DOCUMENTED_FILES,
    PATIENCE_SECONDS,
    Ended,
    assert_identical,
    command,
    environment,
    files,
    table,
)

pytestmark = pytest.mark.multiprocess


# Long enough that the signal still finds the run at work where the cores are shared.
LONG = 192 * 1024


@pytest.fixture(scope="module")
def interrupted(project: Path) -> tuple[Path, Ended]:
    """A long run stopped by Ctrl-C once its first part is written."""
    out = project / "interrupted"
    run = subprocess.Popen(
        command("run", "small.toml", "--out", "interrupted", "--scenarios", LONG),
        cwd=project,
        env=environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    patience = time.monotonic() + PATIENCE_SECONDS
    while not any((out / "parts").glob("part-*.parquet")):
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < patience
        time.sleep(0.005)
    run.send_signal(signal.SIGINT)
    streams = run.communicate(timeout=PATIENCE_SECONDS)
    return out, Ended(run.returncode, *streams)


def test_ctrl_c_leaves_a_resumable_directory(interrupted):
    out, ended = interrupted
    assert ended.code == 75, ended.err
    assert "--resume" in ended.err
    assert "Traceback" not in ended.err
    assert ended.out == ""
    names = set(files(out))
    parts = {name for name in names if name.startswith("parts/part-")}
    assert names - parts == {"progress.json"}
    assert 0 < completed(out) < LONG


def completed(out: Path) -> int:
    """Return how many scenarios the finished parts of a run hold."""
    return sum(pq.read_metadata(part).num_rows for part in (out / "parts").glob("*.parquet"))


def test_resume_refuses_another_configuration_and_changes_nothing(call, project, interrupted):
    out, _ = interrupted
    before = files(out)
    options = ("--out", out, "--scenarios", LONG)
    for change in (("--seed", 4), ("--set", "keeper.cost_usd=31.0")):
        ended = call("run", project / "small.toml", *options, *change, "--resume")
        assert ended.code == 2
        assert "--resume" in ended.err
        assert files(out) == before
    ended = call("run", project / "small.toml", *options)
    assert ended.code == 2
    assert "--resume" in ended.err
    assert files(out) == before


@pytest.mark.slow
def test_resume_finishes_with_the_numbers_of_an_uninterrupted_run(
    call, monkeypatch, project, interrupted
):
    out, _ = interrupted
    done = completed(out)
    monkeypatch.chdir(project)
    ended = call("run", "small.toml", "--out", out, "--scenarios", LONG, "--resume")
    assert ended.code == 0, ended.err
    assert f"{done:,} scenarios already done" in ended.err
    assert set(files(out)) == DOCUMENTED_FILES
    whole = ("run", "small.toml", "--out", "whole", "--scenarios", LONG, "--quiet")
    assert call(*whole).code == 0
    assert_identical(table(out), table(project / "whole"))
    ended = call("run", "small.toml", "--out", out, "--scenarios", LONG, "--resume")
    assert ended.code == 2
    assert "no interrupted run here" in ended.err


def test_resume_does_not_depend_on_how_the_path_of_the_configuration_is_written(
    call, monkeypatch, project, tmp_path
):
    """The same file by another path is the same run."""
    out = tmp_path / "out"
    stop_after_first_part(monkeypatch)
    monkeypatch.chdir(project)
    ended = call("run", "small.toml", "--out", out, "--scenarios", 2048, "--quiet")
    assert ended.code == 75, ended.err
    monkeypatch.undo()
    monkeypatch.setattr("jaxrisk.run.job.configure_device", lambda *_: "cpu (of the tests)")
    options = ("--out", out, "--scenarios", 2048, "--resume", "--quiet")
    ended = call("run", project / "small.toml", *options)
    assert ended.code == 0, ended.err


def stop_after_first_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a run end as by Ctrl-C once a part is written."""
    from jaxrisk.run.store import RunDirectory

    write_part = RunDirectory.write_part

    def once(*arguments: Any, **options: Any) -> Path:
        write_part(*arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunDirectory, "write_part", once)


@pytest.mark.parametrize("where", ["jaxrisk.run.build.build", "jaxrisk.run.job.write_report"])
def test_ctrl_c_before_and_after_the_simulation_exits_alike(
    call, monkeypatch, project, tmp_path, where
):
    """While the book is read, and while the report is written."""

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    options = ("--out", out, "--quiet")
    with monkeypatch.context() as patched:
        patched.setattr(where, stop)
        ended = call("run", project / "small.toml", *options)
    assert ended.code == 75, ended.err
    assert "Traceback" not in ended.err
    ended = call("run", project / "small.toml", *options, "--resume")
    assert ended.code == 0, ended.err
    assert set(files(out)) == DOCUMENTED_FILES
