"""Repeated images: the generator makes a handful of pictures again and again, however far apart they are."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import F64, Gallery


def nearest_distance(features_ND: F64) -> float:
    """Median distance of a picture to the nearest other one."""
    centred_ND = features_ND - features_ND.mean(0)
    squares_N = (centred_ND**2).sum(1)
    squared_NN = squares_N[:, None] + squares_N - 2 * centred_ND @ centred_ND.T
    np.fill_diagonal(squared_NN, np.inf)
    return float(np.median(np.sqrt(squared_NN.min(1).clip(min=0))))


def measure(gallery: Gallery) -> Measured | None:
    """The nearest other sample, over the nearest other real image. None where the data repeats itself."""
    real = nearest_distance(gallery.real_ND)
    if real == 0:
        return None
    ratio = nearest_distance(gallery.fake_MD) / real
    return Measured(ratio, f"in features {gallery.space}", lambda: gallery.fake_MCHW[:64])


DETECTOR = Detector(
    name="repeated_images",
    watches="distance of a sample to the nearest other one, over the same of real images, median",
    measure=measure,
    bad="below",
    failure=Limit(0.2, "calibrated: a third of the 0.6 that 99 % of healthy checks stay above"),
    warning=Limit(0.4, "calibrated: beyond the 0.6 that 99 % of healthy checks stay above"),
    means="the generator makes few different pictures: a partial collapse",
    hint="raise r1.gamma (1 to 10 at small resolutions), use style mixing, or a larger batch",
)
