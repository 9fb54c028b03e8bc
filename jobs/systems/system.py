"""What a system may add to what every run measures, shows and watches. Each method here adds nothing."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jobs.data import Dataset, Roots
from jobs.diagnosis.detector import Detector
from jobs.diagnosis.inputs import Gallery, Steps
from jobs.evaluation.path_length import Latent
from jobs.evaluation.rows import MetricRow
from jobs.report.model import Explanation, Modes, Picture
from jobs.spec import Job
from jobs.training.recipe import Recipe

Watched = tuple[tuple[Detector[Any], ...], Any]
"""Detectors, and what all of them read."""


@dataclass(frozen=True)
class Surroundings:
    """What a system looks at, and with what."""

    job: Job
    dataset: Dataset
    recipe: Recipe
    out: Path
    """The run directory: pictures go below it."""
    device: torch.device
    cache_dir: Path
    """Features and helper networks, shared by runs."""
    weights_dir: Path | None = None
    """Evaluation weights that no package carries."""


@dataclass(frozen=True)
class Beforehand:
    """What there is before the recipe is built."""

    job: Job
    dataset: Dataset
    device: torch.device
    roots: Roots
    """Where a file of the spec may be read from."""
    cache_dir: Path
    weights_dir: Path | None
    say: Callable[[str], None]
    """Notes a sentence in the run's events."""


class System:
    """One system; a recipe that has nothing of its own to say uses it as it is."""

    drawn_from: str = "latents"
    """What pictures are made from, for people: the same ones in every sample grid."""

    def __init__(self, around: Surroundings) -> None:
        self.around = around

    def shown(self, count: int, seed: int) -> Tensor:
        """`count` pictures of a sample grid, [count, C, H, W] in [-1, 1]."""
        return self.around.recipe.show(count, seed)

    def headline(self) -> tuple[str, str] | None:
        """(metric, features) that opens the report; None for the most telling of those that every system has."""
        return None

    def data_details(self) -> dict[str, Any]:
        """What else there is to say of the data."""
        return {}

    def latent(self) -> Latent | None:
        """The inside of the averaged generator, for path lengths."""
        return None

    def rows(self, images: int, label: str) -> Iterable[MetricRow | dict[str, Any]]:
        """Metrics of its own at an evaluation, beside those of every feature space. `label` as in `MetricRow`."""
        return ()

    def watched(self, images: int, steps: Steps) -> Iterable[Watched]:
        """What its own detectors read at a check; on inputs that are the same at every check."""
        return ()

    def quantities(self, gallery: Gallery) -> Mapping[str, float]:
        """What is logged of each check's pictures by its own name, beside the values of the detectors."""
        return {}

    def modes(self) -> Modes | None:
        """Exactly known modes that the samples of the last evaluation cover."""
        return None

    def explanation(self) -> Explanation | None:
        """What changes a classifier's mind; found with the pictures at the end."""
        return None

    def pictures(self, images: int) -> tuple[Picture, ...]:
        """Writes pictures of its own below the run directory, for the report at the end."""
        return ()
