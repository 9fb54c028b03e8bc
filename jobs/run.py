"""One job from spec to report: read this first.

    spec -> data -> recipe -> training loop -> checkpoints, samples -> metrics -> report

The same call in the same directory goes on where the last one stopped, and ends with the same weights as if it had
never stopped.
"""

import contextlib
import fcntl
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from jobs import recipes
from jobs.data import ImageDataset, Roots, batches, open_dataset
from jobs.errors import Diverged, DoesNotFit, GankilnError, Interrupted, SpecError
from jobs.evaluation.weights import missing_weights
from jobs.events import EventLog
from jobs.judge import EVENTS, Bench, Judge
from jobs.report import Report
from jobs.report.model import Outcome
from jobs.rollback import Rollbacks
from jobs.spec import Job, Loaded, load_file, warnings
from jobs.training import state
from jobs.training.device import choose_device, choose_precision, set_determinism
from jobs.training.loop import Hooks, Plan, train
from jobs.training.recipe import Recipe
from jobs.training.state import Progress
from jobs.watch import Watch

CHECKPOINTS, SPEC = "checkpoints", "spec.yaml"
Build = Callable[[Job, list[int], str, torch.device], Recipe]

_FREE_TO_CHANGE = ("images", "sample_images", "checkpoint_images", "checkpoints_kept", "progress_seconds", "grid")
"""Keys of `training:` that do not change what a step computes, so that a run may go on with other values."""


@dataclass(frozen=True)
class Surroundings:
    """What a run is given by whoever starts it."""

    out: Path
    """The run directory."""
    cache_dir: Path
    """Decoded data and features, shared by runs."""
    roots: Roots
    """Where data may be read from."""
    should_stop: Callable[[], bool] = lambda: False
    watch: Callable[[dict[str, Any]], None] | None = None
    """Sees every event; its failures never reach the run."""
    weights_dir: Path | None = None
    """Evaluation weights that no package carries."""
    progress_seconds: float | None = None
    """Time between two progress events, where not the spec's: a person at a terminal wants them sooner."""


def run(loaded: Loaded, around: Surroundings, build: Build = recipes.build) -> Path:
    """Trains, evaluates and reports the job; returns the path of its report. `build` makes the recipe.

    Raises an error of jobs.errors whose exit code says what a worker should do next.
    """
    job, out = loaded.job, around.out
    with _alone_in(out):
        if (page := _finished(job, out)) is not None:
            return page
        _refuse_missing_weights(job, around.weights_dir)
        _keep_spec(job, out)
        events = EventLog(out / EVENTS, around.watch)
        events.write("phase", phase="preparing")
        device = choose_device(job.training.device)
        precision = choose_precision(job.training.precision, device)
        set_determinism(device, deterministic=job.training.deterministic)

        dataset = open_dataset(job.recipe.data, cache_dir=around.cache_dir / "data", roots=around.roots)
        labels = _class_counts(dataset)
        recipe = build(job, labels, precision.value, device)
        progress, passed_over = state.restore(out / CHECKPOINTS, recipe)
        progress.attempts += 1
        events.write("start", images=progress.images, attempt=progress.attempts, target_images=job.training.images)
        for sentence in [*passed_over, *warnings(job)]:
            events.write("note", message=sentence)

        bench = Bench(device, precision, around.cache_dir, around.weights_dir)
        judge = Judge(loaded, dataset, recipe, out, events, bench)
        watch = Watch(job, dataset, recipe, out, events, device=device, saved=progress.diagnosis)
        hooks = _hooks(job, recipe, judge, watch, events)

        def attempt() -> None:
            with contextlib.closing(_stream(job, dataset, progress)) as stream:
                train(recipe, stream, _plan(job, around), progress, hooks, events, around.should_stop)

        with _reported(judge, progress, events):
            if progress.images == 0:
                watch.check_wiring(lambda small: build(small, labels, precision.value, device))
            if job.evaluation.untrained and progress.images == 0 and not judge.measured(0, "untrained"):
                judge.evaluate(0, label="untrained")
            events.write("phase", phase="training", images=progress.images)
            fresh = partial(build, job, labels, precision.value, device)
            Rollbacks(watch, recipe, fresh, progress, out / CHECKPOINTS, events).train(attempt)
            judge.finish(progress)
            watch.evaluated(progress.images, judge.evaluator, last=True)
        return out / "report.html"


def _refuse_missing_weights(job: Job, weights_dir: Path | None) -> None:
    """Before training, not after it."""
    if absent := missing_weights(job.evaluation, weights_dir):
        raise SpecError("\n".join(absent))


