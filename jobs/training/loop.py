"""The loop owns time: seeds, the clock of images, when to show, save, evaluate and stop. It knows no recipe.

Losses stay on the device between two progress events; only then are they read, so that no step waits for the host.
"""

import math
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.profiler import record_function

from jobs.errors import Diverged, Interrupted
from jobs.events import EventLog
from jobs.training.compiled import begin_step
from jobs.training.recipe import Recipe
from jobs.training.seeds import seed_step
from jobs.training.state import Progress
from jobs.training.team import Order, What

STEP, WAITING = "step", "waiting for data"
"""What a profile calls these parts of the loop."""


@dataclass(frozen=True)
class Plan:
    """When things happen, in images; `progress_seconds`, the only interval in time, changes nothing in training."""

    images: int
    batch: int
    seed: int
    sample_images: int
    checkpoint_images: int
    evaluate_images: int | None
    progress_seconds: float
    cuda_graphs: bool = False


@dataclass(frozen=True)
class Hooks:
    """What happens at those times. `observe` sees every step's scalars, on the device; `reported` comes after they were
    read; `check` comes with samples and before checkpoints. Each may raise to end the run."""

    samples: Callable[[Progress], None]
    checkpoint: Callable[[Progress], None]
    evaluate: Callable[[Progress], None]
    observe: Callable[[int, dict[str, Tensor]], None] = lambda _images, _scalars: None
    reported: Callable[[Progress], None] = lambda _progress: None
    check: Callable[[Progress], None] = lambda _progress: None


@dataclass
class Means:
    """Running means of named scalars, kept on the device until they are read."""

    sums: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, scalars: dict[str, Tensor]) -> None:
        for name, value in scalars.items():
            value = value.detach().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def read(self) -> dict[str, float]:
        """The means since the last reading; one transfer from the device."""
        if not self.sums:
            return {}
        values = torch.stack(list(self.sums.values())).tolist()
        means = {name: value / self.counts[name] for name, value in zip(self.sums, values, strict=True)}
        self.sums, self.counts = {}, {}
        return means


def train(
    recipe: Recipe,
    batches: Iterator[Any],
    plan: Plan,
    progress: Progress,
    hooks: Hooks,
    events: EventLog,
    should_stop: Callable[[], bool],
) -> None:
    """Trains `recipe` from `progress.images` to `plan.images`, as the process that leads its team.

    Raises Interrupted after a last checkpoint when `should_stop` says so, and Diverged, without one, when a loss is not
    finite. The state after `n` images does not depend on where the run was stopped on the way.
    """
    if progress.images == 0:
        hooks.samples(progress)
        hooks.check(progress)
    meter = Meter(plan, events, progress)
    while progress.images < plan.images:
        if should_stop():
            meter.report(progress)
            hooks.checkpoint(progress)
            raise Interrupted(f"stopped at {progress.images:,} of {plan.images:,} images, after a checkpoint")
        with meter.waiting():
            batch = next(batches)
        with recipe.team.step():
            scalars = _step(recipe, batch, plan, progress.images)
        meter.count(scalars)
        before, progress.images = progress.images, progress.images + plan.batch
        hooks.observe(progress.images, scalars)
        _after_step(plan, hooks, meter, before, progress)


def train_beside(recipe: Recipe, batches: Iterator[Any], plan: Plan, images: int) -> Order:
    """What the other processes of a team do from `images` on: their share of every step that the leader orders.

    Returns the first order that is none for a step.
    """
    while (order := recipe.team.hear()).what is What.STEP:
        _step(recipe, next(batches), plan, images)
        images += plan.batch
    return order


def _step(recipe: Recipe, batch: Any, plan: Plan, images: int) -> dict[str, Tensor]:
    """One iteration; its scalars are those of the whole batch."""
    seed_step(plan.seed, images)
    if plan.cuda_graphs:
        begin_step()
    with record_function(STEP):
        return recipe.team.averaged(recipe.step(batch, images))


def _after_step(plan: Plan, hooks: Hooks, meter: "Meter", before: int, progress: Progress) -> None:
    """What the step from `before` images to `progress.images` has made due; at the end, everything is."""
    ends = progress.images >= plan.images

    def due(interval: int) -> bool:
        return ends or progress.images // interval > before // interval

    if meter.is_due() or due(plan.checkpoint_images):
        meter.report(progress)
        with meter.paused(progress, "checks"):
            hooks.reported(progress)
    if due(plan.sample_images):
        with meter.paused(progress, "samples"):
            hooks.samples(progress)
    if plan.evaluate_images is not None and due(plan.evaluate_images) and not ends:
        with meter.paused(progress, "evaluation"):
            hooks.evaluate(progress)
    if due(plan.sample_images) or due(plan.checkpoint_images):
        with meter.paused(progress, "checks"):
            hooks.check(progress)
    if due(plan.checkpoint_images):
        with meter.paused(progress, "checkpoints"):
            hooks.checkpoint(progress)


