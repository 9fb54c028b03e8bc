"""A store in a directory: one file an object, on a local disk or on NFS.

Create-if-absent is link(2): a temporary file is written, synced and linked to its name; of all linkers one wins. An
overwrite is rename(2). Names are opened one directory at a time and never through a symbolic link, so that nobody who
can write into the store can make a worker read or write elsewhere. Not for SMB, FAT, gcsfuse or s3fs: they have no
hard links, and the self-test refuses them.
"""

import errno
import os
import shutil
import stat as stat_modes
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from heapq import nsmallest
from itertools import islice
from pathlib import Path
from typing import IO

from jobs.errors import StoreError
from service.store.base import (
    TEMPORARY,
    FullStore,
    KeyNotFound,
    RequestObserver,
    Stat,
    StoreRefused,
    Unavailable,
    UnsafeStore,
    check_key,
    check_prefix,
    ignore_request,
    is_key,
    replacing,
    temporary_name,
)

COPY_BYTES = 1 << 20
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTSUP)
FOLDER_TRIES = 100  # another process may remove an emptied folder while we write into it


class DirectoryStore:
    """A directory as a store. `durable=False` leaves out fsync, for tests and demonstrations."""

    def __init__(self, root: Path, *, durable: bool = True) -> None:
        self.root = root.absolute()
        self.url = str(self.root)
        self.observer: RequestObserver = ignore_request
        self.settle_seconds = 2.0  # a person's `cp` is not atomic
        self._durable = durable
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            # Held open: a mount that goes away must give errors, not the empty directory beneath it.
            self._root = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise StoreRefused(
                f"{self.root}: cannot be made or is not a directory ({error.strerror})",
                hint="give a directory this user may write to, or an s3:// address",
            ) from error

    def get(self, key: str) -> bytes:
        return self.read(key)[0]

    def read(self, key: str) -> tuple[bytes, Stat]:
        with self._request("get", key), self._open(key) as file:
            data = file.read()
            return data, _stat_of(key, os.fstat(file.fileno()))

    def put(self, key: str, data: bytes) -> None:
        with self._request("put", key), self._staged(key, self._file_of(data)) as staged:
            _replace(*staged)

    def create(self, key: str, data: bytes) -> bool:
        code = "ok"
        with self._request("create", key, lambda: code), self._staged(key, self._file_of(data)) as staged:
            folder, name, temporary = staged
            try:
                os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            except FileExistsError:
                # NFS may repeat a link whose reply was lost and then say "exists": two names mean that it worked.
                if os.stat(temporary, dir_fd=folder, follow_symlinks=False).st_nlink != 2:
                    code = "exists"
            except OSError as error:
                if error.errno in _NO_HARD_LINKS:
                    raise UnsafeStore(
                        f"{self.root}: this file system has no hard links, on which the queue rests ({error.strerror})",
                        hint="use a local file system or NFS, not SMB, FAT, gcsfuse or s3fs; for a bucket s3://",
                    ) from error
                raise
        return code == "ok"

    def delete(self, key: str) -> None:
        with self._request("delete", key):
            try:
                with self._parent(key) as (folder, name):
                    os.unlink(name, dir_fd=folder)
            except FileNotFoundError:
                return
            self._remove_empty_folders(key)

    def stat(self, key: str) -> Stat | None:
        code = "ok"
        with self._request("stat", key, lambda: code):
            try:
                with self._parent(key) as (folder, name):
                    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                found = None
            if found is not None and stat_modes.S_ISREG(found.st_mode):
                return _stat_of(key, found)
            code = "absent"
        return None

    def list(self, prefix: str, *, limit: int | None = None, start_after: str = "") -> Iterator[Stat]:
        check_prefix(prefix)
        parent, _, beginning = prefix.rpartition("/")
        with self._request("list", prefix):
            folders = parent.split("/") if parent else []
            names = self._names_below(folders, beginning, start_after, limit)
            found = list(islice(names, limit))
        return (stat for key in found if (stat := self._stat_quietly(key)))

    def copy(self, source: str, target: str) -> None:
        """A hard link: objects are replaced, never changed in place, so two names may share their bytes."""
        check_key(target)
        with self._request("copy", source), self._parent(source) as (from_folder, from_name):
            if not _is_file(from_name, from_folder):
                raise KeyNotFound(source)

            def link(folder: int, temporary: str) -> None:
                try:
                    os.link(from_name, temporary, src_dir_fd=from_folder, dst_dir_fd=folder, follow_symlinks=False)
                except PermissionError:  # a file of another user: Linux forbids to link it (fs.protected_hardlinks)
                    with self._open(source) as file:
                        self._file_written_by(lambda target: shutil.copyfileobj(file, target, COPY_BYTES))(
                            folder, temporary
                        )
                if not _is_file(temporary, folder):
                    os.unlink(temporary, dir_fd=folder)
                    raise KeyNotFound(source)

            with self._staged(target, link) as staged:
                _replace(*staged)

    def upload(self, key: str, path: Path) -> None:
        with self._request("upload", key), path.open("rb") as source:
            write = self._file_written_by(lambda file: shutil.copyfileobj(source, file, COPY_BYTES))
            with self._staged(key, write) as staged:
                _replace(*staged)

    def download(self, key: str, path: Path) -> None:
        with self._request("download", key), self._open(key) as source, replacing(path) as file:
            shutil.copyfileobj(source, file, COPY_BYTES)

    def make_folder(self, prefix: str) -> None:
        check_prefix(prefix)
        with self._request("make_folder", prefix), self._folder(prefix.strip("/").split("/"), make=True):
            pass

    def server_time_seconds(self) -> float:
        return time.time()

    def clock_skew_seconds(self) -> float:
        return 0.0

    # Files and folders, always relative to an open directory.

    @contextmanager
    def _request(self, operation: str, key: str, code: Callable[[], str] = lambda: "ok") -> Iterator[None]:
        """Check the key, time the request, tell the observer, and translate what the system says."""
        started = time.monotonic()
        outcome = "error"
        try:
            if operation not in ("list", "make_folder"):
                check_key(key)
            yield
            outcome = code()
        except KeyNotFound:
            outcome = "absent"
            raise
        except FileNotFoundError as error:
            outcome = "absent"
            raise KeyNotFound(key) from error
        except OSError as error:
            raise _translated(error, operation, key) from error
        finally:
            self.observer(operation, outcome, time.monotonic() - started)

    @contextmanager
    def _folder(self, segments: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """An open directory, reached from the root without following a symbolic link."""
        opened = os.dup(self._root)
        try:
            if os.fstat(opened).st_nlink == 0:
                raise Unavailable(f"{self.root}: the directory of the store was removed")
            for segment in segments:
                inner = self._open_or_make(segment, opened) if make else _open_folder(segment, opened)
                os.close(opened)
                opened = inner
            yield opened
        finally:
            os.close(opened)

    def _open_or_make(self, name: str, folder: int) -> int:
        """An inner folder, made when it is missing. Raises FileNotFoundError when somebody removes it at once."""
        try:
            return _open_folder(name, folder)
        except FileNotFoundError:
            with suppress(FileExistsError):
                os.mkdir(name, 0o775, dir_fd=folder)
            if self._durable:
                os.fsync(folder)
            return _open_folder(name, folder)

    @contextmanager
    def _parent(self, key: str, *, make: bool = False) -> Iterator[tuple[int, str]]:
        """The open folder of a key, and its name in it."""
        *segments, name = check_key(key).split("/")
        with self._folder(segments, make=make) as folder:
            yield folder, name

    @contextmanager
    def _open(self, key: str) -> Iterator[IO[bytes]]:
        with self._parent(key) as (folder, name):
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            with os.fdopen(descriptor, "rb") as file:
                if not stat_modes.S_ISREG(os.fstat(descriptor).st_mode):
                    raise KeyNotFound(key)
                yield file

    @contextmanager
    def _staged(self, key: str, make: Callable[[int, str], None]) -> Iterator[tuple[int, str, str]]:
        """A complete temporary file beside a key: (open folder, name of the key, name of the temporary file).

        Another process may remove an emptied folder between our making it and our first file in it, so that step is
        repeated; once the temporary file is there the folder cannot go.
        """
        with ExitStack() as stack:
            for _ in range(FOLDER_TRIES):
                try:
                    folder, name = stack.enter_context(self._parent(key, make=True))
                    temporary = temporary_name()
                    make(folder, temporary)
                    break
                except FileNotFoundError:
                    stack.close()
            else:
                raise Unavailable(f"{key}: its folder went away each time it was made")
            try:
                yield folder, name, temporary
            finally:
                _unlink_if_there(temporary, folder)
            if self._durable:
                os.fsync(folder)

    def _file_of(self, data: bytes) -> Callable[[int, str], None]:
        return self._file_written_by(lambda file: file.write(data))

    def _file_written_by(self, write: Callable[[IO[bytes]], object]) -> Callable[[int, str], None]:
        """Makes a new, synced file in an open folder."""

        def make(folder: int, name: str) -> None:
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o664, dir_fd=folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    write(file)
                    file.flush()
                    if self._durable and file.tell() > 0:  # an empty file has nothing to lose but its name
                        os.fsync(descriptor)
            except BaseException:
                _unlink_if_there(name, folder)
                raise

        return make

    def _names_below(
        self, folders: Sequence[str], beginning: str, start_after: str, limit: int | None
    ) -> Iterator[str]:
        """Keys below a folder in byte order: a folder sorts as its name with a slash, as its keys do."""
        try:
            with self._folder(folders) as folder, os.scandir(folder) as entries:
                found = [
                    entry.name + "/" * entry.is_dir(follow_symlinks=False)
                    for entry in entries
                    if entry.name.startswith(beginning)
                    and not entry.name.startswith(TEMPORARY)
                    and not entry.is_symlink()
                ]
        except (FileNotFoundError, NotADirectoryError):
            return
        path = "".join(f"{segment}/" for segment in folders)
        found = [name for name in found if path + name > start_after or start_after.startswith(path + name)]
        for name in _in_order(found, limit):
            if name.endswith("/"):
                yield from self._names_below([*folders, name[:-1]], "", start_after, limit)
            elif path + name > start_after and is_key(path + name):
                yield path + name

    def _stat_quietly(self, key: str) -> Stat | None:
        """Stat of a listed key, None when it went away since."""
        try:
            with self._parent(key) as (folder, name):
                return _stat_of(key, os.stat(name, dir_fd=folder, follow_symlinks=False))
        except OSError:
            return None

    def _remove_empty_folders(self, key: str) -> None:
        """A bucket has no empty folders; the outermost ones stay, because people drop files into them."""
        segments = key.split("/")[:-1]
        while len(segments) > 1:
            *outer, name = segments
            try:
                with self._folder(outer) as folder:
                    os.rmdir(name, dir_fd=folder)
            except OSError:
                return  # not empty, or gone already
            segments = outer


def _in_order(names: Sequence[str], limit: int | None) -> Iterator[str]:
    """Sorted names; a poll of a queue with many waiting jobs asks for few and needs no full sort.

    With a limit the first `limit` are yielded before the rest is sorted: a folder may hold no key at all.
    """
    if limit is None or limit >= len(names):
        yield from sorted(names, key=os.fsencode)
        return
    yield from nsmallest(limit, names, key=os.fsencode)
    yield from sorted(names, key=os.fsencode)[limit:]


def _open_folder(name: str, folder: int) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)


