"""The stream is a pure function of (seed, images): stopped anywhere, shared by any number of ranks, it is the same."""

import gc
import threading
import time
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jobs.data import ImageBatch, ImageDataset, batches
from jobs.data.stream import shown


def dataset(count: int = 37, labels: bool = True) -> ImageDataset:
    """Image i has the value i in its left column, 255 - i elsewhere: number and mirroring can be read back."""
    images = np.empty((count, 1, 4, 4), np.uint8)
    images[:] = 255 - np.arange(count, dtype=np.uint8)[:, None, None, None]
    images[..., 0] = np.arange(count, dtype=np.uint8)[:, None, None]
    return ImageDataset("set", "digest", images, np.arange(count) * 10 if labels else None)


def take(count: int, **options: object) -> list[ImageBatch]:
    stream = batches(dataset(), **{"batch": 8, "seed": 0, "images": 0, "mirror": True, **options})  # type: ignore[arg-type]
    try:
        return list(islice(stream, count))
    finally:
        stream.close()


def joined(found: list[ImageBatch]) -> torch.Tensor:
    return torch.cat([batch.image_NCHW for batch in found])


def test_batches_are_tensors_with_their_labels() -> None:
    (batch,) = take(1, mirror=False)
    assert batch.image_NCHW.shape == (8, 1, 4, 4) and batch.image_NCHW.dtype == torch.uint8
    assert batch.label_N is not None and batch.label_N.dtype == torch.int64
    assert torch.equal(batch.label_N, batch.image_NCHW[:, 0, 0, 0].long() * 10)


def test_without_labels_there_are_none() -> None:
    stream = batches(dataset(labels=False), batch=4, seed=0, images=0, mirror=False)
    assert next(stream).label_N is None
    stream.close()


def test_an_epoch_shows_every_image_once() -> None:
    position_N = shown(37, 5, 0, 37 * 4, mirror=False).index_N.reshape(4, 37)
    for epoch in position_N:
        assert sorted(epoch) == list(range(37))
    assert len({tuple(epoch) for epoch in position_N}) == 4, "each in another order"


@given(
    start=st.integers(0, 500),
    batch=st.integers(1, 90),
    count=st.integers(1, 4),
    seed=st.integers(0, 2**63),
    m=st.booleans(),
)
def test_a_stream_resumed_anywhere_equals_the_unbroken_one(
    start: int, batch: int, count: int, seed: int, m: bool
) -> None:
    whole = shown(37, seed, 0, start + batch * count, mirror=m)
    parts = [shown(37, seed, start + batch * i, start + batch * (i + 1), mirror=m) for i in range(count)]
    np.testing.assert_array_equal(whole.index_N[start:], np.concatenate([part.index_N for part in parts]))
    np.testing.assert_array_equal(whole.mirrored_N[start:], np.concatenate([part.mirrored_N for part in parts]))


@pytest.mark.parametrize("stop", [0, 8, 32, 40, 1000 * 8])
def test_batches_resumed_equal_batches_unbroken(stop: int) -> None:
    resumed = joined(take(10, images=stop))
    from_eight_before = joined(take(11, images=max(stop - 8, 0)))
    assert torch.equal(resumed, from_eight_before[8:] if stop else from_eight_before[:80])


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_the_shares_of_all_ranks_are_the_batch_of_one(world: int) -> None:
    single = take(12, images=16)
    shares = [take(12, images=16, rank=rank, world=world) for rank in range(world)]
    for step, batch in enumerate(single):
        assert torch.equal(batch.image_NCHW, joined([share[step] for share in shares]))
        assert batch.label_N is not None
        label_N = torch.cat([share[step].label_N for share in shares])  # type: ignore[misc]
        assert torch.equal(batch.label_N, label_N)


def test_half_of_the_images_are_mirrored_and_only_when_asked() -> None:
    plain, mirrored = joined(take(500, mirror=False)), joined(take(500, mirror=True))
    flipped = (mirrored != plain).flatten(1).any(1)
    assert torch.equal(mirrored[flipped], plain[flipped].flip(3))
    assert 0.45 < flipped.float().mean() < 0.55
    assert not torch.equal(flipped[:37], flipped[37:74]), "drawn anew in each epoch"


def test_seeds_differ() -> None:
    assert not torch.equal(joined(take(5, seed=1)), joined(take(5, seed=2)))


def test_the_order_is_pinned() -> None:
    """A checkpoint of an older release must go on with the data it would have seen."""
    assert shown(10, 7, 0, 20, mirror=True).index_N.tolist() == PINNED_INDEX
    assert shown(10, 7, 0, 20, mirror=True).mirrored_N.astype(int).tolist() == PINNED_MIRRORED


PINNED_INDEX = [6, 3, 4, 9, 0, 2, 8, 7, 5, 1, 1, 3, 2, 7, 8, 4, 5, 9, 0, 6]
PINNED_MIRRORED = [1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0]


def test_a_batch_may_be_larger_than_the_set() -> None:
    (batch,) = take(1, batch=100, mirror=False)
    counts = torch.bincount(batch.image_NCHW[:, 0, 0, 0].long())
    assert counts.min() >= 2 and counts.max() <= 3


@pytest.mark.parametrize(
    "wrong", [{"batch": 9, "world": 2}, {"batch": 0}, {"rank": 2, "world": 2}, {"rank": -1}, {"images": -8}]
)
def test_a_stream_that_cannot_be_shared_is_refused_at_once(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="cannot be shared"):
        batches(dataset(), **{"batch": 8, "seed": 0, "images": 0, "mirror": False, **wrong})


def workers(but: list[threading.Thread]) -> list[threading.Thread]:
    """Threads of streams, without those that were there before."""
    return [
        thread for thread in threading.enumerate() if thread.name.startswith("gankiln-batches") and thread not in but
    ]


def test_the_next_batch_is_ready_before_it_is_asked_for() -> None:
    gathered = threading.Event()

    class Slow(np.ndarray):
        def __getitem__(self, key: object) -> object:
            gathered.set()
            return super().__getitem__(key)  # type: ignore[index]

    images = dataset().images_NCHW.view(Slow)
    stream = batches(ImageDataset("set", "digest", images), batch=8, seed=0, images=0, mirror=False)
    next(stream)
    gathered.clear()
    next(stream)
    assert gathered.wait(5), "while the caller is busy with this one"
    stream.close()


def test_no_thread_is_left_when_it_is_closed_or_dropped() -> None:
    before = workers([])
    stream = batches(dataset(), batch=8, seed=0, images=0, mirror=False)
    assert workers(before) == [], "nothing runs before the first batch"
    next(stream)
    assert len(workers(before)) == 1
    stream.close()
    assert workers(before) == []
    stream = batches(dataset(), batch=8, seed=0, images=0, mirror=False)
    next(stream)
    del stream
    gc.collect()
    deadline = time.monotonic() + 5
    while workers(before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert workers(before) == []


def test_an_error_while_gathering_reaches_the_caller() -> None:
    before = workers([])

    class Broken(np.ndarray):
        def __getitem__(self, key: object) -> object:
            raise OSError("the disk is gone")

    stream = batches(
        ImageDataset("set", "digest", dataset().images_NCHW.view(Broken)), batch=8, seed=0, images=0, mirror=False
    )
    with pytest.raises(OSError, match="the disk is gone"):
        next(stream)
    assert workers(before) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_are_pinned_where_there_is_a_gpu() -> None:
    (batch,) = take(1)
    assert batch.image_NCHW.is_pinned() and batch.label_N is not None and batch.label_N.is_pinned()
