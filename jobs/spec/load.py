"""Text to a `Job`, or one SpecError that tells every mistake at once: where, what was given, what is allowed."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jobs.errors import SpecError
from jobs.spec import yaml_tree
from jobs.spec.fill import Derived
from jobs.spec.job import Job
from jobs.spec.resolve import conflicts, resolve

STUDY = "study"
"""The key that makes a job spec a study: several runs, see variants.py."""
SectionT = TypeVar("SectionT", bound=BaseModel)


@dataclass(frozen=True)
class Problem:
    """One mistake in a spec and where it stands."""

    path: yaml_tree.Path
    message: str
    given: str | None = None
    suggestion: str | None = None

    def text(self, source: str, tree: yaml_tree.Tree) -> str:
        where = tree.position(self.path)
        lines = [f"{source}:{where.line}:{where.column}: {dotted(self.path)}: {self.message}"]
        if self.given is not None:
            lines.append(f"    given: {self.given}")
        if self.suggestion is not None:
            lines.append(f"    did you mean: {self.suggestion}?")
        return "\n".join(lines)


@dataclass(frozen=True)
class Loaded:
    """A spec that can be run: as written, with every value resolved, and how each derived value came about."""

    written: Job
    job: Job
    derived: tuple[Derived, ...]


class Refused(Exception):
    """What is wrong with a spec, mistake by mistake."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__(f"{len(problems)} mistakes")


def load_file(path: Path) -> Loaded:
    """The job in a file. Raises SpecError with every mistake in it."""
    return load(read_spec(path), str(path))


def load(text: str | bytes, source: str) -> Loaded:
    """The job in `text`; `source` names it in messages. Raises SpecError with every mistake in it."""
    tree = yaml_tree.parse(text, source)
    if STUDY in tree.value:
        raise SpecError(f"{source}: is a study, which is many runs; one job is wanted here")
    try:
        return interpret(tree.value)
    except Refused as refused:
        raise spec_error(refused.problems, source, tree) from None


def read_spec(path: Path) -> bytes:
    """The content of a spec file. Raises SpecError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file", hint=_neighbours(path)) from None
    except OSError as error:
        raise SpecError(f"{path}: {error.strerror}") from None


def interpret(value: Any) -> Loaded:
    """The job in a parsed spec, resolved. Raises Refused."""
    written = validate(Job, value)
    job, derived = resolve(written)
    if found := [Problem(path, message) for path, message in conflicts(job)]:
        raise Refused(found)
    return Loaded(written, job, derived)


def validate(section: type[SectionT], value: Any) -> SectionT:
    """`value` as a section. Raises Refused."""
    try:
        return section.model_validate(value)
    except ValidationError as error:
        raise Refused(_problems(error.errors(include_url=False), value, section)) from None


def dotted(path: yaml_tree.Path) -> str:
    """`recipe.layers[2].width`"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".") or "(the whole spec)"


def spec_error(problems: list[Problem], source: str, tree: yaml_tree.Tree) -> SpecError:
    """Every mistake in one error, in the order of the file."""
    ordered = sorted(problems, key=lambda problem: (tree.position(problem.path).line, problem.path != ()))
    count = f"{len(ordered)} mistakes" if len(ordered) > 1 else "1 mistake"
    return SpecError("\n".join([f"{source}: {count}", *(problem.text(source, tree) for problem in ordered)]))


def _problems(errors: Iterable[ErrorDetails], value: Any, root: type[BaseModel]) -> list[Problem]:
    """One problem a place: what a union's members each say about it is joined by `or`."""
    by_path: dict[yaml_tree.Path, list[Problem]] = {}
    for error in errors:
        problem = _problem(error, value, root)
        by_path.setdefault(problem.path, []).append(problem)
    return [_joined(group) for group in by_path.values()]


def _joined(group: list[Problem]) -> Problem:
    messages = dict.fromkeys(problem.message for problem in group)
    first = group[0]
    return Problem(first.path, " or ".join(messages), first.given, first.suggestion)


