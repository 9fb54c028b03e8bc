"""Collapse: the generator makes few different pictures, in the end one."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import F64, Gallery


def mean_distance(features_ND: F64) -> float:
    """Mean Euclidean distance of all pairs."""
    centred_ND = features_ND - features_ND.mean(0)
    squares_N = (centred_ND**2).sum(1)
    squared_NN = squares_N[:, None] + squares_N - 2 * centred_ND @ centred_ND.T
    pairs = np.triu_indices(len(features_ND), 1)
    return float(np.sqrt(squared_NN[pairs].clip(min=0)).mean())


def measure(gallery: Gallery) -> Measured | None:
    """Mean distance between samples over the mean distance between real images."""
    real = mean_distance(gallery.real_ND)
    if real == 0:
        return None
    ratio = mean_distance(gallery.fake_MD) / real
    return Measured(ratio, f"in features {gallery.space}", lambda: gallery.fake_MCHW[:64])


DETECTOR = Detector(
    name="collapse",
    watches="mean distance between samples, over that between real images",
    measure=measure,
    bad="below",
    failure=Limit(0.25, "calibrated: half of the 0.49 that 99 % of healthy checks stay above"),
    warning=Limit(0.45, "calibrated: beyond the 0.49 that 99 % of healthy checks stay above"),
    means="the samples are too much alike: the generator has given up variety",
    hint="raise r1.gamma (1 to 10 at small resolutions; `auto` is far below that), or lower the learning rate",
)
