"""Sticking holes: hot pixels are at the same place whatever the input."""

from itertools import combinations

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.translations import HOT, Bools, Translations, sheet

MOST_PICTURES = 16
FEWEST_SHARE = 0.25
"""Of the pictures must have hot pixels for them to stick."""


def overlap(hot_NHW: Bools) -> float:
    """Mean intersection over union of pairs of pictures that have hot pixels; 0 where few have."""
    some = [hot_HW for hot_HW in hot_NHW if hot_HW.any()]
    if len(some) < max(FEWEST_SHARE * len(hot_NHW), 2):
        return 0.0
    shares = [(a & b).sum() / (a | b).sum() for a, b in combinations(some[:MOST_PICTURES], 2)]
    return float(np.mean(shares))


def measure(seen: Translations) -> Measured | None:
    """The largest overlap over the layers."""
    if not seen.layers:
        return None
    overlaps = [overlap(layer.z_NHW > HOT) for layer in seen.layers]
    worst = int(np.argmax(overlaps))
    return Measured(overlaps[worst], f"what {seen.layers[worst].label} normalises", lambda: sheet(seen))


DETECTOR = Detector(
    name="sticking_holes",
    watches="overlap of the hot pixels of different pictures (intersection over union)",
    measure=measure,
    bad="above",
    failure=Limit(0.5, "hot pixels that belong to the picture hardly meet those of another"),
    warning=Limit(0.3, "hot pixels that belong to the picture hardly meet those of another"),
    means="hot pixels stay where they are whatever the input: they carry the network's information, not the picture's",
    hint="norm: demodulated for the generator; a border of zeros also marks places: border: reflect",
)
