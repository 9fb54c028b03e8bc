"""Flat alpha: the transparency of the results says less than that of real images."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.translations import Translations

BINS = 16
SATURATED = 0.98


def measure(seen: Translations) -> Measured | None:
    """Deviation of alpha over all pixels, over that of real images."""
    if seen.made_NCHW.shape[1] != 4:
        return None
    made, real = seen.made_NCHW[:, 3], seen.real_NCHW[:, 3]
    if real.std() == 0:
        return None
    saturated = float(((made > SATURATED) | (made < 1 - SATURATED)).mean())
    shares = [np.histogram(alpha, BINS, (0, 1))[0] / alpha.size for alpha in (made, real)]
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    detail = f"{saturated:.0%} of it is all or nothing; {distance:.0%} of the pixels would have to change"
    return Measured(float(made.std() / real.std()), detail)


DETECTOR = Detector(
    name="flat_alpha",
    watches="deviation of alpha, over that of real images",
    measure=measure,
    bad="below",
    failure=Limit(0.5, "half of the real one"),
    warning=Limit(0.7, "70 % of the real one"),
    means="alpha is not differentiated: it is all but one value",
    hint="a deeper discriminator; alpha: premultiplied makes colour depend on it",
)
