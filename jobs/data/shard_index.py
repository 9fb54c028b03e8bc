"""Which images a tar file holds, and where each begins: read once, and kept until the file changes.

A shard comes from a stranger: only plain files with an image's suffix count, links and devices do not. One that is no
tar file, or is cut short, is damaged: it counts as one skipped shard, whatever it holds.

    CACHE/KEY/00007-a.npz      the index of shard 7, of its images of domain a
    CACHE/KEY/00007-a.looked   the bytes of some of its images, one after another, so that it is brought once
    CACHE/SHA.npy              all places of a set, mapped
"""

import hashlib
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from os import pread
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from jobs.data.dataset import Skipped
from jobs.data.decode import SUFFIXES, DecodeError
from jobs.data.load import check_skipped
from jobs.data.roots import Roots
from jobs.data.shelves import Shelf, open_shelf
from jobs.data.source import MAX_FILE_BYTES, printable, spread
from jobs.errors import DataError
from jobs.files import replacing

I64 = NDArray[np.int64]
LOOKED_AT = 2000
"""Images of each domain, evenly spread, that metrics and detectors look at."""
_BLOCK_BYTES = 512
"""Of tar: after the last file there is a block of zeros."""
_FORMAT = 3


@dataclass(frozen=True)
class ShardIndex:
    """The images of one shard, in the order of their names."""

    place_N2: I64
    """Offset and size."""
    digest: str
    """Of their names without suffixes."""
    damage: str = ""
    """Why the shard cannot be used; then it has no images."""


@dataclass(frozen=True)
class Scan:
    """What was found in the shards of one domain."""

    shelf: Shelf
    path: str
    """As it is written in the spec."""
    where: str
    memory: Path
    """The directory where the indexes of this set are kept."""
    tag: str
    found: dict[str, ShardIndex]
    """By the name of the shard."""

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Which shard has which name."""
        return {name: number for number, name in enumerate(self.shelf.names)}

    @property
    def damaged(self) -> list[Skipped]:
        """Shards that cannot be used."""
        return [Skipped(f"{self.where}: {name}", index.damage) for name, index in self.found.items() if index.damage]

    def looked_at(self, name: str, count: int | None = None) -> list[int]:
        """Which images of the shard `name` (of `count`) are looked at: each has its share, so one pass finds them."""
        shards, number = len(self.numbers), self.numbers[name]
        share = (number + 1) * LOOKED_AT // shards - number * LOOKED_AT // shards
        return [int(within) for within in spread(len(self.found[name].place_N2) if count is None else count, share)]

    def look(self, name: str, within: int) -> bytes:
        """The bytes of image `within` of the shard `name`, one that is looked at. Raises DecodeError."""
        place_N2 = self.found[name].place_N2
        offset, size_bytes = (int(value) for value in place_N2[within])
        if self.shelf.is_far:
            before = self.looked_at(name)
            offset = int(place_N2[before[: before.index(within)], 1].sum())
        try:
            with self.kept(name, ".looked").open("rb") if self.shelf.is_far else self.shelf.open(name) as file:
                return pread(file.fileno(), size_bytes, offset)
        except OSError as error:
            raise DecodeError(f"cannot be read: {error.strerror}") from None

    def kept(self, name: str, suffix: str) -> Path:
        """What is kept of the shard `name`."""
        return self.memory / f"{self.numbers[name]:05d}-{self.tag or 'all'}{suffix}"


def scan_shards(path: str, where: str, memory: Path, roots: Roots, tags: Sequence[str] = ("",)) -> list[Scan]:
    """Every image in the tar files of a directory, for each of `tags`: "" all, "a" those named KEY.a.png.

    Raises DataError where there is no tar file, or where more than 1 % of them are damaged.
    """
    shelf, key = open_shelf(path, where, roots)
    stamps = [shelf.stamp(name) for name in shelf.names]
    kept = memory / hashlib.sha256(json.dumps([_FORMAT, key, stamps]).encode()).hexdigest()
    scans = [Scan(shelf, path, where, kept, tag, {}) for tag in tags]
    for number, name in enumerate(shelf.names):
        shelf.expect([name], shelf.names[number + 1 : number + 2])
        for scan in scans:  # both while the shard is here
            scan.found[name] = _index(scan, name)
    for scan in scans[:1]:  # a damaged shard is damaged for every tag
        check_skipped(scan.damaged, len(scan.found), "shards")
    return scans


def _index(scan: Scan, name: str) -> ShardIndex:
    """The index of one shard, read once; with the bytes of what is looked at, where they come from far."""
    path = scan.kept(name, ".npz")
    with suppress(OSError, ValueError, KeyError, BadZipFile), np.load(path, allow_pickle=False) as kept:
        return ShardIndex(kept["place_N2"], str(kept["digest"]), str(kept["damage"]))
    try:
        with scan.shelf.open(name) as shard:
            index = read_index(shard, scan.tag)
            if scan.shelf.is_far:
                _keep_looked_at(scan, name, shard, index.place_N2)
    except OSError as error:
        raise DataError(f"{scan.where}: {printable(name)!r} cannot be read: {error.strerror or error}") from None
    with replacing(path) as aside, aside.open("wb") as file:  # after what is looked at: where this is, that is
        np.savez(file, place_N2=index.place_N2, digest=np.array(index.digest), damage=np.array(index.damage))
    return index


def _keep_looked_at(scan: Scan, name: str, shard: BinaryIO, place_N2: I64) -> None:
    with replacing(scan.kept(name, ".looked")) as aside, aside.open("wb") as file:
        for offset, size_bytes in place_N2[scan.looked_at(name, len(place_N2))].tolist():
            file.write(pread(shard.fileno(), size_bytes, offset))


def read_index(shard: BinaryIO, tag: str) -> ShardIndex:
    """Where the images of an open tar file begin. Raises OSError."""
    images: list[tuple[str, int, int]] = []
    try:
        for member in _members(shard):
            if (stem := _stem(member, tag)) is not None:
                images.append((stem, member.offset_data, member.size))
    except (tarfile.TarError, ValueError, OverflowError, IndexError) as error:
        return ShardIndex(np.empty((0, 2), np.int64), "", f"no plain tar file, or cut short: {printable(str(error))}")
    images.sort()
    stems = "\n".join(stem for stem, _, _ in images)
    place_N2 = np.array([place for _, *place in images], np.int64).reshape(-1, 2)
    return ShardIndex(place_N2, hashlib.sha256(stems.encode("utf-8", "surrogateescape")).hexdigest())


def _members(shard: BinaryIO) -> Iterator[tarfile.TarInfo]:
    """What the file holds, one after another; never all of it in memory. Raises ReadError where it ends too early."""
    last = -1
    with tarfile.open(fileobj=shard, mode="r:") as archive:  # not compressed: an image must be found without others
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # they would fill memory
            if member.offset_data <= last:
                raise tarfile.ReadError("its files overlap")
            last = member.offset_data
            yield member
        if pread(shard.fileno(), _BLOCK_BYTES, archive.offset) != bytes(_BLOCK_BYTES):
            raise tarfile.ReadError("its end is missing")


def _stem(member: tarfile.TarInfo, tag: str) -> str | None:
    """The name of an image without its suffix, and without its tag; None where it is none of this tag."""
    name = PurePosixPath(member.name)
    plain = member.isreg() and not member.issparse() and not name.name.startswith(".")
    if not (plain and name.suffix.lower() in SUFFIXES and 0 < member.size <= MAX_FILE_BYTES):
        return None
    stem = name.with_suffix("")
    if not tag:
        return str(stem)
    return str(stem.with_suffix("")) if stem.suffix == f".{tag}" else None
