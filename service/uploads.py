"""What a run leaves, brought into the store beside the run, in a thread of its own. Never holds up training.

Everything goes below the attempt's own prefix, with the names of the run directory; nothing of it counts before the
queue's commit. A checkpoint is published by its manifest, written last:

    jobs/<id>/attempts/<epoch>/checkpoints/000012800/...   the files of the checkpoint
                               samples/000012800.png ...   as they appear
                               resume/000012800/...        what changes while the run goes on: events.jsonl, spec.yaml
                               resume/000012800/MANIFEST.json   path, key, size and sha256 of all that resuming needs
                               log/00000001.txt ...        the output, in pieces
                               events.jsonl, report.html ...    at the end

A store that does not answer is tried again until it does; meanwhile only the newest checkpoint waits in the spool.
"""

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from jobs.errors import GankilnError
from service.cache import sha256_of
from service.queue import Checkpoint, OutputFile
from service.queue.model import RelativePath, Sha256
from service.spool import Spool, Spooled
from service.store import Store, check_key, is_key
from service.telemetry.observer import Observer

Kind = Literal["checkpoint", "samples", "log", "result"]
CHECKPOINTS = "checkpoints"
MANIFEST = "MANIFEST.json"
LOG_PIECE_BYTES = 1 << 20
RETRY_SECONDS = 30.0
CLOSE_SECONDS = 1.0
KEPT = 2
"""Published checkpoints of this attempt that stay in the store; see `prune`."""


class ResumeFile(BaseModel):
    """One file that a resuming attempt needs, and where it is, relative to jobs/<id>/."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: RelativePath
    key: RelativePath
    size_bytes: int = Field(ge=0)
    sha256: Sha256

    @field_validator("path", "key")
    @classmethod
    def _stays_in_its_place(cls, path: str) -> str:
        return check_key(path)


class ResumeManifest(BaseModel):
    """resume/<images>/MANIFEST.json: a run directory from which the same command goes on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    images: int = Field(ge=0)
    files: tuple[ResumeFile, ...]


@dataclass(frozen=True)
class Stored:
    """A local file as it is in the store."""

    key: str
    """Relative to jobs/<id>/."""
    size_bytes: int
    sha256: str
    modified_ns: int

    def is_still(self, path: Path) -> bool:
        """Whether the local file is the one that was stored."""
        found = path.stat()
        return (found.st_size, found.st_mtime_ns) == (self.size_bytes, self.modified_ns)


