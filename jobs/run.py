"""One job from spec to report: read this first.

    spec -> data -> recipe -> training loop -> checkpoints, samples -> metrics -> report

The same call in the same directory goes on where the last one stopped, and ends with the same weights as if it had
never stopped.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from jobs import recipes, systems, tuning
from jobs.data import Dataset, Roots, Shown, batches, open_data
from jobs.errors import DataError, Diverged, DoesNotFit, GankilnError, Interrupted, SpecError
from jobs.evaluation.weights import missing_weights
from jobs.events import EventLog
from jobs.judge import EVENTS, Judge
from jobs.recipes.stylegan2 import StyleGAN2
from jobs.recipes.stylex import StylEx
from jobs.report.model import Outcome
from jobs.rollback import Rollbacks
from jobs.run_directory import alone_in, finished, keep_spec
from jobs.spec import Job, Loaded, warnings
from jobs.spec.resolve import micro_batches
from jobs.spec.size import fitting_advice, size
from jobs.systems import known_of, system_of
from jobs.training import fitting, state
from jobs.training.allocator import keep_freed_memory
from jobs.training.aside import Aside
from jobs.training.compiled import compile_in_place
from jobs.training.device import Choice, choose_device, choose_precision, set_determinism
from jobs.training.loop import Hooks, Plan, train, train_beside
from jobs.training.probe import Adjustable
from jobs.training.profiling import profiled
from jobs.training.recipe import Known, Recipe
from jobs.training.state import Progress
from jobs.training.team import Meeting, Order, Team, What, joined
from jobs.watch import Watch

CHECKPOINTS = "checkpoints"
Build = Callable[[Job, Known, str, torch.device], Recipe]


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
    profile_iterations: int = 0
    """So many iterations are profiled, once the first ones are over."""
    progress_seconds: float | None = None
    """Time between two progress events, where not the spec's: a person at a terminal wants them sooner."""
    meeting: Meeting | None = None
    """Where the process that leads waits, in one that it has started."""


def run(loaded: Loaded, around: Surroundings, build: Build = recipes.build) -> Path:
    """Trains, evaluates and reports the job; returns the path of its report. `build` makes the recipe.

    Raises an error of jobs.errors whose exit code says what a worker should do next. Of several processes that train
    together (`training.devices`) each calls it; the first writes everything, and the others end when it does.
    """
    training = loaded.job.training
    with joined(training.devices, training.device, around.meeting, partial(_said, loaded.job, around)) as team:
        if not team.leads:
            _follow(loaded.job, around, build, team)
            return around.out / "report.html"
        try:
            return _lead(loaded, around, build, team)
        finally:
            with contextlib.suppress(RuntimeError):  # others that are gone need not be told
                team.dismiss()


def _said(job: Job, around: Surroundings) -> dict[str, Any]:
    """What another process must know to take part: jobs/beside.py reads it."""
    return {
        "job": job.model_dump(mode="json"),
        "out": str(around.out),
        "cache_dir": str(around.cache_dir),
        "relative_to": str(around.roots.relative_to),
        "allowed": None if around.roots.allowed is None else [str(root) for root in around.roots.allowed],
        "weights_dir": around.weights_dir and str(around.weights_dir),
    }


def _lead(loaded: Loaded, around: Surroundings, build: Build, team: Team) -> Path:
    job, out = loaded.job, around.out
    with alone_in(out):
        if (page := finished(job, out)) is not None:
            return page
        _refuse_missing_weights(job, around.weights_dir)
        keep_spec(job, out)
        events = EventLog(out / EVENTS, around.watch)
        events.write("phase", phase="preparing")
        ground = _prepare(job, around, build, lambda sentence: events.write("note", message=sentence))
        recipe = ground.make(job)
        progress, passed_over = state.restore(out / CHECKPOINTS, recipe)
        progress.attempts += 1
        events.write("start", images=progress.images, attempt=progress.attempts, target_images=job.training.images)
        for sentence in [*passed_over, *warnings(job)]:
            events.write("note", message=sentence)

        loaded = _fitted(loaded, recipe, progress, ground.dataset, events, partial(ground.make, job))
        job = loaded.job
        system = system_of(
            systems.Surroundings(job, ground.dataset, recipe, out, ground.device, around.cache_dir, around.weights_dir)
        )
        judge = Judge(loaded, system, events, ground.precision)
        watch = Watch(system, events, saved=progress.diagnosis)

        micro_batch = job.training.micro_batch
        assert micro_batch is not None, "a resolved spec"
        progress.tuned = progress.tuned or tuning.measure(recipe, micro_batch, around.cache_dir, ground.say)
        tuning.apply(recipe, progress.tuned)
        recompute = bool(progress.fitted.get("recompute"))
        _compile(job, recipe, around.cache_dir, ground.say, recompute=recompute)
        recipe.team = team

        def attempt() -> None:
            team.tell(_beginning(job, progress, watch))
            _share(recipe, team)
            with (
                contextlib.closing(_stream(job, ground.dataset, progress.images, team)) as stream,
                Aside() as aside,
                profiled(_hooks(job, recipe, judge, watch, aside), around.profile_iterations, out, events) as hooks,
            ):
                train(recipe, stream, _plan(job, around), progress, hooks, events, around.should_stop)

        with _reported(judge, progress, events):
            if progress.images == 0:
                watch.check_wiring(ground.make)
            if job.evaluation.untrained and progress.images == 0 and not judge.measured(0, "untrained"):
                judge.evaluate(0, label="untrained")
            events.write("phase", phase="training", images=progress.images)
            Rollbacks(watch, recipe, partial(ground.make, job), progress, out / CHECKPOINTS, events).train(attempt)
            team.dismiss()
            judge.finish(progress)
            watch.evaluated(progress.images, judge.evaluator, last=True)
        return out / "report.html"


