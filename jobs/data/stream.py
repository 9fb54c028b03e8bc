"""An endless stream of batches that is a pure function of (seed, images): nothing to save, nothing to restore.

Epoch e shows every image once, in an order drawn from (seed, e); the image at position p of the stream is number
p mod N of epoch p div N. A run that starts again at `images` therefore sees exactly what an unbroken run would have.
Over several ranks each batch is cut into equal, consecutive shares: joined in the order of ranks they are the batch
of a single process.
"""

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.data.dataset import ImageDataset

_ORDER, _MIRROR = 0, 1


class ImageBatch(NamedTuple):
    """A share of one batch, in main memory (pinned where there is a GPU)."""

    image_NCHW: Tensor
    """uint8."""
    label_N: Tensor | None
    """int64; None without labels."""


class Shown(NamedTuple):
    """Which images a piece of the stream shows."""

    index_N: NDArray[np.int64]
    mirrored_N: NDArray[np.bool_]


def batches(
    dataset: ImageDataset, *, batch: int, seed: int, images: int, rank: int = 0, world: int = 1, mirror: bool
) -> Generator[ImageBatch, None, None]:
    """Share `rank` of `world` of every batch of `batch` images, from position `images` of the stream on.

    The next one is gathered in a thread meanwhile. Close the generator (or drop it) to stop that thread.
    Raises ValueError where `batch` cannot be shared equally.
    """
    if batch < 1 or batch % world or not 0 <= rank < world or images < 0:
        raise ValueError(f"batch {batch} from image {images} cannot be shared by ranks 0..{world - 1} (rank {rank})")
    share = batch // world
    return _prefetched(dataset, share, seed, images + rank * share, batch, mirror)


def shown(count: int, seed: int, start: int, stop: int, *, mirror: bool) -> Shown:
    """Which of `count` images stand at positions start..stop of the stream of `seed`, and which are mirrored."""
    position_N = np.arange(start, stop, dtype=np.int64)
    index_N = np.empty(stop - start, np.int64)
    mirrored_N = np.zeros(stop - start, np.bool_)
    for epoch in range(start // count, -(-stop // count)):
        here = position_N // count == epoch
        within = position_N[here] - epoch * count
        index_N[here] = _order(count, seed, epoch)[within]
        if mirror:
            mirrored_N[here] = _flips(count, seed, epoch)[within]
    return Shown(index_N, mirrored_N)


def gather(dataset: ImageDataset, seen: Shown) -> ImageBatch:
    """The images `seen` names, copied out of the dataset."""
    image_NCHW = dataset.images_NCHW[seen.index_N]
    if seen.mirrored_N.any():
        image_NCHW[seen.mirrored_N] = image_NCHW[seen.mirrored_N, :, :, ::-1]
    image = torch.from_numpy(np.asarray(image_NCHW))
    label = None if dataset.labels_N is None else torch.from_numpy(dataset.labels_N[seen.index_N])
    if torch.cuda.is_available():
        return ImageBatch(image.pin_memory(), None if label is None else label.pin_memory())
    return ImageBatch(image, label)


def _prefetched(
    dataset: ImageDataset, share: int, seed: int, start: int, stride: int, mirror: bool
) -> Generator[ImageBatch, None, None]:
    def produce(at: int) -> ImageBatch:
        return gather(dataset, shown(len(dataset), seed, at, at + share, mirror=mirror))

    with ThreadPoolExecutor(1, "gankiln-batches") as pool:
        ready = pool.submit(produce, start)
        while True:
            batch = ready.result()
            start += stride
            ready = pool.submit(produce, start)
            yield batch


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation, by sorting raw 64-bit draws: numpy keeps those equal between its versions, `permutation` not."""
    return np.argsort(_draws(count, seed, epoch, _ORDER), kind="stable")


@lru_cache(maxsize=4)
def _flips(count: int, seed: int, epoch: int) -> NDArray[np.bool_]:
    return _draws(count, seed, epoch, _MIRROR) >> np.uint64(63) == 1


def _draws(count: int, seed: int, epoch: int, purpose: int) -> NDArray[np.uint64]:
    return np.random.PCG64([seed, epoch, purpose]).random_raw(count)
