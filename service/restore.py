"""A run directory from a published checkpoint: what an attempt on another machine starts from, every file verified."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from jobs.errors import DataError
from service.cache import sha256_of
from service.queue import Checkpoint
from service.store import BadKey, KeyNotFound, Store, Unavailable
from service.uploads import CHECKPOINTS, MANIFEST, ResumeFile, ResumeManifest, Stored


def restore(
    store: Store, job_id: str, base: Checkpoint | None, run_dir: Path, *, epoch: int
) -> tuple[int, dict[str, Stored]]:
    """Fills `run_dir` from `base`: the images it stands at, and what of it is in the store.

    A base that is gone or damaged is replaced by the newest one that is whole, and by a new start where there is none.
    Raises Unavailable when the store does not answer: then nothing is known about any base.
    """
    if base is None:
        return 0, {}
    job = f"jobs/{job_id}/"
    for manifest_key, sha256 in _candidates(store, job, base, epoch):
        try:
            manifest = _manifest(store, manifest_key, sha256)
            return manifest.images, dict(_download(store, job, manifest, run_dir))
        except Unavailable:
            raise
        except (KeyNotFound, DataError, BadKey):
            continue
    return 0, {}


def _candidates(store: Store, job: str, base: Checkpoint, epoch: int) -> Iterator[tuple[str, str | None]]:
    """Keys of manifests and their sha256 where it is known: the frozen base, then those of all earlier attempts."""
    yield f"{job}{base.prefix}/{MANIFEST}", base.manifest_sha256
    found: list[tuple[str, str]] = []
    for stat in store.list(f"{job}attempts/"):
        match stat.key.removeprefix(job).split("/"):
            case ["attempts", attempt, "resume", images, name] if name == MANIFEST and attempt < f"{epoch:08d}":
                found.append((images, stat.key))
    for _, key in sorted(found, reverse=True):
        yield key, None


def _manifest(store: Store, key: str, sha256: str | None) -> ResumeManifest:
    data = store.get(key)
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise DataError(f"{key}: is not what was published")
    try:
        return ResumeManifest.model_validate_json(data)
    except ValidationError as error:
        raise DataError(f"{key}: is no manifest") from error


def _download(store: Store, job: str, manifest: ResumeManifest, run_dir: Path) -> Iterator[tuple[str, Stored]]:
    """The checkpoint must be whole; a lost sample grid or event log costs only what the report shows."""
    for file in manifest.files:
        path = run_dir / file.path
        try:
            yield file.path, _fetch(store, job, file, path)
        except (KeyNotFound, DataError):
            path.unlink(missing_ok=True)
            if file.path.startswith(f"{CHECKPOINTS}/"):
                raise


def _fetch(store: Store, job: str, file: ResumeFile, path: Path) -> Stored:
    path.parent.mkdir(parents=True, exist_ok=True)
    store.download(job + file.key, path)
    if sha256_of(path) != file.sha256:
        raise DataError(f"{file.key}: its content is not what was published")
    return Stored(file.key, file.size_bytes, file.sha256, path.stat().st_mtime_ns)
