"""What every kind of data offers to the cache: its content, and its items decoded a block at a time."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs.data.content import NamedFile
from jobs.data.dataset import ImagesU8, LabelsI64, Skipped
from jobs.data.decode import Channels, DecodeError, Fit, decode

CHOSEN_AFTERWARDS = ("against_rest", "balance")
"""Keys of a section that do not change what is decoded, but what is made of it."""
MAX_FILE_BYTES = 256 << 20
"""Of one encoded image; a larger one is not read."""


class Block(NamedTuple):
    """Consecutive items, decoded."""

    images_NCHW: ImagesU8
    good_M: NDArray[np.bool_]
    """Which of the items have an image in `images_NCHW`."""
    skipped: list[Skipped]


@dataclass(frozen=True)
class Items:
    """An opened set."""

    count: int
    decode: Callable[[int, int], Block]
    """Items start to stop; called from several threads at once."""
    labels_N: LabelsI64 | None = None
    modes_N: LabelsI64 | None = None
    class_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """A set before it is opened: enough to find it in the cache."""

    name: str
    settings: dict[str, Any]
    """Everything in the section that changes what is decoded."""
    open: Callable[[], AbstractContextManager[Items]]
    files: Sequence[NamedFile] = field(default=())
    """Whose bytes decide what is decoded; empty for a generated set."""


def spread(count: int, wanted: int | None) -> range | NDArray[np.int64]:
    """`wanted` of `count` indices, evenly spread, so that a set sorted by class keeps its classes."""
    if wanted is None or wanted >= count:
        return range(count)
    return np.arange(wanted, dtype=np.int64) * count // wanted


def decode_block(
    names: Sequence[str], read: Callable[[str], bytes], resolution: int, channels: Channels, fit: Fit
) -> Block:
    """The images `names`, whose bytes `read` gives (or raises DecodeError)."""
    return block_of(names, lambda at: decode(read(names[at]), resolution, channels, fit))


def block_of(names: Sequence[str], picture: Callable[[int], ImagesU8]) -> Block:
    """The images of so many names; `picture` gives the one at a place among them (or raises DecodeError)."""
    images: list[ImagesU8] = []
    skipped: list[Skipped] = []
    good = np.ones(len(names), dtype=np.bool_)
    for index, name in enumerate(names):
        try:
            images.append(picture(index))
        except DecodeError as error:
            good[index] = False
            skipped.append(Skipped(printable(name), printable(str(error))))
    return Block(np.stack(images) if images else np.empty(0, np.uint8), good, skipped)


def printable(text: str, longest: int = 200) -> str:
    """`text` from a stranger, safe to print: no control characters, no halves of characters, not endless."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:longest])
    return safe if len(text) <= longest else f"{safe}..."
