"""What detectors read, in four kinds. Plain numbers and arrays on the host: no detector waits for a device.

- `Steps`: named scalars of the steps, as `recipe.step` returned them.
- `Snapshot`: the optimizers and the process at one moment.
- `Gallery`: pictures of the averaged generator beside real ones, with what was measured on the way.
- `Scores`: rows of an evaluation.

Another system's detector adds a field here, with None for recipes that do not have it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs.diagnosis.detector import Images

F64 = NDArray[np.float64]


class Window(NamedTuple):
    """One scalar between two checks."""

    mean: float
    median: float
    steps: int


@dataclass(frozen=True)
class Steps:
    """Scalars of the steps: the newest one by one, all of them as one window a check."""

    images: int
    planned_images: int
    recent: Mapping[str, F64]
    """The last values of each scalar (at most ledger.RECENT), oldest first."""
    windows: Mapping[str, Sequence[Window]]
    """One entry a check since the beginning, oldest first; the last one ends now."""
    first_bad_images: int | None = None
    """When a scalar was first not a finite number."""
    bad_terms: tuple[str, ...] = ()


class Moving(NamedTuple):
    """What the last step did to one tensor."""

    relative_update: float
    """‖Δθ‖ / ‖θ‖, the norm of what starts at 0 counted as at least 0.001·√numel."""
    gradient_rms: float
    """Root of Adam's second moment: the gradient's size over the last steps."""


@dataclass(frozen=True)
class Snapshot:
    """Optimizers and process at one moment."""

    images: int
    planned_images: int
    learning_rates: Mapping[str, tuple[float, float]]
    """By optimizer: at the start of the run, and now; what a rollback changed is taken out."""
    updates: Mapping[str, Moving]
    """By path of the learnable tensor."""
    memory: Sequence[tuple[int, int]] = ()
    """(images, bytes in use) at each check of this process."""
    free_bytes: int | None = None
    """What could still be had."""


@dataclass(frozen=True)
class Judgement:
    """The discriminator on real images and on the generator's."""

    real_N: F64
    fake_M: F64
    advantage: float
    """1 - loss since the last check / loss of a discriminator that says 0 to everything."""
    gradient: float
    """‖∇D(real)‖², mean."""
    earlier_gradients: Sequence[float] = ()
    """The same at earlier checks."""


@dataclass(frozen=True)
class FeatureMaps:
    """How far the strongest pixel of each layer's output stands out, over channels, for every picture."""

    peak_LM: F64
    """‖x(p)‖ over channels: its largest pixel over its 99th percentile."""
    paths_L: tuple[str, ...]
    map_HW: F64
    """Mean over pictures of the relative norm, of the layer that stands out most: for people."""


@dataclass(frozen=True)
class Gallery:
    """Pictures at one moment. `fake_MCHW` are of the averaged generator, at the same latents every time."""

    images: int
    planned_images: int
    fake_MCHW: Images
    real_NCHW: Images
    fake_MD: F64
    """Features of the pictures, in one space."""
    real_ND: F64
    space: str
    untrained_distance: float | None = None
    """`no_progress.distance` of the untrained generator."""
    style_share: float | None = None
    judgements: Mapping[str, Judgement] = field(default_factory=dict)
    """By discriminator."""
    maps: FeatureMaps | None = None


@dataclass(frozen=True)
class Scores:
    """An evaluation: its rows, and how near samples come to the data."""

    images: int
    planned_images: int
    rows: Sequence[Mapping[str, Any]]
    most_modes: float = 0.0
    """The most modes that an earlier evaluation found."""
    best_recall: float = 0.0
    """The best recall that an earlier evaluation found, in any feature space."""
    nearest_fake_M: F64 | None = None
    """Distance of each sample to the nearest image of the data."""
    nearest_real_N: F64 | None = None
    """Distance of real images to the nearest other one."""
    copies_MCHW: Images | None = field(default=None, repr=False)
    """Samples beside their nearest images: [2·M, C, H, W], a sample and its neighbour by turns."""

    def values(self, metric: str) -> dict[str, float]:
        """The trained generator's values of `metric`, by feature space."""
        return {
            str(row.get("features", "")): float(row["value"])
            for row in self.rows
            if row["metric"] == metric and not row.get("label") and row.get("value") is not None
        }
