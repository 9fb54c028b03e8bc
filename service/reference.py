"""Writes REFERENCE.md from the code: every command, every environment variable, every key of a spec.

python -m service.reference     (or: make reference; a test fails while the file is out of date)
"""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.main import get_command

from jobs.spec.job import Job
from jobs.spec.study import Study
from service import settings

FILE = Path(__file__).with_name("REFERENCE.md")


def reference() -> str:
    """The whole file."""
    parts = [
        "# Reference",
        "Written by `make reference` from the code; do not edit by hand.",
        "## Commands",
        *_commands(),
        "## Environment variables",
        settings.reference_markdown().strip(),
        "## Keys of a spec",
        "`—` means that the key must be written; `open`, that nothing is set, or that a preset or formula fills it: "
        "`gankiln check` prints each such value with its formula.",
        *_sections(Job, "the whole spec", set()),
        "## Keys of a study",
        "A study is a job spec with one section more, `study`: the job as it is written is the baseline.",
        *_sections(Study, "`study`", set()),
    ]
    return "\n\n".join(parts) + "\n"


def _commands() -> Iterator[str]:
    from service.cli import app

    command = get_command(app)
    for name, child in sorted(getattr(command, "commands", {}).items()):
        for full, leaf in [(f"{name} {inner}", c) for inner, c in getattr(child, "commands", {}).items()] or [
            (name, child)
        ]:
            yield _command(full, leaf)


def _command(name: str, command: Any) -> str:
    arguments = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    options = [parameter for parameter in command.params if parameter.param_type_name == "option"]
    usage = " ".join(["gankiln", name, *(str(argument.metavar or argument.name) for argument in arguments)])
    lines = [f"### `{usage}`", "", (command.help or "").strip(), ""]
    lines += [f"- `{option.opts[0]}`: {option.help or ''}" for option in options if option.name != "help"]
    return "\n".join(lines).strip()


def _sections(section: type[BaseModel], title: str, seen: set[type[BaseModel]]) -> Iterator[str]:
    """A table for `section`, then one for each section inside it."""
    if section in seen:
        return
    seen.add(section)
    rows = ["| key | allowed | default | meaning |", "| --- | --- | --- | --- |"]
    inner: list[tuple[str, type[BaseModel]]] = []
    for name, field in section.model_fields.items():
        children = list(_members(field.annotation))
        inner += [(f"`{name}`" + _kind(child), child) for child in children]
        allowed = "section" if children else _allowed(field)
        rows.append(f"| `{name}` | {allowed} | {_default(field, bool(children))} | {field.description or ''} |")
    summary = (section.__doc__ or "").strip().split("\n\n")[0].replace("\n    ", " ")
    yield f"### {title}\n\n{summary}\n\n" + "\n".join(rows)
    for child_title, child in inner:
        yield from _sections(child, child_title, seen)


def _members(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that an annotation allows."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        return
    for member in get_args(annotation):
        yield from _members(member)


def _kind(section: type[BaseModel]) -> str:
    field = section.model_fields.get("kind")
    return f", kind `{get_args(field.annotation)[0]}`" if field else ""


def _allowed(field: FieldInfo) -> str:
    limits = [
        f"{sign} {getattr(limit, name):,}"
        for limit in field.metadata
        for name, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if hasattr(limit, name)
    ]
    return ", ".join([_type(field.annotation), *limits])


def _type(annotation: Any) -> str:
    origin = get_origin(annotation)
    arguments = get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(member) for member in arguments if member is not type(None))
    if origin is tuple:
        return "list of " + _type(arguments[0])
    if origin is dict:
        return f"section of {_type(arguments[0])} -> {_type(arguments[1])}"
    return {"int": "whole number", "float": "number", "str": "text", "bool": "true, false", "Any": "any value"}.get(
        getattr(annotation, "__name__", str(annotation)), str(annotation)
    )


def _default(field: FieldInfo, section: bool) -> str:
    if field.is_required():
        return "—"
    if section:
        return ""
    value = field.get_default(call_default_factory=True)
    return "open" if value is None else f"`{value}`"


def write(path: Path = FILE) -> None:
    """Writes the file."""
    path.write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    write()
    typer.echo(str(FILE))
