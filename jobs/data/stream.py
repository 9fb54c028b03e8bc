"""An endless stream of batches that is a pure function of (seed, images): nothing to save, nothing to restore.

Epoch e shows every image once, in an order drawn from (seed, e); the image at position p of the stream is number
p mod N of epoch p div N. A run that starts again at `images` therefore sees exactly what an unbroken run would have.
Over several ranks each batch is cut into equal, consecutive shares: joined in the order of ranks they are the batch
of a single process.
"""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from jobs.data.dataset import Dataset, OrdersItself, Shown

_ORDER, _MIRROR = 0, 1
OTHER_DOMAIN, OTHER_MIRROR, CROP = 2, 3, 4
"""Further purposes of random draws."""
ScalarT = TypeVar("ScalarT", bound=np.generic)


def batches(
    dataset: Dataset, *, batch: int, seed: int, images: int, rank: int = 0, world: int = 1, mirror: bool
) -> Generator[Any, None, None]:
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
    mirrored_N = _by_epoch(count, position_N, lambda epoch: _flips(count, seed, epoch)) if mirror else None
    return Shown(
        seed, position_N, indices(count, seed, position_N),
        np.zeros(stop - start, np.bool_) if mirrored_N is None else mirrored_N,
    )  # fmt: skip


def indices(count: int, seed: int, position_N: NDArray[np.int64], *, purpose: int = _ORDER) -> NDArray[np.int64]:
    """Which of `count` images stand at any positions; another `purpose` gives an unrelated order."""
    return _by_epoch(count, position_N, lambda epoch: _order(count, seed, epoch, purpose))


def _by_epoch(count: int, position_N: NDArray[np.int64], drawn: Callable[[int], NDArray[ScalarT]]) -> NDArray[ScalarT]:
    """What `drawn(epoch)`, one value an image, gives at each position."""
    epoch_N = position_N // count
    parts = {int(epoch): drawn(int(epoch)) for epoch in np.unique(epoch_N)}
    first = next(iter(parts.values()))
    values_N = np.empty(len(position_N), first.dtype)
    for epoch, part in parts.items():
        here = epoch_N == epoch
        values_N[here] = part[position_N[here] - epoch * count]
    return values_N


def _prefetched(
    dataset: Dataset, share: int, seed: int, start: int, stride: int, mirror: bool
) -> Generator[Any, None, None]:
    def produce(at: int) -> Any:
        if isinstance(dataset, OrdersItself):
            return dataset.gather(dataset.shown(seed, at, at + share))
        return dataset.gather(shown(len(dataset), seed, at, at + share, mirror=mirror))

    with ThreadPoolExecutor(1, "gankiln-batches") as pool:
        ready = pool.submit(produce, start)
        while True:
            batch = ready.result()
            start += stride
            ready = pool.submit(produce, start)
            yield batch


@lru_cache(maxsize=8)
def _order(count: int, seed: int, epoch: int, purpose: int) -> NDArray[np.int64]:
    """A permutation, by sorting raw 64-bit draws: numpy keeps those equal between its versions, `permutation` not."""
    return np.argsort(_draws(count, seed, epoch, purpose), kind="stable")


@lru_cache(maxsize=4)
def _flips(count: int, seed: int, epoch: int) -> NDArray[np.bool_]:
    return _draws(count, seed, epoch, _MIRROR) >> np.uint64(63) == 1


def _draws(count: int, seed: int, epoch: int, purpose: int) -> NDArray[np.uint64]:
    return np.random.PCG64([seed, epoch, purpose]).random_raw(count)
