"""Identity network: the translation is its input."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.translations import Translations


def measure(seen: Translations) -> Measured:
    """Mean absolute difference to the input."""
    difference = float(np.abs(seen.made_NCHW - seen.source_NCHW).mean())
    return Measured(difference, picture=lambda: (seen.made_NCHW[:16] * 255).astype(np.uint8))


DETECTOR = Detector(
    name="identity_network",
    watches="mean difference of results and inputs, of 0 to 1",
    measure=measure,
    bad="below",
    failure=Limit(0.01, "a hundredth of the range"),
    warning=Limit(0.02, "a fiftieth of the range"),
    means="the network gives back its input: it has learned nothing, or is not asked for anything else",
    hint="an adversarial loss, less loss.identity, or a network with layers that can change a picture",
)
