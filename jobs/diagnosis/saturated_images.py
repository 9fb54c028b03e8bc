"""Saturated images: values pressed against black and white."""

from jobs.diagnosis.detector import Detector, Images, Limit, Measured
from jobs.diagnosis.inputs import Gallery


def saturated_share(image_NCHW: Images) -> float:
    """Share of values that are 0 or 255, or next to it."""
    return float(((image_NCHW <= 1) | (image_NCHW >= 254)).mean())


def measure(gallery: Gallery) -> Measured:
    """Share of saturated values in samples, less that in real images."""
    share = saturated_share(gallery.fake_MCHW) - saturated_share(gallery.real_NCHW)
    return Measured(share, picture=lambda: gallery.fake_MCHW[:64])


DETECTOR = Detector(
    name="saturated_images",
    watches="share of values at black or white in samples, beyond that of real images",
    measure=measure,
    bad="above",
    failure=Limit(0.3, "calibrated: far beyond the 0.018 that 99 % of healthy checks stay below"),
    warning=Limit(0.1, "calibrated: beyond the 0.018 that 99 % of healthy checks stay below"),
    means="the generator puts out values far beyond the range of pictures, where the clipping hides them",
    hint="lower the learning rate; check that data and generator agree on the range [-1, 1]",
)