def _is_file(name: str, folder: int) -> bool:
    return stat_modes.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _replace(folder: int, name: str, temporary: str) -> None:
    os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def _unlink_if_there(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return


def _stat_of(key: str, found: os.stat_result) -> Stat:
    # An etag from inode, size and time changes with every rename over the name; content is hashed by whoever
    # needs identity (ingest), because one file may be rewritten in place by its owner within a clock tick.
    return Stat(key, found.st_size, found.st_mtime, f"{found.st_ino:x}-{found.st_size:x}-{found.st_mtime_ns:x}")


def _translated(error: OSError, operation: str, key: str) -> StoreError | StoreRefused:
    """The system's error as ours: full, forbidden, not a store for this key, or a disk that may come back."""
    sentence = f"{key}: {operation} failed: {error.strerror}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return FullStore(sentence, hint="make room, or give the store another directory")
        case errno.EROFS:
            return StoreRefused(sentence, hint="put the store on a writable file system: docker run -v DIRECTORY:/work")
        case errno.EACCES | errno.EPERM:
            return StoreRefused(
                sentence, hint=f"this process runs as user {os.geteuid()}, who needs to read and write in the store"
            )
        case errno.ENOTDIR | errno.EISDIR | errno.ELOOP | errno.ENOTEMPTY | errno.EEXIST:
            return StoreError(sentence, hint="a file and a folder, or a symbolic link, share this name; remove one")
        case _:
            return Unavailable(sentence)
