"""Feature peaks: single pixels of what a normaliser reads stand far above all others: holes, or what becomes them."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.translations import HOT, SPIKE, Translations, sheet


def measure(seen: Translations) -> Measured | None:
    """z that a quarter of the pictures exceed, at the layer where it is largest."""
    layer = seen.worst_layer
    if layer is None:
        return None
    share = float(np.mean(layer.peak_N > SPIKE))
    detail = f"what {layer.label} normalises; above {SPIKE:g} in {share:.0%} of the pictures"
    return Measured(layer.stands_out(), detail, lambda: sheet(seen))


DETECTOR = Detector(
    name="feature_peaks",
    watches="strongest pixel over the median of what a normaliser reads, in deviations, in a quarter of the pictures",
    measure=measure,
    bad="above",
    failure=Limit(SPIKE, "Gaussian features stay below 4, a planted patch of 8 times the strength gives 60 and more"),
    warning=Limit(HOT, "half of that: pre-holes"),
    means="a few pixels set the scale that the whole map is normalised by, which shows as holes sooner or later",
    hint="norm: demodulated for the generator; look at the named layer in the picture",
)
