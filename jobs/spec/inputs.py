"""Which files and directories a job reads: what a worker has to bring before the job starts."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jobs.spec.base import InputFile


def inputs(section: BaseModel) -> dict[str, str]:
    """Dotted field -> the text written there, for every field marked `InputFile` that is set."""
    return {where: text for where, text, _ in _marked(section, "")}


def streamed_inputs(section: BaseModel) -> frozenset[str]:
    """Of `inputs`, the dotted fields of what is brought file by file."""
    return frozenset(where for where, _, streamed in _marked(section, "") if streamed)


def _marked(section: BaseModel, path: str) -> Iterator[tuple[str, str, bool]]:
    """Every input that is set: its dotted field, its text, and whether it is streamed."""
    for name, field in type(section).model_fields.items():
        value, where = getattr(section, name), f"{path}.{name}".lstrip(".")
        marks = list(_input_marks(field))
        if isinstance(value, str) and marks:
            yield where, value, any(mark.streamed for mark in marks)
        for inner, part in _sections(value, where):
            yield from _marked(inner, part)


def _sections(value: Any, where: str) -> Iterator[tuple[BaseModel, str]]:
    if isinstance(value, BaseModel):
        yield value, where
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from _sections(item, f"{where}[{index}]")


def _input_marks(field: FieldInfo) -> Iterator[InputFile]:
    """Its own, and those in a union such as `DataPath | None`."""
    members = [field, *(member for member in get_args(field.annotation) if hasattr(member, "__metadata__"))]
    yield from (mark for member in members for mark in _marks(member) if isinstance(mark, InputFile))


def _marks(member: Any) -> tuple[Any, ...]:
    return tuple(member.metadata if isinstance(member, FieldInfo) else member.__metadata__)
