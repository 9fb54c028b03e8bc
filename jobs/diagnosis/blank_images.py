"""Blank images: black, white, or of one colour."""

import numpy as np

from jobs.diagnosis.detector import Detector, Images, Limit, Measured
from jobs.diagnosis.inputs import Gallery

FLAT = 0.02
"""Standard deviation of a picture's values in [0, 1] below which there is nothing to see."""


def flat_share(image_NCHW: Images) -> float:
    """Share of pictures that are flat, each channel by itself."""
    deviation_NC = image_NCHW.std((2, 3), dtype=np.float64) / 255
    return float((deviation_NC.max(1) < FLAT).mean())


def measure(gallery: Gallery) -> Measured:
    """Share of flat samples, less the share of flat real images."""
    share = flat_share(gallery.fake_MCHW) - flat_share(gallery.real_NCHW)
    level = gallery.fake_MCHW.mean() / 255
    return Measured(share, f"mean brightness {level:.2f}", lambda: gallery.fake_MCHW[:64])


DETECTOR = Detector(
    name="blank_images",
    watches="share of samples without any contrast, beyond that of real images",
    measure=measure,
    bad="above",
    failure=Limit(0.25, "theory: a quarter of the samples; healthy runs have next to none"),
    warning=Limit(0.05, "calibrated: beyond the 0 that 99 % of healthy checks stay below"),
    means="the generator's last layers put out nothing, or the same everywhere",
    hint="look at the weights of the losses: one that is 0 may have been the only reason to draw anything",
)
