"""What a detector is, and what it says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from jobs.spec.diagnosis import DetectorName

Level = Literal["healthy", "warning", "failure"]
InputT = TypeVar("InputT")
Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Limit:
    """Where a verdict changes, and where that number comes from."""

    value: float
    origin: str


@dataclass(frozen=True)
class Measured:
    """What a detector sees at one moment."""

    value: float
    detail: str = ""
    """What exactly: which loss, which layer, which numbers."""
    picture: Callable[[], Images] | None = None
    """Images [N, C, H, W] that show it; drawn only where something is wrong."""


@dataclass(frozen=True)
class Detector(Generic[InputT]):
    """One named failure: what is watched, from where on it is bad, what it means, what to try."""

    name: DetectorName
    watches: str
    """What the value is, for people."""
    measure: Callable[[InputT], Measured | None]
    """None where it does not apply or cannot be told yet."""
    bad: Literal["above", "below"]
    """On which side of its limits a value is bad."""
    failure: Limit
    warning: Limit | None
    means: str
    hint: str
    patience: int = 1
    """So many failing checks one after another make a failure; the ones before are warnings."""
    graceful: bool = True
    """Judges only after the run's grace: it looks at what training has had no time for before."""


@dataclass(frozen=True)
class Finding:
    """A verdict of one detector at one moment."""

    detector: str
    verdict: Level
    images: int
    value: float | None
    threshold: float | None
    message: str
    hint: str | None = None
    picture: Callable[[], Images] | None = None

    def said(self) -> dict[str, Any]:
        """The fields of its event, without the picture."""
        return {
            "detector": self.detector,
            "verdict": self.verdict,
            "images": self.images,
            "value": self.value,
            "threshold": self.threshold,
            "message": self.message,
            "hint": self.hint if self.verdict != "healthy" else None,
        }
