"""Doubled features: a face with more than two eyes."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.speaking import Speaking


def measure(speaking: Speaking) -> Measured | None:
    """Places that look like an eye in generated frames, beyond those in real ones; needs known places of eyes."""
    if speaking.extra_eyes is None:
        return None
    detail = f"difference to real frames {speaking.upper_error:.3f} in the upper half, {speaking.lower_error:.3f} below"
    return Measured(speaking.extra_eyes, detail, lambda: speaking.strip_NCHW)


DETECTOR = Detector(
    name="doubled_features",
    watches="places that look like an eye, a frame, beyond those of real frames",
    measure=measure,
    bad="above",
    failure=Limit(1.0, "theory: a third eye in every frame"),
    warning=Limit(0.5, "theory: a third eye in every second frame"),
    means="eyes or noses appear where there are none",
    hint="l1.region lower leaves the upper half to the discriminators: write full or weighted; raise weights.identity",
)
