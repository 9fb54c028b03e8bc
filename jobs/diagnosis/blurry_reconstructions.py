"""Blurry reconstructions: the look of an autoencoder."""

from jobs.diagnosis.detector import Detector, Limit, Measured
from jobs.diagnosis.rebuilt import Rebuilt, laplacian_energy, pair


def measure(seen: Rebuilt) -> Measured | None:
    """Energy of the Laplacian of reconstructions over that of their images."""
    real = laplacian_energy(seen.real_NCHW)
    return Measured(laplacian_energy(seen.made_NCHW) / real, "", lambda: pair(seen)) if real > 0 else None


DETECTOR = Detector(
    name="blurry_reconstructions",
    watches="energy of the Laplacian of reconstructions, over that of their images",
    measure=measure,
    bad="below",
    failure=Limit(0.3, "theory: detail has lost more than two thirds of its energy"),
    warning=Limit(0.5, "theory: detail has lost half of its energy"),
    means="reconstructions lack the fine detail of their images: distances of pixels reward the average of what may be",
    hint="alternating: alternate, a larger adversarial.weight or perceptual weight, or longer training",
)
