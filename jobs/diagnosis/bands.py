"""Bands: rows or columns of the results wave at one frequency that real images do not have."""

import numpy as np

from jobs.diagnosis.detector import Detector, Images, Limit, Measured
from jobs.diagnosis.translations import F32, F64, Translations, colour

REACH = 3
"""Frequencies on each side that one is compared with, its direct neighbours left out."""
LOWEST = 3
"""Waves a picture: fewer are shading."""


def band_ratio(image_NCHW: F32) -> F64:
    """[2, F]: power of the means of rows, and of columns, at each frequency over the median near by."""
    grey_NHW = colour(image_NCHW).mean(1).astype(np.float64)
    ratios = []
    for axis in (2, 1):
        lines_NS = grey_NHW.mean(axis)
        power_F = np.square(
            np.abs(np.fft.rfft((lines_NS - lines_NS.mean(1, keepdims=True)) * np.hanning(lines_NS.shape[1])))
        ).mean(0)
        ratios.append([_over_neighbours(power_F, f) for f in range(len(power_F))])
    return np.array(ratios)


def _over_neighbours(power_F: F64, frequency: int) -> float:
    if frequency < LOWEST:
        return 1.0
    near = [
        f for f in range(frequency - REACH, frequency + REACH + 1) if abs(f - frequency) > 1 and 1 <= f < len(power_F)
    ]
    return float(power_F[frequency] / max(float(np.median(power_F[near])), 1e-12))


def measure(seen: Translations) -> Measured:
    """The largest ratio over that of what should be there (at least 1)."""
    like = seen.real_NCHW if seen.truth_NCHW is None else seen.truth_NCHW
    excess = band_ratio(seen.made_NCHW) / np.maximum(band_ratio(like), 1.0)
    line, frequency = (int(x) for x in np.unravel_index(int(excess.argmax()), excess.shape))
    detail = f"{frequency} waves a picture, {('down the rows', 'along the columns')[line]}"
    return Measured(float(excess.max()), detail, lambda: _shown(seen))


def _shown(seen: Translations) -> Images:
    return (seen.made_NCHW[:16] * 255).astype(np.uint8)


DETECTOR = Detector(
    name="bands",
    watches="power of rows or columns at one frequency over that near by, relative to real images",
    measure=measure,
    bad="above",
    failure=Limit(6.0, "six times its neighbours"),
    warning=Limit(4.0, "four times its neighbours"),
    means="bands run across the results",
    hint="look at the up-sampling: a kernel that its stride divides, or a resize-convolution",
)
