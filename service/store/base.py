"""What the queue asks of a store, and nothing more: whole objects by key, listed in order, and create-if-absent.

A key is a relative path of plain segments ("jobs/0c1.../log/00000001.json"). Everything in a store was written by
somebody else: `check_key` is the one gate that keeps a key inside its prefix or directory, and every store calls it.

    StoreError (jobs.errors)             the store did not answer as it must
    ├── Unavailable                      no answer or an uncertain one: it may or may not have happened; try again
    ├── KeyNotFound                      there is no object under this key
    ├── BadKey                           the key would leave its place; nothing was touched
    ├── FullStore                        no space is left; trying again does not help until somebody makes room
    └── UnsafeStore                      the store breaks a promise the queue rests on (selftest.py)
    PermissionDenied (jobs.errors)
    └── StoreRefused                     missing bucket, wrong keys, no permission: the sentence says which
"""

import os
import random
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Protocol

from jobs.errors import PermissionDenied, StoreError

KEY_BYTES = 1000  # S3 allows 1,024; the rest is left for the prefix of `s3://bucket/prefix`
SEGMENT_BYTES = 240  # a file name has 255 bytes; the rest is left for the suffix of a temporary file
TEMPORARY = ".gankiln-tmp-"  # names that begin so are writes in progress; no key may use them

RequestObserver = Callable[[str, str, float], None]
"""Called after each request with (operation, code, seconds); code is "ok", "exists", "absent" or an error's name."""


class Unavailable(StoreError):
    """The store gave no certain answer; the request may or may not have happened."""


class KeyNotFound(StoreError):
    """There is no object under this key."""

    def __init__(self, key: str) -> None:
        self.key = key
        super().__init__(f"{key}: there is no object under this key")


class BadKey(StoreError):
    """A key is a relative path of plain segments; this one is not."""


class FullStore(StoreError):
    """No space is left in the store."""


class UnsafeStore(StoreError):
    """The store breaks a promise that the queue rests on."""

    exit_code = 78


class StoreRefused(PermissionDenied):
    """The store is there and says no."""


@dataclass(frozen=True, slots=True)
class Stat:
    """What a store knows of an object without reading it."""

    key: str
    size_bytes: int
    modified_seconds: float
    """Unix time by the clock of the store; whole seconds on some servers. Never used to decide who owns a job."""
    etag: str
    """Changes when the content changes. Opaque: compare, never parse."""


class Store(Protocol):
    """Whole objects by key. Every call is atomic, durable when it returns, and may raise `Unavailable`.

    Readers see a write as soon as it returned (read-after-write and list-after-write). One store object may be used
    by several threads. Calls that are safe to repeat are retried inside; `create` is not, because a repeated create
    cannot tell its own first try from a rival: whoever calls it reads the key again and compares.
    """

    url: str
    observer: RequestObserver
    settle_seconds: float
    """How old a file dropped by a person must be before it is read: 0 where a put is atomic, 2 for directories."""

    def get(self, key: str) -> bytes:
        """The content. Raises KeyNotFound."""
        ...

    def read(self, key: str) -> tuple[bytes, Stat]:
        """Content and Stat of the very same version. Raises KeyNotFound."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Create or overwrite; readers see the old or the new content, never a mixture."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Create if absent: True for exactly one of all creators of a key, False for all others, for ever.

        Raises Unavailable when the answer was lost: then it may or may not have been created by this call.
        """
        ...

    def delete(self, key: str) -> None:
        """Delete; a missing key is no error."""
        ...

    def stat(self, key: str) -> Stat | None:
        """Stat, or None when there is no such object."""
        ...

    def list(self, prefix: str, *, limit: int | None = None, start_after: str = "") -> Iterator[Stat]:
        """Objects whose key begins with `prefix`, in byte order of keys, at most `limit`, keys after `start_after`.

        Pages are asked for as they are consumed; with `limit` up to 1,000 it is one request. Keys that `check_key`
        refuses are left out. Order and `start_after` hold among keys of one fixed form (see queue/keys.py), not for
        arbitrary siblings: SeaweedFS orders by directory tree.
        """
        ...

    def copy(self, source: str, target: str) -> None:
        """Copy inside the store without moving bytes through this machine where possible. Raises KeyNotFound."""
        ...

    def upload(self, key: str, path: Path) -> None:
        """Put a local file, in parts when it is large. Readers see all of it or nothing."""
        ...

    def download(self, key: str, path: Path) -> None:
        """Write the object to a local file (temporary name, then rename). Raises KeyNotFound."""
        ...

    def make_folder(self, prefix: str) -> None:
        """Make a prefix visible to people where a store has folders; nothing on a bucket."""
        ...

    def server_time_seconds(self) -> float:
        """Unix time by the clock of the store, without a request where one was made before. For display and delays."""
        ...

    def clock_skew_seconds(self) -> float:
        """Local clock minus the clock of the store, as last seen; 0 before the first request."""
        ...


def ignore_request(operation: str, code: str, seconds: float) -> None:
    """The observer of a store that nobody watches."""


def check_key(key: str) -> str:
    """The key itself when it stays in its place. Raises BadKey.

    Refused: absolute paths, empty segments, "." and "..", control characters (NUL too), backslashes, names reserved
    for writes in progress, text that is not Unicode, keys and segments that are too long for S3 or a file system.
    """
    if problem := _problem_of(key):
        raise BadKey(f"{key[:120]!r}: {problem}", hint="a key is segments of plain text joined by /")
    return key


def is_key(key: str) -> bool:
    """Whether `check_key` lets the key pass."""
    return _problem_of(key) is None


@lru_cache(maxsize=4096)
def _problem_of(key: str) -> str | None:
    try:
        encoded = key.encode("utf-8")
    except UnicodeEncodeError:
        return "is not Unicode text"
    if not encoded or len(encoded) > KEY_BYTES:
        return f"must have 1 to {KEY_BYTES} bytes, has {len(encoded)}"
    return next((problem for segment in key.split("/") if (problem := _problem_of_segment(segment))), None)


def _problem_of_segment(segment: str) -> str | None:
    if segment in ("", ".", ".."):
        return f"has the segment {segment!r}, which would lead elsewhere"
    if len(segment.encode("utf-8")) > SEGMENT_BYTES:
        return f"has a segment longer than {SEGMENT_BYTES} bytes"
    if segment.startswith(TEMPORARY):
        return f"begins a segment with {TEMPORARY!r}, which is kept for writes in progress"
    if not segment.isascii() or not segment.isprintable():
        return _problem_of_characters(segment)
    return "has a backslash" if "\\" in segment else None


def _problem_of_characters(segment: str) -> str | None:
    """Letters of any script pass; what is invisible, reorders text or separates paths does not."""
    for character in segment:
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") or character == "\\":
            return f"has the character U+{ord(character):04X}, which cannot be part of a key"
    return None


def check_prefix(prefix: str) -> str:
    """A prefix for `list`: a key, a key and a slash, or nothing. Raises BadKey."""
    if prefix.strip("/"):
        check_key(prefix.removesuffix("/"))
    elif prefix:
        raise BadKey(f"{prefix!r}: a prefix does not begin with a slash")
    return prefix


def temporary_name() -> str:
    """A name for a write in progress that no other process of any machine uses."""
    return f"{TEMPORARY}{os.getpid()}-{random.SystemRandom().getrandbits(64):016x}"


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A local file that appears under its name only when it is complete."""
    temporary = path.with_name(temporary_name())
    try:
        with temporary.open("wb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