class Uploads:
    """The uploads of one attempt. `checkpoint_saved` may be called from any thread and returns at once."""

    def __init__(
        self,
        store: Store,
        *,
        job_id: str,
        attempt_prefix: str,
        run_dir: Path,
        log_file: Path,
        spool: Spool,
        observer: Observer,
        interval_seconds: float,
    ) -> None:
        self._store = store
        self._job = f"jobs/{job_id}/"
        self._prefix = attempt_prefix.removeprefix(self._job)
        self._run_dir = run_dir
        self._log_file = log_file
        self._spool = spool
        self._observer = observer
        self._interval_seconds = interval_seconds
        self._stored: dict[str, Stored] = {}
        self._log_offset = 0
        self._log_pieces = 0
        self._publications: list[Checkpoint] = []
        self._told: Checkpoint | None = None
        self._others_pruned = False
        self._wake = threading.Event()
        self._changed = threading.Condition()
        self._requested = self._completed = 0
        """Requests of `flush`: how many were made, and the last one after which everything was uploaded."""
        self._over = threading.Event()
        self._busy = threading.Lock()
        """Held while something is being uploaded: by the thread, or by `finish`."""
        self._thread = threading.Thread(target=self._run, name="uploads", daemon=True)

    @property
    def published(self) -> Checkpoint | None:
        """The newest checkpoint of this attempt that is whole in the store."""
        return self._publications[-1] if self._publications else None

    @property
    def is_waiting(self) -> bool:
        """Whether a checkpoint is not in the store yet."""
        return self._spool.used_bytes > 0

    def start(self, restored: dict[str, Stored]) -> None:
        """Begin; `restored` is what the run directory holds from earlier attempts."""
        self._stored.update(restored)
        self._thread.start()

    def checkpoint_saved(self, images: int) -> None:
        """A complete checkpoint lies in the run directory."""
        folder = self._run_dir / CHECKPOINTS / f"{images:09d}"
        try:
            spooled = self._spool.take(folder)
        except OSError as error:  # deleted by the run meanwhile, or a full disk
            self._observer.checkpoint_skipped("spool", str(error))
            return
        if spooled is None:
            self._observer.checkpoint_skipped("spool", f"it does not fit into {self._spool.limit_bytes:,} bytes")
        self._observer.spool(self._spool.used_bytes, self._spool.limit_bytes)
        self._wake.set()

    def flush(self, deadline_seconds: float) -> None:
        """Wait until everything that is there now is uploaded, at most until `deadline_seconds` (time.monotonic())."""
        if not self._thread.is_alive():
            return
        with self._changed:
            self._requested += 1
            request = self._requested
            self._wake.set()
            self._changed.wait_for(lambda: self._completed >= request, max(0.0, deadline_seconds - time.monotonic()))

    def finish(self) -> tuple[OutputFile, ...]:
        """Upload the whole run directory, as it is to be published. Raises StoreError; then call it again."""
        with self._busy:
            self._upload_log()
            files = [self._upload_output(path) for path in sorted(self._files())]
            self._spool.clear()
            return tuple(files)

    def close(self) -> None:
        """Stop uploading; what is under way is given up with its next file."""
        self._over.set()
        self._wake.set()
        if self._thread.ident is not None:  # it was started
            self._thread.join(CLOSE_SECONDS)
        self._spool.clear()
        self._observer.spool(0, self._spool.limit_bytes)

    def told(self, checkpoint: Checkpoint | None) -> None:
        """A heartbeat has told of `checkpoint`: those before it may go."""
        self._told = checkpoint

    def _prune(self) -> None:
        """Delete checkpoints that nobody will start from.

        A take-over starts from what a heartbeat told. One that was read just before the last heartbeat told an older
        checkpoint; so the newest two stay, and a successor whose base is gone all the same takes the next best.
        """
        if self._told is None or self._told != self.published:
            return
        if not self._others_pruned:
            self._prune_earlier_attempts()
            self._others_pruned = True
        while len(self._publications) > KEPT:
            self._delete(self._publications[0].images)
            del self._publications[0]

    def _prune_earlier_attempts(self) -> None:
        """This attempt has a checkpoint of its own: those before it are history. Their sample grids are still used."""
        for stat in list(self._store.list(f"{self._job}attempts/")):
            epoch, folder = stat.key.removeprefix(self._job).split("/")[1:3]
            if f"attempts/{epoch}" < self._prefix and folder in ("resume", CHECKPOINTS):
                self._store.delete(stat.key)

    def _delete(self, images: int) -> None:
        for folder in ("resume", CHECKPOINTS):
            for stat in list(self._store.list(f"{self._job}{self._prefix}/{folder}/{images:09d}/")):
                self._store.delete(stat.key)
        for path in [path for path in self._stored if path.startswith(f"{CHECKPOINTS}/{images:09d}/")]:
            del self._stored[path]

    def _run(self) -> None:
        pause = 0.5
        while not self._over.is_set():
            self._wake.clear()
            request = self._requested
            if self._pass():
                pause = 0.5
                with self._changed:
                    self._completed = request
                    self._changed.notify_all()
                self._wake.wait(self._interval_seconds)
            else:
                somebody_waits = self._requested > self._completed
                self._over.wait(min(pause, 1.0) if somebody_waits else pause)
                pause = min(2 * pause, RETRY_SECONDS)

    def _pass(self) -> bool:
        """Upload what there is. False when something is left to be tried again."""
        kind: Kind = "checkpoint"
        try:
            with self._busy:
                while spooled := self._spool.next():
                    self._publish(spooled)
                kind = "samples"
                self._upload_samples()
                kind = "log"
                self._upload_log()
                self._prune()
        except (GankilnError, OSError) as error:
            self._observer.upload_failed(kind, type(error).__name__)
            return False
        finally:
            self._observer.spool(self._spool.used_bytes, self._spool.limit_bytes)
        return True

    def _publish(self, spooled: Spooled) -> None:
        """All that resuming needs, its manifest last."""
        started = time.monotonic()
        folder = f"{CHECKPOINTS}/{spooled.images:09d}"
        files = []
        for file in sorted(spooled.folder.iterdir()):
            path = f"{folder}/{file.name}"
            files.append(_resume_file(path, self._upload("checkpoint", path, file, path)))
        for path in sorted(self._files()):
            if not path.startswith(f"{CHECKPOINTS}/"):
                with suppress(FileNotFoundError):
                    files.append(_resume_file(path, self._upload_beside(path, spooled.images)))
        manifest = ResumeManifest(images=spooled.images, files=tuple(files)).model_dump_json(indent=1).encode()
        prefix = f"{self._prefix}/resume/{spooled.images:09d}"
        self._store.put(f"{self._job}{prefix}/{MANIFEST}", manifest)
        self._publications.append(
            Checkpoint(prefix=prefix, images=spooled.images, manifest_sha256=hashlib.sha256(manifest).hexdigest())
        )
        self._spool.done(spooled)
        self._observer.checkpoint_stored(time.monotonic() - started)

    def _upload_beside(self, path: str, images: int) -> Stored:
        """A file that is no checkpoint: sample grids under their name; the rest changes, so each time anew."""
        name = path if path.startswith("samples/") else f"resume/{images:09d}/{path}"
        return self._upload(
            "samples" if path.startswith("samples/") else "checkpoint", path, self._run_dir / path, name
        )

    def _upload_samples(self) -> None:
        for path in sorted(self._files()):
            if path.startswith("samples/"):
                with suppress(FileNotFoundError):
                    self._upload("samples", path, self._run_dir / path, path)

    def _upload_output(self, path: str) -> OutputFile:
        stored = self._upload("result", path, self._run_dir / path, path, own=True)
        return OutputFile(path=path, size_bytes=stored.size_bytes, sha256=stored.sha256)

    def _upload_log(self) -> None:
        """What the job printed since the last piece."""
        while piece := self._read_log():
            key = f"{self._job}{self._prefix}/log/{self._log_pieces + 1:08d}.txt"
            self._store.put(key, piece)
            self._log_pieces += 1
            self._log_offset += len(piece)
            self._observer.uploaded("log", len(piece))

    def _read_log(self) -> bytes:
        try:
            with self._log_file.open("rb") as file:
                file.seek(self._log_offset)
                return file.read(LOG_PIECE_BYTES)
        except FileNotFoundError:
            return b""

    def _upload(self, kind: Kind, path: str, file: Path, name: str, *, own: bool = False) -> Stored:
        """Store one file as `name` below the attempt's prefix, unless it is there as it is.

        `path` is its name in the run directory. A file from an earlier attempt may stay where that attempt put it,
        except in a result (`own`): what is committed lies below the attempt that commits.
        """
        key = f"{self._prefix}/{name}"
        known = self._stored.get(path)
        if known and known.is_still(file) and (known.key == key or not own):
            return known
        if self._over.is_set():
            raise GankilnError("the attempt is over")
        found = file.stat()
        # Events are appended while they are read: store exactly the bytes that were hashed.
        if (kind == "checkpoint" and file.is_relative_to(self._run_dir)) or found.st_size <= LOG_PIECE_BYTES:
            data = file.read_bytes()
            digest, size_bytes = hashlib.sha256(data).hexdigest(), len(data)
            self._store.put(self._job + key, data)
        else:
            digest, size_bytes = sha256_of(file), found.st_size
            self._store.upload(self._job + key, file)
        stored = Stored(key, size_bytes, digest, found.st_mtime_ns)
        self._stored[path] = stored
        self._observer.uploaded(kind, size_bytes)
        return stored

    def _files(self) -> Iterator[str]:
        """Finished files of the run directory, relative; links, and names that mean work in progress, are left out."""
        for file in self._run_dir.rglob("*"):
            path = file.relative_to(self._run_dir).as_posix()
            unfinished = any(part.startswith(".") or part.endswith((".tmp", ".part")) for part in path.split("/"))
            if not unfinished and is_key(path) and file.is_file() and not file.is_symlink():
                yield path


def _resume_file(path: str, stored: Stored) -> ResumeFile:
    return ResumeFile(path=path, key=stored.key, size_bytes=stored.size_bytes, sha256=stored.sha256)
