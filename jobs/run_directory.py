"""Whom a run directory belongs to: one process at a time, and one job, whose spec it keeps."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from jobs.errors import Interrupted, SpecError
from jobs.report import Report
from jobs.spec import Job, load_file
from jobs.spec.resolve import micro_batches

SPEC = "spec.yaml"

_FREE_TO_CHANGE = (
    "images", "sample_images", "checkpoint_images", "checkpoints_kept", "progress_seconds", "grid", "devices",
)  # fmt: skip
"""Keys of `training:` that do not change what a step computes, so that a run may go on with other values; so may
`micro_batch` among those that give the same gradients."""


def finished(job: Job, out: Path) -> Path | None:
    """The report, where this very run has ended already."""
    try:
        report = Report.load(out / "report.json")
    except (OSError, ValueError):
        return None
    done = report.outcome == "finished" and report.images >= job.training.images
    return out / "report.html" if done and _same_run(job, out) else None


def keep_spec(job: Job, out: Path) -> None:
    """Writes the resolved spec. Raises SpecError where the directory holds another run."""
    if (out / SPEC).exists() and not _same_run(job, out):
        raise SpecError(
            f"{out} holds a run of another spec ({', '.join(_differences(job, out))})",
            hint="give another --out; a run goes on only with the spec and the seed that it began with",
        )
    text = yaml.safe_dump(job.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    aside = out / f".{SPEC}"
    aside.write_text(text, encoding="utf-8")
    aside.rename(out / SPEC)


def _same_run(job: Job, out: Path) -> bool:
    return (out / SPEC).exists() and not _differences(job, out)


def _differences(job: Job, out: Path) -> list[str]:
    """Which keys, of those that change what a step computes, differ from the spec in `out`."""
    try:
        earlier = load_file(out / SPEC).job
    except SpecError:
        return ["its spec.yaml cannot be read"]
    if _as_good(job, earlier) or _as_good(earlier, job):
        training = earlier.training.model_copy(update={"micro_batch": job.training.micro_batch})
        earlier = earlier.model_copy(update={"training": training})
    return sorted(_changed(_fixed(job), _fixed(earlier)))


def _as_good(job: Job, other: Job) -> bool:
    """Whether the micro-batch of `other` gives the gradients of the one of `job`."""
    alone = job.training.model_copy(update={"devices": 1})
    return other.training.micro_batch in micro_batches(job.model_copy(update={"training": alone}))


def _fixed(job: Job) -> dict[str, Any]:
    kept = {"seed", "recipe", "training"}
    fixed = job.model_dump(mode="json", include=kept)
    for key in _FREE_TO_CHANGE:
        fixed["training"].pop(key)
    return fixed


def _changed(one: Any, other: Any, path: str = "") -> Iterator[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() | other.keys():
            yield from _changed(one.get(key), other.get(key), f"{path}.{key}".lstrip("."))
    elif one != other:
        yield f"{path}: {other!r} then, {one!r} now"


@contextlib.contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Two processes in one run directory would write over each other; the second is told to wait."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Interrupted(
                f"another process is running in {out}", hint="wait for it, or give another --out"
            ) from None
        yield
