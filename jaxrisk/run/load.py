"""Reads the configuration: TOML, overrides, and every problem with its file and line."""

import json
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jaxrisk.errors import ConfigError
from jaxrisk.run.config import Config
from jaxrisk.run.fields import Location
from jaxrisk.run.hints import closest, expected_one_of

Where = Callable[[Location], tuple[int, str]]
"""Line of a location, 0 where it has none, and how it is printed."""

_ABSENT = object()
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_DOTTED = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*"""
_HEADER = re.compile(rf"\s*\[\s*({_DOTTED})\s*\]\s*(?:#.*)?$")
_KEY = re.compile(rf"\s*({_DOTTED})\s*=")
_TOML_POSITION = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$")
_SHOWN_LENGTH = 60


def load_config(
    path: Path, overrides: Sequence[str] = (), *, known_presets: Collection[str] | None = None
) -> Config:
    """Return the validated configuration of a TOML file.

    Input paths are resolved against the folder of the file; the output directory is left as it
    is. `name` and `run.output` default to the stem of the file and `runs/<stem>`.

    Args:
        path: the TOML file.
        overrides: `dotted.key=value`, the value in TOML syntax or else taken as a string. A first
            part that is no top-level key is looked for in [run], so `scenarios=200000` works.
        known_presets: names allowed for `venues.*.preset`; `None` checks none.

    Raises:
        ConfigError: with every problem found, one line each.
    """
    text = _read(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_syntax_problem(path, str(error))) from None
    lines = _key_lines(text, document)
    overridden = _apply(document, overrides)
    # Absolute, so that a recorded configuration finds its data from any working folder.
    context = {"folder": path.parent.resolve(), "presets": known_presets}
    try:
        config = Config.model_validate(document, context=context)
    except ValidationError as error:
        where = _locator(path, lines, overridden)
        found = [problem for e in error.errors() for problem in _render(e, document, where)]
        raise ConfigError([text for _, text in sorted(found, key=lambda p: p[0])]) from None
    output = config.run.output or Path("runs") / path.stem
    run = config.run.model_copy(update={"output": output})
    return config.model_copy(update={"name": config.name or path.stem, "run": run})


def located(path: Path, overrides: Sequence[str], problems: Sequence[str]) -> list[str]:
    """Return problems that begin with a key, each with the file and the line of that key.

    Args:
        path: the TOML file, which `load_config` has accepted.
        overrides: those it was read with; what they set is in no line.
        problems: `dotted.key: what is wrong` or `dotted.key = value ...`, found after reading.
    """
    text = _read(path)
    document = tomllib.loads(text)
    lines = _key_lines(text, document)
    where = _locator(path, lines, _apply(document, overrides))
    key = lambda problem: problem.split(" ", maxsplit=1)[0].removesuffix(":")
    return [f"{where(_split(key(problem)))[1]}: {problem}" for problem in problems]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = [str(other) for other in path.parent.glob("*.toml")]
        near = closest(str(path), siblings)
        hint = f"; did you mean {near}?" if near else ""
        raise ConfigError(f"{path}: no such file{hint}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text; expected a TOML file") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _syntax_problem(path: Path, message: str) -> str:
    position = _TOML_POSITION.search(message)
    if position is None:
        return f"{path}: not valid TOML: {message}"
    line = f":{position[1]}" if position[1] else ""
    reason = message[: position.start()]
    return f"{path}{line}: not valid TOML: {reason[:1].lower()}{reason[1:]}"


def _apply(document: dict[str, Any], overrides: Sequence[str]) -> set[Location]:
    """Write the overrides into the document and return their locations."""
    locations: set[Location] = set()
    problems: list[str] = []
    for override in overrides:
        key, equals, text = override.partition("=")
        location = _split(key)
        if not equals or not location:
            problems.append(f"--set {override}: expected dotted.key=value")
            continue
        if location[0] not in Config.model_fields:
            location = ("run", *location)
        table: Any = document
        for depth, part in enumerate(location[:-1]):
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                inner = _dotted(location[: depth + 1])
                problems.append(f"--set {override}: {inner} is a value, not a table")
                break
        else:
            table[location[-1]] = _parse_value(text)
            locations.add(location)
    if problems:
        raise ConfigError(problems)
    return locations


def _parse_value(text: str) -> Any:
    try:
        document = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return document["value"] if len(document) == 1 else text


def _split(dotted: str) -> tuple[str, ...]:
    """Return the parts of a TOML key; empty where it is not one."""
    try:
        node: Any = tomllib.loads(f"{dotted} = 0")
    except tomllib.TOMLDecodeError:
        return ()
    parts: list[str] = []
    while isinstance(node, dict) and len(node) == 1:
        ((part, node),) = node.items()
        parts.append(part)
    return tuple(parts)


def _dotted(location: Location) -> str:
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            part = part if _BARE_KEY.fullmatch(part) else json.dumps(part)
            text += f".{part}" if text else part
    return text


def _key_lines(text: str, document: Mapping[str, Any]) -> dict[Location, int]:
    """Return the line of each key and table header.

    A scan, not a parse: what looks like a key inside a string is dropped because the parsed
    document does not have it. Keys inside an inline table are found by the line of that table.
    """
    lines: dict[Location, int] = {}
    table: Location = ()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            location: Location = _split(header[1])
            if _lookup(document, location) is _ABSENT:
                continue
            table = location
        elif key := _KEY.match(line):
            location = (*table, *_split(key[1]))
            if _lookup(document, location) is _ABSENT:
                continue
        else:
            continue
        for depth in range(1, len(location) + 1):
            lines.setdefault(location[:depth], number)
    return lines


def _lookup(document: Any, location: Location) -> Any:
    for part in location:
        try:
            document = document[part]
        except (KeyError, IndexError, TypeError):
            return _ABSENT
    return document


def _locator(path: Path, lines: Mapping[Location, int], overridden: set[Location]) -> Where:
    def where(location: Location) -> tuple[int, str]:
        for depth in range(len(location), 0, -1):
            if location[:depth] in overridden:
                return 0, "--set"
            if line := lines.get(location[:depth]):
                return line, f"{path}:{line}"
        return 0, str(path)

    return where


def _render(
    error: ErrorDetails, document: Mapping[str, Any], where: Where
) -> Iterator[tuple[int, str]]:
    """Yield the problems that one pydantic error stands for, each with its line."""
    if error["type"] == "several":
        problems = error.get("ctx", {})["problems"]
        found = [((*error["loc"], *at), text) for at, text in problems]
    else:
        found = [(error["loc"], _message(error))]
    for location, text in found:
        value = _lookup(document, location)
        shown = ""
        if error["type"] != "extra_forbidden" and isinstance(value, str | int | float):
            shown = f" = {json.dumps(value, ensure_ascii=False)}"[:_SHOWN_LENGTH]
        line, place = where(location)
        yield line, f"{place}: {_dotted(location) or 'configuration'}{shown}: {text}"


def _message(error: ErrorDetails) -> str:
    """Return what is wrong, what is allowed and the likely meaning."""
    kind, message = error["type"], error["msg"]
    if kind == "extra_forbidden":
        *parents, key = error["loc"]
        section = _section(parents)
        # A key that stands in another table is more likely misplaced than misspelt.
        near = _elsewhere(str(key)) or (closest(str(key), section.model_fields) if section else "")
        return "unknown key" + (f". Did you mean {near}?" if near else "")
    if kind == "missing":
        *parents, key = error["loc"]
        section = _section(parents)
        described = section.model_fields[str(key)].description if section else None
        text = described or "this table is needed"
        return f"missing; {text[:1].lower()}{text[1:].rstrip('.')}"
    if kind == "literal_error":
        options = re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", ""))
        return expected_one_of(str(error["input"]), options)
    if kind in _PLAIN:
        return _PLAIN[kind]
    return message[:1].lower() + message[1:]


_PLAIN = {
    "model_type": "expected a table",
    "dict_type": "expected a table",
    "too_short": "empty; expected at least one entry",
    "tuple_type": "expected a list",
    "string_type": "expected text in quotes",
    "path_type": "expected a path in quotes",
    "bool_type": "expected true or false",
}


def _elsewhere(key: str) -> str | None:
    """Return the dotted name of a key that was written under the wrong header."""
    for name, field in Config.model_fields.items():
        section = _model(field.annotation)
        if section and key in section.model_fields:
            return f"{name}.{key}"
    return None


def _section(location: Sequence[str | int]) -> type[BaseModel] | None:
    """Return the model of the table at a location; `None` where the models declare none."""
    annotation: Any = Config
    for part in location:
        if model := _model(annotation):
            field = model.model_fields.get(str(part))
            annotation = field.annotation if field else None
        else:
            # The only containers of tables are dict[str, Section].
            annotation = (get_args(annotation) or (None,))[-1]
    return _model(annotation)


def _model(annotation: Any) -> type[BaseModel] | None:
    members = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    for member in members:
        if isinstance(member, type) and issubclass(member, BaseModel):
            return member
    return None
