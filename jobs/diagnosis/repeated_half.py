"""Repeated half: the lower half of the face is the upper one again."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.speaking import Speaking


def measure(speaking: Speaking) -> Measured:
    """How much of the way from real frames to a perfect copy the halves' correlation has gone."""
    made, real = speaking.halves_correlation, speaking.real_halves_correlation
    detail = f"halves correlate by {made:.2f}, those of real frames by {real:.2f}"
    return Measured((made - real) / max(1 - real, 1e-3), detail, lambda: speaking.strip_NCHW)


DETECTOR = Detector(
    name="repeated_half",
    watches="correlation of the upper with the lower half of frames, beyond that of real ones, as a share of a copy",
    measure=measure,
    bad="above",
    failure=Limit(0.6, "theory: nearer to a copy than to a face"),
    warning=Limit(0.4, "theory: on the way there"),
    means="the upper half of the face appears again below",
    hint="lower weights.sequence, or l1.region: full, so that every pixel has a place that it belongs to",
)
