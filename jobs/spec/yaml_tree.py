"""YAML to plain values, with the line and column of every key: what a located error message needs.

Scalars follow YAML 1.2's core schema, not 1.1's: `off`, `no` and `on` stay words, `1e-4` is a number, `010` is ten.
Duplicate keys, anchors that multiply, deep nesting and anything but mappings, lists and scalars are refused.
"""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from jobs.errors import SpecError

SPEC_LIMIT_BYTES = 256 * 1024
_LIMIT_NODES = 20_000
_LIMIT_DEPTH = 40
_TAG = "tag:yaml.org,2002:"


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2; used to compose nodes only, never to construct objects."""


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9][0-9_]*$", list("-+0123456789")),
    ("float", r"^[-+]?(?:[0-9][0-9_]*)?\.?[0-9]+(?:[eE][-+]?[0-9]+)?$|^[-+]?[0-9]+\.$", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"{_TAG}{_tag}", re.compile(_pattern), _first)


@dataclass(frozen=True)
class Position:
    """A place in a file, counted from 1."""

    line: int
    column: int


Path = tuple[str | int, ...]


@dataclass(frozen=True)
class Tree:
    """A parsed document: its plain value, and where each key or list item of it begins."""

    value: Any
    positions: dict[Path, Position]

    def position(self, path: Path) -> Position:
        """Where `path` begins, or the nearest of its parents that is written."""
        while path not in self.positions:
            path = path[:-1]
        return self.positions[path]


def parse(text: str | bytes, source: str) -> Tree:
    """The tree of the one YAML document in `text`.

    Raises SpecError, with line and column, on anything that is not a plain YAML mapping of a sensible size.
    """
    try:
        root = yaml.compose(_decode(text, source), Loader=_Loader)
    except RecursionError:
        raise SpecError(f"{source}: nested deeper than {_LIMIT_DEPTH} levels") from None
    except yaml.YAMLError as error:
        raise SpecError(_syntax_message(error, source), hint="a spec is a YAML mapping; see jobs/examples") from None
    if root is None:
        raise SpecError(f"{source}: the file is empty", hint="start from one of jobs/examples")
    if not isinstance(root, yaml.MappingNode):
        raise SpecError(f"{source}:1:1: a spec is a mapping of keys to values, got {_kind(root)}")
    reader = _Reader(source)
    value = reader.read(root, ())
    return Tree(value, {(): Position(1, 1), **reader.positions})


def _decode(text: str | bytes, source: str) -> str:
    size_bytes = len(text.encode() if isinstance(text, str) else text)
    if size_bytes > SPEC_LIMIT_BYTES:
        raise SpecError(f"{source}: {size_bytes:,} bytes; a spec holds at most {SPEC_LIMIT_BYTES:,}")
    try:
        decoded = text if isinstance(text, str) else text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError(f"{source}: not text in UTF-8 (byte {error.start})") from None
    if "\x00" in decoded:
        raise SpecError(f"{source}: a binary file, not YAML text")
    return decoded


def _syntax_message(error: yaml.YAMLError, source: str) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        context = f" {error.context}" if error.context else ""
        return f"{source}:{mark.line + 1}:{mark.column + 1}: not valid YAML: {error.problem}{context}"
    return f"{source}: not valid YAML: {str(error).splitlines()[0]}"


def _kind(node: yaml.Node) -> str:
    match node:
        case yaml.MappingNode():
            return "a mapping"
        case yaml.SequenceNode():
            return "a list"
        case _:
            return f"the single value {str(node.value)[:40]!r}"


class _Reader:
    """Turns composed nodes into values and notes where each begins; counts nodes, so that anchors cannot multiply."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.positions: dict[Path, Position] = {}
        self.nodes = 0

    def read(self, node: yaml.Node, path: Path) -> Any:
        self.nodes += 1
        if self.nodes > _LIMIT_NODES:
            raise self.error(node, f"more than {_LIMIT_NODES:,} values once its anchors are expanded")
        if len(path) > _LIMIT_DEPTH:
            raise self.error(node, f"nested deeper than {_LIMIT_DEPTH} levels")
        match node, node.tag.removeprefix(_TAG):
            case yaml.MappingNode(), "map":
                return self.mapping(node, path)
            case yaml.SequenceNode(), "seq":
                return [self.item(child, (*path, index)) for index, child in enumerate(node.value)]
            case yaml.ScalarNode(), _:
                return self.scalar(node)
            case _, other:
                raise self.error(node, f"the tag {other!r} is not allowed; a spec holds plain values only")

    def item(self, node: yaml.Node, path: Path) -> Any:
        self.positions[path] = _position(node)
        return self.read(node, path)

    def mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.error(key_node, "a key must be a word")
            key = str(key_node.value)
            if key in values:
                first = self.positions[(*path, key)]
                raise self.error(key_node, f"the key {key!r} is written twice (first in line {first.line})")
            self.positions[(*path, key)] = _position(key_node)
            values[key] = self.read(value_node, (*path, key))
        return values

    def scalar(self, node: yaml.Node) -> Any:
        text = str(node.value)
        match node.tag.removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text.replace("_", "")[:400])
            case "float":
                return float(text.replace("_", ""))
            case "str":
                return text
            case other:
                raise self.error(node, f"the tag {other!r} is not allowed; a spec holds plain values only")

    def error(self, node: yaml.Node, problem: str) -> SpecError:
        where = _position(node)
        return SpecError(f"{self.source}:{where.line}:{where.column}: {problem}")


def _position(node: yaml.Node) -> Position:
    return Position(node.start_mark.line + 1, node.start_mark.column + 1)
