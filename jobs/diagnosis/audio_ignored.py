"""Audio ignored: the mouth does the same, or anything, whatever is heard."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.speaking import Speaking


def measure(speaking: Speaking) -> Measured:
    """The lesser of two: how much the mouth changes with the sound, and how well it follows it."""
    detail = (
        f"with the sound of another clip the mouth changes by {speaking.swap:.2f} of what two moments of a real film "
        f"differ by; its opening correlates with the true one by {speaking.correlation:.2f}"
    )
    return Measured(min(speaking.swap, speaking.correlation / CORRELATION * SWAP), detail, lambda: speaking.strip_NCHW)


SWAP, CORRELATION = 0.2, 0.3
"""Below either the sound is ignored; a correlation is counted on the scale of the swap."""

DETECTOR = Detector(
    name="audio_ignored",
    watches="what the mouth owes to the sound: its change when sounds are swapped, and its correlation with the truth",
    measure=measure,
    bad="below",
    failure=Limit(SWAP, "theory: a fifth of the change between moments of a real film, or a correlation below 0.3"),
    warning=Limit(2 * SWAP, "theory: twice the limit of failure"),
    means="the generator hardly listens: its mouth does not depend on the sound, or not on what is said",
    hint="sync.negatives: both, so that its discriminator has to listen; more context_frames; a larger weight of sync",
)
