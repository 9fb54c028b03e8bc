"""Brings what a job reads to the local disk, and says below which directories the job may read at all.

A path in a submitted spec means, in this order: a file below one of GANKILN_DATA_ROOTS; an object of the store, or all
objects below it; an address s3://bucket/key. Each is linked into the attempt's own folder under the name that the spec
gives it, so the spec is used as it is. A path that leads elsewhere stays as it is, and the job refuses it.

Shards in a bucket are not fetched before the job: they are lent one by one while it trains, so that a large set needs
no large disk.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from jobs.errors import DataError, PermissionDenied, SpecError
from jobs.spec import Job
from jobs.spec.data import REMOTE_PREFIX, SHIPPED_PREFIX
from jobs.spec.inputs import inputs, streamed_inputs
from service.cache import Cache, CachedInput
from service.lending import Lender
from service.store import DirectoryStore, Stat, Store, StoreRefused, is_key


@dataclass
class Brought:
    """What a job may read, until `release`."""

    folder: Path
    """Where relative paths of the spec begin."""
    roots: list[Path]
    """Directories that may be read from, after links."""
    streamed: frozenset[str] = frozenset()
    """Fields of the spec whose files are brought one by one."""
    _held: list[CachedInput | Lender] = field(default_factory=list)

    @property
    def waits(self) -> bool:
        """Whether the store keeps the job waiting for a shard."""
        return any(isinstance(held, Lender) and held.waits for held in self._held)

    def release(self) -> None:
        for held in self._held:
            held.release()
        self._held.clear()


class Inputs:
    """Fetches the inputs of jobs of one store."""

    def __init__(
        self,
        store: Store,
        cache: Cache,
        data_roots: tuple[Path, ...],
        *,
        open_store: Callable[[str], Store],
        stream_bytes: int,
        say: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        self._store = store
        self._cache = cache
        self._data_roots = data_roots
        self._open_store = open_store
        self._stream_bytes = stream_bytes
        self._say = say

    def bring(self, job: Job, folder: Path) -> Brought:
        """Fetch everything `job` names. Raises DataError when it is nowhere, StoreError when it cannot be fetched."""
        folder.mkdir(parents=True, exist_ok=True)
        brought = Brought(folder, [folder, *self._data_roots], streamed_inputs(job))
        try:
            for where, path in inputs(job).items():
                self._bring_one(where, path, brought)
        except BaseException:
            brought.release()
            raise
        return brought

    def _bring_one(self, where: str, path: str, brought: Brought) -> None:
        if path.startswith(REMOTE_PREFIX):
            self._bring_remote(where, path, brought)
        elif path.startswith(SHIPPED_PREFIX) or Path(path).is_absolute():
            return  # the job itself looks whether it may read that
        elif not is_key(path.removesuffix("/")):
            raise SpecError(f"{where}: {path!r} leads outside the store", hint="write a path without '..'")
        else:
            self._bring_relative(where, path.removesuffix("/"), brought)

    def _bring_relative(self, where: str, path: str, brought: Brought) -> None:
        for root in self._data_roots:
            with suppress(OSError):
                if (root / path).exists():
                    _link(root / path, brought.folder / path)
                    return
        if not self._bring_from_store(where, path, brought):
            places = ", ".join([self._store.url, *map(str, self._data_roots)])
            raise DataError(
                f"{where}: there is nothing at {path!r} in {places}",
                hint="put it into the store under that key, or give an s3:// address",
            )

    def _bring_from_store(self, where: str, path: str, brought: Brought) -> bool:
        """A directory is read where it is; objects of a bucket are fetched into the cache."""
        if isinstance(self._store, DirectoryStore):
            target = self._store.root / path
            if not target.exists():
                return False
            brought.roots.append(self._store.root)  # not the target: a link in the store may lead out of it
            _link(target, brought.folder / path)
            return True
        return self._fetch(where, self._store, path, brought.folder / path, brought)

    def _bring_remote(self, where: str, path: str, brought: Brought) -> None:
        bucket, _, key = path.removeprefix(REMOTE_PREFIX).partition("/")
        key = key.removesuffix("/")
        if not is_key(f"{bucket}/{key}"):
            raise SpecError(f"{where}: {path!r} is no address", hint="write s3://bucket/key")
        try:
            store = self._open_store(f"{REMOTE_PREFIX}{bucket}")
            found = self._fetch(where, store, key, brought.folder / "s3" / bucket / key, brought)
        except StoreRefused as error:  # the submitter's matter: the queue's own store is another one
            raise PermissionDenied(f"{where}: {path}: {error.message}", hint=error.hint) from error
        if not found:
            raise DataError(f"{where}: there is nothing at {path}", hint="neither an object nor objects below it")

    def _fetch(self, where: str, store: Store, key: str, link: Path, brought: Brought) -> bool:
        if where in brought.streamed and (shards := _shards(store, key)):
            each_bytes = self._stream_bytes // len(brought.streamed)
            brought._held.append(Lender(store, shards, link, limit_bytes=each_bytes, say=self._say))
            return True
        held = self._cache.fetch(store, key)
        if held is None:
            return False
        brought._held.append(held)
        brought.roots.append(held.path if held.path.is_dir() else held.path.parent)
        _link(held.path, link)
        return True


def _shards(store: Store, key: str) -> dict[str, Stat]:
    """The tar files right below `key`, by name."""
    found = {stat.key.removeprefix(f"{key}/"): stat for stat in store.list(f"{key}/")}
    return {name: stat for name, stat in found.items() if name.endswith(".tar") and "/" not in name}


def missing_inputs(store: Store, job: Job) -> list[str]:
    """For whoever submits: which inputs a worker will not find in the store, in sentences."""
    notes = []
    for where, path in inputs(job).items():
        if path.startswith((SHIPPED_PREFIX, REMOTE_PREFIX)):
            continue
        if Path(path).is_absolute():
            notes.append(f"{where}: {path!r} must lie below one of the worker's GANKILN_DATA_ROOTS")
        elif not is_key(path.removesuffix("/")):
            notes.append(f"{where}: {path!r} leads outside the store; the job will be refused")
        elif not _is_in(store, path.removesuffix("/")):
            notes.append(
                f"{where}: {path!r} is not in {store.url}; put it there, or have it below a worker's data root"
            )
    return notes


def _is_in(store: Store, key: str) -> bool:
    return store.stat(key) is not None or next(store.list(f"{key}/", limit=1), None) is not None


def _link(target: Path, link: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target.absolute())
