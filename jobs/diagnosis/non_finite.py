"""A loss, or any other scalar of a step, is not a finite number: nothing after it means anything."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.inputs import Steps


def measure(steps: Steps) -> Measured:
    """How many terms were not finite at the first step where any was not."""
    if not steps.bad_terms:
        return Measured(0.0)
    detail = f"{', '.join(steps.bad_terms)} first at {steps.first_bad_images:,} images"
    return Measured(float(len(steps.bad_terms)), detail)


DETECTOR = Detector(
    name="non_finite",
    watches="terms of a step that are not finite numbers",
    measure=measure,
    bad="above",
    failure=Limit(0.0, "theory: arithmetic goes on with nan for ever"),
    warning=None,
    means="the updates have become too large for the numbers; the networks are lost",
    hint="lower the learning rate, raise r1.gamma, or compute in fp32; the last checkpoint is still good",
    graceful=False,
)
