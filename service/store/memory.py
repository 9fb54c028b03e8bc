"""A store in memory: for tests, for the simulation of the protocol, and as the shortest statement of the contract."""

import hashlib
import threading
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from service.store.base import KeyNotFound, RequestObserver, Stat, check_key, check_prefix, ignore_request, replacing


class MemoryStore:
    """A dictionary with the promises of a store."""

    def __init__(self, *, time_seconds: Callable[[], float] = time.time) -> None:
        self.url = "memory:"
        self.observer: RequestObserver = ignore_request
        self.settle_seconds = 0.0
        self._time_seconds = time_seconds
        self._objects: dict[str, tuple[bytes, Stat]] = {}
        self._keys: list[str] = []  # sorted: byte order of UTF-8 is the order of code points
        self._lock = threading.RLock()

    def get(self, key: str) -> bytes:
        return self.read(key)[0]

    def read(self, key: str) -> tuple[bytes, Stat]:
        check_key(key)
        with self._lock:
            self.observer("get", "ok" if key in self._objects else "absent", 0.0)
            if key not in self._objects:
                raise KeyNotFound(key)
            return self._objects[key]

    def put(self, key: str, data: bytes) -> None:
        check_key(key)
        with self._lock:
            self.observer("put", "ok", 0.0)
            self._write(key, data)

    def create(self, key: str, data: bytes) -> bool:
        check_key(key)
        with self._lock:
            exists = key in self._objects
            self.observer("create", "exists" if exists else "ok", 0.0)
            if not exists:
                self._write(key, data)
            return not exists

    def delete(self, key: str) -> None:
        check_key(key)
        with self._lock:
            self.observer("delete", "ok", 0.0)
            if self._objects.pop(key, None) is not None:
                del self._keys[bisect_left(self._keys, key)]

    def stat(self, key: str) -> Stat | None:
        check_key(key)
        with self._lock:
            self.observer("stat", "ok" if key in self._objects else "absent", 0.0)
            return self._objects[key][1] if key in self._objects else None

    def list(self, prefix: str, *, limit: int | None = None, start_after: str = "") -> Iterator[Stat]:
        check_prefix(prefix)
        with self._lock:
            self.observer("list", "ok", 0.0)
            found = list(islice(self._keys_from(prefix, start_after), limit))
            return iter([self._objects[key][1] for key in found])

    def copy(self, source: str, target: str) -> None:
        check_key(target)
        with self._lock:
            self.put(target, self.get(source))

    def upload(self, key: str, path: Path) -> None:
        self.put(key, path.read_bytes())

    def download(self, key: str, path: Path) -> None:
        data = self.get(key)
        with replacing(path) as file:
            file.write(data)

    def make_folder(self, prefix: str) -> None:
        check_prefix(prefix)

    def server_time_seconds(self) -> float:
        return self._time_seconds()

    def clock_skew_seconds(self) -> float:
        return 0.0

    def _keys_from(self, prefix: str, start_after: str) -> Iterator[str]:
        for index in range(bisect_left(self._keys, max(prefix, start_after)), len(self._keys)):
            key = self._keys[index]
            if not key.startswith(prefix):
                return
            if key > start_after:
                yield key

    def _write(self, key: str, data: bytes) -> None:
        if key not in self._objects:
            insort(self._keys, key)
        stat = Stat(key, len(data), self._time_seconds(), hashlib.sha256(data).hexdigest())
        self._objects[key] = (bytes(data), stat)
