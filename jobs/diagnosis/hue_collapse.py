"""Hue collapse: all samples have one colour, though the data has many."""

import numpy as np

from jobs.diagnosis.detector import Detector, Images, Limit, Measured
from jobs.diagnosis.inputs import Gallery

LEAST_CHROMA = 0.01
"""A picture with less is grey: it has no hue. Chroma of a pure colour is 1."""
LEAST_REAL_VARIANCE = 0.1
"""Data of one colour has no variety that could be lost."""


def hue_variance(image_N3HW: Images) -> float | None:
    """Circular variance of the mean hue over pictures: 0 all the same, 1 all around the circle. None if they are grey.

    The mean hue of a picture is the direction of its mean colour: grey pixels do not count, strong ones count more.
    """
    red, green, blue = np.moveaxis(image_N3HW.mean((2, 3), dtype=np.float64) / 255, 1, 0)
    colour_N = red - (green + blue) / 2 + 1j * np.sqrt(3) / 2 * (green - blue)
    coloured_N = colour_N[np.abs(colour_N) > LEAST_CHROMA]
    if len(coloured_N) < len(colour_N) / 4:
        return None
    return 1 - float(np.abs((coloured_N / np.abs(coloured_N)).mean()))


def measure(gallery: Gallery) -> Measured | None:
    """Hue variance of samples over that of real images; 0 where samples have lost their colour altogether."""
    if gallery.real_NCHW.shape[1] != 3:
        return None
    real, fake = hue_variance(gallery.real_NCHW), hue_variance(gallery.fake_MCHW)
    if real is None or real < LEAST_REAL_VARIANCE:
        return None
    detail = f"samples {'are grey' if fake is None else f'{fake:.3f}'}, real images {real:.3f}"
    return Measured((fake or 0.0) / real, detail, lambda: gallery.fake_MCHW[:64])


DETECTOR = Detector(
    name="hue_collapse",
    watches="variance of the mean hue over samples, over that of real images",
    measure=measure,
    bad="below",
    failure=Limit(0.1, "calibrated: half of the 0.23 that 99 % of healthy checks stay above"),
    warning=Limit(0.2, "calibrated: beyond the 0.23 that 99 % of healthy checks stay above"),
    means="samples have one colour where the data has many",
    hint="let the style reach the last to-RGB layer; see also the verdict on collapse",
)
