"""Dead discriminator: it is right about everything, so nothing can be learned from it."""

import numpy as np

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import Steps

PREFIX = "loss."
LOGIT = "logit."
"""A loss whose name has logits too is a discriminator's."""
STEPS = 200


def measure(steps: Steps) -> Measured | None:
    """The largest loss of its last 200 steps, of the discriminator where that is least."""
    largest = {
        name.removeprefix(PREFIX): float(np.max(values[-STEPS:]))
        for name, values in steps.recent.items()
        if name.startswith(PREFIX)
        and f"{LOGIT}{name.removeprefix(PREFIX)}.real" in steps.recent
        and len(values) >= STEPS
    }
    if not largest:
        return None
    least = min(largest, key=lambda name: largest[name])
    return Measured(largest[least], f"the discriminator {least}")


DETECTOR = Detector(
    name="dead_discriminator",
    watches="a discriminator's largest loss within 200 steps",
    measure=measure,
    bad="below",
    failure=Limit(1e-4, "theory: the gradient of a logistic loss is of the size of the loss itself"),
    warning=Limit(1e-3, "theory: ten times that"),
    means="a discriminator has found a way to be always right, and teaches nothing any more",
    hint="no batch norm in it, a lower learning rate for it, labels as ranges; look whether its negatives differ from "
    "real examples in something that has nothing to do with quality",
    graceful=False,
)
