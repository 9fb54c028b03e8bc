"""Memorisation: samples are copies of training images."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import Scores

QUANTILE = 0.1
"""A sample nearer to a training image than a tenth of real images are to one another counts as near."""


def measure(scores: Scores) -> Measured | None:
    """Share of samples that are near; real images themselves would give a tenth. None where the data repeats itself."""
    fake_M, real_N = scores.nearest_fake_M, scores.nearest_real_N
    if fake_M is None or real_N is None:
        return None
    near = float(np.quantile(real_N, QUANTILE))
    if near == 0:
        return None
    copies = scores.copies_MCHW
    share = float((fake_M < near).mean())
    return Measured(share, "by distance of pixels", None if copies is None else lambda: copies)


DETECTOR = Detector(
    name="memorisation",
    watches="share of samples nearer to a training image than a tenth of real images are to another one",
    measure=measure,
    bad="above",
    failure=Limit(0.5, "theory: new images from the same source give 0.1 ± 0.03 (128 samples)"),
    warning=Limit(0.25, "theory: five standard errors above that"),
    means="the generator repeats training images instead of making new ones",
    hint="more data, augmentation (mirror: true), a smaller network, or an earlier checkpoint",
    graceful=False,
)
