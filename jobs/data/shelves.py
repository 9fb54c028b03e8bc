"""Where shards stand: on a disk, or with a worker that lends them one by one (jobs/data/lent.py)."""

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Protocol

from jobs.data.lent import MANIFEST, Lent
from jobs.data.roots import Roots
from jobs.data.source import printable
from jobs.errors import DataError


class Shelf(Protocol):
    """A set of shards."""

    is_far: bool
    """Whether bytes come over a network: then nothing is brought twice that is needed twice."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the shards, in order."""
        ...

    def stamp(self, name: str) -> tuple[str, int, int | str]:
        """What tells a changed shard: to read all of a large set for a digest would take longer than many a run."""
        ...

    def open(self, name: str) -> BinaryIO:
        """To be closed by the caller. Raises DataError, OSError."""
        ...

    def expect(self, now: Iterable[str], soon: Iterable[str]) -> None:
        """What is read next, and what after it."""
        ...


class Folder:
    """Shards on a disk."""

    is_far = False

    def __init__(self, path: Path, names: Iterable[str]) -> None:
        self.path, self.names = path, tuple(names)

    def stamp(self, name: str) -> tuple[str, int, int | str]:
        stat = (self.path / name).stat()
        return name, stat.st_size, stat.st_mtime_ns

    def open(self, name: str) -> BinaryIO:
        return (self.path / name).open("rb", buffering=0)

    def expect(self, now: Iterable[str], soon: Iterable[str]) -> None:
        """The system reads ahead by itself."""


class LentShelf:
    """Shards that a worker brings."""

    is_far = True

    def __init__(self, lent: Lent) -> None:
        self.lent = lent
        self.names = tuple(lent.files)
        self.open, self.expect = lent.open, lent.expect

    def stamp(self, name: str) -> tuple[str, int, int | str]:
        return name, *self.lent.files[name]


def open_shelf(path: str, where: str, roots: Roots) -> tuple[Shelf, str]:
    """Where the shards of `path` stand, and what tells them from others of the same names. Raises DataError."""
    folder = roots.locate(path, where)
    shelf: Shelf
    if (folder / MANIFEST).is_file():
        shelf, key = LentShelf(Lent(folder, where)), ""
    else:
        found = sorted(folder.glob("*.tar")) if folder.is_dir() else []
        for file in found:
            roots.check(file.resolve(), f"{where}: {printable(file.name)!r} in {path!r} is a link that")
        shelf, key = Folder(folder, (file.name for file in found)), str(folder)
    if not shelf.names:
        raise DataError(f"{where}: {path!r} is no directory with *.tar files", hint="tar -cf 00000.tar images...")
    return shelf, key