def _plan(job: Job, around: Surroundings) -> Plan:
    training = job.training
    assert training.batch and training.sample_images and training.checkpoint_images, "a resolved spec"
    return Plan(
        images=training.images,
        batch=training.batch,
        seed=job.seed,
        sample_images=training.sample_images,
        checkpoint_images=training.checkpoint_images,
        evaluate_images=job.evaluation.every_images,
        progress_seconds=around.progress_seconds or training.progress_seconds,
    )


def _stream(job: Job, dataset: ImageDataset, progress: Progress) -> Any:
    assert job.training.batch is not None
    return batches(
        dataset, batch=job.training.batch, seed=job.seed, images=progress.images, mirror=job.recipe.data.mirror
    )


def _hooks(job: Job, recipe: Recipe, judge: Judge, watch: Watch, events: EventLog) -> Hooks:
    """What the loop does when its clock says so."""

    def save(progress: Progress) -> None:
        _refuse_non_finite_weights(recipe, progress.images)
        folder = judge.out / CHECKPOINTS
        progress.diagnosis = watch.saved_at(progress.images)
        metadata = {
            "spec": json.dumps(job.model_dump(mode="json")),
            "labels": json.dumps(_class_counts(judge.dataset)),
            "images": str(progress.images),
        }
        started = time.monotonic()
        kept = job.training.checkpoints_kept
        saved = state.save(folder, progress, recipe, metadata, keep=kept, spare=watch.memory.good_images)
        path, seconds = str(saved.path.relative_to(judge.out)), round(time.monotonic() - started, 3)
        events.write("checkpoint", images=progress.images, path=path, seconds=seconds, bytes=saved.size_bytes)

    def evaluate(progress: Progress) -> None:
        judge.evaluate(progress.images)
        judge.report(progress, "running")
        watch.evaluated(progress.images, judge.evaluator, last=False)

    return Hooks(
        samples=judge.show, checkpoint=save, evaluate=evaluate,
        observe=watch.observe, reported=watch.reported, check=watch.check,
    )  # fmt: skip


def _refuse_non_finite_weights(recipe: Recipe, images: int) -> None:
    """A checkpoint is good or it is not written."""
    for name, network in {**recipe.networks, "EMA generator": recipe.generator_ema}.items():
        norms = torch.stack(torch._foreach_norm(list(network.parameters())))
        if not bool(norms.isfinite().all()):
            raise Diverged(
                f"weights of {name} are no longer finite numbers at {images:,} images",
                hint="the last good checkpoint is kept; lower the learning rate, or raise r1.gamma",
            )


@contextlib.contextmanager
def _reported(judge: Judge, progress: Progress, events: EventLog) -> Iterator[None]:
    """However the run ends, its report says so."""
    try:
        with _memory_errors(judge.job):
            yield
    except BaseException as error:
        outcome: Outcome = _outcome(error)
        message = error.message if isinstance(error, GankilnError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(Exception):  # the first error is the one to be told
            events.write("end", images=progress.images, outcome=outcome, message=message)
            judge.report(progress, outcome, message)
        raise
    events.write("phase", phase="reporting", images=progress.images)
    events.write("end", images=progress.images, seconds=round(progress.seconds, 3), outcome="finished")
    judge.report(progress, "finished")


@contextlib.contextmanager
def _memory_errors(job: Job) -> Iterator[None]:
    """Out of memory is told in the words of the spec."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        training = job.training
        raise DoesNotFit(
            f"training.micro_batch: {training.micro_batch} images at a time do not fit into memory",
            hint=f"write a smaller divisor of the batch of {training.batch}: the gradients stay the same, accumulated "
            "over more micro-batches; or lower generator.channels_base",
        ) from error


def _outcome(error: BaseException) -> Outcome:
    match error:
        case Interrupted():
            return "interrupted"
        case Diverged():
            return "diverged"
        case _:
            return "failed"


def _finished(job: Job, out: Path) -> Path | None:
    """The report, where this very run has ended already."""
    try:
        report = Report.load(out / "report.json")
    except (OSError, ValueError):
        return None
    done = report.outcome == "finished" and report.images >= job.training.images
    return out / "report.html" if done and _same_run(job, out) else None


def _keep_spec(job: Job, out: Path) -> None:
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
    return sorted(_changed(_fixed(job), _fixed(earlier)))


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
def _alone_in(out: Path) -> Iterator[None]:
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


def _class_counts(dataset: ImageDataset) -> list[int]:
    """Training images of each class; empty where there are no labels."""
    if dataset.labels_N is None:
        return []
    counts = np.bincount(dataset.labels_N, minlength=len(dataset.class_names))
    return [int(count) for count in counts]
