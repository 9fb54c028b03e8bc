"""Inputs of jobs on the local disk: fetched once, shared by jobs and workers, bounded, evicted by age.

    cache/<id>/entry.json        what it is, with the sha256 of every file; its modification time is its last use
    cache/<id>/data/...          one file (named as the object) or a folder of them
    cache/<id>.lock              held shared while a job uses the entry, exclusively while it is fetched or evicted

The id is a hash of the address and of every object's size and ETag: changed data is another entry. Locks are flock(2)
on the local disk: the kernel frees them with the process, however it ends.
"""

import errno
import fcntl
import hashlib
import os
import random
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict, ValidationError

from jobs.errors import StoreError
from service.store import FullStore, Stat, Store

TRIM_AGE_SECONDS = 3600.0


class CachedFile(BaseModel):
    """One file of an entry."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    size_bytes: int
    sha256: str
    modified_ns: int
    """Of the local copy when it was verified; if it or the size differs, the content is read again."""


class Entry(BaseModel):
    """What a cache entry holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str
    files: tuple[CachedFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


@dataclass
class CachedInput:
    """An input on the local disk, kept there until `release`."""

    path: Path
    _lock: IO[bytes]

    def release(self) -> None:
        self._lock.close()


class Cache:
    """Fetches objects of stores to the local disk."""

    def __init__(self, folder: Path, *, limit_bytes: int, free_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._free_bytes = free_bytes

    def fetch(self, store: Store, key: str) -> CachedInput | None:
        """The object `key`, or every object below it as a folder; None when there is neither.

        Raises StoreError when the store fails or the local disk has no room, naming what to do.
        """
        objects = _objects(store, key)
        if not objects:
            return None
        address = f"{store.url}/{key}"
        identity = _identity(address, objects)
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = (self._folder / f"{identity}.lock").open("ab")
        try:
            with _full_disk_explained(self._folder):
                self._provide(store, key, address, identity, objects, lock)
        except BaseException:
            lock.close()
            raise
        data = self._folder / identity / "data"
        return CachedInput(data if objects[0].key != key else data / _name(key), lock)

    def _provide(
        self, store: Store, key: str, address: str, identity: str, objects: list[Stat], lock: IO[bytes]
    ) -> None:
        """Leaves with a valid entry and the lock held shared.

        flock does not convert a lock in one step: between shared and exclusive anybody may come first, so each round
        looks again at what is there.
        """
        while True:
            fcntl.flock(lock, fcntl.LOCK_SH)  # waits for whoever fetches it
            if self._is_valid(identity):
                os.utime(self._folder / identity / "entry.json")
                return
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:  # somebody else is about to fetch it, or still uses what is damaged
                time.sleep(random.uniform(0.05, 0.2))  # noqa: S311
                continue
            if not self._is_valid(identity):
                self._remove(identity)
                self._make_room(address, sum(stat.size_bytes for stat in objects))
                self._download(store, key, address, identity, objects)

    def _is_valid(self, identity: str) -> bool:
        entry = self._entry(identity)
        if entry is None:
            return False
        data = self._folder / identity / "data"
        return all(_is_unchanged(data / file.path, file) for file in entry.files)

    def _entry(self, identity: str) -> Entry | None:
        try:
            return Entry.model_validate_json((self._folder / identity / "entry.json").read_bytes())
        except (OSError, ValidationError):
            return None

    def _download(self, store: Store, key: str, address: str, identity: str, objects: list[Stat]) -> None:
        folder = self._folder / identity
        files = []
        for stat in objects:
            relative = _name(key) if stat.key == key else stat.key.removeprefix(key + "/")
            path = folder / "data" / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            store.download(stat.key, path)
            found = path.stat()
            if found.st_size != stat.size_bytes:
                raise StoreError(
                    f"{stat.key}: has {found.st_size} bytes, the store promised {stat.size_bytes}",
                    hint="it was changed while it was fetched; the next attempt fetches it again",
                )
            files.append(
                CachedFile(
                    path=relative, size_bytes=found.st_size, sha256=sha256_of(path), modified_ns=found.st_mtime_ns
                )
            )
        temporary = folder / "entry.json.tmp"
        temporary.write_text(Entry(address=address, files=tuple(files)).model_dump_json())
        temporary.rename(folder / "entry.json")

    def _make_room(self, address: str, needed_bytes: int) -> None:
        """Evicts what was not used for longest until `needed_bytes` fit. Raises StoreError when they do not."""
        if needed_bytes > self._limit_bytes:
            raise StoreError(
                f"{address}: has {needed_bytes:,} bytes, the cache at most {self._limit_bytes:,}",
                hint="raise GANKILN_CACHE_BYTES, or mount the data and name its directory in GANKILN_DATA_ROOTS",
            )
        self._remove_torn()
        for identity in self._oldest_first():
            if self._has_room(needed_bytes):
                return
            self._evict(identity)
        if not self._has_room(needed_bytes):
            free = shutil.disk_usage(self._folder).free
            raise StoreError(
                f"{address}: needs {needed_bytes:,} bytes, the disk of {self._folder} has {free:,} free and "
                f"{self._free_bytes:,} of them are kept free; what the cache holds is in use",
                hint="free space, or set GANKILN_HOME to a larger disk",
            )

    def _has_room(self, needed_bytes: int) -> bool:
        used = sum(entry.size_bytes for name in self._oldest_first() if (entry := self._entry(name)))
        free = shutil.disk_usage(self._folder).free
        return used + needed_bytes <= self._limit_bytes and free - needed_bytes >= self._free_bytes

    def _oldest_first(self) -> list[str]:
        used: list[tuple[float, str]] = []
        for file in self._folder.glob("*/entry.json"):
            with suppress(OSError):
                used.append((file.stat().st_mtime, file.parent.name))
        return [name for _, name in sorted(used)]

    def _evict(self, identity: str) -> None:
        """Removes an entry that nobody uses."""
        with (self._folder / f"{identity}.lock").open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self._remove(identity)

    def _remove_torn(self) -> None:
        """What a killed worker left half fetched."""
        for folder in self._folder.iterdir():
            if folder.is_dir() and not (folder / "entry.json").exists():
                self._evict(folder.name)

    def _remove(self, identity: str) -> None:
        (self._folder / identity / "entry.json").unlink(missing_ok=True)
        shutil.rmtree(self._folder / identity, ignore_errors=True)


def trim(folder: Path, limit_bytes: int, *, age_seconds: float = TRIM_AGE_SECONDS) -> int:
    """Bound what jobs computed from their data (decoded images, features): the oldest goes first; how many went.

    Entries are `folder/KIND/ENTRY`, rebuilt when missing. What was made or opened lately may be in use and stays; what
    is mapped by a job lives on until it lets go.
    """
    entries = sorted(_measured(entry) for entry in folder.glob("*/*") if entry.suffix != ".lock")
    excess = sum(size_bytes for _, size_bytes, _ in entries) - limit_bytes
    removed = 0
    for used_seconds, size_bytes, entry in entries:
        if excess <= 0 or used_seconds > time.time() - age_seconds:
            break
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
        excess -= size_bytes
        removed += 1
    return removed


def _measured(entry: Path) -> tuple[float, int, Path]:
    """(last use, size, path) of a file or a folder; unix seconds, as far as the file system tells them."""
    used, size_bytes = 0.0, 0
    for file in [entry, *entry.rglob("*")]:
        with suppress(OSError):
            found = file.stat()
            used = max(used, found.st_atime if file.is_file() else 0.0, found.st_mtime)
            size_bytes += found.st_size if file.is_file() else 0
    return used, size_bytes, entry


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _objects(store: Store, key: str) -> list[Stat]:
    """The object itself, or else everything below it."""
    stat = store.stat(key)
    return [stat] if stat else list(store.list(key + "/"))


def _identity(address: str, objects: list[Stat]) -> str:
    digest = hashlib.sha256(address.encode())
    for stat in objects:
        digest.update(f"\0{stat.key}\0{stat.size_bytes}\0{stat.etag}".encode())
    return digest.hexdigest()[:24]


def _is_unchanged(path: Path, file: CachedFile) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    if found.st_size != file.size_bytes:
        return False
    return found.st_mtime_ns == file.modified_ns or sha256_of(path) == file.sha256


def _name(key: str) -> str:
    return key.rpartition("/")[2]


@contextmanager
def _full_disk_explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except FullStore as error:
        raise _full(folder) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(folder) from error
        raise StoreError(f"{folder}: {error.strerror or error}") from error


def _full(folder: Path) -> StoreError:
    return StoreError(
        f"the local disk of {folder} is full", hint="free space, lower GANKILN_CACHE_BYTES, or move GANKILN_HOME"
    )
