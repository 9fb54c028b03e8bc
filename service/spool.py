"""Checkpoints that wait to be uploaded: hard links on the local disk, at most so many bytes.

Taking a checkpoint into the spool copies nothing and takes no time, so it never holds up training, and the run may
delete the checkpoint afterwards. Of several that wait only the newest matters: an outage of the store fills no disk.
"""

import os
import shutil
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Spooled:
    """One checkpoint in the spool."""

    images: int
    folder: Path
    size_bytes: int


class Spool:
    """The newest checkpoint that waits, beside the one that is being uploaded."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self.limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._waiting: Spooled | None = None
        self._in_work: Spooled | None = None

    @property
    def used_bytes(self) -> int:
        with self._lock:
            return sum(spooled.size_bytes for spooled in (self._waiting, self._in_work) if spooled)

    def take(self, checkpoint: Path) -> Spooled | None:
        """Link the files of a complete checkpoint folder, named by its images. None when there is no room for it.

        An older one that still waits is dropped: who resumes wants the newest.
        """
        images = int(checkpoint.name)
        folder = self._folder / checkpoint.name
        with self._lock:
            self._drop(self._waiting)
            self._waiting = None
            if self._in_work and self._in_work.images == images:
                return self._in_work
            files = [file for file in checkpoint.iterdir() if file.is_file()]
            size_bytes = sum(file.stat().st_size for file in files)
            in_work_bytes = self._in_work.size_bytes if self._in_work else 0
            if size_bytes + in_work_bytes > self.limit_bytes:
                return None
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for file in files:
                _link(file, folder / file.name)
            self._waiting = Spooled(images, folder, size_bytes)
            return self._waiting

    def next(self) -> Spooled | None:
        """The checkpoint to upload now: a newer one goes before one whose upload did not succeed yet."""
        with self._lock:
            if self._waiting:
                self._drop(self._in_work)
                self._in_work, self._waiting = self._waiting, None
            return self._in_work

    def done(self, spooled: Spooled) -> None:
        """It is in the store."""
        with self._lock:
            self._drop(spooled)
            if self._in_work == spooled:
                self._in_work = None

    def clear(self) -> None:
        with self._lock:
            self._waiting = self._in_work = None
            shutil.rmtree(self._folder, ignore_errors=True)

    def _drop(self, spooled: Spooled | None) -> None:
        if spooled:
            shutil.rmtree(spooled.folder, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system has none."""
    with suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)
