"""The decoded cache: every image as plain bytes in one file that is mapped into memory, so that decoding is done once.

    CACHE/KEY/images.npy      uint8 [N, C, H, W]
    CACHE/KEY/labels.npy      int64 [N]; only with labels
    CACHE/KEY/modes.npy       int64 [N]; only of generated sets
    CACHE/KEY/manifest.json   shape, class names, skipped images; written last

An entry is built aside, synced to disk and then renamed, so it is whole or not there, even if the machine stops. Two
processes that want the same entry take turns by a file lock that ends with its owner; where the file system has no
locks both build it, and either result is right, for an entry is a pure function of its key.
"""

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

import numpy as np

from jobs.data.dataset import ImagesU8, LabelsI64, Skipped
from jobs.errors import DataError


@dataclass(frozen=True)
class Entry:
    """A whole entry, mapped."""

    images_NCHW: ImagesU8
    labels_N: LabelsI64 | None
    modes_N: LabelsI64 | None
    class_names: tuple[str, ...]
    skipped: tuple[Skipped, ...]


class EntryWriter:
    """Fills the directory of one entry, block by block, without knowing beforehand how many images will be good."""

    def __init__(self, directory: Path, chw: tuple[int, int, int]) -> None:
        self._directory = directory
        self._chw = chw
        self._count = 0
        self._file: BinaryIO = (directory / "images.npy").open("wb")
        self._header_bytes = self._write_header()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, images_NCHW: ImagesU8) -> None:
        """Append images; written in order, not through a map: so a full disk is an error, not a dead process."""
        self._file.write(np.ascontiguousarray(images_NCHW).data)
        self._count += len(images_NCHW)

    def finish(
        self,
        *,
        labels_N: LabelsI64 | None,
        modes_N: LabelsI64 | None,
        class_names: tuple[str, ...],
        skipped: tuple[Skipped, ...],
    ) -> None:
        """Write what belongs to the images, then the manifest, each synced."""
        self._file.seek(0)
        if self._write_header() != self._header_bytes:
            raise AssertionError("numpy reserves room for 21 digits of the first axis")
        _sync(self._file)
        for name, array in (("labels", labels_N), ("modes", modes_N)):
            if array is not None:
                with (self._directory / f"{name}.npy").open("wb") as file:
                    np.save(file, array)
                    _sync(file)
        manifest = {
            "shape": [self._count, *self._chw],
            "labels": labels_N is not None,
            "modes": modes_N is not None,
            "class_names": class_names,
            "skipped": skipped,
        }
        with (self._directory / "manifest.json").open("wb") as file:
            file.write(json.dumps(manifest).encode())
            _sync(file)

    def _write_header(self) -> int:
        header = {"descr": "|u1", "fortran_order": False, "shape": (self._count, *self._chw)}
        np.lib.format.write_array_header_1_0(self._file, header)
        return self._file.tell()


def open_or_build(cache: Path, key: str, build: Callable[[Path], None]) -> Entry:
    """The entry `key` of `cache`; `build(directory)` fills it where it is missing or damaged.

    Raises DataError where the disk is full or cannot be written.
    """
    entry = _read(cache / key)
    if entry is not None:
        return entry
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _turn(cache / f"{key}.lock") as alone:
            entry = _read(cache / key)
            if entry is not None:
                return entry
            if alone:
                _sweep(cache, key)
            return _build(cache, key, build)
    except OSError as error:
        raise _explained(error, cache) from error


def _read(directory: Path) -> Entry | None:
    """The entry in `directory`, or None where any part of it is missing, cut short or not as the manifest says."""
    try:
        manifest = json.loads((directory / "manifest.json").read_bytes())
        count, *chw = manifest["shape"]
        images = np.load(directory / "images.npy", mmap_mode="r", allow_pickle=False)
        labels, modes = (
            np.load(directory / f"{name}.npy", allow_pickle=False) if manifest[name] else None
            for name in ("labels", "modes")
        )
        whole = images.shape == (count, *chw) and images.dtype == np.uint8
        whole = whole and all(array is None or array.shape == (count,) for array in (labels, modes))
        names, skipped = tuple(manifest["class_names"]), tuple(Skipped(*pair) for pair in manifest["skipped"])
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None
    return Entry(images, labels, modes, names, skipped) if whole else None


def _build(cache: Path, key: str, build: Callable[[Path], None]) -> Entry:
    aside = Path(tempfile.mkdtemp(prefix=f"{key}.aside-", dir=cache))
    try:
        build(aside)
        _sync_directory(aside)
        entry = _read(aside)  # mapped before it is renamed: valid whatever others do to the name
        if entry is None:
            raise DataError(f"data: the cache in {str(cache)!r} does not give back what was written to it")
        _put_in_place(aside, cache / key)
        _sync_directory(cache)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return entry


def _put_in_place(aside: Path, entry: Path) -> None:
    """Rename; a damaged entry steps aside first, a whole one (of another builder without locks) stays."""
    for _ in range(10):
        try:
            aside.replace(entry)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise
            if _read(entry) is not None:
                return
            grave = Path(tempfile.mkdtemp(prefix=f"{entry.name}.aside-", dir=entry.parent))
            with suppress(FileNotFoundError):
                entry.rename(grave / "old")  # open maps of it stay valid
            shutil.rmtree(grave, ignore_errors=True)
        else:
            return


def _sweep(cache: Path, key: str) -> None:
    """Remove what killed builders left; only under the lock, which says that none of them lives."""
    for left in cache.glob(f"{key}.aside-*"):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _turn(path: Path) -> Iterator[bool]:
    """Wait for the lock; yields False where the file system has none."""
    with path.open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explained(error: OSError, cache: Path) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataError(
            f"data: the disk is full: the decoded images do not fit into {str(cache)!r}",
            hint="free space there, put the cache on a larger disk, or lower data.resolution or data.max_images",
        )
    return DataError(f"data: the cache {str(cache)!r} cannot be written: {error.strerror or error}")
