"""Reconstruction spikes: single steps far above the ones before, and a loss that does not fall between them."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import F64, Steps
from jobs.diagnosis.loss_spikes import spike_rate

LOSS = "loss.reconstruction"
BLOCKS = 30


def trend(values_T: F64) -> float:
    """Theil-Sen slope of the logarithm over the last third, times its length: -0.1 is a fall by a tenth."""
    from scipy.stats import theilslopes  # takes half a second, and few runs come here before their first step

    last_T = values_T[-len(values_T) // 3 :]
    blocks = [block.mean() for block in np.array_split(last_T, min(BLOCKS, len(last_T)))]
    slope = theilslopes(np.log(np.maximum(blocks, 1e-12))).slope
    return float(slope * len(blocks))


def measure(steps: Steps) -> Measured | None:
    """Spikes per 1,000 encoder steps while the loss does not fall; 0 while it falls by more than a twentieth."""
    values_T = steps.recent.get(LOSS)
    if values_T is None or (rate := spike_rate(values_T)) is None:
        return None
    falls = trend(values_T)
    said = f"{rate:.1f} spikes per 1,000; the loss changes by {falls:+.0%} over the last third"
    return Measured(rate if falls > -0.05 else 0.0, said)


DETECTOR = Detector(
    name="reconstruction_spikes",
    watches="spikes per 1,000 encoder steps of a reconstruction loss that does not fall",
    measure=measure,
    bad="above",
    failure=Limit(20.0, "as loss_spikes: above what 99 % of healthy checks of other losses show"),
    warning=Limit(2.0, "measured by others: a run whose loss never fell had more"),
    means="the encoder's updates are too large: reconstruction is thrown back again and again",
    hint="lower encoder.lr_multiplier (0.05 calmed it for others), or raise the batch",
)
