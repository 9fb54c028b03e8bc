"""From a data section to an ImageDataset: find it in the cache, or decode it into the cache."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import assert_never

import numpy as np
import PIL

from jobs.data.archive import zip_source
from jobs.data.balance import choose_classes
from jobs.data.cache import EntryWriter, open_or_build
from jobs.data.content import check_unchanged, content_digest, fingerprint
from jobs.data.dataset import ImageDataset, Skipped
from jobs.data.folder import folder_source
from jobs.data.idx import idx_source
from jobs.data.modegrid import modegrid_source
from jobs.data.planted import planted_source
from jobs.data.roots import Roots
from jobs.data.source import Block, Items, Source
from jobs.errors import DataError
from jobs.spec.data import CHANNEL_COUNT, IdxFiles, ImageData, ImageFolder, ImageZip, ModeGrid, PlantedAttributes

Progress = Callable[[int, int], None]
"""Called with (images done, images in all), from the thread that opens the dataset."""

MAX_SKIPPED_SHARE = 0.01
_FORMAT = 1
"""Of what is decoded: raise it when the same file and settings give other pixels."""
_BLOCK_BYTES = 4 << 20
_MAX_WORKERS = 16


def open_dataset(
    section: ImageData, *, cache_dir: Path, roots: Roots, progress: Progress | None = None
) -> ImageDataset:
    """Every image of `section` as uint8 [N, C, R, R], decoded once and mapped from `cache_dir` from then on.

    Raises SpecError where its path leads out of `roots`, DataError where it is missing, empty, damaged, or where more
    than 1 % of its images are.
    """
    chw = (CHANNEL_COUNT[section.channels], section.resolution, section.resolution)
    dataset = load_source(_source(section, roots), chw, cache_dir=cache_dir, progress=progress)
    against_rest, balance = getattr(section, "against_rest", None), getattr(section, "balance", False)
    return choose_classes(dataset, against_rest=against_rest, balance=balance)


def load_source(
    source: Source, chw: tuple[int, int, int], *, cache_dir: Path, progress: Progress | None = None
) -> ImageDataset:
    """Every item of `source` as uint8 of shape `chw`, decoded once and mapped from `cache_dir` from then on."""
    content = content_digest(source.files, cache_dir / "digests")
    digest = _sha256(content, source.settings)
    key = _sha256(digest, _FORMAT, PIL.__version__)  # another Pillow may decode to other pixels
    entry = open_or_build(cache_dir, key, lambda directory: _decode_into(directory, source, chw, progress))
    return ImageDataset(
        name=source.name,
        digest=digest,
        images_NCHW=entry.images_NCHW,
        labels_N=entry.labels_N,
        class_names=entry.class_names,
        skipped=entry.skipped,
        modes_N=entry.modes_N,
    )


def _source(section: ImageData, roots: Roots) -> Source:
    match section:
        case ImageFolder():
            return folder_source(section, roots)
        case ImageZip():
            return zip_source(section, roots)
        case IdxFiles():
            return idx_source(section, roots)
        case ModeGrid():
            return modegrid_source(section)
        case PlantedAttributes():
            return planted_source(section)
        case _:
            assert_never(section)


def _decode_into(directory: Path, source: Source, chw: tuple[int, int, int], progress: Progress | None) -> None:
    before = fingerprint(source.files)
    good: list[np.ndarray] = []
    skipped: list[Skipped] = []
    with source.open() as items, EntryWriter(directory, chw) as writer, closing(_decoded(items, chw)) as blocks:
        done = 0
        for block in blocks:
            if block.good_M.any():
                writer.add(block.images_NCHW)
            good.append(block.good_M)
            skipped += block.skipped
            done += len(block.good_M)
            check_skipped(skipped, items.count)
            if progress is not None:
                progress(done, items.count)
        good_N = np.concatenate(good)
        writer.finish(
            labels_N=None if items.labels_N is None else items.labels_N[good_N],
            modes_N=None if items.modes_N is None else items.modes_N[good_N],
            class_names=items.class_names,
            skipped=tuple(skipped),
        )
    check_unchanged(source.files, before)


def _decoded(items: Items, chw: tuple[int, int, int]) -> Generator[Block, None, None]:
    """All blocks in order; a few are decoded ahead in threads, so that memory stays bounded and the disk busy."""
    workers = _workers()
    size = max(1, min(256, _BLOCK_BYTES // int(np.prod(chw)), -(-items.count // (4 * workers))))
    ahead: deque[Future[Block]] = deque()
    with ThreadPoolExecutor(workers, "gankiln-decode") as pool:
        try:
            for start in range(0, items.count, size):
                ahead.append(pool.submit(items.decode, start, min(start + size, items.count)))
                if len(ahead) > 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()


def _workers() -> int:
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(_MAX_WORKERS, allowed)


def check_skipped(skipped: Sequence[Skipped], count: int, what: str = "images") -> None:
    """Raises DataError where more than 1 % of `count` things of the kind `what` had to be skipped."""
    if len(skipped) <= MAX_SKIPPED_SHARE * count:
        return
    examples = "; ".join(f"{name}: {reason}" for name, reason in skipped[:3])
    raise DataError(
        f"data: more than 1 % of the {count} {what} cannot be used ({examples})",
        hint="remove or replace the damaged files; up to 1 % of them would be skipped and named in the report",
    )


def _sha256(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
