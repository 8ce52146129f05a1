"""The house rules that no linter knows: which way imports go, where names live, how to spell.

Each rule is a function from the package's folder to a list of violations. It is applied to the
package, where the list must be empty, and to a small tree that breaks it, where it must not be.
"""

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "jaxrisk"

FLOORS = ("numerics", "market", "venue", "system", "measure", "gradient", "run")
GROUND, ROOF = 0, len(FLOORS)
LEVELS = {
    **{name: level for level, name in enumerate(FLOORS)},
    "errors": GROUND,
    "cli": ROOF,
    "__init__": ROOF,
    "__main__": ROOF,
}
EDGE = ("run", "cli", "__main__")
"""Where user files are read: these may show a protocol's name, never decide by it."""

HEAVY = {"matplotlib", "pydantic", "typer", "pyarrow"}
MAXIMUM_LINES = 500

_DISTINCT = (
    "aave|morpho|metamorpho|makerdao|comet|liquity|crvusd|llamma|llamalend|gearbox|ajna|spark|radiant"
    "|binance|bybit|okx|deribit|coinbase|kraken|hyperliquid|dydx|gmx|synthetix|opyn|kamino|solend"
)
# Ordinary words of finance and mathematics too, so they count only where a name completes them.
_AMBIGUOUS = "compound|maker|sky|euler|silo|fluid|curve|derive|perpetual|venus|drift|jupiter"
PROTOCOL = re.compile(
    rf"(?<![a-z])(?:{_DISTINCT})(?![a-z])"
    rf"|(?<![a-z])(?:{_AMBIGUOUS})[ _-]?(?:v\d|dao|finance|protocol|labs|lend|exchange)(?![a-z])"
)

AMERICAN = re.compile(
    r"(?<![a-z])(?!(?:re|over|under|out|down|up)?siz|seiz|priz)[a-z]+"
    r"(?:iz(?:e|es|ed|er|ers|ing|ation|ations)|yz(?:e|es|ed|ing))(?![a-z])"
    r"|(?<![a-z])(?:behavior|neighbor|favor|honor|labor)[a-z]*"
    r"|(?<![a-z])(?:model|label|signal|cancel|level|travel)(?:ed|ing)(?![a-z])"
    r"|(?<![a-z])(?:defense|offense)s?(?![a-z])"
)
AMERICAN_PROSE = re.compile(rf"{AMERICAN.pattern}|(?<![a-z])(?:gray|center|color)s?(?![a-z])")
"""Plotting libraries have taken the last three as keywords, so a name may follow them."""