def _follow(job: Job, around: Surroundings, build: Build, team: Team) -> None:
    """What every process but the first does: its share of every step. What the first has prepared is in the cache."""
    order = team.hear()
    if order.what is What.END:
        return
    ground = _prepare(job, around, build, lambda _sentence: None)
    recipe = ground.make(job)
    fitting.apply(recipe, order.micro_batch, recompute=order.recompute)
    _compile(job, recipe, around.cache_dir, lambda _sentence: None, recompute=order.recompute)
    while order.what is What.BEGIN:
        _go_to(order.images, around.out / CHECKPOINTS, recipe, partial(ground.make, job))
        if isinstance(recipe, Adjustable):
            recipe.adjust(learning_rate_factor=order.learning_rate_factor, r1_gamma_factor=order.r1_gamma_factor)
        recipe.team = team
        _share(recipe, team)
        with contextlib.closing(_stream(job, ground.dataset, order.images, team)) as stream:
            order = train_beside(recipe, stream, _plan(job, around), order.images)


def _go_to(images: int, checkpoints: Path, recipe: Recipe, fresh: Callable[[], Recipe]) -> None:
    """Makes `recipe` what it was at `images`. Raises DataError where the newest checkpoint here is another."""
    if images == 0:
        state.begin_anew(recipe, fresh())
    elif (found := state.restore(checkpoints, recipe)[0].images) != images:
        raise DataError(
            f"{checkpoints}: the first process goes on from {images:,} images, this one finds one at {found:,}",
            hint="all processes of a job need the same --out, on one disk",
        )


@dataclass(frozen=True)
class _Ground:
    """What a recipe stands on."""

    device: torch.device
    precision: Choice
    dataset: Dataset
    make: Callable[[Job], Recipe]
    """The recipe of a job, as it is before the first step."""
    say: Callable[[str], None]
    """Notes a decision that a person should know of."""


def _prepare(job: Job, around: Surroundings, build: Build, say: Callable[[str], None]) -> _Ground:
    device = choose_device(job.training.device)
    precision = choose_precision(job.training.precision, device)
    set_determinism(device, deterministic=job.training.deterministic)
    keep_freed_memory(device)
    paired = getattr(job.recipe, "paired", False)
    dataset = open_data(job.recipe.data, cache_dir=around.cache_dir / "data", roots=around.roots, paired=paired)
    known = known_of(
        Known(_class_counts(dataset), dataset.conditions),
        systems.Beforehand(job, dataset, device, around.roots, around.cache_dir, around.weights_dir, say),
    )
    return _Ground(device, precision, dataset, lambda made: build(made, known, precision.value, device), say)


def _beginning(job: Job, progress: Progress, watch: Watch) -> Order:
    """From where, and how, the other processes of a team go on."""
    change = watch.memory.rollbacks[-1] if watch.memory.rollbacks else {}
    assert job.training.micro_batch is not None, "a resolved spec"
    return Order(
        What.BEGIN,
        progress.images,
        job.training.micro_batch,
        bool(progress.fitted.get("recompute")),
        change.get("learning_rate_factor", 1.0),
        change.get("r1_gamma_factor", 1.0),
    )


def _share(recipe: Recipe, team: Team) -> None:
    """Makes `recipe` what it is in the first process."""
    team.share_weights(part for part in recipe.parts.values() if isinstance(part, nn.Module))
    tuning.agree(recipe, team)


