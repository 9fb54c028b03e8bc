"""What a run has to say of itself: its pictures, its metrics, and the facts of its report."""

import platform
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.evaluation import trust
from jobs.evaluation.evaluator import Evaluator
from jobs.evaluation.rows import MetricRow
from jobs.events import EventLog, read_events
from jobs.report import ReportFacts, pictures, write_report
from jobs.report.model import DataFacts, Nearest, Outcome, Picture, Precision, SkippedImage
from jobs.report.model import Derived as DerivedFact
from jobs.report.model import MetricRow as ReportRow
from jobs.report.shown import write_nearest
from jobs.spec import Loaded
from jobs.systems import System
from jobs.training.aside import Aside
from jobs.training.device import Choice, device_name
from jobs.training.seeds import derived_seed
from jobs.training.state import Progress

EVENTS = "events.jsonl"
NEAREST_SAMPLES, NEAREST_IMAGES = 8, 5
TYPICAL_IMAGES = 256
"""Real images whose nearest other one is looked for."""


class Judge:
    """Draws, measures and reports one run. Everything lands below `out`."""

    def __init__(self, loaded: Loaded, system: System, events: EventLog, precision: Choice) -> None:
        around = system.around
        self.loaded, self.job = loaded, loaded.job
        self.dataset, self.recipe, self.out = around.dataset, around.recipe, around.out
        self.events, self.precision = events, precision
        self.system = system
        self._evaluator: Evaluator | None = None
        self._nearest: Nearest | None = None
        self._pictures: tuple[Picture, ...] = ()

    @property
    def evaluator(self) -> Evaluator:
        """Opened at its first use: feature networks take memory that training may need."""
        if self._evaluator is None:
            self._evaluator = Evaluator(
                self.job.evaluation,
                self.dataset.images_NCHW,
                digest=self.dataset.digest,
                cache_dir=self.system.around.cache_dir / "features",
                device=self.system.around.device,
                labels_N=self.dataset.labels_N,
                weights_dir=self.system.around.weights_dir,
            )
        return self._evaluator

    def show(self, progress: Progress, aside: Aside) -> None:
        """The grid of fixed latents or inputs at this moment, once the real images beside it; written by `aside`."""
        columns, rows = self.job.training.grid
        if not (self.out / "real.png").exists():
            shown = _spread(self.dataset.images_NCHW, columns * rows)
            pictures.write_png(self.out / "real.png", pictures.grid(shown, columns))
        image = self.system.shown(columns * rows, derived_seed("grid", self.job.seed))
        images, shown = progress.images, _uint8(image)

        def write() -> None:
            path = Path("samples") / f"{images:09d}.png"
            pictures.write_png(self.out / path, pictures.grid(shown, columns))
            self.events.write("samples", images=images, path=str(path))

        aside.do(write)

    def evaluate(self, images: int, *, label: str = "") -> None:
        """Measures the averaged generator and says it as an event."""
        self.events.write("phase", phase="evaluating", images=images)
        measured = self.evaluator.measure(self.recipe.sample, images, label=label, latent=self.system.latent())
        rows = [
            row.as_dict() if isinstance(row, MetricRow) else row
            for row in (*measured, *self.system.rows(images, label))
        ]
        self.events.write("evaluation", images=images, rows=rows)
        self.events.write("phase", phase="training", images=images)

    def measured(self, images: int, label: str) -> bool:
        """Whether an earlier attempt already said the metrics at `images`."""
        return any(
            event["images"] == images and any(row.get("label", "") == label for row in event["rows"])
            for event in read_events(self.out / EVENTS)
            if event["event"] == "evaluation"
        )

    def finish(self, progress: Progress) -> None:
        """The last evaluation, the sanity rows that tell how far to trust it, and the nearest training images."""
        if not self.measured(progress.images, ""):
            self.evaluate(progress.images)
        if self.job.evaluation.sanity and not self.measured(progress.images, trust.REAL):
            rows = self.evaluator.sanity()
            said = [row.as_dict() for row in rows]
            self.events.write("evaluation", images=progress.images, rows=said, trust=trust.trust(rows))
        self._nearest = self._find_nearest()
        self._pictures = self.system.pictures(progress.images)

    def report(self, progress: Progress, outcome: Outcome, message: str | None = None) -> Path:
        """Writes report.json and report.html from all that is known so far; returns the page."""
        return write_report(self.out, self._facts(progress, outcome, message))

    def _find_nearest(self) -> Nearest:
        """A sheet of samples, each beside its nearest training images by pixels."""
        sample = self.recipe.sample(NEAREST_SAMPLES, derived_seed("nearest", self.job.seed))
        found = self.evaluator.nearest(sample, NEAREST_IMAGES)
        return write_nearest(
            self.out,
            _uint8(sample),
            self.dataset.images_NCHW[found.index_MK],
            found.distance_MK,
            features="pixels",
            names_NK=found.index_MK.tolist(),
            typical_distance=self._typical_distance(),
        )

    def _typical_distance(self) -> float:
        """Median distance of a real image to the nearest other one: the scale for all distances to training images."""
        real = torch.from_numpy(_spread(self.dataset.images_NCHW, TYPICAL_IMAGES)).float() / 127.5 - 1
        return float(np.median(self.evaluator.nearest(real, 2).distance_MK[:, -1]))

    def _facts(self, progress: Progress, outcome: Outcome, message: str | None) -> ReportFacts:
        said = read_events(self.out / EVENTS)
        evaluations = [event for event in said if event["event"] == "evaluation"]
        speeds = [event["images_per_second"] for event in said if event["event"] == "progress"]
        training = self.job.training
        assert training.batch is not None and training.micro_batch is not None, "a resolved spec"
        return ReportFacts(
            name=self.job.name,
            recipe=self.job.recipe.kind,
            seed=self.job.seed,
            question=self.job.question,
            images=progress.images,
            images_planned=training.images,
            seconds=progress.seconds,
            images_per_second=float(np.median(speeds)) if speeds else None,
            device=device_name(self.system.around.device, training.devices),
            outcome=outcome,
            outcome_message=message,
            metrics=tuple(ReportRow.model_validate(_known(row)) for event in evaluations for row in event["rows"]),
            time_seconds=dict(progress.time_seconds),
            trust=tuple(sentence for event in evaluations for sentence in event.get("trust", ())),
            effective={**self.recipe.effective(progress.images), **_memory_choices(training.micro_batch, progress)},
            parameters={name: _parameters(network) for name, network in self.recipe.networks.items()},
            precision=Precision(value=self.precision.value, why=self.precision.why),
            accumulation=training.accumulation,
            derived=tuple(DerivedFact.model_validate(asdict(derived)) for derived in self.loaded.derived),
            data=self._data_facts(),
            nearest=self._nearest,
            modes=self.system.modes(),
            explanation=self.system.explanation(),
            pictures=self._pictures,
            headline=self.system.headline(),
            drawn_from=self.system.drawn_from,
            versions=_versions(),
        )

    def _data_facts(self) -> DataFacts:
        section = self.job.recipe.data
        return DataFacts(
            kind=section.kind,
            path=getattr(section, "path", None),
            images=len(self.dataset),
            resolution=section.resolution,
            channels=int(self.dataset.images_NCHW.shape[1]),
            classes=len(self.dataset.class_names) or None,
            skipped=tuple(SkippedImage(name=name, reason=reason) for name, reason in self.dataset.skipped),
            details={**self.system.data_details(), "digest": self.dataset.digest},
        )


def _memory_choices(micro_batch: int, progress: Progress) -> dict[str, Any]:
    """What was decided so that a step fits into memory."""
    return {"micro_batch": micro_batch, "activations": "recomputed" if progress.fitted.get("recompute") else "kept"}


def _spread(image_NCHW: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """`count` images from all over the set."""
    positions = np.linspace(0, len(image_NCHW) - 1, min(count, len(image_NCHW))).astype(np.int64)
    return np.asarray(image_NCHW[positions])


def _uint8(image_NCHW: torch.Tensor) -> NDArray[np.uint8]:
    return pictures.from_signed(image_NCHW.float().cpu().numpy())


def _known(row: dict[str, Any]) -> dict[str, Any]:
    """What the report's rows hold."""
    return {name: value for name, value in row.items() if name in ReportRow.model_fields}


def _versions() -> dict[str, str]:
    return {
        "gankiln": metadata.version("gankiln"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _parameters(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())
