"""Spots in the pictures themselves: one small place that differs from its surroundings as in no real image."""

import numpy as np
from scipy.ndimage import gaussian_filter

from jobs.diagnosis.detector import Detector, Images, Limit, Measured
from jobs.diagnosis.inputs import F64, Gallery
from jobs.diagnosis.spectra import brightness

QUANTILE, STRONGER = 0.99, 1.5
"""A spot counts when it is so much stronger than those of so many real images."""
FINE_PIXELS, COARSE_PIXELS = 1.0, 3.0


def spot_strength(image_NCHW: Images) -> F64:
    """The largest difference of two Gaussian blurs of the brightness, in each picture [N]."""
    grey_NHW = brightness(image_NCHW)
    fine = gaussian_filter(grey_NHW, (0, FINE_PIXELS, FINE_PIXELS))
    coarse = gaussian_filter(grey_NHW, (0, COARSE_PIXELS, COARSE_PIXELS))
    strength_N: F64 = np.abs(fine - coarse).max((1, 2))
    return strength_N


def measure(gallery: Gallery) -> Measured:
    """Share of samples with a spot far stronger than any that real images usually have."""
    fake_M, real_N = spot_strength(gallery.fake_MCHW), spot_strength(gallery.real_NCHW)
    above_M = fake_M > STRONGER * np.quantile(real_N, QUANTILE)
    order = np.argsort(-fake_M)[:64]
    return Measured(float(above_M.mean()), picture=lambda: gallery.fake_MCHW[order])


DETECTOR = Detector(
    name="spots",
    watches="share of samples with a spot at least 1.5 times as strong as in 99 % of real images",
    measure=measure,
    bad="above",
    failure=Limit(0.25, "placeholder"),
    warning=Limit(0.1, "placeholder"),
    means="pictures have holes or blobs at places where real images have nothing of the kind",
    hint="see the verdict on droplets: which layer makes them?",
)
