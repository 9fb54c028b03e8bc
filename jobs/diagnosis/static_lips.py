"""Static lips: the mouth has one position in all frames."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.speaking import Speaking


def measure(speaking: Speaking) -> Measured:
    """Motion of the mouth from frame to frame, over that of real films."""
    detail = f"the opening correlates with the true one by {speaking.correlation:.2f}"
    return Measured(speaking.motion_ratio, detail, lambda: speaking.strip_NCHW)


DETECTOR = Detector(
    name="static_lips",
    watches="motion of the mouth from frame to frame, over that of real films",
    measure=measure,
    bad="below",
    failure=Limit(0.2, "theory: a fifth of the motion is a mouth that does not speak"),
    warning=Limit(0.4, "theory: less than half of the motion"),
    means="the lips stand still, whatever is said",
    hint="show the sync discriminator misaligned sound (negatives: both), give it several frames, raise its weight",
)
