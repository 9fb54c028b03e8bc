"""What the detectors of a growing, conditional generator read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jobs.diagnosis.detector import Images
from jobs.diagnosis.inputs import F64, Steps, Window

RECENT_STEPS, LEAST_STEPS = 200, 50
"""A growth window is judged by its last steps, and not before there are so many."""


@dataclass(frozen=True)
class Sketching:
    """A moment of a run, with what was measured of its generator on fixed drawings."""

    steps: Steps
    step: int
    """Iterations so far."""
    grown_step: int | None
    """When the newest resolution began; None at the first one."""
    faded_step: int | None
    """When it has faded in."""
    resolution: int
    condition_ratio: float
    """Change of the picture with the drawing so far, over its change with latent and noise."""
    ink_ratio: float
    """Ink of generated parts over that of real ones."""
    least_deviation: float
    """Of the maps that instance norms divide by their deviation: the smallest, mean over pictures."""
    layer: str
    """Which norm that was."""
    shown_MCHW: Images
    """Parts on the drawings that they continue."""

    def in_window(self, name: str) -> F64 | None:
        """The last values of a scalar of every step between growth and the end of the fade; None unless the window is
        open, or has closed since the last check."""
        if self.grown_step is None or self.faded_step is None:
            return None
        values = self.steps.recent.get(name, np.empty(0))
        since_check = self.steps.windows[name][-1].steps if self.steps.windows.get(name) else 0
        past = max(self.step - self.faded_step, 0)
        if past >= max(since_check, 1):
            return None
        inside = values[max(len(values) - (self.step - self.grown_step), 0) : len(values) - past][-RECENT_STEPS:]
        return inside if len(inside) >= LEAST_STEPS else None

    def before_growth(self, name: str, every: int = 1) -> float | None:
        """Median of a scalar, said every so many steps, over the checks before the newest resolution began."""
        if self.grown_step is None:
            return None
        earlier = _until(self.steps.windows.get(name, ()), self.grown_step // every)
        return float(np.median([window.median for window in earlier])) if earlier else None


def _until(windows: Sequence[Window], steps: int) -> list[Window]:
    """The windows that end within the first `steps` values."""
    ends = np.cumsum([window.steps for window in windows])
    return [window for window, end in zip(windows, ends, strict=True) if end <= steps]
