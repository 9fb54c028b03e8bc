"""Loss spikes: single steps far above the ones before them."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import F64, Steps

BEFORE = 200
"""Steps that say what is usual."""
LEAST_JUDGED = 300
"""Fewer steps give no rate."""
MADS = 6.0


def spike_rate(values_T: F64) -> float | None:
    """Spikes per 1,000 steps: values above median + 6 · MAD of the 200 values before each. None for too few.

    A loss that is always positive is judged by its logarithm: a healthy adversarial loss is skewed, often like an
    exponential distribution, of which 2.8 % lie that far above the median, but nothing of its logarithm.
    """
    if len(values_T) < BEFORE + LEAST_JUDGED:
        return None
    if values_T.min() > 0:
        values_T = np.log(values_T)
    before_TB = sliding_window_view(values_T[:-1], BEFORE)
    judged_T = values_T[BEFORE:]
    median_T = np.median(before_TB, axis=1)
    mad_T = np.median(np.abs(before_TB - median_T[:, None]), axis=1)
    return float((judged_T > median_T + MADS * mad_T).mean() * 1000)


def measure(steps: Steps) -> Measured | None:
    """The loss with the most spikes; losses of every step only, for a lazy penalty is a spike by its nature."""
    usual = max((len(values) for values in steps.recent.values()), default=0)
    rates = {
        name.removeprefix("loss."): rate
        for name, values in steps.recent.items()
        if name.startswith("loss.") and len(values) == usual and (rate := spike_rate(values)) is not None
    }
    if not rates:
        return None
    worst = max(rates, key=lambda name: rates[name])
    return Measured(rates[worst], f"loss {worst}")


DETECTOR = Detector(
    name="loss_spikes",
    watches="steps per 1,000 whose loss, on a logarithmic scale, is above median + 6 · MAD of the 200 steps before",
    measure=measure,
    bad="above",
    failure=Limit(20.0, "calibrated: three times the 6.4 that 99 % of healthy checks stay below"),
    warning=Limit(10.0, "calibrated: beyond the 6.4 that 99 % of healthy checks stay below"),
    means="single batches throw the networks off: the updates are too large, or some images are very unlike the others",
    hint="lower the learning rate; look at the data for broken or foreign images; raise the batch",
)
