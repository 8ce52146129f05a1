"""The example folder of `jaxrisk init`: a configuration, a synthetic book, a note on both."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jaxrisk.errors import ConfigError
from jaxrisk.run.book_config import SyntheticSection
from jaxrisk.run.config import Config
from jaxrisk.run.generate import generate_positions
from jaxrisk.run.store import write_text
from jaxrisk.run.tables import PositionTable, write_positions
from jaxrisk.venue.presets import PRESETS

CONFIG, POSITIONS, NOTE = "run.toml", "positions.csv", "README.txt"


def write_example(directory: Path, *, force: bool) -> list[Path]:
    """Return the files of a working example, written into `directory`.

    Args:
        directory: made with its parents where absent; other files in it are left alone.
        force: replace files of the same names.

    Raises:
        ConfigError: a file is there already and `force` is not given, or the folder cannot be
            written.
    """
    targets = [directory / name for name in (CONFIG, POSITIONS, NOTE)]
    if not force and (present := [path for path in targets if path.exists()]):
        raise ConfigError(
            [f"{path}: exists already; add --force to overwrite it" for path in present]
        )
    config, book = _template("example.toml"), _template("example_book.toml")
    note = _template("example_readme.txt").replace("{book}", _indented(book))
    table = example_positions(tomllib.loads(config), tomllib.loads(book))
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_text(targets[2], note)
        write_positions(targets[1], table, comment=[f"the marginals are stated in {NOTE}"])
        write_text(targets[0], config)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"{directory}: cannot be written ({reason}); choose another folder"
        ) from error
    return targets


def example_positions(config: Mapping[str, Any], book: Mapping[str, Any]) -> PositionTable:
    """Return the book drawn from the marginals of `book` at the prices of `config`.

    Args:
        config: the example's configuration, every asset with a price.
        book: its `[book.synthetic]` section.
    """
    checked = Config.model_validate({**config, **book})
    marginals = checked.book.synthetic
    assert isinstance(marginals, SyntheticSection)
    venue = checked.venues[marginals.venue]
    terms = PRESETS[venue.preset].terms({}, deployment=venue.deployment)
    return generate_positions(
        marginals,
        prices={asset: s.price for asset, s in checked.assets.items() if s.price is not None},
        thresholds=terms.thresholds,
        category_thresholds=terms.category_thresholds,
    )


def _template(name: str) -> str:
    return (resources.files("jaxrisk.run") / "templates" / name).read_text(encoding="utf-8")


def _indented(text: str) -> str:
    return "".join(f"    {line}".rstrip() + "\n" for line in text.splitlines())