def _fitted(
    loaded: Loaded, recipe: Recipe, progress: Progress, dataset: Dataset, events: EventLog, twin: Callable[[], Recipe]
) -> Loaded:
    """`loaded` with the micro-batch that fits into memory; `recipe` goes on with it. Raises DoesNotFit.

    What was decided before a checkpoint is kept after it. Nothing is tried where a job is small by any estimate.
    """
    job, training = loaded.job, loaded.job.training
    assert training.batch is not None and training.micro_batch is not None, "a resolved spec"
    device = next(recipe.generator_ema.parameters()).device
    sharing = training.devices if device.type == "cpu" else 1  # they share the machine's memory
    limit_bytes = training.max_memory_bytes or fitting.free_bytes(device) // sharing
    small = training.max_memory_bytes is None and device.type == "cpu" and 2 * size(job).memory_bytes < limit_bytes
    if not progress.fitted and (small or progress.images > 0):
        return loaded
    if not progress.fitted:
        share = training.share
        some = np.arange(share, dtype=np.int64) % len(dataset)
        batch = dataset.gather(Shown(job.seed, some, some, np.zeros(share, np.bool_)))
        advice = partial(fitting_advice, job, limit_bytes)
        moments = fitting.moments_of(training.images, training.batch)
        found = fitting.fit(twin, batch, micro_batches(job), limit_bytes, device, moments=moments, advice=advice)
        for sentence in found.sentences:
            events.write("note", message=sentence)
        progress.fitted = {"micro_batch": found.micro_batch, "recompute": found.recompute}
    if training.share % progress.fitted["micro_batch"]:  # fitted for fewer devices
        progress.fitted["micro_batch"] = training.micro_batch
    fitting.apply(recipe, progress.fitted["micro_batch"], recompute=progress.fitted["recompute"])
    fitted = training.model_copy(update={"micro_batch": progress.fitted["micro_batch"]})
    return replace(loaded, job=job.model_copy(update={"training": fitted}))


def _compile(job: Job, recipe: Recipe, cache_dir: Path, say: Callable[[str], None], *, recompute: bool) -> None:
    """Where the spec asks for it; what is recomputed to fit into memory stays as it is."""
    if job.training.compile and not recompute:
        assert isinstance(recipe, StyleGAN2 | StylEx), "the spec lets no other be compiled"
        say("training.compile: the first steps take minutes, until all is compiled")
        compile_in_place(recipe.hot, cache_dir, cuda_graphs=job.training.cuda_graphs)


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
        cuda_graphs=training.cuda_graphs,
    )


def _stream(job: Job, dataset: Dataset, images: int, team: Team) -> Any:
    assert job.training.batch is not None
    return batches(
        dataset,
        batch=job.training.batch,
        seed=job.seed,
        images=images,
        rank=team.rank,
        world=team.size,
        mirror=job.recipe.data.mirror,
    )


def _hooks(job: Job, recipe: Recipe, judge: Judge, watch: Watch, aside: Aside) -> Hooks:
    """What the loop does when its clock says so."""

    def save(progress: Progress) -> None:
        _refuse_non_finite_weights(recipe, progress.images)
        folder = judge.out / CHECKPOINTS
        progress.diagnosis = watch.saved_at(progress.images)
        metadata = {
            "spec": json.dumps(job.model_dump(mode="json")),
            "labels": json.dumps(_class_counts(judge.dataset)),
            "class_names": json.dumps(judge.dataset.class_names),
            "images": str(progress.images),
        }
        taken, keep, spare = (
            state.snapshot(progress, recipe, metadata),
            job.training.checkpoints_kept,
            watch.memory.good_images,
        )

        def write() -> None:
            started = time.monotonic()
            saved = state.save(folder, taken, keep=keep, spare=spare)
            path, seconds = str(saved.path.relative_to(judge.out)), round(time.monotonic() - started, 3)
            judge.events.write("checkpoint", images=saved.images, path=path, seconds=seconds, bytes=saved.size_bytes)

        aside.do(write)

    def evaluate(progress: Progress) -> None:
        judge.evaluate(progress.images)
        judge.report(progress, "running")
        watch.evaluated(progress.images, judge.evaluator, last=False)

    return Hooks(
        samples=_eagerly(partial(judge.show, aside=aside)), checkpoint=save, evaluate=_eagerly(evaluate),
        observe=watch.observe, reported=watch.reported, check=_eagerly(watch.check),
    )  # fmt: skip


def _eagerly(hook: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Networks that are compiled for the shapes of training run as they are written: others would compile anew."""

    def plain(progress: Progress) -> None:
        with torch.compiler.set_stance("force_eager"):
            hook(progress)

    return plain


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


def _class_counts(dataset: Dataset) -> tuple[int, ...]:
    """Training images of each class; empty where there are no labels."""
    if dataset.labels_N is None:
        return ()
    counts = np.bincount(dataset.labels_N, minlength=len(dataset.class_names))
    return tuple(int(count) for count in counts)
