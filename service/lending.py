"""Lends a job the objects below a key one by one, as it asks for them; see jobs/data/lent.py for how they talk."""

import threading
from collections.abc import Callable
from pathlib import Path

from jobs.data.lent import REFUSED, WANTED, Offered, offer
from jobs.errors import GankilnError, StoreError
from service.store import KeyNotFound, Stat, Store, StoreRefused
from service.store.base import replacing

LOOK_SECONDS = 0.05
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0


class Lender:
    """A thread that brings what is wanted, until `release`. The folder is this job's own."""

    def __init__(
        self, store: Store, objects: dict[str, Stat], folder: Path, *, limit_bytes: int, say: Callable[[str], None]
    ) -> None:
        self._store, self._objects, self._folder, self._say = store, objects, folder, say
        self._ended = threading.Event()
        self._waits = threading.Event()
        offer(folder, {name: Offered(stat.size_bytes, stat.etag) for name, stat in objects.items()}, limit_bytes)
        self._thread = threading.Thread(target=self._lend, name="gankiln-lender", daemon=True)
        self._thread.start()

    @property
    def waits(self) -> bool:
        """Whether the store does not give what the job waits for."""
        return self._waits.is_set()

    def release(self) -> None:
        """Stops; what was lent goes with the folder of the attempt, and at once from here."""
        self._ended.set()
        self._thread.join(timeout=LONGEST_PAUSE_SECONDS)
        for name in self._objects:
            (self._folder / name).unlink(missing_ok=True)

    def _lend(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            for wanted in sorted((self._folder / WANTED).iterdir(), key=lambda path: path.stat().st_mtime_ns):
                self._bring(wanted.name)
                wanted.unlink(missing_ok=True)

    def _bring(self, name: str) -> None:
        """Tries until the file is there, or until it is clear, and said, that it never will be."""
        if name not in self._objects:
            return  # a name that was never offered
        pause_seconds = FIRST_PAUSE_SECONDS
        while not self._ended.is_set():
            try:
                self._download_or_refuse(name)
                self._waits.clear()
                return
            except (GankilnError, OSError) as error:  # an outage, or a full disk
                self._waits.set()
                self._say(f"cannot bring {self._objects[name].key} yet: {error}; trying again in {pause_seconds:g} s")
                self._ended.wait(pause_seconds)
                pause_seconds = min(2 * pause_seconds, LONGEST_PAUSE_SECONDS)

    def _download_or_refuse(self, name: str) -> None:
        try:
            self._download(name)
        except (KeyNotFound, StoreRefused, _Changed) as error:
            with replacing(self._folder / REFUSED / name) as file:
                file.write(error.message.encode())

    def _download(self, name: str) -> None:
        offered = self._objects[name]
        aside = self._folder / WANTED / f".{name}"  # not below its name before it is known to be what was offered
        self._store.download(offered.key, aside)
        try:
            found = self._store.stat(offered.key)
            if found is None or (found.size_bytes, found.etag) != (offered.size_bytes, offered.etag):
                raise _Changed(f"{offered.key} is not what it was when the job began")
            if aside.stat().st_size != offered.size_bytes:
                raise StoreError(f"it came with {aside.stat().st_size:,} bytes of {offered.size_bytes:,}")
            aside.replace(self._folder / name)
        finally:
            aside.unlink(missing_ok=True)


class _Changed(GankilnError):
    """An object is not the one that was offered."""
