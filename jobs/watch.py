"""Watches one run: shows its detectors what they read, says their verdicts, and acts on them as the spec asks.

    watch = Watch(system, events, saved=progress.diagnosis)
    train(..., Hooks(observe=watch.observe, reported=watch.reported, check=watch.check, ...))

Checks happen at fixed image counts, on fixed latents and fixed real images, so a verdict is a function of the run's
state; what earlier checks found is saved with the progress. A run that was stopped and resumed gets the same verdicts.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from jobs.data import Shown
from jobs.diagnosis import (
    blind,
    lost_modes,
    lost_recall,
    no_progress,
    non_finite,
    snapshot,
    style_ignored,
    table,
    wiring,
)
from jobs.diagnosis.detector import Finding, Images
from jobs.diagnosis.examination import Examination, Memory
from jobs.diagnosis.inputs import F64, FeatureMaps, Gallery, Judgement, Scores, Snapshot
from jobs.diagnosis.ledger import Ledger
from jobs.diagnosis.peaks import watching
from jobs.errors import Diverged, GankilnError
from jobs.evaluation.evaluator import Evaluator
from jobs.evaluation.random_conv import RandomConv
from jobs.events import EventLog, read_events
from jobs.report import pictures
from jobs.spec import Job
from jobs.spec.resolve import conflicts
from jobs.systems import System
from jobs.training.probe import Judged, Logits, Styled, judges_of
from jobs.training.recipe import Recipe
from jobs.training.seeds import derived_seed
from jobs.training.state import Progress

EVENTS = "events.jsonl"
EVIDENCE = "evidence"
CHUNK = 32
"""Pictures drawn at a time."""
MOST_BYTES = 256 << 20
"""Of generated pictures, in main memory."""
WATCHED_CHUNKS = 2
"""Feature maps are looked at for so many chunks."""
FEWEST = 16
STYLES, NOISES = 6, 3
JUDGED_IMAGES = 64
"""Real ones, and as many generated, that the discriminator is asked about."""
FEATURES = "random_conv"
FEATURE_SIDE = 64
NEAREST_IMAGES = 10_000
"""In a larger set, neighbours are looked for only at the end: it means reading all of it."""
SHOWN_COPIES = 16
NOT_EXAMINED = "the diagnosis could not look at the run"


class GoBackError(Exception):
    """A verdict asks to go back to the last healthy checkpoint."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.message)
        self.finding = finding


class Stopped(Diverged):
    """A verdict stopped the run."""


