"""What a recipe learns from. Still images, the most common kind: every image decoded, in one memory-mapped array."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

ImagesU8 = NDArray[np.uint8]
LabelsI64 = NDArray[np.int64]


class ImageBatch(NamedTuple):
    """A share of one batch, in main memory (pinned where there is a GPU)."""

    image_NCHW: Tensor
    """uint8."""
    label_N: Tensor | None
    """int64; None without labels."""


class Shown(NamedTuple):
    """Which examples a piece of the stream shows: pure functions of (seed, position)."""

    seed: int
    position_N: NDArray[np.int64]
    """In the endless stream: what else an example needs at random is drawn from (seed, position)."""
    index_N: NDArray[np.int64]
    mirrored_N: NDArray[np.bool_]


class Skipped(NamedTuple):
    """An image that could not be used."""

    name: str
    reason: str


class Dataset(Protocol):
    """What the loop, the evaluation and the diagnosis ask of data of any kind."""

    @property
    def digest(self) -> str:
        """sha256 over the content and every setting that changes what is seen."""
        ...

    @property
    def images_NCHW(self) -> ImagesU8:  # noqa: N802
        """The real pictures that the generator's are compared with."""
        ...

    @property
    def labels_N(self) -> LabelsI64 | None:  # noqa: N802
        """The classes of those pictures; None without labels."""
        ...

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes 0, 1, ...; empty without labels."""
        ...

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """What could not be used, in the order of names."""
        ...

    def __len__(self) -> int:
        """Examples in an epoch."""
        ...

    def gather(self, seen: Shown) -> Any:
        """The batch that the recipe's `step` takes."""
        ...

    def conditions(self, count: int, seed: int) -> Any:
        """What a generator is given to make `count` pictures from: inputs, stills, drawings so far; a function of
        `seed`. None where it makes them from latents alone."""
        ...


@runtime_checkable
class OrdersItself(Protocol):
    """A dataset too large for an order of all its examples in memory."""

    def shown(self, seed: int, start: int, stop: int) -> Shown:
        """What `gather` needs to know of the positions start..stop of the stream of `seed`."""
        ...


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
    turns_M: LabelsI64 | None = None
    """The images of an epoch, where that is not each of them once."""

    def __len__(self) -> int:
        return len(self.images_NCHW if self.turns_M is None else self.turns_M)

    def gather(self, seen: Shown) -> ImageBatch:
        """The images that `seen` names, copied out."""
        index_N = seen.index_N if self.turns_M is None else self.turns_M[seen.index_N]
        image_NCHW = self.images_NCHW[index_N]
        if seen.mirrored_N.any():
            image_NCHW[seen.mirrored_N] = image_NCHW[seen.mirrored_N, :, :, ::-1]
        image = torch.from_numpy(np.asarray(image_NCHW))
        label = None if self.labels_N is None else torch.from_numpy(self.labels_N[index_N])
        return ImageBatch(pinned(image), None if label is None else pinned(label))

    def conditions(self, count: int, seed: int) -> None:
        """Still images are made from latents."""


def pinned(tensor: Tensor) -> Tensor:
    """Where there is a GPU, in memory that it copies from without waiting."""
    return tensor.pin_memory() if torch.cuda.is_available() else tensor