def _problem(error: ErrorDetails, value: Any, root: type[BaseModel]) -> Problem:
    path = _written_path(error["loc"], value)
    match error["type"]:
        case "extra_forbidden":
            allowed = _keys_beside(error["loc"], root)
            message = f"unknown key; allowed here: {', '.join(allowed)}"
            return Problem(path, message, _shown(error["input"]), _closest(str(path[-1]), allowed))
        case "missing":
            return Problem((*path, str(error["loc"][-1])), "required, but not written")
        case "literal_error" | "union_tag_invalid":
            allowed = _choices(error)
            given = _given(error)
            return Problem(path, f"must be one of {', '.join(allowed)}", _shown(given), _closest(str(given), allowed))
        case "union_tag_not_found":
            return Problem(path, "required key `kind` is not written")
        case "value_error":
            return Problem(path, str(error.get("ctx", {}).get("error", error["msg"])))
        case _:
            return Problem(path, error["msg"][:1].lower() + error["msg"][1:], _shown(error["input"]))


def _given(error: ErrorDetails) -> Any:
    return error.get("ctx", {}).get("tag", error["input"])


def _choices(error: ErrorDetails) -> list[str]:
    context = error.get("ctx", {})
    listed = str(context.get("expected_tags") or context.get("expected"))
    return [word.strip().strip("'") for word in listed.replace(" or ", ", ").split(",")]


def _written_path(loc: tuple[int | str, ...], value: Any) -> yaml_tree.Path:
    """`loc` without what the submitter did not write: tags of unions, names of types."""
    path: list[str | int] = []
    for part in loc:
        match value, part:
            case dict(), str() if part in value:
                value = value[part]
            case list(), int() if part < len(value):
                value = value[part]
            case _:
                continue
        path.append(part)
    return tuple(path)


def _keys_beside(loc: tuple[int | str, ...], root: type[BaseModel]) -> list[str]:
    """The keys of the section that holds the last part of `loc`."""
    section: Any = root
    for part in loc[:-1]:
        section = _descend(section, part)
    return sorted(section.model_fields) if _is_section(section) else []


def _descend(annotation: Any, part: int | str) -> Any:
    """The type that stands at `part` of `annotation`: a field of a section, a member of a union, an item of a list."""
    if _is_section(annotation):
        field = annotation.model_fields.get(part)
        return annotation if field is None else field.annotation
    if get_origin(annotation) is dict:
        return get_args(annotation)[1]
    members = list(_members(annotation))
    sections = [member for member in members if _is_section(member)]
    for section in sections:
        if _has_tag(section, part):
            return section
    if isinstance(part, int) and members:
        lists = [member for member in members if get_origin(member) in (list, tuple)]
        return _unwrapped(get_args(lists[0])[0]) if lists else members[0]
    return _descend(sections[0], part) if len(sections) == 1 else annotation


def _members(annotation: Any) -> Iterator[Any]:
    """What a union is made of, unions within it taken apart; the items of a list."""
    for member in map(_unwrapped, get_args(annotation)):
        yield from _members(member) if get_origin(member) in (Union, UnionType) else (member,)


def _has_tag(section: type[BaseModel], tag: int | str) -> bool:
    kind = section.model_fields.get("kind")
    return kind is not None and tag in get_args(kind.annotation)


def _unwrapped(annotation: Any) -> Any:
    """`Annotated[X, ...]` -> X."""
    return get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _closest(word: str, allowed: list[str]) -> str | None:
    found = difflib.get_close_matches(word, allowed, n=1, cutoff=0.6)
    return found[0] if found else None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _neighbours(path: Path) -> str:
    folder = path.parent
    names = sorted(entry.name for entry in folder.glob("*.y*ml"))[:50] if folder.is_dir() else []
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"did you mean {folder / close[0]}?" if close else "give the path of a YAML spec; see jobs/examples"
