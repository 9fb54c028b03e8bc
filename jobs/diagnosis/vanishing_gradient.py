"""Vanishing gradient: a network is no longer told what to change."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import Steps

LEAST_WINDOWS = 3
PREFIX = "gradient."


def measure(steps: Steps) -> Measured | None:
    """The network whose gradient norm has shrunk most: its median now over the median of its earlier windows."""
    ratios = {}
    for name, windows in steps.windows.items():
        if name.startswith(PREFIX) and len(windows) >= LEAST_WINDOWS:
            earlier = float(np.median([window.median for window in windows[:-1]]))
            ratios[name.removeprefix(PREFIX)] = windows[-1].median / earlier if earlier > 0 else 0.0
    if not ratios:
        return None
    least = min(ratios, key=lambda name: ratios[name])
    return Measured(ratios[least], f"the gradient of the {least}")


DETECTOR = Detector(
    name="vanishing_gradient",
    watches="gradient norm of a network now, over its norm earlier in the run",
    measure=measure,
    bad="below",
    failure=Limit(0.05, "calibrated: a tenth of the 0.55 that 99 % of healthy checks stay above"),
    warning=Limit(0.2, "calibrated: beyond the 0.55 that 99 % of healthy checks stay above"),
    means="one network has stopped being told what to change: the other has saturated, or a path is cut",
    hint="raise r1.gamma, so that the discriminator stays smooth; check that no loss saturates",
    graceful=False,
)
