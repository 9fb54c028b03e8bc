"""Files that are brought when they are asked for: a large set on a small disk.

Whoever lends fills a folder, and the job says what it wants there:

    LENT.json        {"limit_bytes": ..., "files": {"00000.tar": {"size_bytes": ..., "version": ...}, ...}}
    wanted/NAME      written by the job: bring this file (empty)
    NAME             the file, entire: it appears under its name when it is complete
    refused/NAME     why it cannot be brought, in words

The job deletes what it has read longest ago, before it asks for more than the limit; an open file stays readable.
"""

import json
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

from jobs.errors import DataError

MANIFEST, WANTED, REFUSED = "LENT.json", "wanted", "refused"
LOOK_SECONDS = 0.02


class Offered(NamedTuple):
    """A file that can be asked for. `version` changes when its content does."""

    size_bytes: int
    version: str


def offer(folder: Path, files: Mapping[str, Offered], limit_bytes: int) -> None:
    """Opens `folder` for a job that may keep `limit_bytes` of `files` there."""
    for part in (WANTED, REFUSED):
        (folder / part).mkdir(parents=True, exist_ok=True)
    offered = {name: file._asdict() for name, file in files.items()}
    (folder / MANIFEST).write_text(json.dumps({"limit_bytes": limit_bytes, "files": offered}), encoding="utf-8")


class Lent:
    """What a folder lends. Several threads may use it."""

    def __init__(self, folder: Path, where: str) -> None:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        self.folder, self.where = folder, where
        self.limit_bytes: int = manifest["limit_bytes"]
        self.files = {name: Offered(**offered) for name, offered in sorted(manifest["files"].items())}
        largest = max((offered.size_bytes for offered in self.files.values()), default=0)
        if largest > self.limit_bytes:
            raise DataError(
                f"{where}: a shard has {largest:,} bytes, and {self.limit_bytes:,} may be on the disk",
                hint="make smaller shards, or let the worker keep more: GANKILN_STREAM_BYTES",
            )
        self._lock = threading.Lock()
        self._used: dict[str, float] = {}
        """What was asked for and not deleted since, by when it was last read."""

    def open(self, name: str) -> BinaryIO:
        """The file `name`; waits until it is there. Raises DataError where it cannot be brought."""
        while True:
            with self._lock:
                self._ask(name, keep=())
            try:
                return (self.folder / name).open("rb", buffering=0)
            except FileNotFoundError:
                self._refuse(name)
                if not (self.folder / WANTED / name).exists() and not (self.folder / name).exists():
                    with self._lock:
                        self._used.pop(name, None)  # another process of the job deleted it: ask again
                time.sleep(LOOK_SECONDS)

    def expect(self, now: Iterable[str], soon: Iterable[str]) -> None:
        """Has `soon` brought while `now` is read, as far as both have room."""
        now, soon = tuple(now), tuple(soon)
        with self._lock:
            for name in (*now, *soon):
                if not self._ask(name, keep=(*now, *soon)):
                    return

    def _ask(self, name: str, keep: tuple[str, ...]) -> bool:
        """Whether `name` is here or on its way; what is in `keep` is not deleted for it."""
        if name not in self._used:
            if not self._make_room(self.files[name].size_bytes, keep):
                return False
            (self.folder / WANTED / name).touch()
        self._used[name] = time.monotonic()
        return True

    def _make_room(self, size_bytes: int, keep: tuple[str, ...]) -> bool:
        free = self.limit_bytes - sum(self.files[name].size_bytes for name in self._used)
        for name in sorted(self._used, key=lambda used: self._used[used]):
            if free >= size_bytes:
                break
            if name not in keep and (self.folder / name).exists():  # what is still on its way cannot be deleted
                (self.folder / name).unlink()
                del self._used[name]
                free += self.files[name].size_bytes
        return free >= size_bytes

    def _refuse(self, name: str) -> None:
        refused = self.folder / REFUSED / name
        if refused.exists():
            raise DataError(f"{self.where}: {name!r} cannot be brought: {refused.read_text(encoding='utf-8')}")
