"""Spots: at one place, samples have a hole or a blob that real images do not have there. Holes stick to their place."""

import numpy as np
from scipy.ndimage import gaussian_filter

from jobs.diagnosis.detector import Detector, Images, Limit, Measured
from jobs.diagnosis.inputs import F64, Gallery
from jobs.diagnosis.spectra import brightness

FINE_PIXELS, COARSE_PIXELS = 1.0, 3.0


def spot_strength(image_NCHW: Images) -> F64:
    """How much each place differs from its surroundings (two Gaussian blurs), mean over pictures, [H, W]."""
    grey_NHW = brightness(image_NCHW)
    fine = gaussian_filter(grey_NHW, (0, FINE_PIXELS, FINE_PIXELS))
    coarse = gaussian_filter(grey_NHW, (0, COARSE_PIXELS, COARSE_PIXELS))
    strength_HW: F64 = np.abs(fine - coarse).mean(0)
    return strength_HW


def measure(gallery: Gallery) -> Measured | None:
    """At the place where samples exceed real images most: by how much, over the strongest place of real images."""
    fake_HW, real_HW = spot_strength(gallery.fake_MCHW), spot_strength(gallery.real_NCHW)
    if real_HW.max() == 0:
        return None
    excess_HW = (fake_HW - real_HW) / real_HW.max()
    row, column = np.unravel_index(int(excess_HW.argmax()), excess_HW.shape)
    return Measured(float(excess_HW.max()), f"at row {row}, column {column}", lambda: gallery.fake_MCHW[:64])


DETECTOR = Detector(
    name="spots",
    watches="spots of samples beyond those of real images at the same place, over the strongest of real images",
    measure=measure,
    bad="above",
    failure=Limit(2.0, "calibrated: 1.5 times the 1.3 that 99 % of healthy checks stay below"),
    warning=Limit(1.5, "calibrated: beyond the 1.3 that 99 % of healthy checks stay below"),
    means="samples have holes or blobs at a place where real images have nothing of the kind",
    hint="see the verdict on droplets: which layer makes them?",
)
