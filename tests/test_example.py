"""The example folder: complete, valid, the book it says it is, and nobody's file overwritten."""

import tomllib

import numpy as np
import pytest

from jaxrisk.errors import ConfigError
from jaxrisk.run.build import build
from jaxrisk.run.example import example_positions, write_example
from jaxrisk.run.load import load_config
from jaxrisk.run.tables import read_positions
from jaxrisk.venue.presets import PRESETS
from tests.helpers import assert_close

FILES = ["run.toml", "positions.csv", "README.txt"]


@pytest.fixture
def folder(tmp_path):
    target = tmp_path / "deep" / "example"
    assert [p.relative_to(target).as_posix() for p in write_example(target, force=False)] == FILES
    return target


def test_the_folder_holds_these_files_and_no_leftovers(folder):
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def test_the_configuration_builds_a_book_that_says_it_is_synthetic(folder):
    built = build(load_config(folder / "run.toml", known_presets=PRESETS))
    assert built.synthetic
    (venue,) = built.system.venues
    assert venue.accounts.count == 200
    assert set(built.books[0].category) == {"", "eth_correlated"}


def test_the_stated_section_gives_the_same_book(folder):
    config = tomllib.loads((folder / "run.toml").read_text())
    lines = (folder / "README.txt").read_text().splitlines()
    first = lines.index("    [book.synthetic]")
    last = next(i for i in range(first, len(lines)) if lines[i] and not lines[i].startswith(" "))
    table = example_positions(config, tomllib.loads("\n".join(lines[first:last])))
    read = read_positions(
        folder / "positions.csv", venues=["pool"], assets=list(config["assets"]), categories=None
    )
    for column in ("account_id", "asset", "side", "category"):
        assert np.array_equal(getattr(read, column), getattr(table, column)), column
    assert_close(read.amount, table.amount, rtol=0, atol=0)


def test_existing_files_are_kept_unless_forced(folder):
    (folder / "positions.csv").unlink()
    (folder / "run.toml").write_text("mine")
    with pytest.raises(ConfigError) as caught:
        write_example(folder, force=False)
    assert caught.value.problems == tuple(
        f"{folder / name}: exists already; add --force to overwrite it"
        for name in ("run.toml", "README.txt")
    )
    assert (folder / "run.toml").read_text() == "mine"
    assert not (folder / "positions.csv").exists()
    write_example(folder, force=True)
    assert (folder / "run.toml").read_text() != "mine"


def test_a_folder_that_cannot_be_made_is_a_config_error(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ConfigError, match="taken: cannot be written"):
        write_example(tmp_path / "taken", force=False)
