"""What a recipe of still images learns from: every image decoded, in one memory-mapped array."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ImagesU8 = NDArray[np.uint8]
LabelsI64 = NDArray[np.int64]


class Skipped(NamedTuple):
    """An image that could not be used."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Decoded images of one size; `images_NCHW` is a read-only view of a file, so that its size never fills memory."""

    name: str
    """For people: the last part of its path."""
    digest: str
    """sha256 over the bytes of the files and every setting that changes what is seen."""
    images_NCHW: ImagesU8
    labels_N: LabelsI64 | None = None
    class_names: tuple[str, ...] = ()
    """Names of the classes 0, 1, ...; empty without labels."""
    skipped: tuple[Skipped, ...] = field(default=())
    """Images that could not be decoded, in the order of names; at most 1 % of the set."""
    modes_N: LabelsI64 | None = None
    """The true mode of every image of a generated set, whether or not labels were asked for."""

    def __len__(self) -> int:
        return len(self.images_NCHW)
