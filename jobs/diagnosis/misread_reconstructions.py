"""Misread reconstructions: the classifier sees something else in them, so that they explain nothing of it."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.rebuilt import Rebuilt, agreement, divergence, pair


def measure(seen: Rebuilt) -> Measured:
    """Agreement of the classifier's answers."""
    return Measured(agreement(seen), f"KL {divergence(seen):.3g} nats", lambda: pair(seen))


DETECTOR = Detector(
    name="misread_reconstructions",
    watches="share of reconstructions of which the classifier says the same as of their images",
    measure=measure,
    bad="below",
    failure=Limit(0.8, "theory: what is searched on every fifth image is not the image's class"),
    warning=Limit(0.9, "theory: counterfactuals of every tenth image start from another class"),
    means="the classifier sees something else in the reconstructions, so their counterfactuals do not explain it",
    hint="raise kl.scale, or train longer; conditioning.inject: both tells the generator the class",
)
