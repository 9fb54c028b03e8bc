"""Images in a zip, as StyleGAN's dataset tool writes it. The archive comes from a stranger.

Nothing is unpacked to disk. An archive is refused as a whole, by the name of the entry, where a name leads out of it
(absolute, `..`, a drive, a link) or where it is a bomb: entries that share bytes, that unpack to more than 256 MiB or
200 times their size, or to more than 100 times the archive together.
"""

import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from jobs.data.content import NamedFile
from jobs.data.decode import SUFFIXES, DecodeError
from jobs.data.labels import FILE_NAME, Labels, read_labels
from jobs.data.roots import Roots
from jobs.data.source import CHOSEN_AFTERWARDS, MAX_FILE_BYTES, Block, Items, Source, decode_block, printable, spread
from jobs.errors import DataError
from jobs.spec.data import ImageZip

MAX_ENTRIES = 5_000_000
MAX_RATIO = 200
MAX_TOTAL_RATIO = 100
_SMALL_BYTES = 1 << 20
"""Below this much unpacked, a ratio says nothing: a flat image packs a thousandfold."""

_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_BAD = (zipfile.BadZipFile, OSError, EOFError, ValueError, IndexError, OverflowError, RuntimeError, struct.error)
"""What zipfile raises over damaged archives; RuntimeError: an encrypted entry, NotImplementedError: a strange one."""


def zip_source(section: ImageZip, roots: Roots) -> Source:
    """The archive of `section`; does not open it."""
    path = roots.locate(section.path, "data.path")
    if not path.is_file():
        raise DataError(f"data.path: {section.path!r} is not a file", hint="a directory is read with kind: folder")
    settings = section.model_dump(exclude={"path", "mirror", *CHOSEN_AFTERWARDS})
    return Source(path.stem, settings, lambda: _open(section, path), [("zip", path)])


@contextmanager
def named_images(
    path: str, field: str, roots: Roots
) -> Iterator[tuple[list[NamedFile], dict[str, Callable[[], bytes]]]]:
    """The images of a zip by name, in order, each with how to read it; and the file that it is."""
    file = roots.locate(path, field)
    with _archive(file, f"{field}: {path!r}") as (archive, entries):
        images = sorted((entry.filename, entry) for entry in entries if _is_image(entry))
        yield [("zip", file)], {name: partial(_read, archive, entry) for name, entry in images}


@contextmanager
def _open(section: ImageZip, path: Path) -> Iterator[Items]:
    what = f"data.path: {section.path!r}"
    with _archive(path, what) as (archive, entries):
        yield _items(section, archive, entries, what)


@contextmanager
def _archive(path: Path, what: str) -> Iterator[tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]]:
    """An opened archive and its entries, checked."""
    # A file object of our own: a ZipFile that owns its file counts its readers, and threads would race in that count.
    with _opened(path, what) as file:
        try:
            archive = zipfile.ZipFile(file)
        except _BAD as error:
            raise DataError(f"{what} is not a zip, or is cut short: {error}") from None
        with archive:
            entries = archive.infolist()
            check_entries(entries, path.stat().st_size, what)
            yield archive, entries


def _opened(path: Path, what: str) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{what} cannot be read: {error.strerror}") from None


def _items(section: ImageZip, archive: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo], what: str) -> Items:
    images = sorted((entry.filename, entry) for entry in entries if _is_image(entry))
    if not images:
        raise DataError(f"{what} holds no images", hint=f"images end in {', '.join(sorted(SUFFIXES))}")
    chosen = dict(images[index] for index in spread(len(images), section.max_images))
    names = list(chosen)
    labels_N, classes = _labels(archive, entries, names) if section.labels else (None, ())

    def read(name: str) -> bytes:
        return _read(archive, chosen[name])

    def decode(start: int, stop: int) -> Block:
        return decode_block(names[start:stop], read, section.resolution, section.channels, section.fit)

    return Items(len(names), decode, labels_N, class_names=classes)


def check_entries(entries: Sequence[zipfile.ZipInfo], archive_bytes: int, what: str) -> None:
    """DataError, naming the entry, where `entries` try to leave the archive or to fill the disk."""
    if len(entries) > MAX_ENTRIES:
        raise DataError(f"{what} has {len(entries)} entries, more than {MAX_ENTRIES}")
    seen: set[str] = set()
    for entry in entries:
        reason = _escape(entry) or _bomb(entry) or ("stands there twice" if entry.filename in seen else None)
        if reason:
            raise DataError(f"{what} is refused: its entry {printable(entry.orig_filename)!r} {reason}")
        seen.add(entry.filename)
    if sum(entry.compress_size for entry in entries) > archive_bytes:
        raise DataError(f"{what} is refused: its entries overlap, as those of a decompression bomb do")
    total = sum(entry.file_size for entry in entries)
    if total > max(_SMALL_BYTES, MAX_TOTAL_RATIO * archive_bytes):
        raise DataError(f"{what} is refused: {archive_bytes} bytes would unpack to {total}, as a bomb does")


def _escape(entry: zipfile.ZipInfo) -> str | None:
    name = entry.orig_filename.replace("\\", "/")
    if "\0" in name:
        return "has a name with a zero byte"
    if name.startswith("/") or PureWindowsPath(name).drive:
        return "has an absolute name"
    if ".." in PurePosixPath(name).parts:
        return "has a name that leads out of the archive"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "is a symbolic link"
    return None


def _bomb(entry: zipfile.ZipInfo) -> str | None:
    if entry.file_size > MAX_FILE_BYTES:
        return f"unpacks to {entry.file_size} bytes, more than {MAX_FILE_BYTES >> 20} MiB"
    if entry.file_size > max(_SMALL_BYTES, MAX_RATIO * entry.compress_size):
        return f"unpacks {entry.compress_size} bytes to {entry.file_size}, as a decompression bomb does"
    if entry.compress_type not in _METHODS:
        return "is packed by another method than store or deflate"
    return None


def _is_image(entry: zipfile.ZipInfo) -> bool:
    path = PurePosixPath(entry.filename)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return not (hidden or entry.is_dir()) and path.suffix.lower() in SUFFIXES


def _labels(archive: zipfile.ZipFile, entries: Sequence[zipfile.ZipInfo], names: Sequence[str]) -> Labels:
    """From the outermost dataset.json: whoever zips a folder puts everything one level down."""
    tables = [entry for entry in entries if PurePosixPath(entry.filename).name == FILE_NAME and not entry.is_dir()]
    table = min(tables, key=lambda entry: (entry.filename.count("/"), entry.filename), default=None)
    if table is None:
        return read_labels(None, names)
    prefix = table.filename.removesuffix(FILE_NAME)
    try:
        data = _read(archive, table)
    except DecodeError as error:
        raise DataError(f"data.labels: {printable(table.filename)} in the zip cannot be read: {error}") from None
    return read_labels(data, [name.removeprefix(prefix) for name in names])


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """The bytes of one entry, no more than its header promised (which `check_entries` has bounded)."""
    try:
        return archive.read(entry)
    except (*_BAD, zlib.error) as error:
        raise DecodeError(f"the zip entry is damaged: {error}") from None
