"""Scalars of every step, kept on the device until somebody reads them: no step waits for the host."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jobs.diagnosis.inputs import Steps, Window

RECENT = 1000
"""Values of a scalar that are kept one by one."""


class Ledger:
    """Every named scalar: the newest values one by one, and means and medians of the windows between two checks.

    What it holds depends on the steps and the checks alone, never on when it was read; so it can be saved and restored.
    """

    def __init__(self, saved: Mapping[str, Any] | None = None) -> None:
        saved = saved or {}
        self._waiting: list[tuple[int, tuple[str, ...], Tensor]] = []
        self._recent: dict[str, list[float]] = {name: list(values) for name, values in saved.get("recent", {}).items()}
        self._window: dict[str, list[float]] = {name: list(values) for name, values in saved.get("window", {}).items()}
        self._windows: dict[str, list[Window]] = {
            name: [Window(*window) for window in windows] for name, windows in saved.get("windows", {}).items()
        }
        self._bad: tuple[int, tuple[str, ...]] | None = None

    def add(self, images: int, scalars: Mapping[str, Tensor]) -> None:
        """Notes a step's scalars: one small kernel on a GPU, no transfer."""
        if scalars:
            values = torch.stack([value.detach().float() for value in scalars.values()])
            self._waiting.append((images, tuple(scalars), values))

    def read(self) -> None:
        """Takes over what was noted; one transfer from the device."""
        if not self._waiting:
            return
        values = iter(torch.cat([values for _, _, values in self._waiting]).tolist())
        for images, names, _ in self._waiting:
            self._take(images, {name: next(values) for name in names})
        self._waiting = []

    def _take(self, images: int, scalars: Mapping[str, float]) -> None:
        bad = tuple(name for name, value in scalars.items() if not math.isfinite(value))
        if bad and self._bad is None:
            self._bad = images, bad
        for name, value in scalars.items():
            if math.isfinite(value):
                recent = self._recent.setdefault(name, [])
                recent.append(value)
                del recent[:-RECENT]
                self._window.setdefault(name, []).append(value)

    def close_window(self) -> None:
        """Ends the window between two checks."""
        self.read()
        for name, values in self._window.items():
            if values:
                window = Window(float(np.mean(values)), float(np.median(values)), len(values))
                self._windows.setdefault(name, []).append(window)
        self._window = {}

    def last_mean(self, name: str) -> float | None:
        """Mean of a scalar over the window that was closed last; None where it was never said."""
        windows = self._windows.get(name)
        return windows[-1].mean if windows else None

    def steps(self, images: int, planned_images: int) -> Steps:
        """What detectors read."""
        images_bad, terms = self._bad or (None, ())
        return Steps(
            images=images,
            planned_images=planned_images,
            recent={name: np.array(values) for name, values in self._recent.items()},
            windows=self._windows,
            first_bad_images=images_bad,
            bad_terms=terms,
        )

    def state(self) -> dict[str, Any]:
        """Plain lists for a checkpoint."""
        self.read()
        return {
            "recent": {name: list(values) for name, values in self._recent.items()},
            "window": {name: list(values) for name, values in self._window.items()},
            "windows": {name: [list(window) for window in windows] for name, windows in self._windows.items()},
        }
