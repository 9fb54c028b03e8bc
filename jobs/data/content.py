"""Which content a set of files has: sha256 over every byte, remembered by what `stat` says of the files.

Sizes and times alone are not an identity (they can be set back, and a copy with other content may share them), so the
bytes decide. To read 100 GB at every start would take minutes, so the digest is remembered under a fingerprint of
(name, size, mtime, ctime, inode, device) of every file, as git does: whoever changes a byte changes the ctime, which
no user can set back. Files changed within the last two seconds are not remembered, for a later change could fall into
the same tick of the clock.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from jobs.errors import DataError
from jobs.files import replacing

NamedFile = tuple[str, Path]
"""The name of a file within its set, and where it is."""

_SETTLED_SECONDS = 2.0
_CHUNK_BYTES = 1 << 20


def content_digest(files: Sequence[NamedFile], memory: Path) -> str:
    """sha256 (hex) over names and bytes of `files`, in their order; `memory` is the directory of remembered digests."""
    fingerprint, changed_seconds = _fingerprint(files)
    remembered = memory / fingerprint
    digest = _recall(remembered)
    if digest is not None:
        return digest
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1), "gankiln-hash") as pool:  # hashing frees the interpreter
        digests = list(pool.map(lambda file: _file_digest(file[1]), files))
    digest = hashlib.sha256(json.dumps([*zip((name for name, _ in files), digests, strict=True)]).encode()).hexdigest()
    check_unchanged(files, fingerprint)
    if time.time() - changed_seconds > _SETTLED_SECONDS:
        _remember(remembered, digest)
    return digest


def fingerprint(files: Sequence[NamedFile]) -> str:
    """What `stat` says of `files`, as one hex string: differs after any change."""
    return _fingerprint(files)[0]


def check_unchanged(files: Sequence[NamedFile], before: str) -> None:
    """DataError where `files` are no longer what they were when `before`, their fingerprint, was taken."""
    if fingerprint(files) != before:
        first = files[0][0] if files else "the set"
        raise DataError(f"data: files changed while they were read ({first} ...)", hint="run again when they are still")


def _fingerprint(files: Sequence[NamedFile]) -> tuple[str, float]:
    digest, newest = hashlib.sha256(), 0.0
    for name, path in files:
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(f"data: {name!r} cannot be read: {error.strerror}") from None
        identity = (name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_dev)
        digest.update(json.dumps(identity).encode())
        newest = max(newest, stat.st_mtime, stat.st_ctime)
    return digest.hexdigest(), newest


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        if isinstance(error, PermissionError):
            return "unreadable"  # skipped and named when it is decoded; readable again, it changes the ctime
        raise DataError(f"data: {path.name!r} cannot be read: {error.strerror}") from None


def _recall(path: Path) -> str | None:
    try:
        digest = path.read_text()
    except OSError:
        return None
    return digest if re.fullmatch("[0-9a-f]{64}", digest) else None


def _remember(path: Path, digest: str) -> None:
    """Best effort: a memory that cannot be written costs only time."""
    with suppress(OSError), replacing(path) as aside:
        aside.write_text(digest)
