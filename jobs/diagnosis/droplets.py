"""Droplets: single pixels of a feature map far above all others, at the same layer in many pictures ("holes")."""

import numpy as np

from jobs.diagnosis.detector import Detector, Images, Limit, Measured
from jobs.diagnosis.inputs import F64, Gallery

SHARE = 0.25
"""Of the pictures: fewer may have a peak without a verdict."""


def measure(gallery: Gallery) -> Measured | None:
    """By how much the strongest pixel stands out in a quarter of the pictures, at the layer where it is most."""
    maps = gallery.maps
    if maps is None or not maps.paths_L:
        return None
    peak_L = np.quantile(maps.peak_LM, 1 - SHARE, axis=1)
    worst = int(peak_L.argmax())
    return Measured(float(peak_L[worst]), f"the output of {maps.paths_L[worst]}", lambda: _shown(maps.map_HW))


def _shown(map_HW: F64) -> Images:
    return (map_HW / max(float(map_HW.max()), 1e-9) * 255).astype(np.uint8)[None, None]


DETECTOR = Detector(
    name="droplets",
    watches="strongest pixel of a feature map over its 99th percentile, in at least a quarter of the samples",
    measure=measure,
    bad="above",
    failure=Limit(3.0, "calibrated: twice the 1.6 that 99 % of healthy checks stay below"),
    warning=Limit(2.0, "calibrated: beyond the 1.6 that 99 % of healthy checks stay below"),
    means="the generator sneaks signal strength past its normalisation by spikes, which show as droplets or holes",
    hint="demodulate weights instead of normalising features; look at the named layer",
)
