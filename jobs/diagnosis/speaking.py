"""What the detectors of talking faces read."""

from dataclasses import dataclass, field

from jobs.diagnosis.detector import Images


@dataclass(frozen=True)
class Speaking:
    """Films of held-out clips, each made from its still and its sound, beside the real ones; means over the clips."""

    images: int
    planned_images: int
    motion_ratio: float
    """Of the mouth, from frame to frame: generated over real."""
    swap: float
    """Change of the mouth when it is given another sound, over that between two moments of a real film."""
    correlation: float
    """Of the mouth's opening with the true one."""
    upper_error: float
    """Mean absolute difference to the real frames in the upper half, in [0, 1]."""
    lower_error: float
    halves_correlation: float
    """Of the upper with the lower half of generated frames."""
    real_halves_correlation: float
    extra_eyes: float | None
    """Places that look like an eye, a frame, less those of real frames; None where it is not known where eyes are."""
    strip_NCHW: Images = field(repr=False)
    """Frames of one film: real ones, then generated ones."""