class Watch:
    """The diagnosis of one run. `saved` is what `saved_at` gave at the checkpoint that the run goes on from."""

    def __init__(self, system: System, events: EventLog, *, saved: Mapping[str, Any]) -> None:
        around = system.around
        self.system, self.job, self.section = system, around.job, around.job.diagnosis
        self.dataset, self.recipe, self.out, self.device = around.dataset, around.recipe, around.out, around.device
        self.events = events
        self._settled: wiring.Settled | None = None
        self._embed = RandomConv().eval().to(self.device)
        self._real: _Real | None = None
        self.restore(saved)

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Goes on from what `saved_at` gave."""
        self.memory = Memory(**saved.get("memory", {}))
        self.ledger = Ledger(saved.get("ledger"))
        self.latest: dict[str, Finding] = {}
        self._written: dict[str, int] = {}
        self._memory_use: list[tuple[int, int]] = []
        self.examination = Examination(self.section, self.job.training.images, self.memory)
        for name, rate in snapshot.learning_rates(self.recipe.optimizers).items():
            self.memory.learning_rates.setdefault(name, rate)

    def saved_at(self, images: int) -> dict[str, Any]:
        """What a checkpoint at `images` must hold, in plain values.

        A rollback returns to checkpoints of the schedule alone: it must not matter when a run was interrupted.
        """
        training = self.job.training
        assert training.checkpoint_images is not None and training.batch is not None, "a resolved spec"
        scheduled = images % training.checkpoint_images < training.batch
        if self.section.rolls_back and scheduled and self.examination.may_return_here():
            self.memory.good_images = images
        return {"memory": self.memory.state(), "ledger": self.ledger.state()} if self.section.enabled else {}

    def check_wiring(self, build: Callable[[Job], Recipe]) -> None:
        """To be called before the first step: examines a twin on a small batch. Raises Diverged naming the module."""
        if not self.section.wiring:
            return
        job = _small(self.job)
        batch = self._batch(np.arange(job.training.batch or 1) % len(self.dataset))
        with self._harmless(0), self._miswiring_said():
            self.say(wiring.check_wiring(lambda: build(job), batch, job.training.batch or 1))
        assert self.job.training.batch is not None, "a resolved spec"
        self._settled = wiring.Settled(self.recipe, self.job.training.batch)

    def observe(self, images: int, scalars: Mapping[str, Tensor]) -> None:
        """A step's scalars; they stay on the device."""
        if self.section.enabled:
            self.ledger.add(images, scalars)
        if self._settled is not None and images >= self._settled.due_images:
            settled, self._settled = self._settled, None
            with self._miswiring_said():
                settled.refuse_unmoved()

    def reported(self, _progress: Progress) -> None:
        """The device was waited for anyway: takes the scalars over."""
        self.ledger.read()

    def check(self, progress: Progress) -> None:
        """Looks at the run, says what has changed, and acts. Raises Stopped or GoBackError."""
        images = progress.images
        if not self.section.enabled:
            return
        with self._harmless(images):
            self.ledger.close_window()
            gallery = self._gallery(images)
            if images == 0:
                self.memory.untrained_distance = no_progress.distance(gallery.fake_MD, gallery.real_ND)
                return
            judge, steps = self.examination.judge, self.ledger.steps(images, self.job.training.images)
            found = [
                *judge(table.OF_STEPS, steps, images),
                *judge(table.OF_SNAPSHOT, self._snapshot(images), images),
                *judge(table.OF_GALLERY, gallery, images),
            ]
            for detectors, seen in self.system.watched(images, steps):
                found += judge(detectors, seen, images)
            for name, judgement in gallery.judgements.items():
                self.memory.gradients.setdefault(name, []).append(judgement.gradient)
            self._conclude(found, images, self.system.quantities(gallery))
            self._act(found)

    def evaluated(self, images: int, evaluator: Evaluator, *, last: bool) -> None:
        """Looks at the evaluation that was just said. After the last one it says every verdict, and acts no longer."""
        if not self.section.enabled:
            return
        with self._harmless(images):
            scores = self._scores(images, evaluator, search=last or len(self.dataset.images_NCHW) <= NEAREST_IMAGES)
            found = list(self.examination.judge(table.OF_SCORES, scores, images))
            self.memory.most_modes = max(self.memory.most_modes, lost_modes.covered(scores) or 0.0)
            self.memory.best_recall = max(self.memory.best_recall, lost_recall.best(scores) or 0.0)
            self._conclude(found, images)
            if not last:
                self._act(found)
        if last:
            for finding in self.latest.values():
                self._write(finding)

    def diverged(self, progress: Progress, error: Diverged) -> Finding | None:
        """The loop met a number that is not finite: says so as a verdict, and returns it where it asks to go back."""
        if isinstance(error, Stopped | wiring.Miswired) or not self.section.enabled:
            return None
        self.ledger.read()
        steps = self.ledger.steps(progress.images, self.job.training.images)
        images = steps.first_bad_images or progress.images
        for finding in self.examination.judge((non_finite.DETECTOR,), steps, images):
            self.say(finding)
            if self.examination.action(finding) == "rollback":
                return finding
        return None

    def say(self, finding: Finding) -> None:
        """Writes a verdict that is news."""
        before = self.latest.get(finding.detector)
        self.latest[finding.detector] = finding
        if before is None or before.verdict != finding.verdict:
            self._write(finding)

    def _write(self, finding: Finding) -> None:
        if self._written.get(finding.detector) == finding.images:
            return
        self._written[finding.detector] = finding.images
        evidence = None
        if finding.picture is not None:
            path = Path(EVIDENCE) / f"{finding.detector}-{finding.images:09d}.png"
            pictures.write_png(self.out / path, pictures.grid(finding.picture()))
            evidence = str(path)
        self.events.write("verdict", **finding.said(), evidence=evidence)

    def _conclude(self, found: Sequence[Finding], images: int, quantities: Mapping[str, float] | None = None) -> None:
        if statistics := {**{finding.detector: finding.value for finding in found}, **(quantities or {})}:
            self.events.write("statistics", images=images, statistics=statistics)
        for finding in found:
            self.say(finding)

    def _act(self, found: Sequence[Finding]) -> None:
        for finding in found:
            match self.examination.action(finding):
                case "stop":
                    raise Stopped(f"{finding.detector}: {finding.message}", hint=finding.hint)
                case "rollback":
                    raise GoBackError(finding)
                case "log":
                    pass

    @contextlib.contextmanager
    def _harmless(self, images: int) -> Iterator[None]:
        """What watches never breaks the watched: whatever goes wrong in here is noted, and training goes on."""
        try:
            yield
        except (GankilnError, GoBackError):
            raise
        except Exception as error:
            self.events.write("note", images=images, message=f"{NOT_EXAMINED} ({type(error).__name__}: {error})")

    @contextlib.contextmanager
    def _miswiring_said(self) -> Iterator[None]:
        try:
            yield
        except wiring.Miswired as error:
            self.say(error.finding)
            raise

    def _snapshot(self, images: int) -> Snapshot:
        self._memory_use.append((images, snapshot.memory_bytes()))
        factor = self.section.rollback.learning_rate_factor ** len(self.memory.rollbacks)
        rates = snapshot.learning_rates(self.recipe.optimizers)
        return Snapshot(
            images=images,
            planned_images=self.job.training.images,
            learning_rates={name: (self.memory.learning_rates[name], rate / factor) for name, rate in rates.items()},
            updates=snapshot.movements(self.recipe.networks, self.recipe.optimizers),
            memory=self._memory_use,
            free_bytes=snapshot.free_bytes(),
        )

    def _gallery(self, images: int) -> Gallery:
        real = self._real_pictures()
        fake_MCHW, maps = self._draw()
        return Gallery(
            images=images,
            planned_images=self.job.training.images,
            fake_MCHW=fake_MCHW,
            real_NCHW=real.image_NCHW,
            fake_MD=self._features(fake_MCHW),
            real_ND=real.feature_ND,
            space=FEATURES,
            untrained_distance=self.memory.untrained_distance,
            style_share=self._style_share(),
            judgements={name: self._judgement(name, judged) for name, judged in judges_of(self.recipe).items()},
            maps=maps,
        )

    def _real_pictures(self) -> "_Real":
        """The same real images at every check, drawn once."""
        if self._real is None:
            order = np.random.RandomState(0).permutation(len(self.dataset.images_NCHW))[: self._count()]
            image_NCHW = np.asarray(self.dataset.images_NCHW[np.sort(order)])
            self._real = _Real(image_NCHW, self._features(image_NCHW))
        return self._real

    def _count(self) -> int:
        """Pictures of each kind."""
        each_bytes = int(np.prod(self.dataset.images_NCHW.shape[1:]))
        return max(min(self.section.samples, MOST_BYTES // each_bytes), FEWEST)

    def _draw(self) -> tuple[Images, FeatureMaps | None]:
        """Samples at the latents of every check, and what their feature maps looked like."""
        count, drawn = self._count(), []
        with watching(self.recipe.generator_ema) as peaks:
            for start in range(0, min(count, WATCHED_CHUNKS * CHUNK), CHUNK):
                drawn.append(self._sample(start, min(CHUNK, count - start)))
        for start in range(WATCHED_CHUNKS * CHUNK, count, CHUNK):
            drawn.append(self._sample(start, min(CHUNK, count - start)))
        return np.concatenate(drawn), peaks.read()

    def _sample(self, start: int, count: int) -> Images:
        image_NCHW = self.recipe.sample(count, derived_seed("diagnosis", self.job.seed, start)).float()
        if not bool(image_NCHW.isfinite().all()):
            raise Diverged("samples: the generator makes pixels that are not finite numbers")
        return pictures.from_signed(image_NCHW.cpu().numpy())

    @torch.no_grad()
    def _features(self, image_NCHW: Images) -> F64:
        """Features of pictures, [N, D]."""
        parts = []
        for start in range(0, len(image_NCHW), CHUNK):
            part = torch.from_numpy(image_NCHW[start : start + CHUNK]).to(self.device).float() / 127.5 - 1
            part = part[:, :3] if part.shape[1] >= 3 else part.expand(-1, 3, -1, -1)
            if max(part.shape[2:]) > FEATURE_SIDE:
                part = F.interpolate(part, (FEATURE_SIDE, FEATURE_SIDE), mode="area")
            parts.append(self._embed(part).double().cpu().numpy())
        return np.concatenate(parts)

    def _style_share(self) -> float | None:
        if not isinstance(self.recipe, Styled):
            return None
        image_SKCHW = self.recipe.swap(STYLES, NOISES, derived_seed("diagnosis", self.job.seed))
        return style_ignored.style_share(image_SKCHW.float().flatten(2).double().cpu().numpy())

    def _judgement(self, name: str, judged: Judged) -> Judgement:
        size = self.job.training.micro_batch
        assert size is not None, "a resolved spec"
        logits, gradient = [], 0.0
        for start in range(0, max(JUDGED_IMAGES // size, 1) * size, size):
            batch = self._batch(np.arange(start, start + size) % len(self.dataset))
            with torch.no_grad():
                logits.append(judged.judge(batch, derived_seed("diagnosis", self.job.seed, start)))
            if start == 0:
                gradient = float(judged.judge_gradient(batch))
        real, fake = (torch.cat(kind).double() for kind in zip(*logits, strict=True))
        alike = Logits(torch.zeros_like(real), torch.zeros_like(fake))
        guessing = float(judged.judgement_loss(alike))
        loss = self.ledger.last_mean(f"loss.{name}")  # over many steps: its loss of a moment swings
        loss = float(judged.judgement_loss(Logits(real, fake))) if loss is None else loss
        real_N, fake_M = (x.flatten().cpu().numpy() for x in (real, fake))
        advantage = blind.advantage(loss, guessing, real_N, fake_M)
        return Judgement(real_N, fake_M, advantage, gradient, tuple(self.memory.gradients.get(name, ())))

    def _batch(self, positions: NDArray[np.int64]) -> Any:
        """The examples at `positions` of the data, none of them mirrored."""
        return self.dataset.gather(Shown(self.job.seed, positions, positions, np.zeros(len(positions), np.bool_)))

    def _scores(self, images: int, evaluator: Evaluator, *, search: bool) -> Scores:
        said = [event for event in read_events(self.out / EVENTS) if event["event"] == "evaluation"]
        rows = [row for event in said if event["images"] == images for row in event["rows"]]
        scores = Scores(images, self.job.training.images, rows, self.memory.most_modes, self.memory.best_recall)
        return self._with_neighbours(scores, evaluator) if search else scores

    def _with_neighbours(self, scores: Scores, evaluator: Evaluator) -> Scores:
        """Finds the nearest training image of every sample, and of as many real images the nearest other one."""
        fake_MCHW, real_NCHW = self._draw()[0], self._real_pictures().image_NCHW
        asked = torch.from_numpy(np.concatenate([fake_MCHW, real_NCHW])).float() / 127.5 - 1
        found = evaluator.nearest(asked, 2)
        near_M, other_N = found.distance_MK[: len(fake_MCHW), 0], found.distance_MK[len(fake_MCHW) :, 1]
        nearest_first = np.argsort(near_M)[:SHOWN_COPIES]
        neighbours = np.asarray(self.dataset.images_NCHW[found.index_MK[nearest_first, 0]])
        pairs = np.stack([fake_MCHW[nearest_first], neighbours], axis=1).reshape(-1, *fake_MCHW.shape[1:])
        return replace(scores, nearest_fake_M=near_M, nearest_real_N=other_N, copies_MCHW=pairs)


class _Real(NamedTuple):
    """Real images and their features."""

    image_NCHW: Images
    feature_ND: F64


def _small(job: Job) -> Job:
    """`job` with the smallest batch that its networks allow."""
    size = job.training.micro_batch
    assert size is not None, "a resolved spec"
    for images in (4, 8, 16):
        smaller = job.model_copy(
            update={"training": job.training.model_copy(update={"batch": images, "micro_batch": images})}
        )
        if images < size and not any(conflicts(smaller)):
            return smaller
    return job.model_copy(update={"training": job.training.model_copy(update={"batch": size})})
