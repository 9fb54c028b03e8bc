"""Droplets: single pixels of a feature map far above all others, at the same layer in many pictures ("holes")."""

import numpy as np

from jobs.diagnosis.detector import Detector, Images, Limit, Measured
from jobs.diagnosis.inputs import F64, Gallery

STANDS_OUT = 4.0
"""The strongest pixel over the 99th percentile of its map."""


def measure(gallery: Gallery) -> Measured | None:
    """Share of pictures in which some pixel of a layer stands out, at the layer where it is largest."""
    maps = gallery.maps
    if maps is None or not maps.paths_L:
        return None
    share_L = (maps.peak_LM > STANDS_OUT).mean(1)
    worst = int(share_L.argmax()) if share_L.any() else int(np.median(maps.peak_LM, axis=1).argmax())
    detail = (
        f"{maps.paths_L[worst]}: its strongest pixel is {np.median(maps.peak_LM[worst]):.1f} times its 99th percentile"
    )
    return Measured(float(share_L[worst]), detail, lambda: _shown(maps.map_HW))


def _shown(map_HW: F64) -> Images:
    return (map_HW / max(float(map_HW.max()), 1e-9) * 255).astype(np.uint8)[None, None]


DETECTOR = Detector(
    name="droplets",
    watches="share of samples with a pixel of a feature map far above the rest",
    measure=measure,
    bad="above",
    failure=Limit(0.25, "placeholder"),
    warning=Limit(0.1, "placeholder"),
    means="the generator sneaks signal strength past its normalisation by spikes, which show as droplets or holes",
    hint="demodulate weights instead of normalising features; look at the named layer",
)
