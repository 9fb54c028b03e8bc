"""Which files and directories a job reads: what a worker has to bring before the job starts."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from jobs.spec.base import InputFile


def inputs(section: BaseModel, path: str = "") -> dict[str, str]:
    """Dotted field -> the text written there, for every field marked `InputFile` that is set."""
    found: dict[str, str] = {}
    for name, field in type(section).model_fields.items():
        value, where = getattr(section, name), f"{path}.{name}".lstrip(".")
        if isinstance(value, str) and _is_input(field):
            found[where] = value
        for inner, part in _sections(value, where):
            found.update(inputs(inner, part))
    return found


def _sections(value: Any, where: str) -> Iterator[tuple[BaseModel, str]]:
    if isinstance(value, BaseModel):
        yield value, where
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from _sections(item, f"{where}[{index}]")


def _is_input(field: FieldInfo) -> bool:
    """Marked itself, or in a union such as `DataPath | None`."""
    members = [field, *(member for member in get_args(field.annotation) if hasattr(member, "__metadata__"))]
    return any(isinstance(mark, InputFile) for member in members for mark in _marks(member))


def _marks(member: Any) -> tuple[Any, ...]:
    return tuple(member.metadata if isinstance(member, FieldInfo) else member.__metadata__)
