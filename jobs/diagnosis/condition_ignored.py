"""Condition ignored: the generator draws the same whatever was drawn before."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.sketching import Sketching


def measure(seen: Sketching) -> Measured:
    """Mean change of a pixel when drawings so far are exchanged, over that when latent and noise are drawn anew."""
    return Measured(seen.condition_ratio, picture=lambda: seen.shown_MCHW)


DETECTOR = Detector(
    name="condition_ignored",
    watches="change of pictures with the drawing so far, over their change with latent and noise",
    measure=measure,
    bad="below",
    failure=Limit(0.2, "theory: a fifth"),
    warning=Limit(0.5, "theory: a half"),
    means="the generator hardly listens to the drawing that it should continue",
    hint="encoder.concatenate: true, latent.source: encoder_and_z; and does the discriminator see the drawing?",
)
