"""Filling what a section leaves open, with a note of every value that is filled."""

from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

SectionT = TypeVar("SectionT", bound=BaseModel)


@dataclass(frozen=True)
class Derived:
    """A value that nobody wrote, and the formula it comes from."""

    path: str
    value: Any
    formula: str


def fill(section: SectionT, path: str, values: dict[str, tuple[Any, str]], notes: list[Derived]) -> SectionT:
    """`section` with each open key (None or "auto") of `values` set; what is set is noted."""
    update = {}
    for key, (value, formula) in values.items():
        if getattr(section, key) in (None, "auto"):
            update[key] = value
            notes.append(Derived(f"{path}.{key}", value, formula))
    return section.model_copy(update=update)


def multiple(images: int, batch: int) -> int:
    """`images` in whole batches, at least one."""
    return max(images // batch, 1) * batch