DocumentedNode = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def sources(package: Path) -> Iterator[tuple[Path, str, ast.Module]]:
    """Yield (path within the package, text, tree) of every module."""
    for path in sorted(package.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        yield path.relative_to(package), text, ast.parse(text)


def room(path: Path) -> str:
    """Return the sub-package of a module, or its own name where it stands at the top."""
    return path.parts[0] if len(path.parts) > 1 else path.stem


def imported_modules(node: ast.AST, path: Path, package: str) -> list[str]:
    """Return the rooms an import statement reaches; `__init__` is the package itself."""
    if isinstance(node, ast.Import):
        dotted = [alias.name.split(".") for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        here = (package, *path.parts[:-1])
        base = list(here[: len(here) - node.level + 1]) if node.level else []
        base += node.module.split(".") if node.module else []
        dotted = [[*base, alias.name] for alias in node.names]
    else:
        return []
    inside = [parts for parts in dotted if parts[0] == package]
    return [parts[1] if len(parts) > 1 and parts[1] in LEVELS else "__init__" for parts in inside]


def upward_imports(package: Path) -> list[str]:
    """Imports from a floor above; taking a public name from the package itself counts as one."""
    found = []
    for path, _, tree in sources(package):
        here = room(path)
        if here not in LEVELS:
            found.append(f"{path}: no floor is known for {here}")
            continue
        for node in ast.walk(tree):
            for there in imported_modules(node, path, package.name):
                if LEVELS[there] > LEVELS[here]:
                    line = getattr(node, "lineno", 0)
                    found.append(f"{path}:{line}: {here} imports {there}: up the stairs")
    return found


def busy_init(package: Path) -> list[str]:
    """Statements of the top `__init__` that are not its docstring, imports or `__all__`."""
    tree = ast.parse((package / "__init__.py").read_text(encoding="utf-8"))
    found = []
    for position, node in enumerate(tree.body):
        is_docstring = position == 0 and is_bare_string(node)
        is_export = isinstance(node, ast.Assign) and [
            target.id for target in node.targets if isinstance(target, ast.Name)
        ] in (["__all__"], ["_HOME"])
        # Public names are loaded on first use: their table, their types, and the two hooks.
        is_lazy = isinstance(node, ast.FunctionDef) and node.name in ("__getattr__", "__dir__")
        is_typing = (
            isinstance(node, ast.If)
            and isinstance(node.test, ast.Name)
            and node.test.id == "TYPE_CHECKING"
        )
        allowed = is_docstring or is_export or is_lazy or is_typing
        if not (allowed or isinstance(node, ast.Import | ast.ImportFrom)):
            found.append(f"__init__.py:{node.lineno}: more than imports and public names")
    return found


def is_bare_string(node: ast.AST) -> bool:
    """Whether a statement is documentation: a string on its own."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def identifiers(node: ast.AST) -> list[str]:
    """Return the names a node spells out."""
    names: list[str | None] = []
    if isinstance(node, ast.Name):
        names = [node.id]
    elif isinstance(node, ast.Attribute):
        names = [node.attr]
    elif isinstance(node, ast.arg | ast.keyword):
        names = [node.arg]
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        names = [node.name]
    elif isinstance(node, ast.alias):
        names = [node.name, node.asname]
    elif isinstance(node, ast.ImportFrom):
        names = [node.module]
    return [name for name in names if name]


def strings(tree: ast.AST) -> list[ast.Constant]:
    """Return the string constants below a node, documentation left out."""
    documentation = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documentation
    ]


def words(text: str) -> str:
    """Return text in lower case with camel case taken apart."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()


def decisions(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield what code decides by: comparisons, match patterns, tests of how a string begins."""
    for node in ast.walk(tree):
        is_string_test = (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"startswith", "endswith"}
        )
        if isinstance(node, ast.Compare | ast.MatchValue) or is_string_test:
            yield node


def protocol_names(package: Path) -> list[str]:
    """Names of protocols and exchanges in code outside `venue/presets`.

    Docstrings and comments may cite them as sources. The edge may also show them (a data adapter's
    key, an example file) but not branch on them.
    """
    found = []
    for path, _, tree in sources(package):
        if path.parts[:2] == ("venue", "presets"):
            continue
        if room(path) in EDGE:
            texts = [
                (constant.lineno, str(constant.value))
                for decision in decisions(tree)
                for constant in strings(decision)
            ]
        else:
            texts = [(constant.lineno, str(constant.value)) for constant in strings(tree)]
            texts += [
                (getattr(node, "lineno", 0), name)
                for node in ast.walk(tree)
                for name in identifiers(node)
            ]
        for line, text in texts:
            if match := PROTOCOL.search(words(text)):
                found.append(f"{path}:{line}: {match[0]} belongs in venue/presets")
    return found


def undocumented(package: Path) -> list[str]:
    """Modules, and public functions, classes and their public methods, without a docstring."""
    found = []

    def visit(node: DocumentedNode, path: Path, name: str) -> None:
        if not ast.get_docstring(node):
            found.append(f"{path}:{getattr(node, 'lineno', 1)}: {name} has no docstring")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        for child in node.body:
            if isinstance(child, DocumentedNode) and not child.name.startswith("_"):
                visit(child, path, child.name)

    for path, _, tree in sources(package):
        visit(tree, path, "the module")
    return found


def long_files(package: Path) -> list[str]:
    """Files that want to be two."""
    return [
        f"{path}: {text.count(chr(10))} lines"
        for path, text, _ in sources(package)
        if text.count("\n") > MAXIMUM_LINES
    ]


def defined_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield (line, name) of what a module itself names; what it calls is others' spelling."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id


def american_spelling(package: Path) -> list[str]:
    """American spellings in documentation, comments and names; backticks quote others' words."""
    found = []
    for path, text, tree in sources(package):
        prose = [
            (getattr(node, "lineno", 0), ast.unparse(node))
            for node in ast.walk(tree)
            if is_bare_string(node)
        ]
        prose += [
            (token.start[0], token.string)
            for token in tokenize.generate_tokens(io.StringIO(text).readline)
            if token.type == tokenize.COMMENT
        ]
        passages = [(line, name, AMERICAN) for line, name in defined_names(tree)]
        passages += [(line, re.sub("`[^`]*`", " ", p), AMERICAN_PROSE) for line, p in prose]
        for line, passage, spelling in passages:
            found += [f"{path}:{line}: {m[0]}" for m in spelling.finditer(words(passage))]
    return found


def loaded_on_import(package: Path) -> list[str]:
    """Heavy packages that importing the package pulls in, in a fresh interpreter."""
    program = (
        f"import sys, json; sys.path.insert(0, {str(package.parent)!r}); import {package.name};"
        f" print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    return [name for name in json.loads(done.stdout.splitlines()[-1]) if name in HEAVY]


RULES = (
    upward_imports,
    busy_init,
    protocol_names,
    undocumented,
    long_files,
    american_spelling,
    loaded_on_import,
)

BREACHES = {
    "absolute import": (upward_imports, "venue/a.py", "import jaxrisk.system.step"),
    "from import": (upward_imports, "venue/a.py", "from jaxrisk.system import step"),
    "from package": (upward_imports, "market/a.py", "from jaxrisk import venue"),
    "relative import": (upward_imports, "venue/a.py", "from ..system.step import advance"),
    "relative package": (upward_imports, "venue/presets/a.py", "from ... import run"),
    "local import": (upward_imports, "measure/a.py", "def f():\n    import jaxrisk.run.job"),
    "public name": (upward_imports, "system/a.py", "from jaxrisk import System"),
    "errors is low": (upward_imports, "errors.py", "from jaxrisk.venue import close"),
    "unknown room": (upward_imports, "attic/a.py", "x = 1"),
    "busy init": (busy_init, "__init__.py", "import os\nVERSION = os.name"),
    "identifier": (protocol_names, "venue/a.py", "class AaveV3Close: ..."),
    "string": (protocol_names, "system/a.py", "kind = 'morpho_blue'"),
    "imported preset": (protocol_names, "system/a.py", "from jaxrisk.venue.presets import comet"),
    "completed word": (protocol_names, "market/a.py", "def compound_v2_rate(): ..."),
    "branch at the edge": (protocol_names, "run/a.py", "def f(x):\n    return x == 'aave_v3'"),
    "match at the edge": (
        protocol_names,
        "cli.py",
        "def f(x):\n    match x:\n        case 'binance':\n            return 1",
    ),
    "function": (undocumented, "venue/a.py", "'''A module.'''\ndef f(): ..."),
    "method": (
        undocumented,
        "venue/a.py",
        "'''A module.'''\nclass A:\n    '''A class.'''\n    def f(self): ...",
    ),
    "long file": (long_files, "venue/a.py", "x = 1\n" * (MAXIMUM_LINES + 1)),
    "docstring": (american_spelling, "venue/a.py", "'''Return the utilization.'''"),
    "comment": (american_spelling, "venue/a.py", "x = 1  # socialized among suppliers"),
    "prose": (american_spelling, "run/a.py", "x = 1  # the color of debt"),
    "name": (american_spelling, "venue/a.py", "def normalizeWeights(): ..."),
    "heavy import": (loaded_on_import, "__init__.py", "import pyarrow"),
}

ALLOWED = {
    "downward": (upward_imports, "system/a.py", "from jaxrisk.venue import close"),
    "sideways": (upward_imports, "venue/a.py", "from . import close\nfrom .close import x"),
    "errors": (upward_imports, "numerics/a.py", "from jaxrisk.errors import DataError"),
    "others": (upward_imports, "numerics/a.py", "import jax\nfrom jax import lax"),
    "exports": (
        busy_init,
        "__init__.py",
        "'''Doc.'''\nfrom jaxrisk import venue\n__all__ = ['venue']",
    ),
    "citation": (protocol_names, "venue/a.py", "'''Source: Aave v3.'''\nx = 1  # as in Morpho"),
    "preset": (protocol_names, "venue/presets/a.py", "aave = 'aave_v3'"),
    "ordinary words": (protocol_names, "market/a.py", "compound = maker = euler_step = fluid = 1"),
    "shown at the edge": (protocol_names, "run/a.py", "preset = 'aave_v3'"),
    "seized sizes": (
        american_spelling,
        "venue/a.py",
        "seized = resized = size = prize = 1  # sizing",
    ),
    "quoted": (
        american_spelling,
        "venue/a.py",
        "x = 1  # `jax.lax.optimization_barrier`, `normalize`",
    ),
    "keyword": (american_spelling, "run/a.py", "def f(color): ..."),
    "called": (american_spelling, "run/a.py", "axis.set(color='red').normalize()"),
}


def plant(folder: Path, name: str, text: str) -> Path:
    """Return a package in `folder` that holds one module."""
    path = folder / "jaxrisk" / name
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return folder / "jaxrisk"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule):
    found = rule(PACKAGE)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("rule", "name", "text"), BREACHES.values(), ids=list(BREACHES))
def test_a_breach_is_found(rule, name, text, tmp_path):
    assert rule(plant(tmp_path, name, text))


@pytest.mark.parametrize(("rule", "name", "text"), ALLOWED.values(), ids=list(ALLOWED))
def test_what_is_allowed_is_not_a_breach(rule, name, text, tmp_path):
    assert rule(plant(tmp_path, name, text)) == []


def test_every_rule_is_shown_to_fail():
    assert {rule for rule, _, _ in BREACHES.values()} == set(RULES)
