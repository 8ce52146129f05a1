"""The documents say what is so: columns are current, links lead somewhere, codes and keys exist.

`python -m tests.test_docs` writes `docs/columns.md` anew.
"""

import re
from pathlib import Path

import pytest

from jaxrisk import errors
from jaxrisk.run import columns
from jaxrisk.run.config import Config
from jaxrisk.run.load import load_config
from jaxrisk.run.store import RESULTS
from jaxrisk.venue.presets import PRESETS
from tests.test_architecture import AMERICAN_PROSE

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
CONFIGS = sorted(ROOT.glob("configs/*.toml"))
COMMANDS = (
    "pip install . && jaxrisk run configs/quickstart.toml",
    "pip install '.[test]' && pytest",
)

name_of = lambda path: path.relative_to(ROOT).as_posix()


def columns_page() -> str:
    """Return the documentation of all output columns."""
    return (
        "# Columns of the result tables\n\n"
        "Generated from `jaxrisk/run/columns.py`; do not edit. Names in braces stand for an\n"
        "asset, a venue or a bearer of losses. Unit and meaning are also in the metadata of the\n"
        "Parquet fields.\n\n"
        f"{columns.markdown().rstrip()}\n"
    )


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_columns_page_is_current():
    assert page("docs/columns.md") == columns_page(), "run python -m tests.test_docs"


def test_readme_begins_with_the_two_commands():
    first_block = page("README.md").split("```")[1]
    assert first_block.removeprefix("sh").split("\n") == ["", *COMMANDS, ""]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path):
    targets = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    local = [t.partition("#")[0] for t in targets if not t.startswith(("http", "#"))]
    assert [t for t in local if not (path.parent / t).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_spelling_is_british(path):
    prose = re.sub(r"```.*?```|`[^`]*`", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert [match[0] for match in AMERICAN_PROSE.finditer(prose.lower())] == []


@pytest.mark.parametrize("name", ["README.md", "docs/run.md"])
def test_exit_codes_are_documented(name):
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page(name), re.MULTILINE)}
    kinds = errors.JaxriskError.__subclasses__()
    assert {kind.exit_code for kind in kinds} | {0, 1, 5} == documented


def test_every_result_file_and_every_table_of_the_configuration_is_documented():
    assert [name for name in RESULTS if f"`{name}`" not in page("README.md")] == []
    tables = set(re.findall(r"^\| `\[(\w+)", page("docs/run.md"), re.MULTILINE))
    assert tables == set(Config.model_fields) - {"name"}


@pytest.mark.parametrize("preset", PRESETS)
def test_what_a_preset_takes_is_on_its_page(preset):
    says = re.compile(rf'[Pp]reset( =)? [`"]{preset}[`"]')
    (text,) = [t for t in map(page, map(name_of, PAGES)) if "## In a sim" in t and says.search(t)]
    code = " ".join(re.findall(r"```.*?```|`[^`]*`", text, re.DOTALL))
    takes = PRESETS[preset]
    names = (*takes.required, *takes.optional, *takes.asset_options, *takes.deployments)
    assert [name for name in names if not re.search(rf"\b{name}\b", code)] == []


def test_every_configuration_is_introduced():
    assert [path.name for path in CONFIGS if f"| `{path.name}` |" not in page("README.md")] == []


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_shipped_configurations_are_valid(path):
    assert load_config(path, known_presets=PRESETS).venues


if __name__ == "__main__":
    (ROOT / "docs" / "columns.md").write_text(columns_page(), encoding="utf-8")
