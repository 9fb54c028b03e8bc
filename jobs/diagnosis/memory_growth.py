"""Memory that grows with every step: the run will end by being killed, hours from now."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import Snapshot

LEAST_CHECKS = 5


def slope(points: list[tuple[int, int]]) -> float:
    """Theil-Sen: the median of all slopes between two points, in bytes an image."""
    x, y = np.array(points, dtype=np.float64).T
    first, second = np.triu_indices(len(x), 1)
    apart = x[second] > x[first]
    return float(np.median((y[second] - y[first])[apart] / (x[second] - x[first])[apart]))


def measure(snapshot: Snapshot) -> Measured | None:
    """Growth until the end of the run at the present pace, as a share of the memory that is still free."""
    later = list(snapshot.memory)[1:]  # before the first check, caches fill
    if len(later) < LEAST_CHECKS or snapshot.free_bytes is None:
        return None
    bytes_per_image = slope(later)
    ahead = bytes_per_image * (snapshot.planned_images - snapshot.images)
    detail = f"{bytes_per_image * 1000 / 2**20:.3g} MiB more every 1,000 images, {later[-1][1] / 2**30:.2f} GiB now"
    return Measured(max(ahead, 0.0) / max(snapshot.free_bytes, 1), detail)


DETECTOR = Detector(
    name="memory_growth",
    watches="memory that the rest of the run will add at this pace, over what is free",
    measure=measure,
    bad="above",
    failure=Limit(1.0, "theory: then the memory ends before the run does"),
    warning=Limit(0.5, "theory: half of what is free"),
    means="something keeps a reference to every step, most often a loss that still carries its graph",
    hint="detach what is kept between steps; a restart from the last checkpoint frees what was lost so far",
    graceful=False,
)