class Meter:
    """Speed, mean losses, and where the time went."""

    def __init__(self, plan: Plan, events: EventLog, progress: Progress) -> None:
        self.plan, self.events = plan, events
        self.means = Means()
        self.earlier_seconds = progress.seconds
        self.started = self.last = time.monotonic()
        self.last_images = progress.images
        self.not_training_seconds = self.not_training_since = self.waited_seconds = 0.0
        self.time_seconds = progress.time_seconds

    def count(self, scalars: dict[str, Tensor]) -> None:
        self.means.add(scalars)

    def is_due(self) -> bool:
        return time.monotonic() - self.last >= self.plan.progress_seconds

    def waiting(self) -> "_Timer":
        """Time spent waiting for data."""
        return _Timer(WAITING, self._waited)

    def paused(self, progress: Progress, what: str) -> "_Timer":
        """Time spent on `what`: not training. Where it went is told from the first step to the last."""
        self.take_stock(progress)

        def add(seconds: float) -> None:
            self.not_training_seconds += seconds
            self.not_training_since += seconds
            if progress.images < self.plan.images:
                self.time_seconds[what] = self.time_seconds.get(what, 0.0) + seconds

        return _Timer(what, add)

    def take_stock(self, progress: Progress) -> None:
        """Writes into `progress` how much time was spent training so far, waiting for data included."""
        progress.seconds = self.seconds()
        self.time_seconds["training"] = progress.seconds - self.time_seconds.get("waiting", 0.0)
        progress.time_seconds = self.time_seconds

    def seconds(self) -> float:
        """Seconds of training, over all attempts."""
        return self.earlier_seconds + time.monotonic() - self.started - self.not_training_seconds

    def report(self, progress: Progress) -> None:
        """Writes a progress event. Raises Diverged when a scalar is not finite."""
        now = time.monotonic()
        scalars = self.means.read()
        refuse_non_finite(scalars, progress.images)
        images = progress.images - self.last_images
        if images == 0:
            return
        self.take_stock(progress)
        elapsed = max(now - self.last - self.not_training_since, 1e-9)
        self.events.write(
            "progress",
            images=progress.images,
            target_images=self.plan.images,
            seconds=round(progress.seconds, 3),
            images_per_second=round(images / elapsed, 3),
            losses={k.removeprefix("loss."): v for k, v in scalars.items() if k.startswith("loss.")},
            statistics={k: v for k, v in scalars.items() if not k.startswith("loss.")},
            waiting_ratio=round(min(self.waited_seconds / elapsed, 1.0), 4),
            memory_bytes=peak_memory_bytes(),
            time_seconds={what: round(seconds, 3) for what, seconds in self.time_seconds.items()},
        )
        self.last, self.last_images = time.monotonic(), progress.images
        self.not_training_since = self.waited_seconds = 0.0

    def _waited(self, seconds: float) -> None:
        self.waited_seconds += seconds
        self.time_seconds["waiting"] = self.time_seconds.get("waiting", 0.0) + seconds


class _Timer:
    """Gives the seconds of a `with` block to `done`; a profile shows it by its name."""

    def __init__(self, name: str, done: Callable[[float], None]) -> None:
        self.shown, self.done = record_function(name), done

    def __enter__(self) -> None:
        self.shown.__enter__()
        self.started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.shown.__exit__(None, None, None)
        self.done(time.monotonic() - self.started)


def refuse_non_finite(scalars: dict[str, float], images: int) -> None:
    """Raises Diverged, naming every term that is not a finite number."""
    bad = {name: value for name, value in scalars.items() if not math.isfinite(value)}
    if bad:
        terms = ", ".join(f"{name} = {value}" for name, value in bad.items())
        raise Diverged(
            f"not a finite number within the last progress interval, which ended at {images:,} images: {terms}",
            hint="the last good checkpoint is kept; lower the learning rate, or raise r1.gamma, and start from it",
        )


def peak_memory_bytes() -> int:
    """Most memory used so far: of the GPU where one is used, else of this process."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
