"""Peak energy: a thousandth of the pixels of a map holds much of its energy."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.translations import Translations, sheet


def measure(seen: Translations) -> Measured | None:
    """The median share, at the layer where it is largest; a map's only pixel would hold all of it."""
    layers = [layer for layer in seen.layers if layer.norm_NHW[0].size >= 256]
    if not layers:
        return None
    worst = max(layers, key=lambda layer: float(np.median(layer.top_energy_N)))
    share = float(np.median(worst.top_energy_N))
    return Measured(share, f"what {worst.label} normalises", lambda: sheet(seen))


DETECTOR = Detector(
    name="peak_energy",
    watches="share of a map's energy in the strongest thousandth of its pixels, in half of the pictures",
    measure=measure,
    bad="above",
    failure=Limit(0.1, "ten times what even maps of small sides hold there"),
    warning=Limit(0.05, "half of that"),
    means="the network keeps what it knows in a few pixels",
    hint="norm: demodulated for the generator; or norm: pixel, which leaves no pixel stronger than another",
)
