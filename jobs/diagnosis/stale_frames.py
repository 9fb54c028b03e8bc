"""Stale frames: the discriminators are shown other frames than the examples of the step have."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import Steps

MADE, REAL = "frames.generated", "frames.real"


def measure(steps: Steps) -> Measured | None:
    """How far the count of generated frames is from that of real ones, as a share, at worst."""
    made, real = steps.recent.get(MADE), steps.recent.get(REAL)
    if made is None or real is None or not len(made):
        return None
    count = min(len(made), len(real))
    away = np.abs(made[-count:] / np.maximum(real[-count:], 1) - 1)
    return Measured(float(away.max()), f"{made[-1]:.0f} generated, {real[-1]:.0f} real frames in the last step")


DETECTOR = Detector(
    name="stale_frames",
    watches="generated frames in a step's buffer over the frames of its examples, less one",
    measure=measure,
    bad="above",
    failure=Limit(0.0, "theory: they must be equally many"),
    warning=None,
    means="frames of earlier steps were kept, so that discriminators judge what the generator no longer makes",
    hint="this is a mistake in the recipe: empty the buffer at every step",
    graceful=False,
)
